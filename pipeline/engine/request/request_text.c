#include "pipeline/engine/request/request_text.h"

#include "core/base/error.h"
#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

struct mp_request_text {
    struct mp_token_stream *stream;
    char **stop; /* [num_stop] */
    int num_stop;
    bool shows_special; /* special tokens are text too, but for the end token */
    char *text;         /* [length] and a NUL: decoded, and not passed on yet */
    size_t length;      /* bytes */
    size_t capacity;    /* bytes */
    int slot;
    mp_token_callback *on_token; /* NULL: nobody listens */
    void *user;
};

/* ---- life ---- */

int mp_request_text_open(const struct mp_tokenizer *tokenizer, const struct mp_request_options *o,
                         int slot, struct mp_request_text **out, struct mp_error *err)
{
    *out = NULL;
    for (int i = 0; i < o->num_stop; i++) {
        if (o->stop[i] == NULL || o->stop[i][0] == '\0') {
            return mp_fail(err, MP_ERR_USAGE, "stop string %d is empty", i);
        }
    }
    if (o->num_stop == 0 && o->on_token == NULL) {
        return 0;
    }
    struct mp_request_text *t = mp_xcalloc(1, sizeof *t);
    t->stream = mp_token_stream_new(tokenizer, !o->special_text);
    t->shows_special = o->special_text;
    t->num_stop = o->num_stop;
    t->stop = mp_xcalloc((size_t)o->num_stop, sizeof *t->stop);
    for (int i = 0; i < o->num_stop; i++) {
        t->stop[i] = mp_xstrdup(o->stop[i]);
    }
    t->slot = slot;
    t->on_token = o->on_token;
    t->user = o->user;
    *out = t;
    return 0;
}

void mp_request_text_close(struct mp_request_text *t)
{
    if (t == NULL) {
        return;
    }
    for (int i = 0; i < t->num_stop; i++) {
        free(t->stop[i]);
    }
    free(t->stop);
    free(t->text);
    mp_token_stream_free(t->stream);
    free(t);
}

/* ---- stop strings ---- */

/* Appends the piece that the stream gave last; it may contain NULs. */
static void append(struct mp_request_text *t, const char *piece)
{
    size_t n = mp_token_stream_piece_length(t->stream);
    if (t->length + n + 1 > t->capacity) {
        t->capacity = 2 * (t->length + n + 1);
        t->text = mp_xrealloc(t->text, t->capacity, 1);
    }
    memcpy(t->text + t->length, piece, n);
    t->length += n;
    t->text[t->length] = '\0';
}

/* Where the first stop string begins that is in the text as a whole; its length if none is. What
 * was passed on before belongs to none: it was not held back. */
static size_t find_stop(const struct mp_request_text *t)
{
    size_t first = t->length;
    for (int i = 0; i < t->num_stop; i++) {
        const char *at = memmem(t->text, t->length, t->stop[i], strlen(t->stop[i]));
        if (at != NULL && (size_t)(at - t->text) < first) {
            first = (size_t)(at - t->text);
        }
    }
    return first;
}

/* Whether the text from `at` on is the beginning of a stop string. */
static bool may_stop(const struct mp_request_text *t, size_t at)
{
    size_t n = t->length - at;
    for (int i = 0; i < t->num_stop; i++) {
        if (n < strlen(t->stop[i]) && memcmp(t->text + at, t->stop[i], n) == 0) {
            return true;
        }
    }
    return false;
}

/* Bytes that belong to no stop string, whatever follows. */
static size_t certain(const struct mp_request_text *t)
{
    size_t longest = 0;
    for (int i = 0; i < t->num_stop; i++) {
        size_t n = strlen(t->stop[i]);
        longest = n > longest ? n : longest;
    }
    size_t at = t->length >= longest ? t->length - longest : 0;
    while (at < t->length && !may_stop(t, at)) {
        at++;
    }
    return at;
}

/* ---- passing on ---- */

/* Passes on the first n bytes. */
static void pass_on(struct mp_request_text *t, int32_t id, size_t n)
{
    char after = t->text[n];
    t->text[n] = '\0';
    if (t->on_token != NULL) {
        t->on_token(t->user, t->slot, id, t->text, n);
    }
    t->text[n] = after;
    t->length -= n;
    memmove(t->text, t->text + n, t->length + 1);
}

void mp_request_text_append(struct mp_request_text *t, struct mp_request *info)
{
    if (t == NULL) {
        return;
    }
    int32_t id = info->ids[info->prompt_tokens + info->generated_tokens - 1];
    if (!t->shows_special || info->finish != MP_FINISH_EOS) {
        append(t, mp_token_stream_push(t->stream, id));
    }
    size_t stop = find_stop(t);
    if (stop == t->length && info->finish != MP_FINISH_NONE) {
        append(t, mp_token_stream_finish(t->stream));
        stop = find_stop(t);
    }
    if (stop < t->length) {
        info->finish = MP_FINISH_STOP;
    }
    pass_on(t, id, info->finish == MP_FINISH_NONE ? certain(t) : stop);
}
