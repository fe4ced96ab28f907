/* Low-bit codes of offloaded keys, and the proposal that follows from them: what pps samples by.
 *
 * A key k is rotated, y = R k, R an orthogonal matrix that spreads every key over all channels, and
 * each channel is rounded to one of 2^bits levels. With u_j in [0, 2^bits) the level of channel j
 * and c_j = u_j - (2^bits - 1) / 2,
 *   u_j = clamp(floor(y_j / s), -2^(bits-1), 2^(bits-1) - 1) + 2^(bits-1),  s = step |k| / sqrt(d),
 *   f = |k|^2 / <y, c>, so that f <R q, c> estimates q.k without bias in the direction of k.
 * (1 bit: u_j = [y_j >= 0].) A zero key has f = 0, and the levels of y = 0.
 *
 * What is selected by them is the same on every device and with any number of threads: every sum
 * that decides is one of integers, and everything else is arithmetic of IEEE floats one token at a
 * time, written down here for the CPU and the GPU. */
#ifndef MP_CODELETS_COMMON_CODES_H
#define MP_CODELETS_COMMON_CODES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define CODES_FUNCTION static inline __host__ __device__
#else
#define CODES_FUNCTION static inline
#endif

/* Tokens of a block: the words of a token's code lie that far apart. */
enum { CODES_BLOCK = 32 };

/* Of the offloaded tokens of one layer. Word m of a code holds channels m * 32 / bits on: byte b,
 * slot k of it, that is bits k * bits on, has channel m * 32 / bits + 4 k + b. So (word >> k *
 * bits) & mask gives the levels of four neighbours, one a byte. Channels beyond head_dim have level
 * 0. */
struct key_codes {
    uint32_t *words;  /* [num_kv_heads][blocks of capacity][words of a code][CODES_BLOCK] */
    float *factors;   /* [num_kv_heads][blocks of capacity][CODES_BLOCK] f; 0 beyond count */
    int64_t count;    /* tokens, may be 0 */
    int64_t capacity; /* tokens there is room for, per head, >= count */
    int num_kv_heads;
    int head_dim; /* at most 256 */
    int bits;     /* 1, 2 or 4 */
};

CODES_FUNCTION int64_t codes_blocks(int64_t tokens)
{
    return (tokens + CODES_BLOCK - 1) / CODES_BLOCK;
}

CODES_FUNCTION int codes_words(int head_dim, int bits)
{
    return (head_dim * bits + 31) / 32;
}

/* Bytes of the words and of the factors. */
CODES_FUNCTION size_t codes_bytes(int num_kv_heads, int64_t capacity, int head_dim, int bits)
{
    return (size_t)num_kv_heads * (size_t)codes_blocks(capacity) * CODES_BLOCK *
           ((size_t)codes_words(head_dim, bits) + 1) * sizeof(uint32_t);
}

/* Step of the levels over the standard deviation of a channel: the least error for normal ones. 1
 * bit has no step. */
CODES_FUNCTION float codes_step(int bits)
{
    return bits == 2 ? 0.9957f : 0.3352f;
}

/* s of a key, 0 for a zero key; not read for 1 bit. */
CODES_FUNCTION float codes_key_step(float norm_squared, int head_dim, int bits)
{
    return codes_step(bits) * sqrtf(norm_squared / (float)head_dim);
}

/* The level of a rotated channel. */
CODES_FUNCTION int codes_level(float y, float step, int bits)
{
    float half = (float)(1 << (bits - 1));
    float at = bits == 1 ? (y >= 0.0f ? 0.0f : -1.0f) : (step > 0.0f ? floorf(y / step) : 0.0f);
    return (int)(fminf(fmaxf(at, -half), half - 1.0f) + half);
}

/* c of a level. */
CODES_FUNCTION float codes_center(int level, int bits)
{
    return (float)level - 0.5f * (float)((1 << bits) - 1);
}

/* f: dot is <y, c>, which is never negative. */
CODES_FUNCTION float codes_factor(float norm_squared, float dot)
{
    float f = norm_squared / dot;
    return f < INFINITY ? f : 0.0f; /* 0 too where it is not a number */
}

/* ---- a step: the query ---- */

/* A rotated query channel as an integer, inverse = 127 / the largest magnitude of all channels, 0
 * if that is 0. */
CODES_FUNCTION int8_t codes_round_query(float y, float inverse)
{
    return (int8_t)rintf(y * inverse);
}

/* What twice <query, c> is multiplied with, then with f, to give the logit of a token in units of
 * ln 2: largest: magnitude of the query's channels. */
CODES_FUNCTION float codes_query_scale(float largest, int head_dim)
{
    return largest / 127.0f * (0.5f * 1.44269504f) / sqrtf((float)head_dim);
}

