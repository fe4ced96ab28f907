/* offload for the instruction set this is compiled for. */
#include "codelets/common/attention/int8_rows.h"
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

/* Writes the row of x - mean as MP_I8; mean NULL: 0. Returns its scale. */
static float store_int8(const uint16_t *x, const float *mean, int head_dim, int8_t *out)
{
    float y[MP_MAX_HEAD_DIM];
    float lanes[VF_LANES];
    vf magnitude = vf_zero();
    for (int c = 0; c < head_dim; c += VF_LANES) {
        vf own = vf_load_bf16(x + c);
        own = mean != NULL ? vf_sub(own, vf_load(mean + c)) : own;
        vf_store(y + c, own);
        magnitude = vf_max_magnitude(magnitude, own);
    }
    vf_store(lanes, magnitude);
    float largest = lanes[0];
    for (int i = 1; i < VF_LANES; i++) {
        largest = lanes[i] <= largest || largest != largest ? largest : lanes[i]; /* NaN too */
    }
    float scale = int8_scale(largest);
    if (!int8_is_regular(scale)) {
        memset(out, 0, (size_t)head_dim);
        return scale;
    }
    for (int c = 0; c < head_dim; c += VF_LANES) {
        vf_store_i8(out + c, vf_div(vf_load(y + c), vf_set1(scale)));
    }
    return scale;
}

/* Writes k - mean and v to row `token` of the offloaded ones. */
static void store_offloaded(const struct offloaded_kv *off, int64_t token, const uint16_t *k,
                            const uint16_t *v, const float *mean, int head_dim)
{
    int64_t at = token * kv_pitch(off);
    if (off->dtype == MP_I8) {
        off->scales[token].k = store_int8(k, mean, head_dim, (int8_t *)off->k + at);
        off->scales[token].v = store_int8(v, NULL, head_dim, (int8_t *)off->v + at);
    } else {
        store_key(k, mean, head_dim, (uint16_t *)off->k + at);
        memcpy((uint16_t *)off->v + at, v, (size_t)head_dim * sizeof *v);
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
        const uint16_t *k = (const uint16_t *)staging->k + (h * staging->capacity + i) * d;
        const uint16_t *v = (const uint16_t *)staging->v + (h * staging->capacity + i) * d;
        if (!slot.offloaded) {
            int64_t token = h * kept->capacity + slot.index;
            store_key(k, mean, d, (uint16_t *)kept->k + token * d);
            memcpy((uint16_t *)kept->v + token * d, v, (size_t)d * sizeof *v);
            continue;
        }
        if (a->keys != NULL) {
            int64_t token = h * a->keys->capacity + slot.index;
            store_key(k, mean, d, (uint16_t *)a->keys->k + token * d);
        }
        if (off != NULL) {
            store_offloaded(off, h * off->capacity + slot.index, k, v, mean, d);
        }
    }
}

void VF_NAME(offload)(const struct offload_args *a)
{
    mp_kernel_demand("offload", a->staging->dtype, a->staging->head_dim, VF_LANES);
    mp_kernel_demand("offload", a->static_cache->dtype, a->static_cache->head_dim, VF_LANES);
    if (a->offloaded != NULL) {
        mp_kernel_demand_rows("offload", a->offloaded->dtype, a->offloaded->head_dim, VF_LANES);
    }
    if (a->keys != NULL) {
        mp_kernel_demand("offload", a->keys->dtype, a->keys->head_dim, VF_LANES);
    }
    offload_check_count(a);
    if (!a->mean_given) {
        mean_keys(a);
    }
    int64_t units = num_units(a->tokens);
#pragma omp parallel for collapse(2)
    for (int h = 0; h < a->staging->num_kv_heads; h++) {
        for (int64_t u = 0; u < units; u++) {
            int64_t end = (u + 1) * UNIT;
            store_tokens(a, h, u * UNIT, end < a->tokens ? end : a->tokens);
        }
    }
}
