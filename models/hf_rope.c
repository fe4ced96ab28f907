#include "models/hf_rope.h"

#include <string.h>

/* The transformers defaults of keys that may be left out. */
static const double DEFAULT_THETA = 10000.0;
static const double DEFAULT_BETA_FAST = 32.0;
static const double DEFAULT_BETA_SLOW = 1.0;

static const double MAX_FACTOR = 1e6;

struct reader {
    const char *path;
    const struct mp_json *doc;
    const char *name;            /* key of the section */
    const struct cJSON *section; /* NULL: none, which is default rope */
};

static int get_number(const struct reader *r, const char *key, double min, double max, double *out,
                      struct mp_error *err)
{
    return mp_json_get_number(r->doc, r->section, key, min, max, out, err);
}

static int opt_number(const struct reader *r, const char *key, double min, double max, double *out,
                      struct mp_error *err)
{
    return mp_json_opt_number(r->doc, r->section, key, min, max, out, err);
}

/* A key that no variant knows may change the arithmetic. */
static int check_keys(const struct reader *r, struct mp_error *err)
{
    static const char *const KNOWN[] = {
        "rope_type",        "type",
        "rope_theta",       "partial_rotary_factor",
        "factor",           "original_max_position_embeddings",
        "low_freq_factor",  "high_freq_factor",
        "beta_fast",        "beta_slow",
        "attention_factor", "mscale",
        "mscale_all_dim",   "truncate",
        "finetuned",
    };
    const struct cJSON *v = r->section == NULL ? NULL : mp_json_first(r->section);
    for (; v != NULL; v = mp_json_after(v)) {
        const char *key = mp_json_key(v);
        bool known = false;
        for (size_t i = 0; i < sizeof KNOWN / sizeof KNOWN[0] && !known; i++) {
            known = strcmp(key, KNOWN[i]) == 0;
        }
        if (!known) {
            return mp_fail(err, MP_ERR_UNSUPPORTED, "%s: %s: unknown key \"%.100s\"", r->path,
                           r->name, key);
        }
    }
    return 0;
}

static int read_type(const struct reader *r, enum mp_rope_type *out, struct mp_error *err)
{
    static const char *const NAMES[] = {
        [MP_ROPE_DEFAULT] = "default", [MP_ROPE_LINEAR] = "linear", [MP_ROPE_DYNAMIC] = "dynamic",
        [MP_ROPE_LLAMA3] = "llama3",   [MP_ROPE_YARN] = "yarn",
    };
    const char *key = mp_json_find(r->section, "rope_type") != NULL ? "rope_type" : "type";
    const char *name = NAMES[MP_ROPE_DEFAULT];
    int rc = mp_json_opt_string(r->doc, r->section, key, &name, err);
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < sizeof NAMES / sizeof NAMES[0]; i++) {
        if (strcmp(name, NAMES[i]) == 0) {
            *out = (enum mp_rope_type)i;
            return 0;
        }
    }
    return mp_fail(err, MP_ERR_UNSUPPORTED,
                   "%s: %s.%s: expected \"default\", \"linear\", \"dynamic\", \"llama3\" or "
                   "\"yarn\", found \"%.100s\"",
                   r->path, r->name, key, name);
}

static int read_llama3(const struct reader *r, struct mp_rope *out, struct mp_error *err)
{
    int rc;
    if ((rc = get_number(r, "low_freq_factor", 1e-3, MAX_FACTOR, &out->low_freq_factor, err)) !=
            0 ||
        (rc = get_number(r, "high_freq_factor", 1e-3, MAX_FACTOR, &out->high_freq_factor, err)) !=
            0 ||
        (rc = mp_json_get_int(r->doc, r->section, "original_max_position_embeddings", 1, INT32_MAX,
                              &out->original_max_positions, err)) != 0) {
        return rc;
    }
    if (out->high_freq_factor <= out->low_freq_factor) {
        return mp_json_fail(r->doc, mp_json_find(r->section, "high_freq_factor"), err,
                            "expected more than low_freq_factor = %g, found %g",
                            out->low_freq_factor, out->high_freq_factor);
    }
    return 0;
}

/* The factor on cos and sin: the given one, else the quotient of the two mscales if neither is
 * missing or 0, else the one YaRN's authors suggest. */
