/* key_select for the instruction set this is compiled for: threads share out the tokens of all KV
 * heads, then the query heads. */
#include "codelets/common/attention/support.h"
#include "codelets/common/score/score_simd.h"
#include "codelets/common/scratch.h"
#include "codelets/key_select/key_select_cpu.h"

#include <omp.h>
#include <string.h>

enum { PIECE = 512 }; /* tokens scored at a time */

static struct key_scratch scratch_of(const struct key_select_args *a, int64_t r)
{
    return key_scratch_of(a->scratch[r], a->num_heads, a->kv[r]->count);
}

/* Scores of a piece of the tokens of one KV head, for all its query heads. */
static void score_piece(const struct key_select_args *a, int64_t r, int kv_head, int64_t first)
{
    const struct offloaded_kv *kv = a->kv[r];
    struct key_scratch scratch = scratch_of(a, r);
    int group = a->num_heads / kv->num_kv_heads;
    int64_t head = (int64_t)kv_head * group;
    score_simd(&(struct score_args){
        .rows = (const char *)kv->k + kv_row_at(kv, kv_head, first),
        .dtype = kv->dtype,
        .row_scales = kv->dtype == MP_I8 ? kv->scales + kv_head * kv->capacity + first : NULL,
        .count = kv->count - first < PIECE ? kv->count - first : PIECE,
        .width = kv->head_dim,
        .pitch = kv_pitch(kv),
        .q = a->q + (r * a->num_heads + head) * a->head_dim,
        .heads = group,
        .scale = a->mode == KEY_SELECT_DRAWN ? a->scale : 1.0f,
        .scores = scratch.scores + head * scratch.stride + first,
        .stride = scratch.stride,
    });
}

static float largest(const float *z, int64_t tokens)
{
    vf max = vf_set1(-INFINITY);
    int64_t i = 0;
    for (; i + VF_LANES <= tokens; i += VF_LANES) {
        max = vf_max(vf_load(z + i), max);
    }
    float m = vf_reduce_max(max);
    for (; i < tokens; i++) {
        m = fmaxf(m, z[i]);
    }
    return m;
}

/* p[i] = e^(z[i] - max); sums[b]: of the weights of all blocks before b, up to the end. */
static void weigh_blocks(const float *z, int64_t tokens, float max, float *p, uint64_t *sums)
{
    for (int64_t i = 0; i < tokens; i += VF_LANES) { /* whole vectors: see score_stride */
        vf_store(p + i, vf_exp(vf_sub(vf_load(z + i), vf_set1(max))));
    }
    uint64_t sum = 0;
    for (int64_t b = 0; b < key_blocks(tokens); b++) {
        int64_t end = (b + 1) * KEY_BLOCK < tokens ? (b + 1) * KEY_BLOCK : tokens;
        sums[b] = sum;
        for (int64_t i = b * KEY_BLOCK; i < end; i++) {
            sum += key_weight(p[i]);
        }
    }
    sums[key_blocks(tokens)] = sum;
}

/* The token in whose part of the weights x lies. */
static uint32_t find_token(const float *p, int64_t tokens, const uint64_t *sums, uint64_t x)
{
    int64_t block = key_find(sums, key_blocks(tokens), x);
    int64_t i = block * KEY_BLOCK;
    uint64_t left = x - sums[block];
    for (; i < tokens - 1 && left >= key_weight(p[i]); i++) {
        left -= key_weight(p[i]);
    }
    return (uint32_t)i;
}

/* By the scores of query head h of row r. The place of the probabilities then holds the counts. */
static int32_t draw(const struct key_select_args *a, int64_t r, int h)
{
    int64_t tokens = a->kv[r]->count;
    int64_t draws = a->budget[r];
    struct key_scratch scratch = scratch_of(a, r);
    uint64_t state = random_state(a->seed[r], (uint64_t)(a->first_head + h));
    const float *z = scratch.scores + h * scratch.stride;
    float *p = (float *)scratch.second + h * scratch.stride;
    uint32_t *counts = (uint32_t *)scratch.second + h * scratch.stride;
    uint64_t *sums = scratch.sums + h * (key_blocks(tokens) + 1);
    uint32_t *drawn = mp_scratch((size_t)draws, sizeof *drawn);
    float max = largest(z, tokens);
    weigh_blocks(z, tokens, max, p, sums);
    uint64_t total = sums[key_blocks(tokens)];
    for (int64_t j = 0; j < draws; j++) {
        drawn[j] = find_token(p, tokens, sums, key_draw_below(state, j, total));
    }
    memset(counts, 0, (size_t)tokens * sizeof *counts);
    for (int64_t j = 0; j < draws; j++) {
        counts[drawn[j]]++;
    }
    return key_weigh(counts, z, tokens, draws, total, max, a->ids[r] + h * a->ids_stride[r],
                     a->log_weights[r] + h * a->ids_stride[r]);
}

static int32_t select_for_head(const struct key_select_args *a, int64_t r, int h)
{
    if (!key_select_has_tokens(a, r)) {
        return 0;
    }
    if (a->mode == KEY_SELECT_DRAWN) {
        return draw(a, r, h);
    }
    struct key_scratch scratch = scratch_of(a, r);
    int64_t selected = key_select_count(a, r);
    score_select(scratch.scores + h * scratch.stride, a->kv[r]->count, selected,
                 a->ids[r] + h * a->ids_stride[r]);
    return (int32_t)selected;
}

/* All pieces of a row, by the team. */
static void score_row(const struct key_select_args *a, int64_t r)
{
    int64_t tokens = key_select_has_tokens(a, r) ? a->kv[r]->count : 0;
    int kv_heads = tokens == 0 ? 0 : a->kv[r]->num_kv_heads;
#pragma omp for collapse(2) schedule(dynamic) nowait
    for (int h = 0; h < kv_heads; h++) {
        for (int64_t first = 0; first < tokens; first += PIECE) {
            score_piece(a, r, h, first);
        }
    }
}

void VF_NAME(key_select)(const struct key_select_args *a)
{
    for (int64_t r = 0; r < a->rows; r++) {
        if (a->kv[r] != NULL) {
            mp_kernel_demand_rows("key_select", a->kv[r]->dtype, a->head_dim, VF_LANES);
        }
    }
    int64_t heads = a->rows * a->num_heads;
#pragma omp parallel
    {
        for (int64_t r = 0; r < a->rows; r++) {
            score_row(a, r);
        }
#pragma omp barrier
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < heads; i++) {
            mp_scratch_reset();
            a->nnz[i] = select_for_head(a, i / a->num_heads, (int)(i % a->num_heads));
        }
    }
}
