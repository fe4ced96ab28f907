/* Seeded draws of what benchmark texts are made of. Integers alone decide, so that every machine
 * draws the same. */
#ifndef MP_PIPELINE_MAKE_DATA_DRAW_H
#define MP_PIPELINE_MAKE_DATA_DRAW_H

#include "core/base/rng.h"

#include <stdint.h>

/* Uniform in [0, n), without bias; n is at least 1. */
int64_t mp_draw_below(struct mp_rng *rng, int64_t n);

/* order[0 .. count) gets 0 .. count - 1 in an order in which each is as likely as any other. */
void mp_draw_order(struct mp_rng *rng, int32_t *order, int64_t count);

/* A number of `digits` decimal digits, 1 to 18, the first of them not 0. */
int64_t mp_draw_number(struct mp_rng *rng, int digits);

/* count letters, from `first`, which is 'a' or 'A', to z, and a NUL: out[count + 1]. */
void mp_draw_letters(struct mp_rng *rng, char first, int count, char *out);

/* A random UUID (RFC 9562, version 4) in lower case, and a NUL. */
enum { MP_UUID_SIZE = 37 };
void mp_draw_uuid(struct mp_rng *rng, char out[MP_UUID_SIZE]);

#endif
