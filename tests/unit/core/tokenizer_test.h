/* Helpers of the tokenizer's tests. */
#ifndef MP_TESTS_TOKENIZER_TEST_H
#define MP_TESTS_TOKENIZER_TEST_H

#include "core/tokenizer/tokenizer.h"

#include "core/base/memory.h"
#include "tests/unit/bad_files.h"

#include <stdlib.h>

static inline struct mp_tokenizer *load_tokenizer(const char *path)
{
    struct mp_tokenizer *t = NULL;
    struct mp_error err;
    if (mp_tokenizer_load(path, &t, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    return t;
}

static inline struct mp_ids encode(const struct mp_tokenizer *t, const char *text, size_t length,
                                   bool add_special)
{
    struct mp_ids ids = {0};
    struct mp_error err;
    if (mp_tokenizer_encode(t, text, length, add_special, &ids, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    return ids;
}

static inline char *decode(const struct mp_tokenizer *t, const struct mp_ids *ids,
                           bool skip_special, size_t *length)
{
    return mp_tokenizer_decode(t, ids->data, ids->count, skip_special, length);
}

/* Appends a stream's last piece to text[0..*length). */
static inline char *append_piece(const struct mp_token_stream *s, const char *piece, char *text,
                                 size_t *length)
{
    size_t n = mp_token_stream_piece_length(s);
    assert_int_equal(piece[n], '\0');
    text = mp_xrealloc(text, *length + n + 1, 1);
    memcpy(text + *length, piece, n + 1);
    *length += n;
    return text;
}

/* Streams ids and checks that the pieces are what decoding them together gives. */
static inline void check_stream(const struct mp_tokenizer *t, const struct mp_ids *ids,
                                bool skip_special)
{
    size_t expected_length;
    char *expected = decode(t, ids, skip_special, &expected_length);
    struct mp_token_stream *s = mp_token_stream_new(t, skip_special);
    char *text = NULL;
    size_t length = 0;
    for (size_t i = 0; i < ids->count; i++) {
        const char *piece = mp_token_stream_push(s, ids->data[i]);
        text = append_piece(s, piece, text, &length);
    }
    text = append_piece(s, mp_token_stream_finish(s), text, &length);
    assert_int_equal(length, expected_length);
    assert_memory_equal(text, expected, length + 1);
    mp_token_stream_free(s);
    free(text);
    free(expected);
}

/* Loads a tokenizer.json with this text. */
static inline int load_text(const char *text, size_t length, struct mp_tokenizer **t,
                            struct mp_error *err)
{
    char path[] = MP_SCRATCH_DIR "/tokenizer_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, length), length);
    assert_int_equal(close(fd), 0);
    int rc = mp_tokenizer_load(path, t, err);
    unlink(path);
    return rc;
}

/* A tokenizer of BPE with these members of the model and of the file's top level. */
static inline struct mp_tokenizer *make(const char *model, const char *top)
{
    char *text =
        mp_xasprintf("{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", %s}, %s}", model, top);
    struct mp_tokenizer *t;
    struct mp_error err;
    if (load_text(text, strlen(text), &t, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    free(text);
    return t;
}

/* expected: the ids, separated by spaces. */
static inline void check_text(const struct mp_tokenizer *t, const char *text, bool add_special,
                              const char *expected)
{
    struct mp_ids ids = encode(t, text, strlen(text), add_special);
    check_stream(t, &ids, false);
    check_stream(t, &ids, true);
    char found[256] = "";
    size_t used = 0;
    for (size_t i = 0; i < ids.count; i++) {
        used += (size_t)snprintf(found + used, sizeof found - used, "%s%d", i == 0 ? "" : " ",
                                 (int)ids.data[i]);
        assert_true(used < sizeof found);
    }
    assert_string_equal(found, expected);
    mp_ids_free(&ids);
}

/* Members of added_tokens. */
#define PLAIN_TOKEN(id, content, flags)                                                            \
    "{\"id\": " #id ", \"content\": \"" content "\", \"special\": true, " flags "}"
#define NO_FLAGS                                                                                   \
    "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": false"

#endif
