/* Both products of flash attention in int16 with exact int32 sums, twice the multiply-adds per
 * instruction of float32. No sum can overflow: by Cauchy-Schwarz |a.b| <= |a| |b|, and the scales
 * bound the Euclidean norms, so that
 *   queries and keys:  |q| |k| <= 46340^2 < 2^31,
 *   weights, values:   |w| <= 2^14 sqrt(128) (each at most 2^14), |v| <= 11585 per channel.
 * Scales are per query row, per key, and per (tile, channel) of the values; weights are relative to
 * the row's largest in the tile. Included by *_avx2.c and *_avx512.c. */
#ifndef MP_CODELETS_PREFILL_ATTENTION_INT16_H
#define MP_CODELETS_PREFILL_ATTENTION_INT16_H

#include "codelets/common/simd.h"

/* A strip's accumulators, its panel of the other operand and a broadcast fill the registers. */
enum {
#if defined(__AVX512F__)
    STRIP_ROWS = 12,
#else
    STRIP_ROWS = 6,
#endif
    PANEL = 2 * VF_LANES,
    KEY_TILE = 128,
    KEY_STEP = PANEL,
    QUERY_PARTS = 1,
    WEIGHT_LOG2 = 14,
};

#include "codelets/prefill_attention/prefill_attention_flash.h"

/* The norms allowed, less what rounding to integers can add. */
static const float max_norm = 46000.0f;
static const float max_value_norm = 11570.0f;
/* Vectors shorter than this count as zero. */
static const float min_norm = 1e-20f;

#if defined(__AVX512F__)

typedef __m512i vi;

static inline vi vi_zero(void)
{
    return _mm512_setzero_si512();
}

static inline vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

static inline vi vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

/* sum += a . b over the pair of int16 in each 32-bit lane. In assembly, here and below, because the
 * compiler otherwise moves a strip's broadcasts ahead of its sums and spills the sums. */
static inline void vi_dot(vi *sum, vi a, vi b)
{
    __asm__("vpdpwssd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(b));
}

static inline vi vi_from_vf(vf x)
{
    return _mm512_cvtps_epi32(x);
}

static inline vf vf_from_vi(vi x)
{
    return _mm512_cvtepi32_ps(x);
}

/* Lane i of the result: low half of a's, then low half of b's. */
static inline vi vi_pair(vi a, vi b)
{
    return _mm512_mask_blend_epi16(0xaaaaaaaaU, a, _mm512_slli_epi32(b, 16));
}

static inline void vi_store(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}

/* Stores x0, then x1 as int16. */
static inline void vi_store_int16(uint16_t *p, vi x0, vi x1)
{
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(x0));
    _mm256_storeu_si256((__m256i *)(p + VF_LANES), _mm512_cvtepi32_epi16(x1));
}

#else

typedef __m256i vi;

static inline vi vi_zero(void)
{
    return _mm256_setzero_si256();
}

static inline vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

static inline vi vi_set1(int32_t x)
{
    return _mm256_set1_epi32(x);
}

static inline void vi_dot(vi *sum, vi a, vi b)
{
    __asm__("vpaddd %1, %0, %0" : "+x"(*sum) : "x"(_mm256_madd_epi16(a, b)));
}

static inline vi vi_from_vf(vf x)
{
    return _mm256_cvtps_epi32(x);
}

static inline vf vf_from_vi(vi x)
{
    return _mm256_cvtepi32_ps(x);
}

static inline vi vi_pair(vi a, vi b)
{
    return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xaa);
}

static inline void vi_store(void *p, vi x)
{
    _mm256_storeu_si256(p, x);
}

static inline void vi_store_int16(uint16_t *p, vi x0, vi x1)
{
    __m256i packed = _mm256_packs_epi32(x0, x1); /* by halves: 0 of x0, 0 of x1, 1 of x0, ... */
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(packed, _MM_SHUFFLE(3, 1, 2, 0)));
}

