/* What the CPU variants share. */
#ifndef MP_CODELETS_KEY_SELECT_CPU_H
#define MP_CODELETS_KEY_SELECT_CPU_H

#include "codelets/key_select/key_draw.h"

#include <stdbool.h>

static inline bool key_select_has_tokens(const struct key_select_args *a, int64_t r)
{
    return a->kv[r] != NULL && a->kv[r]->count > 0;
}

/* Tokens that a head of row r selects of the largest. */
static inline int64_t key_select_count(const struct key_select_args *a, int64_t r)
{
    int64_t count = a->kv[r]->count;
    return a->budget[r] < count ? a->budget[r] : count;
}

/* Draw j, from 0, as a number in [0, total); 0 if total is. */
static inline uint64_t key_draw_below(uint64_t state, int64_t j, uint64_t total)
{
    return (uint64_t)((unsigned __int128)random_draw(state, j) * total >> 64);
}

/* Writes the tokens with counts[i] > 0 and their log weights; returns how many there are. draws:
 * the sum of the counts; total: of the weights; max: the largest z. */
static inline int32_t key_weigh(const uint32_t *counts, const float *z, int64_t tokens,
                                int64_t draws, uint64_t total, float max, uint32_t *ids,
                                float *log_weights)
{
    /* ln Z - max - ln draws */
    double base = log((double)total) - log((double)KEY_WEIGHT_ONE) - log((double)draws);
    int32_t n = 0;
    for (int64_t i = 0; i < tokens; i++) {
        if (counts[i] > 0) {
            ids[n] = (uint32_t)i;
            log_weights[n] = (float)(log((double)counts[i]) + base + ((double)max - (double)z[i]));
            n++;
        }
    }
    return n;
}

#endif
