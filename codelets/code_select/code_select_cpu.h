/* What the CPU variants share. */
#ifndef MP_CODELETS_CODE_SELECT_CPU_H
#define MP_CODELETS_CODE_SELECT_CPU_H

#include "codelets/code_select/code_select.h"
#include "codelets/common/random_draw.h"
#include "core/base/shape.h"

#include <string.h>

static inline int64_t code_select_tokens(const struct code_select_args *a, int64_t r)
{
    return a->codes[r] == NULL ? 0 : a->codes[r]->count;
}

/* A rotated query head in integers. */
struct code_query {
    int8_t channels[MP_MAX_HEAD_DIM]; /* 0 beyond head_dim */
    int32_t sum;                      /* of the channels */
    float scale;                      /* codes_query_scale */
};

/* Query head h of row r. */
static inline const float *code_select_query(const struct code_select_args *a, int64_t r, int h)
{
    return a->q + r * a->q_stride + (int64_t)h * a->head_dim;
}

/* Of a rotated query y. */
static inline void code_query_make(const float *y, int head_dim, struct code_query *out)
{
    float largest = 0.0f;
    for (int c = 0; c < head_dim; c++) {
        largest = fmaxf(largest, fabsf(y[c]));
    }
    float inverse = largest > 0.0f ? 127.0f / largest : 0.0f;
    memset(out, 0, sizeof *out);
    for (int c = 0; c < head_dim; c++) {
        out->channels[c] = codes_round_query(y[c], inverse);
        out->sum += out->channels[c];
    }
    out->scale = codes_query_scale(largest, head_dim);
}

/* U of KV head h of row r, in [0, 2^30). */
static inline int32_t code_select_draw(const struct code_select_args *a, int64_t r, int h)
{
    uint64_t state = random_state(a->seed[r], (uint64_t)(a->first_kv_head + h));
    return (int32_t)(random_draw(state, 0) >> (64 - CODES_ONE_BITS));
}

/* Every token, with log-weight 0; returns how many. */
static inline int32_t code_select_all(int64_t tokens, uint32_t *ids, float *log_weights)
{
    for (int64_t i = 0; i < tokens; i++) {
        ids[i] = (uint32_t)i;
        log_weights[i] = 0.0f;
    }
    return (int32_t)tokens;
}

/* Tokens of n that may have x >= 1: x sums to samples / CODES_ALPHA, but for rounding. */
static inline int64_t code_select_most_large(int64_t tokens, int64_t samples)
{
    int64_t most = (int64_t)((double)samples * (1.001 / CODES_ALPHA)) + 64;
    return most < tokens ? most : tokens;
}

/* Tokens whose pi the fast variants add up before they look for what is selected of them. */
enum { CODE_CHUNK = 2 * CODES_BLOCK };

static inline int64_t code_select_chunks(int64_t tokens)
{
    return (tokens + CODE_CHUNK - 1) / CODE_CHUNK;
}

/* Floats of scratch for a KV head, in multiples of 64 bytes: logits of its query heads, a sum of 64
 * bits for each chunk, x of the tokens that may have pi = 1. */
static inline int64_t code_select_floats(int group, int64_t tokens, int64_t samples)
{
    int64_t rest = 2 * code_select_chunks(tokens) + code_select_most_large(tokens, samples);
    return group * codes_blocks(tokens) * CODES_BLOCK + (rest + 15) / 16 * 16;
}

/* c' from x of n tokens, of which only those that are at least 1 matter; total: as
 * codes_next_scale's. */
static inline float code_select_scale(const float *x, int64_t n, int64_t samples, uint64_t total)
{
    int64_t capped = 0;
    uint64_t capped_sum = 0;
    for (;;) {
        float c = codes_next_scale(samples, capped, total, capped_sum);
        int64_t now = 0;
        uint64_t sum = 0;
        for (int64_t i = 0; i < n; i++) {
            if (x[i] >= 1.0f && c * x[i] >= 1.0f) {
                now++;
                sum += codes_large(x[i]);
            }
        }
        if (now <= capped) {
            return c;
        }
        capped = now;
        capped_sum = sum;
    }
}

#endif
