/* Drawing tokens from a softmax, for the CPU and the GPU. Probabilities become whole numbers,
 *   w_i = floor(2^36 e^(z_i - max)),
 * whose sums are exact in whatever order they are added, and e^x is computed here from operations
 * that IEEE 754 rounds; so every variant draws the same tokens. The tokens below 2^-36 of the
 * likeliest one are never drawn: together they have less than n 2^-36 of the probability. */
#ifndef MP_CODELETS_KEY_DRAW_H
#define MP_CODELETS_KEY_DRAW_H

#include "codelets/common/random_draw.h"
#include "codelets/common/score/score.h"
#include "codelets/key_select/key_select.h"

#include <math.h>

#ifdef __CUDACC__
#define KEY_DRAW_FUNCTION static inline __host__ __device__
#else
#define KEY_DRAW_FUNCTION static inline
#endif

/* Tokens per block. A draw finds its block among the sums of blocks, then walks through it. */
enum { KEY_BLOCK = 128 };

#define KEY_WEIGHT_ONE 0x1p36f                  /* weight of the likeliest token */
#define KEY_DRAW_MOST_TOKENS (INT64_C(1) << 27) /* sums of their weights fit 64 bits */

KEY_DRAW_FUNCTION int64_t key_blocks(int64_t tokens)
{
    return (tokens + KEY_BLOCK - 1) / KEY_BLOCK;
}

/* e^x for x <= 0, operation by operation as vf_exp of codelets/common/simd.h, to the bit. */
KEY_DRAW_FUNCTION float key_exp(float x)
{
    x = fminf(fmaxf(x, -87.0f), 88.0f);
    float n = rintf(x * 1.44269504f);
    float r = fmaf(n, -0.693359375f, x);
    r = fmaf(n, 2.12194440e-4f, r);
    float p = 1.0f / 5040;
    p = fmaf(p, r, 1.0f / 720);
    p = fmaf(p, r, 1.0f / 120);
    p = fmaf(p, r, 1.0f / 24);
    p = fmaf(p, r, 1.0f / 6);
    p = fmaf(p, r, 0.5f);
    p = fmaf(p, r, 1.0f);
    p = fmaf(p, r, 1.0f);
    return ldexpf(p, (int)n);
}

/* The weight of a token whose e^(z - max) is p. */
KEY_DRAW_FUNCTION uint64_t key_weight(float p)
{
    return (uint64_t)(p * KEY_WEIGHT_ONE);
}

/* The last of n ascending numbers, the first of which is 0, that is at most x. */
KEY_DRAW_FUNCTION int64_t key_find(const uint64_t *sums, int64_t n, uint64_t x)
{
    int64_t low = 0;
    int64_t high = n;
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (sums[middle] <= x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---- scratch of a row ---- */

/* For every query head, one after the other. */
struct key_scratch {
    float *scores;  /* [num_heads][stride] z, or q.k */
    void *second;   /* DRAWN: [num_heads][stride] of 4 bytes: a float or a count for each token */
    uint64_t *sums; /* DRAWN: [num_heads][key_blocks(tokens) + 1] */
    int64_t stride;
};

static inline struct key_scratch key_scratch_of(void *scratch, int num_heads, int64_t tokens)
{
    struct key_scratch s;
    s.stride = score_stride(tokens);
    s.scores = (float *)scratch;
    s.second = s.scores + num_heads * s.stride;
    s.sums = (uint64_t *)(void *)(s.scores + (int64_t)2 * num_heads * s.stride);
    return s;
}

#endif
