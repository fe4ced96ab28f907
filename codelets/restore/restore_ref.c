#include "codelets/restore/restore.h"

/* One token of KV head h, whose key and value are d elements from `k` and `v` on, times their
 * scale, to slot `to` of the staging area. */
static void restore_token(const struct restore_args *a, int h, const void *k, const void *v,
                          enum mp_dtype dtype, struct kv_scale scale, int64_t to)
{
    const struct kv_cache *staging = a->staging;
    size_t d = (size_t)staging->head_dim;
    size_t at = (size_t)(h * staging->capacity + to) * d;
    const float *mean = a->kept->k_mean + (size_t)h * d;
    for (size_t c = 0; c < d; c++) {
        float key = dtype == MP_I8 ? (float)((const int8_t *)k)[c] : mp_load(k, dtype, c);
        float value = dtype == MP_I8 ? (float)((const int8_t *)v)[c] : mp_load(v, dtype, c);
        mp_store(staging->k, staging->dtype, at + c, key * scale.k + mean[c]);
        mp_store(staging->v, staging->dtype, at + c, value * scale.v);
    }
}

static void restore_offloaded(const struct restore_args *a, int h, int64_t token, int64_t to)
{
    const struct offloaded_kv *off = a->offloaded;
    size_t at = kv_row_at(off, h, token);
    struct kv_scale scale = off->dtype == MP_I8 ? off->scales[h * off->capacity + token]
                                                : (struct kv_scale){1.0f, 1.0f};
    restore_token(a, h, (const char *)off->k + at, (const char *)off->v + at, off->dtype, scale,
                  to);
}

void restore_ref(const struct restore_args *a)
{
    restore_check(a);
    const struct kv_cache *kept = a->kept;
    size_t row = (size_t)kept->head_dim * mp_dtype_size(kept->dtype);
    int64_t first = restore_kept(a);
#pragma omp parallel for
    for (int h = 0; h < kept->num_kv_heads; h++) {
        for (int64_t i = 0; i < first; i++) {
            size_t at = (size_t)(h * kept->capacity + i) * row;
            restore_token(a, h, (const char *)kept->k + at, (const char *)kept->v + at, kept->dtype,
                          (struct kv_scale){1.0f, 1.0f}, i);
        }
        for (int64_t i = first; i < a->tokens; i++) {
            restore_offloaded(a, h, i - first, i);
        }
    }
}
