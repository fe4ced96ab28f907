/* Ids to text: tokens go through the decoder's stages one by one, and each stage hands on what it
 * is sure of. Decoding a whole array is the same with all ids at once, so both always agree. */
#include "core/base/memory.h"
#include "core/tokenizer/tokenizer_internal.h"

#include <stdlib.h>
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

struct stage_state {
    struct mp_bytes held; /* byte fallback and byte level: bytes not handed on yet */
    size_t stripped;      /* strip start: how many characters have been; */
    bool begun;           /* strip start: text has come; metaspace: a token has */
};

struct mp_token_stream {
    const struct mp_tokenizer *t;
    bool skip_special;
    bool raw; /* bytes are handed on as they are, whether or not they are characters */
    struct stage_state *states; /* [t->stage_count] */
    struct mp_bytes piece;      /* what the last stage gave since the last call */
};

/* Gives text to a stage; stage == stage_count: to the piece. */
static void feed(struct mp_token_stream *s, size_t stage, const char *text, size_t length);

static bool starts_with(const char *text, size_t length, const struct mp_bytes *what)
{
    return length >= what->length && memcmp(text, what->data, what->length) == 0;
}

/* ---- stages that rewrite a token ---- */

static void replace(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    const struct mp_stage *d = &s->t->stages[stage];
    struct mp_bytes out = {0};
    while (length > 0) {
        bool found = starts_with(text, length, &d->pattern);
        size_t step = found ? d->pattern.length : 1;
        mp_bytes_append(&out, found ? d->content.data : text, found ? d->content.length : 1);
        text += step;
        length -= step;
    }
    feed(s, stage + 1, out.data, out.length);
    mp_bytes_free(&out);
}

static void strip(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    const struct mp_stage *d = &s->t->stages[stage];
    size_t n = d->content.length;
    for (size_t i = 0; i < d->start && starts_with(text, length, &d->content); i++) {
        text += n;
        length -= n;
    }
    for (size_t i = 0; i < d->stop && length >= n; i++) {
        if (memcmp(text + length - n, d->content.data, n) != 0) {
            break;
        }
        length -= n;
    }
    feed(s, stage + 1, text, length);
}

static void strip_start(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    const struct mp_stage *d = &s->t->stages[stage];
    struct stage_state *state = &s->states[stage];
    while (!state->begun && length > 0) {
        if (state->stripped < d->start && starts_with(text, length, &d->content)) {
            state->stripped++;
            text += d->content.length;
            length -= d->content.length;
        } else {
            state->begun = true;
        }
    }
    feed(s, stage + 1, text, length);
}

static void metaspace(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    const struct mp_stage *d = &s->t->stages[stage];
    bool skip = d->skip_first && !s->states[stage].begun;
    s->states[stage].begun = true;
    struct mp_bytes out = {0};
    while (length > 0) {
        bool found = starts_with(text, length, &d->content);
        size_t step = found ? d->content.length : 1;
        mp_bytes_append(&out, found ? " " : text, found && skip ? 0 : 1);
        text += step;
        length -= step;
    }
    feed(s, stage + 1, out.data, out.length);
    mp_bytes_free(&out);
}

/* ---- stages that gather bytes ---- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* The byte that a token <0xAB> stands for, or -1. */
static int fallback_byte(const char *text, size_t length)
{
    if (length != 6 || memcmp(text, "<0x", 3) != 0 || text[5] != '>') {
        return -1;
    }
    int high = hex_digit(text[3]);
    int low = hex_digit(text[4]);
    return high < 0 || low < 0 ? -1 : 16 * high + low;
}

