/* Reading the normalizer, pre-tokenizer and decoder of tokenizer.json. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

/* What Hugging Face's "ByteLevel" splits at with use_regex: GPT-2's words. */
static const char gpt2_words[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- patterns ---- */

/* {"String": "..."} or {"Regex": "..."}: *text gets the bytes. */
static int load_pattern_text(struct mp_loader *l, const struct cJSON *object, bool *literal,
                             struct mp_bytes *text)
{
    const struct cJSON *pattern;
    int rc = mp_json_get_object(l->doc, object, "pattern", &pattern, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    *literal = mp_json_find(pattern, "String") != NULL;
    if (!*literal && mp_json_find(pattern, "Regex") == NULL) {
        return mp_json_fail(l->doc, pattern, l->err,
                            "expected {\"String\": ...} or {\"Regex\": ...}");
    }
    rc = mp_load_bytes(l, pattern, *literal ? "String" : "Regex", text);
    if (rc == MP_OK && text->length == 0) {
        rc = mp_json_fail(l->doc, pattern, l->err, "the pattern is empty");
    }
    return rc;
}

static int load_pattern(struct mp_loader *l, const struct cJSON *object, struct mp_pattern **out)
{
    bool literal;
    struct mp_bytes text = {0};
    int rc = load_pattern_text(l, object, &literal, &text);
    if (rc == MP_OK) {
        char why[256];
        *out = mp_pattern_new(text.data, text.length, literal, why, sizeof why);
        if (*out == NULL) {
            rc = mp_load_unsupported(l, mp_json_find(object, "pattern"), "%s", why);
        }
    }
    mp_bytes_free(&text);
    return rc;
}

/* A pattern written in this file. */
static struct mp_pattern *known_pattern(const char *text, bool literal)
{
    char why[256];
    struct mp_pattern *p = mp_pattern_new(text, strlen(text), literal, why, sizeof why);
    if (p == NULL) {
        mp_panic("pattern \"%s\": %s", text, why);
    }
    return p;
}

int mp_load_character(struct mp_loader *l, const struct cJSON *object, const char *key,
                      struct mp_bytes *out)
{
    int rc = mp_load_bytes(l, object, key, out);
    if (rc == MP_OK && (out->length == 0 || mp_utf8_length(out->data[0]) != out->length)) {
        rc = mp_json_fail(l->doc, mp_json_find(object, key), l->err,
                          "expected one character, found \"%s\"", out->data);
    }
    return rc;
}

/* ---- normalizers ---- */

static int load_replace(struct mp_loader *l, const struct cJSON *object, struct mp_step *step)
{
    step->kind = MP_STEP_REPLACE;
    int rc = load_pattern(l, object, &step->pattern);
    return rc == MP_OK ? mp_load_bytes(l, object, "content", &step->content) : rc;
}

static int load_normalizer(struct mp_loader *l, const struct cJSON *object)
{
    const char *type;
    int rc = mp_json_get_string(l->doc, object, "type", &type, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    struct mp_step step = {0};
    if (strcmp(type, "Sequence") == 0) {
        return mp_load_sequence(l, object, "normalizers", load_normalizer);
    } else if (strcmp(type, "NFC") == 0) {
        step.kind = MP_STEP_NFC;
    } else if (strcmp(type, "Prepend") == 0) {
        step.kind = MP_STEP_PREPEND;
        rc = mp_load_bytes(l, object, "prepend", &step.content);
    } else if (strcmp(type, "Replace") == 0) {
        rc = load_replace(l, object, &step);
    } else {
        return mp_load_unsupported(l, mp_json_find(object, "type"),
                                   "normalizer \"%s\" is not supported (NFC, Prepend, Replace and "
                                   "Sequence are)",
                                   type);
    }
    mp_steps_push(&l->t->normalizer, step);
    return rc;
}

int mp_load_normalizer(struct mp_loader *l, const struct cJSON *normalizer)
{
    return normalizer == NULL ? MP_OK : load_normalizer(l, normalizer);
}

/* ---- pre-tokenizers ---- */

static int load_split(struct mp_loader *l, const struct cJSON *object)
{
    static const char *const behaviors[] = {
        [MP_SPLIT_ISOLATED] = "Isolated",
        [MP_SPLIT_REMOVED] = "Removed",
        [MP_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [MP_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [MP_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    const size_t count = sizeof behaviors / sizeof behaviors[0];
    struct mp_step step = {.kind = MP_STEP_SPLIT};
    const char *name;
    int rc = mp_json_get_string(l->doc, object, "behavior", &name, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_get_bool(l->doc, object, "invert", &step.invert, l->err)) != MP_OK) {
        return rc;
    }
    size_t i = 0;
    while (i < count && strcmp(name, behaviors[i]) != 0) {
        i++;
    }
    if (i == count) {
        return mp_load_unsupported(l, mp_json_find(object, "behavior"),
                                   "behavior \"%s\" is not supported (Isolated, Removed, "
                                   "MergedWithPrevious, MergedWithNext and Contiguous are)",
                                   name);
    }
    step.behavior = (enum mp_split_behavior)i;
    rc = load_pattern(l, object, &step.pattern);
    if (rc == MP_OK) {
        mp_steps_push(&l->t->pre_tokenizer, step);
    }
    return rc;
}

static int load_byte_level(struct mp_loader *l, const struct cJSON *object)
{
    bool add_prefix_space;
    bool use_regex = true;
    int rc = mp_json_get_bool(l->doc, object, "add_prefix_space", &add_prefix_space, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_opt_bool(l->doc, object, "use_regex", &use_regex, l->err)) != MP_OK) {
        return rc;
    }
    struct mp_steps *steps = &l->t->pre_tokenizer;
    if (add_prefix_space) {
        struct mp_step prepend = {.kind = MP_STEP_PREPEND, .unless_present = true};
        mp_bytes_append(&prepend.content, " ", 1);
        mp_steps_push(steps, prepend);
    }
    if (use_regex) {
        mp_steps_push(steps, (struct mp_step){.kind = MP_STEP_SPLIT,
                                              .pattern = known_pattern(gpt2_words, false)});
    }
    mp_steps_push(steps, (struct mp_step){.kind = MP_STEP_BYTES});
    return MP_OK;
}

static int load_digits(struct mp_loader *l, const struct cJSON *object)
{
    bool individual;
    int rc = mp_json_get_bool(l->doc, object, "individual_digits", &individual, l->err);
    if (rc == MP_OK) {
        mp_steps_push(&l->t->pre_tokenizer,
                      (struct mp_step){
                          .kind = MP_STEP_SPLIT,
                          .pattern = known_pattern("\\p{N}", false),
                          .behavior = individual ? MP_SPLIT_ISOLATED : MP_SPLIT_CONTIGUOUS,
                      });
    }
    return rc;
}

int mp_load_metaspace(struct mp_loader *l, const struct cJSON *object, struct mp_metaspace *m)
{
    const char *scheme = "always";
    bool add_prefix_space = true; /* of older files */
    *m = (struct mp_metaspace){.split = true};
    int rc = mp_json_opt_string(l->doc, object, "prepend_scheme", &scheme, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_opt_bool(l->doc, object, "add_prefix_space", &add_prefix_space, l->err)) !=
            MP_OK ||
        (rc = mp_json_opt_bool(l->doc, object, "split", &m->split, l->err)) != MP_OK) {
        return rc;
    }
    if (!add_prefix_space && strcmp(scheme, "never") != 0) {
        return mp_json_fail(l->doc, mp_json_find(object, "add_prefix_space"), l->err,
                            "false contradicts prepend_scheme \"%s\"%s: expected \"never\"", scheme,
                            mp_json_find(object, "prepend_scheme") == NULL ? ", the default" : "");
    }
    m->prepend_first = strcmp(scheme, "first") == 0;
    m->prepend = m->prepend_first || strcmp(scheme, "always") == 0;
    if (!m->prepend && strcmp(scheme, "never") != 0) {
        return mp_load_unsupported(l, mp_json_find(object, "prepend_scheme"),
                                   "prepend_scheme \"%s\" is not supported (always, first and "
                                   "never are)",
                                   scheme);
    }
    return mp_load_character(l, object, "replacement", &m->replacement);
}

static int load_metaspace_steps(struct mp_loader *l, const struct cJSON *object)
{
    struct mp_steps *steps = &l->t->pre_tokenizer;
    struct mp_metaspace m;
    int rc = mp_load_metaspace(l, object, &m);
    if (rc == MP_OK) {
        struct mp_bytes *mark = &m.replacement;
        struct mp_step replace = {.kind = MP_STEP_REPLACE, .pattern = known_pattern(" ", true)};
        mp_bytes_append(&replace.content, mark->data, mark->length);
        mp_steps_push(steps, replace);
        if (m.prepend) {
            struct mp_step prepend = {
                .kind = MP_STEP_PREPEND, .unless_present = true, .first_only = m.prepend_first};
            mp_bytes_append(&prepend.content, mark->data, mark->length);
            mp_steps_push(steps, prepend);
        }
        if (m.split) {
            mp_steps_push(steps, (struct mp_step){.kind = MP_STEP_SPLIT,
                                                  .pattern = known_pattern(mark->data, true),
                                                  .behavior = MP_SPLIT_MERGED_WITH_NEXT});
        }
    }
    mp_bytes_free(&m.replacement);
    return rc;
}

static int load_pre_tokenizer(struct mp_loader *l, const struct cJSON *object)
{
    const char *type;
    int rc = mp_json_get_string(l->doc, object, "type", &type, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (strcmp(type, "Sequence") == 0) {
        return mp_load_sequence(l, object, "pretokenizers", load_pre_tokenizer);
    }
    if (strcmp(type, "Split") == 0) {
        return load_split(l, object);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return load_byte_level(l, object);
    }
    if (strcmp(type, "Digits") == 0) {
        return load_digits(l, object);
    }
    if (strcmp(type, "Metaspace") == 0) {
        return load_metaspace_steps(l, object);
    }
    return mp_load_unsupported(l, mp_json_find(object, "type"),
                               "pre-tokenizer \"%s\" is not supported (Split, ByteLevel, Digits, "
                               "Metaspace and Sequence are)",
                               type);
}

int mp_load_pre_tokenizer(struct mp_loader *l, const struct cJSON *pre_tokenizer)
{
    return pre_tokenizer == NULL ? MP_OK : load_pre_tokenizer(l, pre_tokenizer);
}
