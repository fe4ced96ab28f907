/* restore for the instruction set this is compiled for. */
#include "codelets/common/attention/support.h"
#include "codelets/common/simd.h"
#include "codelets/restore/restore.h"

#include <string.h>

enum { UNIT = 2048 }; /* tokens of a unit of parallel work */

static void restore_key(const uint16_t *k, const float *mean, int head_dim, uint16_t *out)
{
    for (int c = 0; c < head_dim; c += VF_LANES) {
        vf_store_bf16(out + c, vf_add(vf_load_bf16(k + c), vf_load(mean + c)));
    }
}

/* scale * x + mean; mean NULL: 0. */
static void restore_int8(const int8_t *x, float scale, const float *mean, int head_dim,
                         uint16_t *out)
{
    for (int c = 0; c < head_dim; c += VF_LANES) {
        vf y = vf_mul(vf_load_i8(x + c), vf_set1(scale));
        vf_store_bf16(out + c, mean != NULL ? vf_add(y, vf_load(mean + c)) : y);
    }
}

/* Tokens first .. end - 1 of KV head h. */
static void restore_tokens(const struct restore_args *a, int h, int64_t first, int64_t end)
{
    const struct kv_cache *kept = a->kept;
    const struct kv_cache *staging = a->staging;
    const struct offloaded_kv *off = a->offloaded;
    int d = staging->head_dim;
    const float *mean = kept->k_mean + (int64_t)h * d;
    int64_t in_kept = restore_kept(a);
    for (int64_t i = first; i < end; i++) {
        uint16_t *k = (uint16_t *)staging->k + (h * staging->capacity + i) * d;
        uint16_t *v = (uint16_t *)staging->v + (h * staging->capacity + i) * d;
        const void *from_k = (const uint16_t *)kept->k + (h * kept->capacity + i) * d;
        const void *from_v = (const uint16_t *)kept->v + (h * kept->capacity + i) * d;
        if (i >= in_kept) {
            size_t at = kv_row_at(off, h, i - in_kept);
            from_k = (const char *)off->k + at;
            from_v = (const char *)off->v + at;
        }
        if (i >= in_kept && off->dtype == MP_I8) {
            struct kv_scale scale = off->scales[h * off->capacity + i - in_kept];
            restore_int8(from_k, scale.k, mean, d, k);
            restore_int8(from_v, scale.v, NULL, d, v);
        } else {
            restore_key(from_k, mean, d, k);
            memcpy(v, from_v, (size_t)d * sizeof *v);
        }
    }
}

void VF_NAME(restore)(const struct restore_args *a)
{
    mp_kernel_demand("restore", a->staging->dtype, a->staging->head_dim, VF_LANES);
    mp_kernel_demand("restore", a->kept->dtype, a->kept->head_dim, VF_LANES);
    if (a->offloaded != NULL) {
        mp_kernel_demand_rows("restore", a->offloaded->dtype, a->offloaded->head_dim, VF_LANES);
    }
    restore_check(a);
    int64_t units = (a->tokens + UNIT - 1) / UNIT;
#pragma omp parallel for collapse(2)
    for (int h = 0; h < a->staging->num_kv_heads; h++) {
        for (int64_t u = 0; u < units; u++) {
            int64_t end = (u + 1) * UNIT;
            restore_tokens(a, h, u * UNIT, end < a->tokens ? end : a->tokens);
        }
    }
}
