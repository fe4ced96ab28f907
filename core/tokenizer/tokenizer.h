/* Hugging Face tokenizer.json: text <-> token ids. */
#ifndef MP_CORE_TOKENIZER_H
#define MP_CORE_TOKENIZER_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_tokenizer; /* opaque, immutable after loading: safe to share between threads */

/* A growing array of token ids. Start from {0}; free with mp_ids_free. */
struct mp_ids {
    int32_t *data;
    size_t count;
    size_t capacity;
};
void mp_ids_push(struct mp_ids *ids, int32_t id);
void mp_ids_free(struct mp_ids *ids);

int mp_tokenizer_load(const char *path, struct mp_tokenizer **out, struct mp_error *err);
void mp_tokenizer_free(struct mp_tokenizer *t);

/* Asked during mp_tokenizer_encode, once every so many operations: true ends it with
 * MP_ERR_INTERRUPTED. Threads that share the tokenizer ask at the same time. */
typedef bool mp_tokenizer_stop(void *user);
enum { MP_TOKENIZER_STOP_PERIOD = 4096 };
/* Call before the tokenizer is shared. */
void mp_tokenizer_set_stop(struct mp_tokenizer *t, mp_tokenizer_stop *stop, void *user);

/* The id of the token with this text, or -1; takes time in proportion to the vocabulary. */
int32_t mp_tokenizer_find(const struct mp_tokenizer *t, const char *text);
/* For what a model says beside its tokenizer.json; before the tokenizer is shared. The token is
 * found in texts as a whole, and left out by skip_special. */
void mp_tokenizer_make_special(struct mp_tokenizer *t, int32_t id);
/* Whether tokenizer.json has a template of what add_special adds to a text, be it nothing. */
bool mp_tokenizer_has_template(const struct mp_tokenizer *t);
/* As mp_tokenizer_make_special: add_special puts these ids before and after each text; -1: none.
 * Only if there is no template. */
void mp_tokenizer_surround(struct mp_tokenizer *t, int32_t before, int32_t after);

/* Ids 0 .. size - 1 are known (vocabulary and added tokens; holes are possible). */
int32_t mp_tokenizer_size(const struct mp_tokenizer *t);
bool mp_tokenizer_has(const struct mp_tokenizer *t, int32_t id);

/* Appends the ids of text[0..length) to out; add_special runs the post-processor (BOS and the
 * like). text must be valid UTF-8: MP_ERR_FORMAT with the byte offset otherwise. MP_ERR_RUNTIME: a
 * step of the file makes too much of this text or does not end; MP_ERR_INTERRUPTED. After an error
 * out is as it was. */
int mp_tokenizer_encode(const struct mp_tokenizer *t, const char *text, size_t length,
                        bool add_special, struct mp_ids *out, struct mp_error *err);

/* The same for a text of which some bytes are content: content [length] is 1 there, else 0; NULL:
 * none are. Special tokens are not looked for in content, where their strings are text like any
 * other. MP_ERR_UNSUPPORTED: the tokenizer normalizes texts before it looks for a special token. */
int mp_tokenizer_encode_content(const struct mp_tokenizer *t, const char *text, const char *content,
                                size_t length, bool add_special, struct mp_ids *out,
                                struct mp_error *err);

/* The text of ids, malloc'ed and NUL-terminated, its length in *length (may be NULL). Incomplete
 * UTF-8 becomes U+FFFD. skip_special leaves special tokens out. Ids that no token has are no text:
 * a model can have more ids than its tokenizer. */
char *mp_tokenizer_decode(const struct mp_tokenizer *t, const int32_t *ids, size_t count,
                          bool skip_special, size_t *length);

/* The bytes that one id, special ones too, adds within a text, malloc'ed and NUL-terminated, their
 * number in *length: maybe a part of a character. */
char *mp_tokenizer_token_bytes(const struct mp_tokenizer *t, int32_t id, size_t *length);

/* Streaming: gives the text each id adds, held back while a UTF-8 sequence is incomplete, such
 * that the pieces concatenate to what mp_tokenizer_decode gives for all ids together. */
struct mp_token_stream;
struct mp_token_stream *mp_token_stream_new(const struct mp_tokenizer *t, bool skip_special);
/* The piece is owned by the stream and valid until the next call; "" if held back. */
const char *mp_token_stream_push(struct mp_token_stream *s, int32_t id);
/* What was held back, at the end. */
const char *mp_token_stream_finish(struct mp_token_stream *s);
/* Bytes of the piece given last: it may contain NULs. */
size_t mp_token_stream_piece_length(const struct mp_token_stream *s);
void mp_token_stream_free(struct mp_token_stream *s);

#endif
