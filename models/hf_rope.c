#include "models/hf_rope.h"

#include <math.h>
#include <string.h>

/* The transformers defaults of keys that may be left out. */
static const double DEFAULT_THETA = 10000.0;
static const double DEFAULT_BETA_FAST = 32.0;
static const double DEFAULT_BETA_SLOW = 1.0;

static const double MAX_FACTOR = 1e6;

static const char *const TYPES[] = {
    [MP_ROPE_DEFAULT] = "default", [MP_ROPE_LINEAR] = "linear", [MP_ROPE_DYNAMIC] = "dynamic",
    [MP_ROPE_LLAMA3] = "llama3",   [MP_ROPE_YARN] = "yarn",
};

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
    const char *key = mp_json_find(r->section, "rope_type") != NULL ? "rope_type" : "type";
    const char *name = TYPES[MP_ROPE_DEFAULT];
    int rc = mp_json_opt_string(r->doc, r->section, key, &name, err);
    const char *old = name;
    if (rc == 0) {
        rc = mp_json_opt_string(r->doc, r->section, "type", &old, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (strcmp(old, name) != 0) {
        return mp_fail(err, MP_ERR_FORMAT,
                       "%s: %s.type: expected the same as rope_type, \"%.100s\", found \"%.100s\"",
                       r->path, r->name, name, old);
    }
    for (size_t i = 0; i < sizeof TYPES / sizeof TYPES[0]; i++) {
        if (strcmp(name, TYPES[i]) == 0) {
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

/* One number that may stand in the section or, older, at the top level; in both only if it is the
 * same. What neither has stays. */
static int read_shared(const struct reader *r, const struct cJSON *root, const char *key,
                       double min, double max, double *out, struct mp_error *err)
{
    double above = *out;
    int rc = mp_json_opt_number(r->doc, root, key, min, max, &above, err);
    *out = above;
    if (rc == 0) {
        rc = opt_number(r, key, min, max, out, err);
    }
    const struct cJSON *given = mp_json_find(root, key);
    if (rc == 0 && *out != above && given != NULL && mp_json_kind(given) != MP_JSON_NULL) {
        rc = mp_json_fail(r->doc, given, err, "expected the same as %s.%s = %g, found %g", r->name,
                          key, *out, above);
    }
    return rc;
}

/* theta, and the share of the head that rotates. */
static int read_theta(const struct reader *r, const struct cJSON *root, struct mp_rope *out,
                      struct mp_error *err)
{
    double rotated = 1.0;
    out->theta = DEFAULT_THETA;
    int rc = read_shared(r, root, "rope_theta", 2.0, 1e15, &out->theta, err);
    if (rc == 0) {
        rc = read_shared(r, root, "partial_rotary_factor", 0.0, 1.0, &rotated, err);
    }
    if (rc == 0 && rotated != 1.0) {
        rc = mp_fail(err, MP_ERR_UNSUPPORTED, "%s: partial_rotary_factor: expected 1, found %g",
                     r->path, rotated);
    }
    return rc;
}

static int read_section(const struct reader *r, const struct cJSON *root, struct mp_rope *out,
                        struct mp_error *err)
{
    int rc = check_keys(r, err);
    if (rc == 0) {
        rc = read_theta(r, root, out, err);
    }
    return rc == 0 ? read_variant(r, out, err) : rc;
}

/* A section that says anything; an empty one is none, as in transformers. */
static int find_section(struct reader *r, const struct cJSON *root, const char *name,
                        struct mp_error *err)
{
    r->name = name;
    r->section = NULL;
    int rc = mp_json_opt_object(r->doc, root, name, &r->section, err);
    if (rc == 0 && r->section != NULL && mp_json_count(r->section) == 0) {
        r->section = NULL;
    }
    return rc;
}

static bool same_rope(const struct mp_rope *a, const struct mp_rope *b)
{
    return a->type == b->type && a->theta == b->theta && a->factor == b->factor &&
           a->original_max_positions == b->original_max_positions &&
           a->low_freq_factor == b->low_freq_factor && a->high_freq_factor == b->high_freq_factor &&
           a->beta_fast == b->beta_fast && a->beta_slow == b->beta_slow &&
           a->attention_factor == b->attention_factor && a->truncate == b->truncate;
}

int mp_hf_rope_read(const char *path, const struct mp_json *doc, const struct cJSON *root,
                    struct mp_rope *out, struct mp_error *err)
{
    struct reader older = {.path = path, .doc = doc};
    struct reader newer = older;
    int rc = find_section(&older, root, "rope_scaling", err);
    if (rc == 0) {
        rc = find_section(&newer, root, "rope_parameters", err);
    }
    if (rc != 0) {
        return rc;
    }
    /* The older one hides the newer one in transformers: its theta too, which it often lacks. */
    struct mp_rope hidden = *out;
    rc = read_section(older.section != NULL ? &older : &newer, root, out, err);
    if (rc != 0 || older.section == NULL || newer.section == NULL) {
        return rc;
    }
    rc = read_section(&newer, root, &hidden, err);
    if (rc == 0 && !same_rope(out, &hidden)) {
        rc = mp_fail(err, MP_ERR_FORMAT,
                     "%s: rope_scaling: expected the same rope as in rope_parameters, %s with "
                     "theta %g and factor %g, or no such section; found %s with theta %g and "
                     "factor %g",
                     path, TYPES[hidden.type], hidden.theta, fmax(hidden.factor, 1.0),
                     TYPES[out->type], out->theta, fmax(out->factor, 1.0));
    }
    return rc;
}
