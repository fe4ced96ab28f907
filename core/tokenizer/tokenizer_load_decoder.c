/* Reading the decoder of tokenizer.json. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <string.h>

enum { MAX_STRIP = 1 << 20, MAX_STAGES = 64 };

static int load_replace(struct mp_loader *l, const struct cJSON *object, struct mp_stage *stage)
{
    stage->kind = MP_STAGE_REPLACE;
    const struct cJSON *pattern;
    int rc = mp_json_get_object(l->doc, object, "pattern", &pattern, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (mp_json_find(pattern, "Regex") != NULL) {
        return mp_load_unsupported(l, pattern,
                                   "a \"Regex\" is not supported in a decoder "
                                   "(a \"String\" is)");
    }
    if ((rc = mp_load_bytes(l, pattern, "String", &stage->pattern)) != MP_OK) {
        return rc;
    }
    if (stage->pattern.length == 0) {
        return mp_json_fail(l->doc, pattern, l->err, "the pattern is empty");
    }
    rc = mp_load_bytes(l, object, "content", &stage->content);
    if (rc == MP_OK && stage->content.length > stage->pattern.length) {
        l->growth *= (stage->content.length - 1) / stage->pattern.length + 1;
    }
    if (l->growth > MP_TOKENIZER_MAX_GROWTH) {
        return mp_load_unsupported(l, object,
                                   "up to here, a token's text may become %zu times as long: "
                                   "expected at most %d times",
                                   l->growth, MP_TOKENIZER_MAX_GROWTH);
    }
    return rc;
}

static int load_strip(struct mp_loader *l, const struct cJSON *object, struct mp_stage *stage)
{
    int64_t start;
    int64_t stop;
    int rc = mp_json_get_int(l->doc, object, "start", 0, MAX_STRIP, &start, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_get_int(l->doc, object, "stop", 0, MAX_STRIP, &stop, l->err)) != MP_OK) {
        return rc;
    }
    if (l->fused && stop > 0) {
        /* The end of the text is not known while it streams. */
        return mp_load_unsupported(
            l, mp_json_find(object, "stop"),
            "a stop other than 0 is not supported after \"Fuse\" or \"ByteLevel\"");
    }
    stage->kind = l->fused ? MP_STAGE_STRIP_START : MP_STAGE_STRIP;
    stage->start = (size_t)start;
    stage->stop = (size_t)stop;
    return mp_load_character(l, object, "content", &stage->content);
}

static int load_metaspace(struct mp_loader *l, const struct cJSON *object, struct mp_stage *stage)
{
    struct mp_metaspace m;
    int rc = mp_load_metaspace(l, object, &m);
    stage->kind = MP_STAGE_METASPACE;
    stage->content = m.replacement;
    stage->skip_first = m.prepend;
    return rc;
}

/* Appends the stage of a decoder that is no sequence. */
static int load_stage(struct mp_loader *l, const struct cJSON *object, const char *type)
{
    struct mp_stage stage = {0};
    int rc = MP_OK;
    if (strcmp(type, "Strip") == 0) {
        rc = load_strip(l, object, &stage);
    } else if (l->fused) {
        rc = mp_load_unsupported(l, mp_json_find(object, "type"),
                                 "\"%s\" is not supported after \"Fuse\" or \"ByteLevel\"", type);
    } else if (strcmp(type, "Replace") == 0) {
        rc = load_replace(l, object, &stage);
    } else if (strcmp(type, "Metaspace") == 0) {
        rc = load_metaspace(l, object, &stage);
    } else if (strcmp(type, "ByteFallback") == 0) {
        stage.kind = MP_STAGE_BYTE_FALLBACK;
    } else {
        stage.kind = MP_STAGE_BYTE_LEVEL;
        l->fused = true; /* its result is one text */
    }
    struct mp_tokenizer *t = l->t;
    if (rc == MP_OK && t->stage_count == MAX_STAGES) {
        rc = mp_load_unsupported(l, object, "more than %d steps are not supported", MAX_STAGES);
    }
    t->stages = mp_xrealloc(t->stages, t->stage_count + 1, sizeof *t->stages);
    t->stages[t->stage_count++] = stage;
    return rc;
}

static int load_decoder(struct mp_loader *l, const struct cJSON *object)
{
    static const char *const stages[] = {"Strip", "Replace", "Metaspace", "ByteFallback",
                                         "ByteLevel"};
    const char *type;
    int rc = mp_json_get_string(l->doc, object, "type", &type, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (strcmp(type, "Sequence") == 0) {
        return mp_load_sequence(l, object, "decoders", load_decoder);
    }
    if (strcmp(type, "Fuse") == 0) {
        l->fused = true; /* the tokens' texts follow each other anyway */
        return MP_OK;
    }
    for (size_t i = 0; i < sizeof stages / sizeof stages[0]; i++) {
        if (strcmp(type, stages[i]) == 0) {
            return load_stage(l, object, type);
        }
    }
    return mp_load_unsupported(l, mp_json_find(object, "type"),
                               "decoder \"%s\" is not supported (ByteLevel, Replace, ByteFallback, "
                               "Fuse, Strip, Metaspace and Sequence are)",
                               type);
}

int mp_load_decoder(struct mp_loader *l, const struct cJSON *decoder)
{
    if (decoder == NULL) {
        return mp_load_unsupported(l, mp_json_root(l->doc),
                                   "a tokenizer without a \"decoder\" is not supported");
    }
    return load_decoder(l, decoder);
}
