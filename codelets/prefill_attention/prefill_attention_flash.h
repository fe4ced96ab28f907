/* The blocked (flash) algorithm shared by the fast variants: a block of query rows that share one
 * KV head walks over tiles of packed keys and values with a running softmax. Who includes this
 * header chooses the arithmetic of the two matrix products by defining before it:
 *
 *   STRIP_ROWS   query rows worked on together
 *   PANEL        columns of a panel of packed keys or values
 *   KEY_TILE     keys per tile
 *   KEY_STEP     keys are rounded up to this many; a multiple of 2 * VF_LANES that divides KEY_TILE
 *   QUERY_PARTS  numbers a query element is stored as
 *   WEIGHT_LOG2  weights are stored times 2^WEIGHT_LOG2
 *
 * and after it the functions declared below. Rows are numbered within a block: row i is query head
 * i % group of token i / group, so that a strip mixes heads and tokens freely. */
#ifndef MP_CODELETS_PREFILL_ATTENTION_FLASH_H
#define MP_CODELETS_PREFILL_ATTENTION_FLASH_H

#include "codelets/common/attention/support.h"
#include "codelets/common/scratch.h"
#include "codelets/common/simd.h"
#include "codelets/prefill_attention/prefill_attention.h"
#include "core/base/shape.h"

#include <float.h>
#include <math.h>
#include <omp.h>
#include <string.h>

enum {
    BLOCK_ROWS = 2048, /* most query rows that share the packing of a tile */
    STRIP_LANES = (STRIP_ROWS + VF_LANES - 1) / VF_LANES * VF_LANES,
};

/* Keys and values of one KV head, packed in pairs for the products. Panels are PANEL wide. */
struct tile {
    uint16_t *k;    /* [KEY_TILE / PANEL][width / 2][PANEL][2]: pairs of channels */
    float *k_scale; /* [KEY_TILE] size of one unit of each packed key, if keys are scaled */
    uint16_t *v;    /* [width / PANEL][KEY_TILE / 2][PANEL][2]: pairs of keys */
    float *v_scale; /* [width] the same of each channel of the packed values */
};

/* Working memory of one thread. */
struct flash {
    const struct prefill_attention_args *a;
    int group;      /* query heads per KV head */
    int width;      /* head_dim rounded up to KEY_STEP; the rest is zero */
    int kv_head;    /* of the block */
    int64_t token0; /* first query token of the block */
    int64_t tokens; /* query tokens of the block */
    uint16_t *q;    /* [strips][QUERY_PARTS * width * STRIP_ROWS], packed by pack_query */
    float *q_scale; /* [strips][STRIP_LANES] turns scores into log2 of the weight */
    float *max;     /* [strips][STRIP_LANES] running maximum of that logarithm */
    float *sum;     /* [strips][STRIP_LANES] running sum of the weights relative to max */
    float *o;       /* [strips][STRIP_ROWS][width] running sum of weighted values */
    struct tile tile;
    float *score;     /* [STRIP_ROWS][KEY_TILE] of one strip */
    uint16_t *weight; /* [STRIP_ROWS][KEY_TILE] relative to the strip row's largest in the tile */
    float keep[STRIP_LANES]; /* factor on what a row has summed before this tile */
    float gain[STRIP_LANES]; /* factor on what this tile adds */
};

/* Packs query row i of a strip from row[width] into the strip's part of f->q; returns the factor
 * that turns its scores back. */
static float pack_query(const float *row, int width, uint16_t *strip, int i);
/* Packs keys and values [key0, key0 + n) of the block's KV head; the rest of the tile is zero. */
static void pack_tile(struct flash *f, int64_t key0, int n);
/* f->score of strip `strip` for the tile's first n keys, n a multiple of KEY_STEP. */
static void strip_scores(struct flash *f, int strip, int n);
/* Stores 2 * VF_LANES weights, those of w0 first. */
static void store_weights(uint16_t *out, vf w0, vf w1);
/* o = keep * o + gain * weights * values over n keys. */
static void strip_values(struct flash *f, int strip, int n);

