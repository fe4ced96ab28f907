/* Reading tokenizer.json: the file, its added tokens and its post-processor. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 512 << 20 };

/* ---- helpers of all loaders ---- */

int mp_load_unsupported(struct mp_loader *l, const struct cJSON *value, const char *format, ...)
{
    char message[256];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    mp_json_fail(l->doc, value, l->err, "%s", message);
    if (l->err != NULL) {
        l->err->code = MP_ERR_UNSUPPORTED;
    }
    return MP_ERR_UNSUPPORTED;
}

int mp_load_bytes(struct mp_loader *l, const struct cJSON *object, const char *key,
                  struct mp_bytes *out)
{
    const char *string;
    int rc = mp_json_get_string(l->doc, object, key, &string, l->err);
    if (rc == MP_OK) {
        size_t length;
        char *bytes = mp_json_string_bytes(string, &length);
        mp_bytes_append(out, bytes, length);
        free(bytes);
    }
    return rc;
}

int mp_load_sequence(struct mp_loader *l, const struct cJSON *sequence, const char *key,
                     int (*load)(struct mp_loader *l, const struct cJSON *element))
{
    const struct cJSON *elements;
    int rc = mp_json_get_array(l->doc, sequence, key, &elements, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    for (const struct cJSON *e = mp_json_first(elements); e != NULL && rc == MP_OK;
         e = mp_json_after(e)) {
        rc = load(l, e);
    }
    return rc;
}

/* ---- added tokens ---- */

/* Gives the token its id as Hugging Face's library does, whatever the file says: the one that it
 * has in the model's vocabulary, or else the next after all there are. */
static int set_added_id(struct mp_loader *l, const struct cJSON *token,
                        const struct mp_bytes *content, bool special, int32_t *id)
{
    struct mp_vocab *v = &l->t->vocab;
    *id = mp_vocab_find(v, content->data, content->length);
    if (*id < 0) {
        *id = l->next_added;
        if (*id > MP_TOKENIZER_MAX_ID) {
            return mp_json_fail(l->doc, token, l->err, "more than %d tokens", MP_TOKENIZER_MAX_ID);
        }
        const struct mp_token *other = mp_vocab_token(v, *id);
        if (other != NULL) {
            return mp_json_fail(
                l->doc, token, l->err,
                "the next id, %d, belongs to \"%s\" of the model's vocabulary, which "
                "has %d tokens",
                (int)*id, other->text, (int)l->next_added);
        }
        char *text = mp_xmalloc(content->length + 1);
        memcpy(text, content->data, content->length + 1);
        mp_vocab_set(v, *id, text, content->length);
    }
    l->next_added = *id >= l->next_added ? *id + 1 : l->next_added;
    v->tokens[*id].special = special;
    return MP_OK;
}

/* Puts the token where it will be looked for. */
static int add_to_set(struct mp_loader *l, const struct cJSON *token, struct mp_added_token added,
                      bool normalized)
{
    struct mp_pieces text = {.text = added.content};
    mp_pieces_push(&text, 0, added.content.length);
    int rc = MP_OK;
    if (normalized) {
        struct mp_work work = {.err = l->err};
        rc = mp_steps_run(&l->t->normalizer, &text, true, &work);
    }
    if (rc == MP_OK && text.text.length == 0) {
        rc = mp_json_fail(l->doc, token, l->err, "the content is empty when normalized");
    }
    if (rc == MP_OK) {
        added.content = text.text;
        text.text = (struct mp_bytes){0};
        mp_added_push(normalized ? &l->t->added_normalized : &l->t->added_raw, added);
    }
    mp_pieces_free(&text);
    return rc;
}

static int load_added_token(struct mp_loader *l, const struct cJSON *token)
{
    struct mp_added_token added = {0};
    bool normalized;
    int64_t id;
    const struct mp_json *doc = l->doc;
    int rc = mp_json_expect(doc, token, MP_JSON_OBJECT, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_get_int(doc, token, "id", 0, MP_TOKENIZER_MAX_ID, &id, l->err)) != MP_OK ||
        (rc = mp_json_get_bool(doc, token, "single_word", &added.single_word, l->err)) != MP_OK ||
        (rc = mp_json_get_bool(doc, token, "lstrip", &added.lstrip, l->err)) != MP_OK ||
        (rc = mp_json_get_bool(doc, token, "rstrip", &added.rstrip, l->err)) != MP_OK ||
        (rc = mp_json_get_bool(doc, token, "normalized", &normalized, l->err)) != MP_OK ||
        (rc = mp_json_get_bool(doc, token, "special", &added.special, l->err)) != MP_OK ||
        (rc = mp_load_bytes(l, token, "content", &added.content)) != MP_OK) {
        return rc;
    }
    if (added.content.length == 0) {
        mp_bytes_free(&added.content);
        return mp_json_fail(l->doc, token, l->err, "the content is empty");
    }
    rc = set_added_id(l, token, &added.content, added.special, &added.id);
    if (rc != MP_OK) {
        mp_bytes_free(&added.content);
        return rc;
    }
    return add_to_set(l, token, added, normalized);
}

