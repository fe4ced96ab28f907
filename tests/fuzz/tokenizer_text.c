/* A text, with the tokenizers of the tests: its first byte says which. */
#include "core/tokenizer/tokenizer.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { TOKENIZERS = 3 };

static struct mp_tokenizer *tokenizer(int which)
{
    static struct mp_tokenizer *loaded[TOKENIZERS];
    static const char *const paths[] = {
        FUZZ_DATA "/golden/tokenizer-llama3-style/tokenizer.json",
        FUZZ_DATA "/golden/tokenizer-llama2-style/tokenizer.json",
        FUZZ_DATA "/golden/tokenizer-nfc-style/tokenizer.json",
    };
    struct mp_error err;
    if (loaded[which] == NULL && mp_tokenizer_load(paths[which], &loaded[which], &err) != 0) {
        mp_panic("%s", err.message);
    }
    return loaded[which];
}

/* Pieces of a stream are what decoding all at once gives. */
static void check_decoding(const struct mp_tokenizer *t, const struct mp_ids *ids)
{
    size_t length;
    char *text = mp_tokenizer_decode(t, ids->data, ids->count, true, &length);
    struct mp_token_stream *s = mp_token_stream_new(t, true);
    size_t at = 0;
    for (size_t i = 0; i <= ids->count; i++) {
        const char *piece =
            i < ids->count ? mp_token_stream_push(s, ids->data[i]) : mp_token_stream_finish(s);
        size_t n = mp_token_stream_piece_length(s);
        if (n > length - at || memcmp(piece, text + at, n) != 0) {
            mp_panic("piece %zu differs", i);
        }
        at += n;
    }
    if (at != length) {
        mp_panic("pieces of %zu bytes, a text of %zu", at, length);
    }
    mp_token_stream_free(s);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    const struct mp_tokenizer *t = tokenizer(data[0] % TOKENIZERS);
    struct mp_ids ids = {0};
    struct mp_error err;
    int code = mp_tokenizer_encode(t, (const char *)data + 1, size - 1, data[0] >= 128, &ids, &err);
    if (code == 0) {
        check_decoding(t, &ids);
    } else {
        fuzz_check_error(code, &err);
    }
    ids.count = 0;
    for (size_t i = 1; i + 1 < size; i += 2) {
        mp_ids_push(&ids, (data[i] << 8 | data[i + 1]) % (mp_tokenizer_size(t) + 10));
    }
    check_decoding(t, &ids);
    mp_ids_free(&ids);
    return 0;
}
