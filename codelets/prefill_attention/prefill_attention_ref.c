#include "codelets/prefill_attention/prefill_attention.h"

#include "codelets/common/scratch.h"

#include <math.h>
#include <string.h>

/* One query head over the first n tokens of KV head h: two passes, all in double. */
static void attend(const struct prefill_attention_args *a, int h, const float *q, int64_t n,
                   float *o)
{
    const struct kv_cache *cache = a->cache;
    size_t dim = (size_t)a->head_dim;
    size_t head = (size_t)h * (size_t)cache->capacity * dim;
    mp_scratch_reset();
    double *weight = mp_scratch((size_t)n, sizeof *weight);
    double *sum = mp_scratch(dim, sizeof *sum);
    double max = -INFINITY;
    for (size_t j = 0; j < (size_t)n; j++) {
        double dot = 0.0;
        for (size_t c = 0; c < dim; c++) {
            dot += (double)q[c] * (double)mp_load(cache->k, cache->dtype, head + j * dim + c);
        }
        weight[j] = dot * (double)a->scale;
        max = fmax(max, weight[j]);
    }
    memset(sum, 0, dim * sizeof *sum);
    double total = 0.0;
    for (size_t j = 0; j < (size_t)n; j++) {
        double w = exp(weight[j] - max);
        total += w;
        for (size_t c = 0; c < dim; c++) {
            sum[c] += w * (double)mp_load(cache->v, cache->dtype, head + j * dim + c);
        }
    }
    for (size_t c = 0; c < dim; c++) {
        o[c] = (float)(sum[c] / total);
    }
}

void prefill_attention_ref(const struct prefill_attention_args *a)
{
    int group = a->num_heads / a->cache->num_kv_heads;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_heads; h++) {
            int64_t head = (r * a->num_heads + h) * a->head_dim;
            attend(a, h / group, a->q + head, a->first + r + 1, a->o + head);
        }
    }
}