static bool is_utf8(const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(text + at, length - at);
        if (n <= 0) {
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

/* Hands on a run of bytes that has ended: as text if all of it is, or else each as U+FFFD. */
static void end_byte_run(struct mp_token_stream *s, size_t stage)
{
    struct mp_bytes run = s->states[stage].held;
    s->states[stage].held = (struct mp_bytes){0};
    if (s->raw || is_utf8(run.data, run.length)) {
        if (run.length > 0) {
            feed(s, stage + 1, run.data, run.length);
        }
    } else {
        for (size_t i = 0; i < run.length; i++) {
            feed(s, stage + 1, replacement, sizeof replacement - 1);
        }
    }
    mp_bytes_free(&run);
}

static void byte_fallback(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    int byte = fallback_byte(text, length);
    if (byte >= 0) {
        mp_bytes_append(&s->states[stage].held, &(char){(char)byte}, 1);
        return;
    }
    end_byte_run(s, stage);
    feed(s, stage + 1, text, length);
}

/* Hands on the complete characters of what is held, U+FFFD for what can never become one; at the
 * end of the text also for an incomplete character. */
static void hand_on_characters(struct mp_token_stream *s, size_t stage, bool at_end)
{
    struct mp_bytes *held = &s->states[stage].held;
    struct mp_bytes out = {0};
    size_t at = 0;
    while (at < held->length) {
        int n = s->raw ? 1 : mp_utf8_next(held->data + at, held->length - at);
        if (n == 0 && !at_end) {
            break;
        }
        if (n > 0) {
            mp_bytes_append(&out, held->data + at, (size_t)n);
        } else {
            mp_bytes_append(&out, replacement, sizeof replacement - 1);
        }
        at += n > 0 ? (size_t)n : n < 0 ? (size_t)-n : held->length - at;
    }
    size_t left = held->length - at;
    if (at > 0) {
        memmove(held->data, held->data + at, left);
        held->length = left;
        feed(s, stage + 1, out.data, out.length);
    }
    mp_bytes_free(&out);
}

static void byte_level(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    struct mp_bytes *held = &s->states[stage].held;
    size_t before = held->length;
    for (size_t at = 0; at < length; at += mp_utf8_length(text[at])) {
        int byte = mp_byte_char_decode(text + at);
        if (byte < 0) {
            /* Not a byte-level token (an added one, for example): it stands for itself. */
            held->length = before;
            mp_bytes_append(held, text, length);
            break;
        }
        mp_bytes_append(held, &(char){(char)byte}, 1);
    }
    hand_on_characters(s, stage, false);
}

/* ---- the chain ---- */

static void feed(struct mp_token_stream *s, size_t stage, const char *text, size_t length)
{
    if (stage == s->t->stage_count) {
        mp_bytes_append(&s->piece, text, length);
        return;
    }
    static void (*const run[])(struct mp_token_stream *, size_t, const char *, size_t) = {
        [MP_STAGE_REPLACE] = replace,
        [MP_STAGE_STRIP] = strip,
        [MP_STAGE_STRIP_START] = strip_start,
        [MP_STAGE_METASPACE] = metaspace,
        [MP_STAGE_BYTE_FALLBACK] = byte_fallback,
        [MP_STAGE_BYTE_LEVEL] = byte_level,
    };
    run[s->t->stages[stage].kind](s, stage, text, length);
}

static void start_piece(struct mp_token_stream *s)
{
    s->piece.length = 0;
    mp_bytes_append(&s->piece, "", 0);
}

struct mp_token_stream *mp_token_stream_new(const struct mp_tokenizer *t, bool skip_special)
{
    struct mp_token_stream *s = mp_xcalloc(1, sizeof *s);
    s->t = t;
    s->skip_special = skip_special;
    s->states = mp_xcalloc(t->stage_count, sizeof *s->states);
    return s;
}

/* Appends to the piece what id adds. */
static void push_id(struct mp_token_stream *s, int32_t id)
{
    const struct mp_token *token = mp_vocab_token(&s->t->vocab, id);
    if (token != NULL && !(s->skip_special && token->special)) {
        feed(s, 0, token->text, token->length);
    }
}

const char *mp_token_stream_push(struct mp_token_stream *s, int32_t id)
{
    start_piece(s);
    push_id(s, id);
    return s->piece.data;
}

/* Appends to the piece what the stages still hold. */
static void flush(struct mp_token_stream *s)
{
    for (size_t i = 0; i < s->t->stage_count; i++) {
        if (s->t->stages[i].kind == MP_STAGE_BYTE_FALLBACK) {
            end_byte_run(s, i);
        } else if (s->t->stages[i].kind == MP_STAGE_BYTE_LEVEL) {
            hand_on_characters(s, i, true);
        }
    }
}

const char *mp_token_stream_finish(struct mp_token_stream *s)
{
    start_piece(s);
    flush(s);
    return s->piece.data;
}

size_t mp_token_stream_piece_length(const struct mp_token_stream *s)
{
    return s->piece.length;
}

void mp_token_stream_free(struct mp_token_stream *s)
{
    if (s != NULL) {
        for (size_t i = 0; i < s->t->stage_count; i++) {
            mp_bytes_free(&s->states[i].held);
        }
        free(s->states);
        mp_bytes_free(&s->piece);
        free(s);
    }
}

char *mp_tokenizer_decode(const struct mp_tokenizer *t, const int32_t *ids, size_t count,
                          bool skip_special, size_t *length)
{
    struct mp_token_stream *s = mp_token_stream_new(t, skip_special);
    start_piece(s);
    for (size_t i = 0; i < count; i++) {
        push_id(s, ids[i]);
    }
    flush(s);
    char *text = s->piece.data;
    if (length != NULL) {
        *length = s->piece.length;
    }
    s->piece = (struct mp_bytes){0}; /* now the caller's */
    mp_token_stream_free(s);
    return text;
}

char *mp_tokenizer_token_bytes(const struct mp_tokenizer *t, int32_t id, size_t *length)
{
    struct mp_token_stream *s = mp_token_stream_new(t, false);
    s->raw = true;
    for (size_t i = 0; i < t->stage_count; i++) {
        s->states[i].begun = true; /* nothing is taken from it as from the start of a text */
    }
    start_piece(s);
    push_id(s, id);
    flush(s);
    char *bytes = s->piece.data;
    *length = s->piece.length;
    s->piece = (struct mp_bytes){0}; /* now the caller's */
    mp_token_stream_free(s);
    return bytes;
}
