#include "models/hf_tokenizer.h"

#include "core/base/memory.h"
#include "core/json/json.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_CONFIG_BYTES = 64 << 20 };

/* What the classes of transformers mean by keys that are missing. */
struct tokenizer_class {
    const char *name;
    bool add_bos;
    const char *bos;
    const char *eos;
};

static const struct tokenizer_class CLASSES[] = {
    {"LlamaTokenizer", true, "<s>", "</s>"},
    {"LlamaTokenizerFast", true, "<s>", "</s>"},
    {"CodeLlamaTokenizer", true, "<s>", "</s>"},
    {"CodeLlamaTokenizerFast", true, "<s>", "</s>"},
};
static const struct tokenizer_class OTHER_CLASS = {0};

/* The tokenizer_config.json being read. */
struct reader {
    const struct mp_json *doc;
    const struct cJSON *root;
    struct mp_tokenizer *t;
    struct mp_error *err;
};

static const struct tokenizer_class *find_class(const char *name)
{
    for (size_t i = 0; i < sizeof CLASSES / sizeof CLASSES[0]; i++) {
        if (strcmp(CLASSES[i].name, name) == 0) {
            return &CLASSES[i];
        }
    }
    return &OTHER_CLASS;
}

const char *mp_hf_usual_token(const char *tokenizer_class, const char *key)
{
    const struct tokenizer_class *class = find_class(tokenizer_class);
    return strcmp(key, "bos_token") == 0   ? class->bos
           : strcmp(key, "eos_token") == 0 ? class->eos
                                           : NULL;
}

static int read_class(const struct reader *r, const struct tokenizer_class **out)
{
    const char *name = "";
    int code = mp_json_opt_string(r->doc, r->root, "tokenizer_class", &name, r->err);
    *out = find_class(name);
    return code;
}

/* A token that a key names. */
struct named {
    const char *text; /* NULL: none */
    int32_t id;       /* -1: none, or not one of tokenizer.json */
};

/* Its text, an object with its "content", or null. The token becomes a special one. */
static int read_token(const struct reader *r, const char *key, const char *fallback,
                      struct named *out)
{
    const struct cJSON *value = mp_json_find(r->root, key);
    int code = MP_OK;
    *out = (struct named){.text = value == NULL ? fallback : NULL, .id = -1};
    if (value != NULL && mp_json_kind(value) == MP_JSON_OBJECT) {
        code = mp_json_get_string(r->doc, value, "content", &out->text, r->err);
    } else if (value != NULL) {
        code = mp_json_opt_string(r->doc, r->root, key, &out->text, r->err);
    }
    if (code == MP_OK && out->text != NULL) {
        out->id = mp_tokenizer_find(r->t, out->text);
    }
    if (out->id >= 0) {
        mp_tokenizer_make_special(r->t, out->id);
    }
    return code;
}

/* *id: the token if the flag, false or true if it is missing, puts it at one end of each text. */
static int read_flag(const struct reader *r, const char *flag, bool fallback,
                     const struct named *token, int32_t *id)
{
    bool add = fallback;
    int code = mp_json_opt_bool(r->doc, r->root, flag, &add, r->err);
    if (code == MP_OK && add && token->text != NULL && token->id < 0) {
        return mp_json_fail(r->doc, r->root, r->err,
                            "%s puts \"%.100s\" around texts, which tokenizer.json does not have",
                            flag, token->text);
    }
    *id = add ? token->id : -1;
    return code;
}

static int apply(const struct reader *r)
{
    const struct tokenizer_class *class;
    struct named bos, eos, other;
    int32_t before, after;
    int code = mp_json_expect(r->doc, r->root, MP_JSON_OBJECT, r->err);
    if (code != MP_OK || (code = read_class(r, &class)) != MP_OK ||
        (code = read_token(r, "bos_token", class->bos, &bos)) != MP_OK ||
        (code = read_token(r, "eos_token", class->eos, &eos)) != MP_OK ||
        (code = read_token(r, "unk_token", NULL, &other)) != MP_OK ||
        (code = read_token(r, "pad_token", NULL, &other)) != MP_OK ||
        mp_tokenizer_adds_special(r->t) ||
        (code = read_flag(r, "add_bos_token", class->add_bos, &bos, &before)) != MP_OK ||
        (code = read_flag(r, "add_eos_token", false, &eos, &after)) != MP_OK) {
        return code;
    }
    mp_tokenizer_surround(r->t, before, after);
    return MP_OK;
}

static int apply_config(const char *path, struct mp_tokenizer *t, struct mp_error *err)
{
    struct mp_json *doc;
    int code = mp_json_read_file(path, MAX_CONFIG_BYTES, &doc, err);
    if (code == MP_OK) {
        struct reader r = {.doc = doc, .root = mp_json_root(doc), .t = t, .err = err};
        code = apply(&r);
        mp_json_free(doc);
    }
    return code;
}

int mp_hf_tokenizer_load(const char *dir, struct mp_tokenizer **out, struct mp_error *err)
{
    char *path = mp_xasprintf("%s/tokenizer.json", dir);
    char *config = mp_xasprintf("%s/tokenizer_config.json", dir);
    struct mp_tokenizer *t = NULL;
    int code = mp_tokenizer_load(path, &t, err);
    if (code == MP_OK && access(config, F_OK) == 0) {
        code = apply_config(config, t, err);
    }
    free(config);
    free(path);
    if (code != MP_OK) {
        mp_tokenizer_free(t);
        return code;
    }
    *out = t;
    return MP_OK;
}