int mp_load_added_tokens(struct mp_loader *l, const struct cJSON *tokens)
{
    int rc = MP_OK;
    if (tokens != NULL) {
        rc = mp_json_expect(l->doc, tokens, MP_JSON_ARRAY, l->err);
        for (const struct cJSON *v = mp_json_first(tokens); v != NULL && rc == MP_OK;
             v = mp_json_after(v)) {
            rc = load_added_token(l, v);
        }
    }
    struct mp_added_set *sets[] = {&l->t->added_raw, &l->t->added_normalized};
    for (int i = 0; i < 2; i++) {
        const struct mp_added_token *twice = mp_added_finish(sets[i]);
        if (rc == MP_OK && twice != NULL) {
            rc = mp_json_fail(l->doc, tokens, l->err, "\"%s\" is there twice", twice->content.data);
        }
    }
    return rc;
}

/* ---- post-processor ---- */

/* Appends the ids of a special token of a template. */
static int load_template_token(struct mp_loader *l, const struct cJSON *template,
                               const struct cJSON *piece, struct mp_ids *out)
{
    const char *name;
    const struct cJSON *tokens;
    const struct cJSON *token;
    const struct cJSON *ids;
    int rc = mp_json_get_string(l->doc, piece, "id", &name, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_get_object(l->doc, template, "special_tokens", &tokens, l->err)) != MP_OK ||
        (rc = mp_json_get_object(l->doc, tokens, name, &token, l->err)) != MP_OK ||
        (rc = mp_json_get_array(l->doc, token, "ids", &ids, l->err)) != MP_OK) {
        return rc;
    }
    for (const struct cJSON *v = mp_json_first(ids); v != NULL; v = mp_json_after(v)) {
        int64_t id;
        rc = mp_json_as_int(l->doc, v, 0, MP_TOKENIZER_MAX_ID, &id, l->err);
        if (rc != MP_OK) {
            return rc;
        }
        if (mp_vocab_token(&l->t->vocab, id) == NULL) {
            return mp_json_fail(l->doc, v, l->err, "there is no token with id %d", (int)id);
        }
        mp_ids_push(out, (int32_t)id);
    }
    return MP_OK;
}