#endif

/* Rounds a vector to int16 under max_norm; returns the size of one unit. */
static float quantise(const float *x, int width, uint16_t *out)
{
    vf squares = vf_zero();
    vf largest = vf_zero();
    for (int c = 0; c < width; c += VF_LANES) {
        vf v = vf_load(x + c);
        squares = vf_fma(v, v, squares);
        largest = vf_max(largest, vf_max(v, vf_sub(vf_zero(), v)));
    }
    float norm = sqrtf(vf_reduce_add(squares));
    float most = vf_reduce_max(largest);
    float by_norm = max_norm / (norm > min_norm ? norm : min_norm);
    float by_most = INT16_MAX / (most > min_norm ? most : min_norm);
    float scale = by_norm < by_most ? by_norm : by_most;
    for (int c = 0; c < width; c += PANEL) {
        vf x0 = vf_mul(vf_load(x + c), vf_set1(scale));
        vf x1 = vf_mul(vf_load(x + c + VF_LANES), vf_set1(scale));
        vi_store_int16(out + c, vi_from_vf(x0), vi_from_vf(x1));
    }
    return 1.0f / scale;
}

/* A strip's queries are stored as [width / 2][STRIP_ROWS][2]. */
static float pack_query(const float *row, int width, uint16_t *strip, int i)
{
    uint16_t packed[MP_MAX_HEAD_DIM];
    float unit = quantise(row, width, packed);
    for (int c = 0; c < width; c += 2) {
        memcpy(strip + c * STRIP_ROWS + 2 * i, packed + c, 2 * sizeof *packed);
    }
    return unit;
}

static void pack_keys(struct flash *f, int64_t key0, int n)
{
    const uint16_t *k = (const uint16_t *)f->a->cache->k + cache_offset(f, key0);
    float row[MP_MAX_HEAD_DIM];
    uint16_t packed[MP_MAX_HEAD_DIM];
    memset(f->tile.k, 0, (size_t)KEY_TILE * (size_t)f->width * sizeof *f->tile.k);
    memset(f->tile.k_scale, 0, KEY_TILE * sizeof *f->tile.k_scale);
    for (int j = 0; j < n; j++) {
        widen_row(k + (int64_t)j * f->a->head_dim, f->a->head_dim, f->width, row);
        f->tile.k_scale[j] = quantise(row, f->width, packed);
        store_key(f, j, packed);
    }
}

/* Packs PANEL channels of the values from channel c0 on. */
static void pack_value_panel(struct flash *f, int64_t key0, int n, int c0)
{
    const uint16_t *v = (const uint16_t *)f->a->cache->v + cache_offset(f, key0) + c0;
    uint16_t *out = f->tile.v + c0 * KEY_TILE;
    float rows[KEY_TILE][PANEL];
    vf squares[2] = {vf_zero(), vf_zero()};
    vf scale[2];
    int channels = f->a->head_dim - c0 < PANEL ? f->a->head_dim - c0 : PANEL;
    for (int j = 0; j < n; j++) {
        widen_row(v + (int64_t)j * f->a->head_dim, channels, PANEL, rows[j]);
        for (int h = 0; h < 2; h++) {
            vf x = vf_load(rows[j] + h * VF_LANES);
            squares[h] = vf_fma(x, x, squares[h]);
        }
    }
    memset(rows[n], 0, (size_t)(KEY_TILE - n) * sizeof rows[0]);
    for (int h = 0; h < 2; h++) {
        vf unit =
            vf_mul(vf_max(vf_sqrt(squares[h]), vf_set1(min_norm)), vf_set1(1.0f / max_value_norm));
        scale[h] = vf_div(vf_set1(1.0f), unit);
        vf_store(f->tile.v_scale + c0 + h * VF_LANES, unit);
    }
    for (int j = 0; j < KEY_TILE; j += 2) {
        for (int h = 0; h < 2; h++) {
            vi even = vi_from_vf(vf_mul(vf_load(rows[j] + h * VF_LANES), scale[h]));
            vi odd = vi_from_vf(vf_mul(vf_load(rows[j + 1] + h * VF_LANES), scale[h]));
            vi_store(out + j * PANEL + h * 2 * VF_LANES, vi_pair(even, odd));
        }
    }
}

