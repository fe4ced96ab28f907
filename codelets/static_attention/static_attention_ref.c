#include "codelets/static_attention/static_attention.h"

#include "codelets/common/scratch.h"

#include <math.h>
#include <string.h>

/* One query head over n tokens of KV head h: two passes, all in double. */
static void attend(const struct static_attention_args *a, const struct kv_cache *cache, int h,
                   const float *q, int64_t n, float *o, float *lse)
{
    mp_scratch_reset();
    double *z = mp_scratch((size_t)n, sizeof *z);
    double *sum = mp_scratch((size_t)a->head_dim, sizeof *sum);
    size_t head = (size_t)(h * cache->capacity * a->head_dim);
    double max = -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        double dot = 0.0;
        for (int c = 0; c < a->head_dim; c++) {
            size_t at = head + (size_t)(j * a->head_dim + c);
            dot += (double)q[c] * (double)mp_load(cache->k, cache->dtype, at);
        }
        z[j] = dot * (double)a->scale;
        max = fmax(max, z[j]);
    }
    memset(sum, 0, (size_t)a->head_dim * sizeof *sum);
    double total = 0.0;
    for (int64_t j = 0; j < n; j++) {
        double p = exp(z[j] - max);
        total += p;
        for (int c = 0; c < a->head_dim; c++) {
            size_t at = head + (size_t)(j * a->head_dim + c);
            sum[c] += p * (double)mp_load(cache->v, cache->dtype, at);
        }
    }
    for (int c = 0; c < a->head_dim; c++) {
        o[c] = n > 0 ? (float)(sum[c] / total) : 0.0f;
    }
    *lse = (float)(max + log(total));
}

void static_attention_ref(const struct static_attention_args *a)
{
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int h = 0; h < a->num_heads; h++) {
            int64_t head = r * a->num_heads + h;
            const struct kv_cache *cache = a->cache[r];
            attend(a, cache, h / (a->num_heads / cache->num_kv_heads), a->q + head * a->head_dim,
                   a->length[r], a->o + head * a->head_dim, &a->lse[head]);
        }
    }
}