static int load_template(struct mp_loader *l, const struct cJSON *template)
{
    const struct cJSON *single;
    int rc = mp_json_get_array(l->doc, template, "single", &single, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (l->t->prefix.count + l->t->suffix.count > 0) {
        return mp_load_unsupported(l, template, "a second TemplateProcessing is not supported");
    }
    int sequences = 0;
    for (const struct cJSON *v = mp_json_first(single); v != NULL; v = mp_json_after(v)) {
        const struct cJSON *special = mp_json_find(v, "SpecialToken");
        if (special != NULL) {
            rc = load_template_token(l, template, special,
                                     sequences == 0 ? &l->t->prefix : &l->t->suffix);
            if (rc != MP_OK) {
                return rc;
            }
        } else if (mp_json_find(v, "Sequence") != NULL) {
            sequences++;
        } else {
            return mp_json_fail(l->doc, v, l->err,
                                "expected {\"SpecialToken\": ...} or {\"Sequence\": ...}");
        }
    }
    if (sequences != 1) {
        return mp_json_fail(l->doc, single, l->err, "expected one {\"Sequence\": ...}, found %d",
                            sequences);
    }
    return MP_OK;
}

static int load_processor(struct mp_loader *l, const struct cJSON *processor)
{
    const char *type;
    int rc = mp_json_get_string(l->doc, processor, "type", &type, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (strcmp(type, "Sequence") == 0) {
        return mp_load_sequence(l, processor, "processors", load_processor);
    }
    if (strcmp(type, "TemplateProcessing") == 0) {
        return load_template(l, processor);
    }
    if (strcmp(type, "ByteLevel") == 0) {
        return MP_OK; /* only moves offsets, which are not kept here */
    }
    return mp_load_unsupported(l, mp_json_find(processor, "type"),
                               "post-processor \"%s\" is not supported (TemplateProcessing, "
                               "ByteLevel and Sequence are)",
                               type);
}

int mp_load_post_processor(struct mp_loader *l, const struct cJSON *post_processor)
{
    return post_processor == NULL ? MP_OK : load_processor(l, post_processor);
}

/* ---- the file ---- */

/* A member that may be missing or null: NULL then. */
static const struct cJSON *member(const struct cJSON *root, const char *key)
{
    const struct cJSON *v = mp_json_find(root, key);
    return v == NULL || mp_json_kind(v) == MP_JSON_NULL ? NULL : v;
}

static int load_all(struct mp_loader *l)
{
    const struct cJSON *root = mp_json_root(l->doc);
    const char *version = "1.0";
    const struct cJSON *model;
    /* "truncation" and "padding" are about batches of short texts: encode does neither. The order
     * counts: added tokens are normalized and join the vocabulary, templates name its ids. */
    int rc = mp_json_expect(l->doc, root, MP_JSON_OBJECT, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_opt_string(l->doc, root, "version", &version, l->err)) != MP_OK) {
        return rc;
    }
    if (strcmp(version, "1.0") != 0) {
        return mp_load_unsupported(l, mp_json_find(root, "version"),
                                   "version \"%s\" is not supported (\"1.0\" is)", version);
    }
    if ((rc = mp_json_get_object(l->doc, root, "model", &model, l->err)) != MP_OK ||
        (rc = mp_load_model(l, model)) != MP_OK ||
        (rc = mp_load_normalizer(l, member(root, "normalizer"))) != MP_OK ||
        (rc = mp_load_pre_tokenizer(l, member(root, "pre_tokenizer"))) != MP_OK ||
        (rc = mp_load_added_tokens(l, member(root, "added_tokens"))) != MP_OK ||
        (rc = mp_load_post_processor(l, member(root, "post_processor"))) != MP_OK) {
        return rc;
    }
    return mp_load_decoder(l, member(root, "decoder"));
}

int mp_tokenizer_load(const char *path, struct mp_tokenizer **out, struct mp_error *err)
{
    struct mp_json *doc;
    int rc = mp_json_read_file_with_nul(path, MAX_FILE_BYTES, &doc, err);
    if (rc != MP_OK) {
        return rc;
    }
    struct mp_loader l = {.t = mp_xcalloc(1, sizeof *l.t), .doc = doc, .err = err, .growth = 1};
    l.t->normalizer.name = "normalizer";
    l.t->pre_tokenizer.name = "pre_tokenizer";
    rc = load_all(&l);
    mp_json_free(doc);
    if (rc != MP_OK) {
        mp_tokenizer_free(l.t);
        return rc;
    }
    *out = l.t;
    return MP_OK;
}