static void pack_tile(struct flash *f, int64_t key0, int n)
{
    pack_keys(f, key0, n);
    for (int c = 0; c < f->width; c += PANEL) {
        pack_value_panel(f, key0, n, c);
    }
}

/* sum[i] = row i of a times one panel b, over `pairs` pairs. Both strides, in numbers, must be
 * constants: the rows then need no pointers of their own. */
static inline __attribute__((always_inline)) void panel_product(const uint16_t *a, int row_stride,
                                                                int pair_stride, const uint16_t *b,
                                                                int pairs, vi sum[STRIP_ROWS][2])
{
#pragma GCC unroll 12
    for (int i = 0; i < STRIP_ROWS; i++) {
        sum[i][0] = sum[i][1] = vi_zero();
    }

    for (int p = 0; p < pairs; p++) {
        vi b0 = vi_load(b + p * 2 * PANEL);
        vi b1 = vi_load(b + p * 2 * PANEL + PANEL);
#pragma GCC unroll 12
        for (int i = 0; i < STRIP_ROWS; i++) {
            int32_t pair;
            memcpy(&pair, a + i * row_stride + p * pair_stride, sizeof pair);
            vi_dot(&sum[i][0], vi_set1(pair), b0);
            vi_dot(&sum[i][1], vi_set1(pair), b1);
        }
    }
}

static void strip_scores(struct flash *f, int strip, int n)
{
    const uint16_t *q = strip_queries(f, strip);
    for (int j = 0; j < n; j += PANEL) {
        vi sum[STRIP_ROWS][2];
        panel_product(q, 2, 2 * STRIP_ROWS, f->tile.k + j * f->width, f->width / 2, sum);
        vf scale0 = vf_load(f->tile.k_scale + j);
        vf scale1 = vf_load(f->tile.k_scale + j + VF_LANES);
#pragma GCC unroll 12
        for (int i = 0; i < STRIP_ROWS; i++) {
            float *score = f->score + i * KEY_TILE + j;
            vf_store(score, vf_mul(vf_from_vi(sum[i][0]), scale0));
            vf_store(score + VF_LANES, vf_mul(vf_from_vi(sum[i][1]), scale1));
        }
    }
}

static void store_weights(uint16_t *out, vf w0, vf w1)
{
    vi_store_int16(out, vi_from_vf(w0), vi_from_vf(w1));
}

static void strip_values(struct flash *f, int strip, int n)
{
    float *o = f->o + (int64_t)strip * STRIP_ROWS * f->width;
    for (int c = 0; c < f->width; c += PANEL) {
        vi sum[STRIP_ROWS][2];
        panel_product(f->weight, KEY_TILE, 2, f->tile.v + c * KEY_TILE, n / 2, sum);
        vf scale0 = vf_load(f->tile.v_scale + c);
        vf scale1 = vf_load(f->tile.v_scale + c + VF_LANES);
#pragma GCC unroll 12
        for (int i = 0; i < STRIP_ROWS; i++) {
            float *row = o + i * f->width + c;
            vf keep = vf_set1(f->keep[i]);
            vf gain = vf_set1(f->gain[i]);
            vf o0 = vf_mul(keep, vf_load(row));
            vf o1 = vf_mul(keep, vf_load(row + VF_LANES));
            o0 = vf_fma(vf_from_vi(sum[i][0]), vf_mul(gain, scale0), o0);
            o1 = vf_fma(vf_from_vi(sum[i][1]), vf_mul(gain, scale1), o1);
            vf_store(row, o0);
            vf_store(row + VF_LANES, o1);
        }
    }
}

#endif
