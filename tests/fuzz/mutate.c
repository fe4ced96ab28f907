#include "mutate.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_BYTES = 1 << 20, MOST_CHANGES = 4, MOST_PIECE = 64, SHORT = 8 };

static const char *const CONFUSING[] = {
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "-1e-999",
    "99999999999999999999",
    "1.5",
    "\"\"",
    "[]",
    "{}",
    "[[[[[[[[",
    "{\"a\":",
    "\"\\u0000\"",
    "\\",
    "\\ud8",
    "\xff",
    "\xc0\x80",
    "\xed\xa0\x80",
    "\xf4\x90\x80\x80",
    "\r\n",
    "\"",
    ",",
    ":",
    "]",
    "}",
    "{{",
    "%}",
    " ",
    "\t",
    "/*",
    "NaN",
    "2147483648",
    "-9223372036854775809",
    "\xef\xbb\xbf",
};
enum { NUM_CONFUSING = sizeof CONFUSING / sizeof CONFUSING[0] };

size_t fuzz_draw(uint64_t *state, size_t below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (size_t)(*state >> 33) % below;
}

/* 0 to most, or to MOST_PIECE. */
static size_t up_to(uint64_t *state, size_t most)
{
    return fuzz_draw(state, (most < MOST_PIECE ? most : MOST_PIECE) + 1);
}

/* Puts bytes, which lie elsewhere, in the place of input[at .. at + old). */
static void replace(struct fuzz_bytes *input, size_t at, size_t old, const uint8_t *bytes,
                    size_t count)
{
    size_t size = input->size - old + count;
    if (size > MOST_BYTES) {
        return;
    }
    uint8_t *made = mp_xmalloc(size > 0 ? size : 1); /* no byte to spare: overruns are seen */
    memcpy(made, input->data, at);
    if (count > 0) {
        memcpy(made + at, bytes, count);
    }
    memcpy(made + at + count, input->data + at + old, input->size - at - old);
    input->size = size;
    free(input->data);
    input->data = made;
}

static void change(struct fuzz_bytes *input, const struct fuzz_bytes *other, uint64_t *state)
{
    size_t at = fuzz_draw(state, input->size + 1);
    size_t left = input->size - at;
    size_t old = up_to(state, left);
    const char *word;
    uint8_t piece[MOST_PIECE];
    switch (fuzz_draw(state, 5)) {
    case 0: /* one byte becomes another */
        piece[0] = (uint8_t)fuzz_draw(state, 256);
        replace(input, at, left > 0, piece, 1);
        break;
    case 1:
        replace(input, at, old, NULL, 0);
        break;
    case 2: /* bytes are repeated */
        memcpy(piece, input->data + at, old);
        replace(input, at, 0, piece, old);
        break;
    case 3: /* a short value becomes another, as likely as not */
        word = CONFUSING[fuzz_draw(state, NUM_CONFUSING)];
        replace(input, at, old % SHORT, (const uint8_t *)word, strlen(word));
        break;
    default: {
        size_t start = fuzz_draw(state, other->size + 1);
        replace(input, at, old, other->data + start, up_to(state, other->size - start));
    }
    }
}

void fuzz_mutate(struct fuzz_bytes *input, const struct fuzz_bytes *other, uint64_t *state)
{
    for (size_t n = 1 + fuzz_draw(state, MOST_CHANGES); n > 0; n--) {
        change(input, other, state);
    }
}
