#include "core/tokenizer/tokenizer.h"

#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

void mp_ids_push(struct mp_ids *ids, int32_t id)
{
    if (ids->count == ids->capacity) {
        ids->capacity = ids->capacity == 0 ? 64 : 2 * ids->capacity;
        ids->data = mp_xrealloc(ids->data, ids->capacity, sizeof *ids->data);
    }
    ids->data[ids->count++] = id;
}

void mp_ids_free(struct mp_ids *ids)
{
    free(ids->data);
    *ids = (struct mp_ids){0};
}

void mp_tokenizer_free(struct mp_tokenizer *t)
{
    if (t == NULL) {
        return;
    }
    mp_vocab_free(&t->vocab);
    mp_merges_free(&t->merges);
    mp_added_free(&t->added_raw);
    mp_added_free(&t->added_normalized);
    mp_steps_free(&t->normalizer);
    mp_steps_free(&t->pre_tokenizer);
    mp_ids_free(&t->prefix);
    mp_ids_free(&t->suffix);
    for (size_t i = 0; i < t->stage_count; i++) {
        mp_bytes_free(&t->stages[i].pattern);
        mp_bytes_free(&t->stages[i].content);
    }
    free(t->stages);
    free(t);
}

void mp_tokenizer_set_stop(struct mp_tokenizer *t, mp_tokenizer_stop *stop, void *user)
{
    t->stop = stop;
    t->stop_user = user;
}

/* ---- what a model says beside the file ---- */

int32_t mp_tokenizer_find(const struct mp_tokenizer *t, const char *text)
{
    size_t length = strlen(text);
    for (int32_t id = 0; id < t->vocab.size; id++) {
        const struct mp_token *token = mp_vocab_token(&t->vocab, id);
        if (token != NULL && token->length == length && memcmp(token->text, text, length) == 0) {
            return id;
        }
    }
    return -1;
}

/* Whether the set has the token, which is then a special one there too. */
static bool make_special_in(struct mp_added_set *set, int32_t id)
{
    size_t i = 0;
    while (i < set->count && set->items[i].id != id) {
        i++;
    }
    if (i < set->count) {
        set->items[i].special = true;
    }
    return i < set->count;
}

void mp_tokenizer_make_special(struct mp_tokenizer *t, int32_t id)
{
    struct mp_token *token = &t->vocab.tokens[id];
    token->special = true;
    if (token->length > 0 && !make_special_in(&t->added_raw, id) &&
        !make_special_in(&t->added_normalized, id)) {
        struct mp_added_token added = {.id = id, .special = true};
        mp_bytes_append(&added.content, token->text, token->length);
        mp_added_push(&t->added_raw, added);
        mp_added_finish(&t->added_raw);
    }
}

bool mp_tokenizer_adds_special(const struct mp_tokenizer *t)
{
    return t->prefix.count + t->suffix.count > 0;
}

void mp_tokenizer_surround(struct mp_tokenizer *t, int32_t before, int32_t after)
{
    if (before >= 0) {
        mp_ids_push(&t->prefix, before);
    }
    if (after >= 0) {
        mp_ids_push(&t->suffix, after);
    }
}

int32_t mp_tokenizer_size(const struct mp_tokenizer *t)
{
    return t->vocab.size;
}

/* ---- encoding ---- */

struct encoder {
    const struct mp_tokenizer *t;
    struct mp_bpe *bpe;
    struct mp_ids *out;
    struct mp_work *work;
};

/* A part of the text, as it was given or normalized. */
struct part {
    const char *text;    /* [length] */
    const char *content; /* [length] as of mp_tokenizer_encode_content; NULL: none of it is */
    size_t length;
    bool at_start; /* of the whole text */
};

/* Normalized, without added tokens. */
static int encode_words(struct encoder *e, const struct part *part)
{
    struct mp_pieces words = {0};
    mp_bytes_append(&words.text, part->text, part->length);
    mp_pieces_push(&words, 0, part->length);
    int rc = mp_steps_run(&e->t->pre_tokenizer, &words, part->at_start, e->work);
    for (size_t i = 0; i < words.count && rc == MP_OK; i++) {
        struct mp_piece word = words.items[i];
        rc = mp_bpe_word(e->bpe, words.text.data + word.start, word.end - word.start);
    }
    mp_pieces_free(&words);
    return rc;
}

