/* Changes to inputs, the same ones for the same seed. */
#ifndef MP_TESTS_FUZZ_MUTATE_H
#define MP_TESTS_FUZZ_MUTATE_H

#include <stddef.h>
#include <stdint.h>

struct fuzz_bytes {
    uint8_t *data; /* [size], malloc'ed */
    size_t size;
};

/* 0 to below - 1, drawn from *state; below is not 0. */
size_t fuzz_draw(uint64_t *state, size_t below);

/* One to four changes, drawn from *state: bytes are replaced, left out, repeated, or come from a
 * list of what confuses parsers and from `other`. The input gets 1 MiB at most. */
void fuzz_mutate(struct fuzz_bytes *input, const struct fuzz_bytes *other, uint64_t *state);

#endif
