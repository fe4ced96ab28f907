/* offload for the instruction set this is compiled for. */
#include "codelets/common/attention/support.h"
#include "codelets/common/scratch.h"
#include "codelets/common/simd.h"
#include "codelets/offload/offload_slot.h"

#include <string.h>

/* Tokens per unit of parallel work; the sums of the units are added in order, so that the mean
 * does not depend on the number of threads. */
enum { UNIT = 2048 };

static int64_t num_units(int64_t tokens)
{
    return (tokens + UNIT - 1) / UNIT;
}

/* sum[c] = sum over n rows of k[c]. */
static void sum_rows(const uint16_t *k, int64_t n, int head_dim, double *sum)
{
    memset(sum, 0, (size_t)head_dim * sizeof *sum);
    for (int64_t i = 0; i < n; i++, k += head_dim) {
        for (int c = 0; c < head_dim; c++) {
            sum[c] += (double)mp_bf16_to_f32(k[c]);
        }
    }
}

/* The mean offloaded key of each head, to the static cache. */
static void mean_keys(const struct offload_args *a)
{
    const struct kv_cache *staging = a->staging;
    int d = staging->head_dim;
    int64_t count = offload_mean_count(a);
    int64_t units = num_units(count);
    mp_scratch_reset();
    double *sums = mp_scratch((size_t)(staging->num_kv_heads * units * d), sizeof *sums);
#pragma omp parallel for collapse(2)
    for (int h = 0; h < staging->num_kv_heads; h++) {
        for (int64_t u = 0; u < units; u++) {
            int64_t rest = count - u * UNIT;
            int64_t first = h * staging->capacity + a->sink + u * UNIT;
            sum_rows((const uint16_t *)staging->k + first * d, rest < UNIT ? rest : UNIT, d,
                     sums + (h * units + u) * d);
        }
    }
    for (int h = 0; h < staging->num_kv_heads; h++) {
        for (int c = 0; c < d; c++) {
            double sum = 0.0;
            for (int64_t u = 0; u < units; u++) {
                sum += sums[(h * units + u) * d + c];
            }
            a->static_cache->k_mean[h * d + c] = count > 0 ? (float)(sum / (double)count) : 0.0f;
        }
    }
}

static void store_key(const uint16_t *k, const float *mean, int head_dim, uint16_t *out)
{
    for (int c = 0; c < head_dim; c += VF_LANES) {
        vf_store_bf16(out + c, vf_sub(vf_load_bf16(k + c), vf_load(mean + c)));
    }
}

static void store_tokens(const struct offload_args *a, int h, int64_t first, int64_t end)
{
    const struct kv_cache *staging = a->staging;
    const struct kv_cache *kept = a->static_cache;
    const struct offloaded_kv *off = a->offloaded;
    int d = staging->head_dim;
    const float *mean = kept->k_mean + (int64_t)h * d;
    for (int64_t i = first; i < end; i++) {
        struct offload_slot slot = offload_slot(a, i);
        if (slot.offloaded && off == NULL) {
            continue;
        }
        int64_t from = (h * staging->capacity + i) * d;
        int64_t token = h * (slot.offloaded ? off->capacity : kept->capacity) + slot.index;
        uint16_t *k = slot.offloaded ? off->k : kept->k;
        uint16_t *v = slot.offloaded ? off->v : kept->v;
        store_key((const uint16_t *)staging->k + from, mean, d, k + token * d);
        memcpy(v + token * d, (const uint16_t *)staging->v + from, (size_t)d * sizeof *v);
    }
}

void VF_NAME(offload)(const struct offload_args *a)
{
    mp_kernel_demand("offload", a->staging->dtype, a->staging->head_dim, VF_LANES);
    mp_kernel_demand("offload", a->static_cache->dtype, a->static_cache->head_dim, VF_LANES);
    if (a->offloaded != NULL) {
        mp_kernel_demand("offload", a->offloaded->dtype, a->offloaded->head_dim, VF_LANES);
    }
    offload_check_count(a);
    mean_keys(a);
    int64_t units = num_units(a->tokens);
#pragma omp parallel for collapse(2)
    for (int h = 0; h < a->staging->num_kv_heads; h++) {
        for (int64_t u = 0; u < units; u++) {
            int64_t end = (u + 1) * UNIT;
            store_tokens(a, h, u * UNIT, end < a->tokens ? end : a->tokens);
        }
    }
}