/* Cuts the tokens of set out of a part and does the rest with encode_text. */
static int encode_segments(struct encoder *e, const struct mp_added_set *set,
                           const struct part *part,
                           int (*encode_text)(struct encoder *, const struct part *))
{
    struct mp_segments segments = {0};
    int rc = mp_added_split(set, part->text, part->content, part->length, &segments, e->work);
    for (size_t i = 0; i < segments.count && rc == MP_OK; i++) {
        const struct mp_segment *s = &segments.items[i];
        if (s->id >= 0) {
            mp_ids_push(e->out, s->id);
            continue;
        }
        struct part between = {.text = part->text + s->start,
                               .content = part->content != NULL ? part->content + s->start : NULL,
                               .length = s->end - s->start,
                               .at_start = part->at_start && s->start == 0};
        rc = encode_text(e, &between);
    }
    free(segments.items);
    return rc;
}

static int encode_raw(struct encoder *e, const struct part *part)
{
    struct mp_pieces whole = {0};
    mp_bytes_append(&whole.text, part->text, part->length);
    mp_pieces_push(&whole, 0, part->length);
    int rc = mp_steps_run(&e->t->normalizer, &whole, part->at_start, e->work);
    if (rc == MP_OK) {
        /* Where content counts nothing has been normalized (check_content). */
        bool same = e->t->normalizer.count == 0;
        struct part normalized = {.text = whole.text.data,
                                  .content = same ? part->content : NULL,
                                  .length = whole.text.length,
                                  .at_start = part->at_start};
        rc = encode_segments(e, &e->t->added_normalized, &normalized, encode_words);
    }
    mp_pieces_free(&whole);
    return rc;
}

/* Special tokens that are looked for in what has been normalized cannot be told from content. */
static int check_content(const struct mp_tokenizer *t, struct mp_error *err)
{
    const struct mp_added_set *set = &t->added_normalized;
    for (size_t i = 0; i < set->count && t->normalizer.count > 0; i++) {
        if (set->items[i].special) {
            return mp_fail(err, MP_ERR_UNSUPPORTED,
                           "tokenizer.json: special token %.80s is looked for in normalized text, "
                           "where what users wrote cannot be told from it",
                           set->items[i].content.data);
        }
    }
    return MP_OK;
}

static int check_utf8(const char *text, size_t length, struct mp_error *err)
{
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(text + at, length - at);
        if (n <= 0) {
            return mp_fail(err, MP_ERR_FORMAT,
                           "text to tokenize: invalid UTF-8 at byte offset %zu (0x%02x)", at,
                           (unsigned)(unsigned char)text[at]);
        }
        at += (size_t)n;
    }
    return MP_OK;
}

static void push_all(struct mp_ids *out, const struct mp_ids *ids)
{
    for (size_t i = 0; i < ids->count; i++) {
        mp_ids_push(out, ids->data[i]);
    }
}

int mp_tokenizer_encode_content(const struct mp_tokenizer *t, const char *text, const char *content,
                                size_t length, bool add_special, struct mp_ids *out,
                                struct mp_error *err)
{
    int rc = check_utf8(text, length, err);
    if (rc == MP_OK && content != NULL) {
        rc = check_content(t, err);
    }
    if (rc != MP_OK) {
        return rc;
    }
    size_t count_before = out->count;
    if (add_special) {
        push_all(out, &t->prefix);
    }
    struct mp_work work = {.stop = t->stop, .user = t->stop_user, .err = err};
    struct encoder e = {.t = t, .bpe = mp_bpe_new(t, out, &work), .out = out, .work = &work};
    const struct part whole = {
        .text = text, .content = content, .length = length, .at_start = true};
    rc = encode_segments(&e, &t->added_raw, &whole, encode_raw);
    mp_bpe_free(e.bpe);
    if (rc != MP_OK) {
        out->count = count_before;
    } else if (add_special) {
        push_all(out, &t->suffix);
    }
    return rc;
}

int mp_tokenizer_encode(const struct mp_tokenizer *t, const char *text, size_t length,
                        bool add_special, struct mp_ids *out, struct mp_error *err)
{
    return mp_tokenizer_encode_content(t, text, NULL, length, add_special, out, err);
}
