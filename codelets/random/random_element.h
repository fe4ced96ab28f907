/* One random element, for the CPU and the GPU: every operation is on integers or is exact, but for
 * two roundings that IEEE 754 fixes, so that both get the same bits. */
#ifndef MP_CODELETS_RANDOM_ELEMENT_H
#define MP_CODELETS_RANDOM_ELEMENT_H

#include "codelets/common/random_draw.h"
#include "codelets/random/random.h"

RANDOM_FUNCTION float random_spread(const struct random_numbers *n, int64_t i)
{
    if (n->pairs == 0) {
        return n->spread;
    }
    int64_t channel = i / n->stride % n->head_dim;
    return channel % (n->head_dim / 2) < n->pairs ? n->pair_spread : n->spread;
}

/* Element i of a part, before rounding to its type. state: mp_rng_init's for (seed, 0).
 * Of the draw 24 bits are used: their product with the spread is exact in double, and so fusing it
 * with the addition, as a compiler may, changes nothing. */
RANDOM_FUNCTION float random_element(const struct random_numbers *n, uint64_t state, int64_t i)
{
    i += n->first;
    int32_t u = (int32_t)(random_draw(state, i) >> 40) - (1 << 23); /* times 2^-23: in [-1, 1) */
    return (float)((double)random_spread(n, i) * (u * 0x1p-23) + (double)n->center);
}

#endif