/* Twice <query, c>: sum is that of query * level over the channels, query_sum that of the query. */
CODES_FUNCTION int32_t codes_twice_dot(int32_t sum, int32_t query_sum, int bits)
{
    return 2 * sum - ((1 << bits) - 1) * query_sum;
}

/* The logit in units of ln 2. */
CODES_FUNCTION float codes_logit(int32_t twice_dot, float query_scale, float factor)
{
    return (float)twice_dot * query_scale * factor;
}

/* ---- a step: softmax ----
 *
 * The weight of a token is codes_exp2 of its codes_logit less the largest one of all tokens. Both
 * are rounded to float before that: a compiler that fuses the product with the difference gives
 * other ids. */

enum { CODES_ONE_BITS = 30 }; /* fixed-point numbers have 2^30 as their 1 */
#define CODES_ONE (INT32_C(1) << CODES_ONE_BITS)

/* 2^x * 2^30, truncated; x <= 0. */
CODES_FUNCTION int32_t codes_exp2(float x)
{
    x = fmaxf(x, -31.0f);
    float whole = rintf(x);
    float r = x - whole; /* exact */
    float p = 1.5403530e-4f;
    p = fmaf(p, r, 1.3333558e-3f);
    p = fmaf(p, r, 9.6181291e-3f);
    p = fmaf(p, r, 5.5504109e-2f);
    p = fmaf(p, r, 2.4022651e-1f);
    p = fmaf(p, r, 6.9314718e-1f);
    p = fmaf(p, r, 1.0f);
    union {
        int32_t i;
        float f;
    } power = {((int32_t)whole + 127 + CODES_ONE_BITS) << 23};
    float value = p * power.f;
    return value < (float)CODES_ONE ? (int32_t)value : CODES_ONE;
}

/* ---- a step: inclusion probabilities ----
 *
 * pi' = (1 - alpha) mean over the group's heads g of p_g + alpha / n, with p_g the softmax; n > S.
 * pi = min(1, c pi'), with c such that they sum to S. c is at most S / alpha, since the uniform
 * part alone is alpha; so x = S / alpha * pi' says at once which tokens may have pi = 1: those with
 * x >= 1, at most S / alpha many. With c' = c alpha / S <= 1, pi = min(1, c' x). */

#define CODES_ALPHA 0.1

/* (1 - alpha) / G / Z * S / alpha for a head of a group of G: what its weight is multiplied with.
 * Z: sum of codes_exp2 over the tokens. */
CODES_FUNCTION float codes_head_scale(uint64_t z, int group, int64_t samples)
{
    return (float)((1.0 - CODES_ALPHA) / CODES_ALPHA * (double)samples /
                   ((double)group * (double)z));
}

/* The uniform part of x: S / n. Then x = fmaf((float)weight_g, head_scale_g, x) for each head g of
 * the group, in order. */
CODES_FUNCTION float codes_uniform(int64_t samples, int64_t tokens)
{
    return (float)((double)samples / (double)tokens);
}

/* x of a token that may have pi = 1, as a fixed-point number: for sums. */
CODES_FUNCTION uint64_t codes_large(float x)
{
    return (uint64_t)((double)x * (double)CODES_ONE);
}

/* The same of any other, x < 1. */
CODES_FUNCTION int32_t codes_small(float x)
{
    return (int32_t)(x * (float)CODES_ONE);
}

/* pi as a fixed-point number, at least 1. */
CODES_FUNCTION int32_t codes_inclusion(float x, float c)
{
    float value = c * x * (float)CODES_ONE;
    return value < (float)CODES_ONE ? (value > 1.0f ? (int32_t)value : 1) : CODES_ONE;
}

/* The next c' of the iteration that starts from capped = 0, capped_sum = 0 and ends once capped no
 * longer grows: capped: tokens with x >= 1 and c' x >= 1; total: sum of codes_small and codes_large
 * over all tokens; capped_sum: sum of codes_large over the capped ones. */
CODES_FUNCTION float codes_next_scale(int64_t samples, int64_t capped, uint64_t total,
                                      uint64_t capped_sum)
{
    return (float)((double)(samples - capped) * (double)CODES_ONE / (double)(total - capped_sum));
}

/* ---- a step: systematic selection ---- */

/* Whether a token is selected: sum is that of codes_inclusion over all tokens up to this one, u one
 * draw in [0, 2^30). */
CODES_FUNCTION int codes_selected(uint64_t sum, int32_t inclusion, int32_t u)
{
    /* + 1: never negative; a shift rounds down. */
    uint64_t at = sum + CODES_ONE - (uint64_t)u - 1;
    return at >> CODES_ONE_BITS != (at - (uint64_t)inclusion) >> CODES_ONE_BITS;
}

/* ln(1 / pi). */
CODES_FUNCTION float codes_log_weight(int32_t inclusion)
{
    return -logf((float)inclusion * (1.0f / (float)CODES_ONE));
}

#endif
