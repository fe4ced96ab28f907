/* Attention of query heads over one piece of tokens, tile by tile with a running softmax. Shared
 * by sampled_attention (gathered tokens) and static_attention (contiguous ones).
 *
 * Both are bound by memory. While the keys of a tile are read, its values are prefetched; while
 * its values are read, the keys of the next tile are. So memory always has a tile of requests in
 * flight, and two tiles fit in the first-level cache. */
#ifndef MP_CODELETS_COMMON_ATTENTION_SIMD_H
#define MP_CODELETS_COMMON_ATTENTION_SIMD_H

#include "codelets/common/attention/attention_split.h"
#include "codelets/common/attention/kv.h"
#include "codelets/common/simd.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

enum {
    TILE = 32,                              /* tokens; a multiple of VF_LANES */
    HEADS_AT_ONCE = VF_LANES == 16 ? 4 : 2, /* query heads that share each row once loaded */
};

/* The tokens of a piece: token j has row ids[j], or row j if ids is NULL. */
struct token_rows {
    const void *k; /* rows of head_dim elements, bf16 or int8, `pitch` elements apart */
    const void *v;
    int64_t pitch;
    const struct kv_scale *scales; /* [rows] of int8 rows, otherwise not looked at */
    const uint32_t *ids;
    int64_t count;
    int head_dim; /* a multiple of VF_LANES */
    bool int8;
};

static inline size_t token_index(const struct token_rows *t, int64_t j)
{
    return (size_t)(t->ids != NULL ? t->ids[j] : j);
}

static inline const void *token_row(const struct token_rows *t, const void *base, int64_t j)
{
    size_t bytes = (size_t)t->pitch * (t->int8 ? sizeof(int8_t) : sizeof(uint16_t));
    return (const char *)base + token_index(t, j) * bytes;
}

/* Channels c .. c + VF_LANES - 1 of a row. */
static inline vf row_load(const struct token_rows *t, const void *row, int c)
{
    return t->int8 ? vf_load_i8((const int8_t *)row + c) : vf_load_bf16((const uint16_t *)row + c);
}

/* scale: those of the keys of the tile's n tokens from `first` on, 1 beyond them. */
static inline void tile_key_scales(const struct token_rows *t, int64_t first, int n, float *scale)
{
    for (int j = 0; j < TILE; j++) {
        scale[j] = j < n ? t->scales[token_index(t, first + j)].k : 1.0f;
    }
}

/* The same of the values. */
static inline void tile_value_scales(const struct token_rows *t, int64_t first, int n, float *scale)
{
    for (int j = 0; j < TILE; j++) {
        scale[j] = j < n ? t->scales[token_index(t, first + j)].v : 1.0f;
    }
}

/* Prefetches channels [c, end) of row j of base, if there is such a token, and with the first ones
 * of an int8 key the token's scales. Always inlined: GCC takes a function that only prefetches for
 * one without effect, and drops the calls. */
static inline __attribute__((always_inline)) void
prefetch_row(const struct token_rows *t, const void *base, int64_t j, int c, int end)
{
    if (j < t->count) {
        const char *row = token_row(t, base, j);
        int size = t->int8 ? 1 : 2;
        if (t->int8 && c == 0 && base == t->k) {
            _mm_prefetch((const char *)(t->scales + token_index(t, j)), _MM_HINT_T0);
        }
        for (; c < end; c += 64 / size) { /* a cache line */
            _mm_prefetch(row + c * size, _MM_HINT_T0);
        }
    }
}

/* To be called once before the tiles of a piece. */
static inline __attribute__((always_inline)) void prefetch_first_tile(const struct token_rows *t)
{
    for (int64_t j = 0; j < TILE; j++) {
        prefetch_row(t, t->k, j, 0, t->head_dim);
    }
}

/* dots[g][j] = q[g] . k_j, of int8 before scaling, and, unless it is NULL, k_squared[j] = k_j . k_j
 * for the n tokens from `first`. q is [heads][head_dim] with heads <= HEADS_AT_ONCE, the results
 * have rows of TILE. Prefetches the values of the same tokens if asked to. */
static inline __attribute__((always_inline)) void tile_dots(const struct token_rows *t,
                                                            int64_t first, int n, const float *q,
                                                            const int heads, float *dots,
                                                            float *k_squared, bool prefetch)
{
    for (int j = 0; j < n; j += 4) {
        const void *row[4]; /* the last token stands in for those beyond n */
        vf d[HEADS_AT_ONCE][4];
        vf s[4];
        for (int i = 0; i < 4; i++) {
            int64_t token = first + (j + i < n ? j + i : n - 1);
            row[i] = token_row(t, t->k, token);
            s[i] = vf_zero();
            for (int g = 0; g < heads; g++) {
                d[g][i] = vf_zero();
            }
            if (prefetch) {
                prefetch_row(t, t->v, token, 0, t->head_dim);
            }
        }
        for (int c = 0; c < t->head_dim; c += VF_LANES) {
            vf k[4];
            for (int i = 0; i < 4; i++) {
                k[i] = row_load(t, row[i], c);
                s[i] = k_squared != NULL ? vf_fma(k[i], k[i], s[i]) : s[i];
            }
            for (int g = 0; g < heads; g++) {
                vf qc = vf_load(q + g * t->head_dim + c);
                for (int i = 0; i < 4; i++) {
                    d[g][i] = vf_fma(k[i], qc, d[g][i]);
                }
            }
        }
        for (int g = 0; g < heads; g++) {
            _mm_storeu_ps(dots + g * TILE + j, vf_sum4(d[g][0], d[g][1], d[g][2], d[g][3]));
        }
        if (k_squared != NULL) {
            _mm_storeu_ps(k_squared + j, vf_sum4(s[0], s[1], s[2], s[3]));
        }
    }
}

