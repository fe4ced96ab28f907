#include "codelets/common/scratch.h"
#include "codelets/key_select/key_select_cpu.h"
#include "core/base/error.h"

#include <string.h>

/* Inverts the running sum of all weights for each draw. */
static int32_t draw(const struct key_select_args *a, int64_t r, int h, const float *z)
{
    int64_t tokens = a->kv[r]->count;
    uint64_t state = random_state(a->seed[r], (uint64_t)(a->first_head + h));
    uint32_t *counts = mp_scratch((size_t)tokens, sizeof *counts);
    uint64_t *sums = mp_scratch((size_t)tokens + 1, sizeof *sums);
    float max = -INFINITY;
    for (int64_t i = 0; i < tokens; i++) {
        max = fmaxf(max, z[i]);
    }
    sums[0] = 0;
    for (int64_t i = 0; i < tokens; i++) {
        sums[i + 1] = sums[i] + key_weight(key_exp(z[i] - max));
    }
    memset(counts, 0, (size_t)tokens * sizeof *counts);
    for (int64_t j = 0; j < a->budget[r]; j++) {
        counts[key_find(sums, tokens, key_draw_below(state, j, sums[tokens]))]++;
    }
    return key_weigh(counts, z, tokens, a->budget[r], sums[tokens], max,
                     a->ids[r] + h * a->ids_stride[r], a->log_weights[r] + h * a->ids_stride[r]);
}

/* Writes what query head h of row r selects; returns how many tokens. */
static int32_t select_for_head(const struct key_select_args *a, int64_t r, int h)
{
    mp_scratch_reset();
    const struct offloaded_kv *kv = a->kv[r];
    int64_t kv_head = h / (a->num_heads / kv->num_kv_heads);
    float *scores = mp_scratch((size_t)kv->count, sizeof *scores);
    score_ref(&(struct score_args){
        .rows = (const char *)kv->k + kv_row_at(kv, kv_head, 0),
        .dtype = kv->dtype,
        .row_scales = kv->dtype == MP_I8 ? kv->scales + kv_head * kv->capacity : NULL,
        .count = kv->count,
        .width = kv->head_dim,
        .pitch = kv_pitch(kv),
        .q = a->q + (r * a->num_heads + h) * a->head_dim,
        .heads = 1,
        .scale = a->mode == KEY_SELECT_DRAWN ? a->scale : 1.0f,
        .scores = scores,
        .stride = kv->count,
    });
    if (a->mode == KEY_SELECT_DRAWN) {
        return draw(a, r, h, scores);
    }
    int64_t selected = key_select_count(a, r);
    score_select_ref(scores, kv->count, selected, a->ids[r] + h * a->ids_stride[r]);
    return (int32_t)selected;
}

void key_select_ref(const struct key_select_args *a)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_heads; h++) {
            a->nnz[r * a->num_heads + h] =
                key_select_has_tokens(a, r) ? select_for_head(a, r, h) : 0;
        }
    }
}