/* 2^x for x <= 100 to about 4e-6; x below -126 counts as -126. */
static inline vf exp2_vf(vf x)
{
    x = vf_max(x, vf_set1(-126.0f));
    vf n = vf_round(x);
    vf r = vf_sub(x, n);
    /* Minimax polynomial of 2^r on [-0.5, 0.5], exact at 0. */
    vf p = vf_fma(vf_set1(9.78291221e-3f), r, vf_set1(5.59768826e-2f));
    p = vf_fma(p, r, vf_set1(2.40207106e-1f));
    p = vf_fma(p, r, vf_set1(6.93113625e-1f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_scale2(p, n);
}

/* A row of the cache as float, padded with zeros to width. */
static inline void widen_row(const uint16_t *row, int head_dim, int width, float *out)
{
    int c = 0;
    for (; c + VF_LANES <= head_dim; c += VF_LANES) {
        vf_store(out + c, vf_load_bf16(row + c));
    }
    for (; c < width; c++) {
        out[c] = c < head_dim ? mp_bf16_to_f32(row[c]) : 0.0f;
    }
}

/* Element offset in the cache of token `key` of the block's KV head. */
static inline int64_t cache_offset(const struct flash *f, int64_t key)
{
    return ((int64_t)f->kv_head * f->a->cache->capacity + key) * f->a->head_dim;
}

/* Puts key j of the tile, width packed numbers, in its column. */
static inline void store_key(struct flash *f, int j, const uint16_t *packed)
{
    uint16_t *column = f->tile.k + j / PANEL * PANEL * f->width + j % PANEL * 2;
    for (int c = 0; c < f->width; c += 2) {
        memcpy(column + c * PANEL, packed + c, 2 * sizeof *packed);
    }
}

static inline int num_rows(const struct flash *f)
{
    return (int)f->tokens * f->group;
}

static inline int num_strips(const struct flash *f)
{
    return (num_rows(f) + STRIP_ROWS - 1) / STRIP_ROWS;
}

static inline uint16_t *strip_queries(const struct flash *f, int strip)
{
    return f->q + (int64_t)strip * STRIP_ROWS * QUERY_PARTS * f->width;
}

/* Offset in q and o of row i of the block. */
static inline int64_t query_offset(const struct flash *f, int i)
{
    int64_t token = f->token0 + i / f->group;
    int head = f->kv_head * f->group + i % f->group;
    return (token * f->a->num_heads + head) * f->a->head_dim;
}

static void load_queries(struct flash *f)
{
    const float log2e = 1.44269504f;
    int padded = num_strips(f) * STRIP_ROWS;
    for (int i = 0; i < padded; i++) {
        float row[MP_MAX_HEAD_DIM] = {0};
        if (i < num_rows(f)) {
            memcpy(row, f->a->q + query_offset(f, i), (size_t)f->a->head_dim * sizeof *row);
        }
        int strip = i / STRIP_ROWS;
        float unit = pack_query(row, f->width, strip_queries(f, strip), i % STRIP_ROWS);
        f->q_scale[strip * STRIP_LANES + i % STRIP_ROWS] = unit * f->a->scale * log2e;
    }
    for (int i = 0; i < num_strips(f) * STRIP_LANES; i++) {
        f->max[i] = -FLT_MAX;
        f->sum[i] = 0.0f;
    }
    memset(f->o, 0, (size_t)padded * (size_t)f->width * sizeof *f->o);
}

/* Keys of the tile at key0 that row i may see, at most KEY_TILE; below 1: none. Padding rows see
 * what the last token sees. */
static inline int64_t visible_keys(const struct flash *f, int i, int64_t key0)
{
    int64_t token = i / f->group;
    token = token < f->tokens ? token : f->tokens - 1;
    int64_t n = f->a->first + f->token0 + token + 1 - key0;
    return n < KEY_TILE ? n : KEY_TILE;
}

static inline float row_max(const float *score, int n)
{
    vf largest = vf_load(score);
    for (int j = VF_LANES; j < n; j += VF_LANES) {
        largest = vf_max(largest, vf_load(score + j));
    }
    return vf_reduce_max(largest);
}

/* Weights of one row from its n scores, relative to the largest; returns their sum. */
static inline float row_weights(const float *score, uint16_t *weight, int n, float q_scale,
                                float max)
{
    vf top = vf_set1(max);
    vf scale = vf_set1(q_scale);
    vf shift = vf_set1(WEIGHT_LOG2);
    vf sum = vf_zero();
    for (int j = 0; j < n; j += 2 * VF_LANES) {
        vf x0 = vf_sub(vf_load(score + j), top);
        vf x1 = vf_sub(vf_load(score + j + VF_LANES), top);
        vf w0 = exp2_vf(vf_fma(x0, scale, shift));
        vf w1 = exp2_vf(vf_fma(x1, scale, shift));
        store_weights(weight + j, w0, w1);
        sum = vf_add(sum, vf_add(w0, w1));
    }
    return vf_reduce_add(sum);
}

/* log2 of a weight, relative to a row's largest, of which 2^17 together (a 128K context) add less
 * than float32's rounding. */
static const float NEGLIGIBLE = -41.0f;

/* True if no row of the strip would notice a tile with these largest scores. */
static bool strip_is_negligible(const struct flash *f, int strip, const float *max)
{
    const float *q_scale = f->q_scale + strip * STRIP_LANES;
    const float *run_max = f->max + strip * STRIP_LANES;
    for (int i = 0; i < STRIP_ROWS; i++) {
        if (max[i] * q_scale[i] - run_max[i] > NEGLIGIBLE) {
            return false;
        }
    }
    return true;
}

/* Softmax of a strip within the tile, and how it joins the running one. False if it adds nothing:
 * then there are no weights. */
static bool strip_softmax(struct flash *f, int strip, int n)
{
    const float *q_scale = f->q_scale + strip * STRIP_LANES;
    float max[STRIP_LANES] = {0};
    float sum[STRIP_LANES] = {0};
    for (int i = 0; i < STRIP_ROWS; i++) {
        max[i] = row_max(f->score + i * KEY_TILE, n);
    }
    if (strip_is_negligible(f, strip, max)) {
        return false;
    }
    for (int i = 0; i < STRIP_ROWS; i++) {
        sum[i] =
            row_weights(f->score + i * KEY_TILE, f->weight + i * KEY_TILE, n, q_scale[i], max[i]);
    }
    for (int i = 0; i < STRIP_LANES; i += VF_LANES) {
        float *run_max = f->max + strip * STRIP_LANES + i;
        float *run_sum = f->sum + strip * STRIP_LANES + i;
        vf before = vf_load(run_max);
        vf here = vf_mul(vf_load(max + i), vf_load(q_scale + i));
        vf now = vf_max(before, here);
        vf keep = exp2_vf(vf_sub(before, now));
        vf gain = exp2_vf(vf_sub(here, now));
        vf_store(run_max, now);
        vf_store(run_sum, vf_fma(keep, vf_load(run_sum), vf_mul(gain, vf_load(sum + i))));
        vf_store(f->keep + i, keep);
        vf_store(f->gain + i, gain);
    }
    return true;
}

static void attend_strip(struct flash *f, int strip, int64_t key0)
{
    int row0 = strip * STRIP_ROWS;
    int64_t most = visible_keys(f, row0 + STRIP_ROWS - 1, key0);
    if (most <= 0) {
        return;
    }
    int n = (int)(most + KEY_STEP - 1) / KEY_STEP * KEY_STEP;
    strip_scores(f, strip, n);
    /* Hidden keys get a score so low that their weight is 0. A row that sees none of the tile's
     * keys gets equal weights, which its `gain` makes vanish. */
    for (int i = 0; i < STRIP_ROWS; i++) {
        int64_t seen = visible_keys(f, row0 + i, key0);
        for (int64_t j = seen > 0 ? seen : 0; j < n; j++) {
            f->score[i * KEY_TILE + j] = -FLT_MAX;
        }
    }
    if (strip_softmax(f, strip, n)) {
        strip_values(f, strip, n);
    }
}

static void store_output(const struct flash *f)
{
    for (int i = 0; i < num_rows(f); i++) {
        const float *sum = f->o + (int64_t)i * f->width;
        float *o = f->a->o + query_offset(f, i);
        float total = f->sum[i / STRIP_ROWS * STRIP_LANES + i % STRIP_ROWS];
        for (int c = 0; c < f->a->head_dim; c++) {
            o[c] = sum[c] / total;
        }
    }
}

static void attend_block(struct flash *f)
{
    load_queries(f);
    int64_t keys = f->a->first + f->token0 + f->tokens;
    /* A tile is packed whole, with keys that only later blocks see: its scales are the same in all.
     */
    int64_t known = f->a->first + f->a->rows;
    for (int64_t key0 = 0; key0 < keys; key0 += KEY_TILE) {
        pack_tile(f, key0, known - key0 < KEY_TILE ? (int)(known - key0) : KEY_TILE);
        for (int strip = 0; strip < num_strips(f); strip++) {
            attend_strip(f, strip, key0);
        }
    }
    store_output(f);
}

/* Working memory for blocks of up to `tokens` tokens. */
static void flash_init(struct flash *f, const struct prefill_attention_args *a, int64_t tokens)
{
    mp_scratch_reset();
    memset(f, 0, sizeof *f);
    f->a = a;
    f->group = a->num_heads / a->cache->num_kv_heads;
    f->width = (a->head_dim + KEY_STEP - 1) / KEY_STEP * KEY_STEP;
    f->tokens = tokens;
    size_t width = (size_t)f->width;
    size_t strips = (size_t)num_strips(f);
    size_t rows = strips * STRIP_ROWS;
    size_t lanes = strips * STRIP_LANES;
    f->q = mp_scratch(rows * width, QUERY_PARTS * sizeof *f->q);
    f->q_scale = mp_scratch(lanes, sizeof *f->q_scale);
    memset(f->q_scale, 0, lanes * sizeof *f->q_scale);
    f->max = mp_scratch(lanes, sizeof *f->max);
    f->sum = mp_scratch(lanes, sizeof *f->sum);
    f->o = mp_scratch(rows * width, sizeof *f->o);
    f->tile.k = mp_scratch(KEY_TILE * width, sizeof *f->tile.k);
    f->tile.k_scale = mp_scratch(KEY_TILE, sizeof *f->tile.k_scale);
    f->tile.v = mp_scratch(KEY_TILE * width, sizeof *f->tile.v);
    f->tile.v_scale = mp_scratch(width, sizeof *f->tile.v_scale);
    f->score = mp_scratch(STRIP_ROWS * KEY_TILE, sizeof *f->score);
    f->weight = mp_scratch(STRIP_ROWS * KEY_TILE, sizeof *f->weight);
}

/* Fewest tokens whose rows fill strips. */
static int64_t strip_tokens(int64_t group)
{
    int64_t tokens = 1;
    while (tokens * group % STRIP_ROWS != 0) {
        tokens++;
    }
    return tokens;
}

/* Tokens per block: large, to share the packing of tiles among many rows, but with a few blocks
 * for every thread. A block starts a strip, so that the number of threads does not change which
 * rows share one, and with it the bits of the result. */
static int64_t block_tokens(const struct prefill_attention_args *a)
{
    int64_t group = a->num_heads / a->cache->num_kv_heads;
    int64_t step = strip_tokens(group);
    int64_t most = BLOCK_ROWS / group;
    int64_t least = BLOCK_ROWS / 8 / group;
    int64_t wanted = 4 * (int64_t)omp_get_max_threads();
    int64_t even = a->rows * a->cache->num_kv_heads / wanted;
    int64_t tokens = even < least ? least : even > most ? most : even;
    tokens = tokens < step ? step : tokens / step * step;
    return tokens < a->rows ? tokens : a->rows;
}

static void flash_attention(const struct prefill_attention_args *a)
{
    int64_t tokens = block_tokens(a);
    int64_t blocks = (a->rows + tokens - 1) / tokens;
    int64_t items = blocks * a->cache->num_kv_heads;
#pragma omp parallel
    {
        struct flash f;
        flash_init(&f, a, tokens);
        /* Later blocks see more keys: the largest come first. */
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < items; i++) {
            int64_t block = blocks - 1 - i / a->cache->num_kv_heads;
            f.kv_head = (int)(i % a->cache->num_kv_heads);
            f.token0 = block * tokens;
            f.tokens = a->rows - f.token0 < tokens ? a->rows - f.token0 : tokens;
            attend_block(&f);
        }
    }
}

#endif
