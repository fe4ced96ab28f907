/* Reading the "model" of tokenizer.json: vocabulary and merges. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what is not supported ---- */

/* Members of a BPE model that change the result and that no supported model uses. */
static int check_options(struct mp_loader *l, const struct cJSON *model)
{
    double dropout = 0;
    int rc = mp_json_opt_number(l->doc, model, "dropout", 0, 1, &dropout, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (dropout > 0) {
        return mp_load_unsupported(l, mp_json_find(model, "dropout"),
                                   "a dropout other than 0 is not supported, found %g", dropout);
    }
    static const char *const affixes[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (size_t i = 0; i < sizeof affixes / sizeof affixes[0]; i++) {
        const char *affix = "";
        rc = mp_json_opt_string(l->doc, model, affixes[i], &affix, l->err);
        if (rc != MP_OK) {
            return rc;
        }
        if (affix[0] != '\0') {
            return mp_load_unsupported(l, mp_json_find(model, affixes[i]),
                                       "\"%s\" is not supported (null or \"\" is)", affixes[i]);
        }
    }
    return MP_OK;
}

/* ---- vocabulary ---- */

static int load_vocab(struct mp_loader *l, const struct cJSON *model)
{
    struct mp_vocab *vocab = &l->t->vocab;
    const struct cJSON *object;
    int rc = mp_json_get_object(l->doc, model, "vocab", &object, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    for (const struct cJSON *v = mp_json_first(object); v != NULL; v = mp_json_after(v)) {
        int64_t id;
        rc = mp_json_as_int(l->doc, v, 0, MP_TOKENIZER_MAX_ID, &id, l->err);
        if (rc != MP_OK) {
            return rc;
        }
        size_t length;
        char *text = mp_json_string_bytes(mp_json_key(v), &length);
        if (!mp_vocab_set(vocab, (int32_t)id, text, length)) {
            free(text);
            return mp_json_fail(l->doc, v, l->err, "id %d belongs to \"%s\" already", (int)id,
                                vocab->tokens[id].text);
        }
        l->next_added++;
    }
    mp_vocab_index(vocab);
    return MP_OK;
}

/* ---- merges ---- */

/* The id of the token text[0..length) that merge needs. */
static int find_token(struct mp_loader *l, const struct cJSON *merge, const char *text,
                      size_t length, int32_t *id)
{
    *id = mp_vocab_find(&l->t->vocab, text, length);
    if (*id < 0) {
        return mp_json_fail(l->doc, merge, l->err, "token \"%.*s\" is not in the vocabulary",
                            length > 100 ? 100 : (int)length, text);
    }
    return MP_OK;
}

/* pair: the two tokens one after the other, the first of left_length bytes. */
static int add_merge(struct mp_loader *l, const struct cJSON *merge, uint32_t rank,
                     const struct mp_bytes *pair, size_t left_length)
{
    struct mp_merge m = {.rank = rank};
    const char *right = pair->data + left_length;
    int rc = find_token(l, merge, pair->data, left_length, &m.left);
    if (rc == MP_OK) {
        rc = find_token(l, merge, right, pair->length - left_length, &m.right);
    }
    if (rc == MP_OK) {
        rc = find_token(l, merge, pair->data, pair->length, &m.merged);
    }
    if (rc == MP_OK) {
        mp_merges_set(&l->t->merges, m);
    }
    return rc;
}

/* "left right": appends both to pair. */
static int read_string_pair(struct mp_loader *l, const struct cJSON *merge, struct mp_bytes *pair,
                            size_t *left_length)
{
    const char *string;
    int rc = mp_json_as_string(l->doc, merge, &string, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t length;
    char *text = mp_json_string_bytes(string, &length);
    const char *space = memchr(text, ' ', length);
    *left_length = space == NULL ? 0 : (size_t)(space - text);
    size_t right_at = *left_length + 1;
    if (space != NULL && memchr(text + right_at, ' ', length - right_at) == NULL) {
        mp_bytes_append(pair, text, *left_length);
        mp_bytes_append(pair, text + right_at, length - right_at);
    } else {
        rc = mp_json_fail(l->doc, merge, l->err,
                          "expected two tokens with one space between them, found \"%.100s\"",
                          string);
    }
    free(text);
    return rc;
}

/* ["left", "right"]: appends both to pair. */
static int read_array_pair(struct mp_loader *l, const struct cJSON *merge, struct mp_bytes *pair,
                           size_t *left_length)
{
    int rc = mp_json_expect(l->doc, merge, MP_JSON_ARRAY, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    size_t count = mp_json_count(merge);
    if (count != 2) {
        return mp_json_fail(l->doc, merge, l->err, "expected two tokens, found %zu", count);
    }
    for (const struct cJSON *v = mp_json_first(merge); v != NULL; v = mp_json_after(v)) {
        const char *string;
        rc = mp_json_as_string(l->doc, v, &string, l->err);
        if (rc != MP_OK) {
            return rc;
        }
        size_t length;
        char *text = mp_json_string_bytes(string, &length);
        *left_length = pair->length; /* after the last turn: where the right one starts */
        mp_bytes_append(pair, text, length);
        free(text);
    }
    return MP_OK;
}

static int load_merges(struct mp_loader *l, const struct cJSON *model)
{
    const struct cJSON *merges;
    int rc = mp_json_get_array(l->doc, model, "merges", &merges, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    mp_merges_init(&l->t->merges, mp_json_count(merges));
    struct mp_bytes pair = {0};
    uint32_t rank = 0;
    for (const struct cJSON *v = mp_json_first(merges); v != NULL && rc == MP_OK;
         v = mp_json_after(v)) {
        size_t left_length = 0;
        pair.length = 0;
        rc = mp_json_kind(v) == MP_JSON_STRING ? read_string_pair(l, v, &pair, &left_length)
                                               : read_array_pair(l, v, &pair, &left_length);
        if (rc == MP_OK) {
            rc = add_merge(l, v, rank++, &pair, left_length);
        }
    }
    mp_bytes_free(&pair);
    return rc;
}

/* ---- unknown characters ---- */

static int load_unknown(struct mp_loader *l, const struct cJSON *model)
{
    struct mp_tokenizer *t = l->t;
    const char *unk_token = NULL;
    bool byte_fallback = false;
    int rc = mp_json_opt_bool(l->doc, model, "fuse_unk", &t->fuse_unk, l->err);
    if (rc != MP_OK ||
        (rc = mp_json_opt_bool(l->doc, model, "byte_fallback", &byte_fallback, l->err)) != MP_OK ||
        (rc = mp_json_opt_string(l->doc, model, "unk_token", &unk_token, l->err)) != MP_OK) {
        return rc;
    }
    for (int byte = 0; byte < 256; byte++) {
        char name[8];
        int length = snprintf(name, sizeof name, "<0x%02X>", (unsigned)byte);
        t->byte_ids[byte] = byte_fallback ? mp_vocab_find(&t->vocab, name, (size_t)length) : -1;
    }
    t->unk_id = -1;
    if (unk_token != NULL) {
        t->unk_id = mp_vocab_find(&t->vocab, unk_token, strlen(unk_token));
        if (t->unk_id < 0) {
            return mp_json_fail(l->doc, mp_json_find(model, "unk_token"), l->err,
                                "\"%s\" is not in the vocabulary", unk_token);
        }
    }
    return MP_OK;
}

int mp_load_model(struct mp_loader *l, const struct cJSON *model)
{
    const char *type;
    int rc = mp_json_get_string(l->doc, model, "type", &type, l->err);
    if (rc != MP_OK) {
        return rc;
    }
    if (strcmp(type, "BPE") != 0) {
        return mp_load_unsupported(l, mp_json_find(model, "type"),
                                   "model \"%s\" is not supported (BPE is)", type);
    }
    if ((rc = check_options(l, model)) != MP_OK || (rc = load_vocab(l, model)) != MP_OK ||
        (rc = load_merges(l, model)) != MP_OK || (rc = load_unknown(l, model)) != MP_OK) {
        return rc;
    }
    return mp_json_opt_bool(l->doc, model, "ignore_merges", &l->t->ignore_merges, l->err);
}