/* Replaces the n logits z (room for TILE) by exp(z - max) after raising the partial's maximum to
 * theirs, and adds them to its sum. */
static inline void tile_softmax(float *z, int n, float *partial, int head_dim)
{
    float *max = partial + head_dim;
    float *sum = partial + head_dim + 1;
    int padded = (n + VF_LANES - 1) / VF_LANES * VF_LANES;
    for (int j = n; j < padded; j++) {
        z[j] = -INFINITY;
    }
    vf max_v = vf_set1(*max);
    for (int j = 0; j < padded; j += VF_LANES) {
        max_v = vf_max(vf_load(z + j), max_v);
    }
    float new_max = vf_reduce_max(max_v);
    /* Mostly 1. 0 for the first tile, as max was -INFINITY; NaN if all logits so far are. */
    float by = *max - new_max;
    float shrink = by == 0.0f ? 1.0f : expf(by);
    vf sum_v = vf_zero();
    for (int j = 0; j < padded; j += VF_LANES) {
        vf p = vf_exp(vf_sub(vf_load(z + j), vf_set1(new_max)));
        sum_v = vf_add(sum_v, p);
        vf_store(z + j, p);
    }
    *sum = *sum * shrink + vf_reduce_add(sum_v);
    *max = new_max;
    for (int c = 0; c < head_dim && shrink < 1.0f; c += VF_LANES) {
        vf_store(partial + c, vf_mul(vf_load(partial + c), vf_set1(shrink)));
    }
}

/* tile_values for `vectors` vectors of channels from c, heads * vectors <= 4 * HEADS_AT_ONCE, all
 * accumulated in registers. Prefetches the same channels of the keys one tile ahead if asked to. */
static inline __attribute__((always_inline)) void
tile_values_block(const struct token_rows *t, int64_t first, int n, const float *p, const int heads,
                  float *partials, int c, const int vectors, bool prefetch)
{
    int64_t stride = attention_partial_size(t->head_dim);
    vf sum[HEADS_AT_ONCE][8];
    for (int g = 0; g < heads; g++) {
        for (int i = 0; i < vectors; i++) {
            sum[g][i] = vf_load(partials + g * stride + c + i * VF_LANES);
        }
    }
    for (int j = 0; j < n; j++) {
        const void *row = token_row(t, t->v, first + j);
        vf weight[HEADS_AT_ONCE];
        for (int g = 0; g < heads; g++) {
            weight[g] = vf_set1(p[g * TILE + j]);
        }
        for (int i = 0; i < vectors; i++) {
            vf v = row_load(t, row, c + i * VF_LANES);
            for (int g = 0; g < heads; g++) {
                sum[g][i] = vf_fma(weight[g], v, sum[g][i]);
            }
        }
        if (prefetch) {
            prefetch_row(t, t->k, first + TILE + j, c, c + vectors * VF_LANES);
        }
    }
    for (int g = 0; g < heads; g++) {
        for (int i = 0; i < vectors; i++) {
            vf_store(partials + g * stride + c + i * VF_LANES, sum[g][i]);
        }
    }
}

/* Adds the sums of p[g][j] v_j over the n tokens from `first` to the partials of `heads` heads.
 * p has rows of TILE. Prefetches the keys one tile ahead if asked to. */
static inline __attribute__((always_inline)) void tile_values(const struct token_rows *t,
                                                              int64_t first, int n, const float *p,
                                                              const int heads, float *partials,
                                                              bool prefetch)
{
    int c = 0;
    for (; heads == 1 && c + 8 * VF_LANES <= t->head_dim; c += 8 * VF_LANES) {
        tile_values_block(t, first, n, p, heads, partials, c, 8, prefetch);
    }
    for (; c + 4 * VF_LANES <= t->head_dim; c += 4 * VF_LANES) {
        tile_values_block(t, first, n, p, heads, partials, c, 4, prefetch);
    }
    for (; c < t->head_dim; c += VF_LANES) {
        tile_values_block(t, first, n, p, heads, partials, c, 1, prefetch);
    }
}

/* A partial that has seen no token. */
static inline void partial_clear(float *partial, int head_dim)
{
    for (int c = 0; c < head_dim; c++) {
        partial[c] = 0.0f;
    }
    partial[head_dim] = -INFINITY;
    partial[head_dim + 1] = 0.0f;
}

#endif