static int read_attention_factor(const struct reader *r, struct mp_rope *out, struct mp_error *err)
{
    double mscale = 0.0;
    double mscale_all_dim = 0.0;
    int rc;
    if ((rc = opt_number(r, "mscale", 0.0, 1e3, &mscale, err)) != 0 ||
        (rc = opt_number(r, "mscale_all_dim", 0.0, 1e3, &mscale_all_dim, err)) != 0) {
        return rc;
    }
    out->attention_factor = mp_rope_yarn_mscale(out->factor, 1.0);
    if (mscale > 0.0 && mscale_all_dim > 0.0) {
        out->attention_factor = mp_rope_yarn_mscale(out->factor, mscale) /
                                mp_rope_yarn_mscale(out->factor, mscale_all_dim);
    }
    return opt_number(r, "attention_factor", 1e-3, 1e3, &out->attention_factor, err);
}

static int read_yarn(const struct reader *r, struct mp_rope *out, struct mp_error *err)
{
    out->original_max_positions = out->max_positions;
    int rc = mp_json_opt_int(r->doc, r->section, "original_max_position_embeddings", 1,
                             out->max_positions, &out->original_max_positions, err);
    if (rc != 0) {
        return rc;
    }
    out->factor = (double)out->max_positions / (double)out->original_max_positions;
    out->beta_fast = DEFAULT_BETA_FAST;
    out->beta_slow = DEFAULT_BETA_SLOW;
    out->truncate = true;
    if ((rc = opt_number(r, "factor", 1.0, MAX_FACTOR, &out->factor, err)) != 0 ||
        (rc = opt_number(r, "beta_fast", 1e-3, MAX_FACTOR, &out->beta_fast, err)) != 0 ||
        (rc = opt_number(r, "beta_slow", 1e-3, MAX_FACTOR, &out->beta_slow, err)) != 0 ||
        (rc = mp_json_opt_bool(r->doc, r->section, "truncate", &out->truncate, err)) != 0) {
        return rc;
    }
    if (out->beta_fast < out->beta_slow) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: %s.beta_fast: expected at least beta_slow = %g, found %g", r->path,
                       r->name, out->beta_slow, out->beta_fast);
    }
    return read_attention_factor(r, out, err);
}

static int read_variant(const struct reader *r, struct mp_rope *out, struct mp_error *err)
{
    int rc = read_type(r, &out->type, err);
    if (rc != 0 || out->type == MP_ROPE_DEFAULT) {
        return rc;
    }
    if (out->type == MP_ROPE_YARN) {
        return read_yarn(r, out, err);
    }
    rc = get_number(r, "factor", 1.0, MAX_FACTOR, &out->factor, err);
    return rc == 0 && out->type == MP_ROPE_LLAMA3 ? read_llama3(r, out, err) : rc;
}

/* theta and the share of the head that rotates, from the section or, older, the top level. */
static int read_theta(const struct reader *r, const struct cJSON *root, struct mp_rope *out,
                      struct mp_error *err)
{
    const struct cJSON *const objects[] = {root, r->section};
    double rotated = 1.0;
    out->theta = DEFAULT_THETA;
    for (int i = 0; i < 2; i++) {
        int rc = mp_json_opt_number(r->doc, objects[i], "rope_theta", 2.0, 1e15, &out->theta, err);
        if (rc == 0) {
            rc = mp_json_opt_number(r->doc, objects[i], "partial_rotary_factor", 0.0, 1.0, &rotated,
                                    err);
        }
        if (rc != 0) {
            return rc;
        }
    }
    if (rotated != 1.0) {
        return mp_fail(err, MP_ERR_UNSUPPORTED, "%s: partial_rotary_factor: expected 1, found %g",
                       r->path, rotated);
    }
    return 0;
}

int mp_hf_rope_read(const char *path, const struct mp_json *doc, const struct cJSON *root,
                    struct mp_rope *out, struct mp_error *err)
{
    struct reader r = {.path = path, .doc = doc, .name = "rope_scaling"};
    int rc = mp_json_opt_object(doc, root, r.name, &r.section, err);
    if (rc == 0 && r.section == NULL) {
        r.name = "rope_parameters";
        rc = mp_json_opt_object(doc, root, r.name, &r.section, err);
    }
    if (rc != 0 || (rc = check_keys(&r, err)) != 0 || (rc = read_theta(&r, root, out, err)) != 0) {
        return rc;
    }
    return read_variant(&r, out, err);
}
