#include "codelets/common/attention/int8_rows.h"
#include "codelets/offload/offload_slot.h"

#include <math.h>

/* Mean key of head h over the offloaded tokens; 0 if there are none. */
static void mean_key(const struct offload_args *a, int h, float *mean)
{
    const struct kv_cache *staging = a->staging;
    int64_t count = offload_mean_count(a);
    int d = staging->head_dim;
    for (int c = 0; c < d; c++) {
        double sum = 0.0;
        for (int64_t i = a->sink; i < a->sink + count; i++) {
            size_t at = (size_t)((h * staging->capacity + i) * d + c);
            sum += (double)mp_load(staging->k, staging->dtype, at);
        }
        mean[c] = count > 0 ? (float)(sum / (double)count) : 0.0f;
    }
}

/* Writes k - mean of row `from` of the staging area to k, from element `to` on. */
static void store_key(const struct kv_cache *staging, size_t from, const float *mean, void *k,
                      enum mp_dtype dtype, size_t to)
{
    size_t d = (size_t)staging->head_dim;
    for (size_t c = 0; c < d; c++) {
        mp_store(k, dtype, to + c, mp_load(staging->k, staging->dtype, from * d + c) - mean[c]);
    }
}

/* The same, and v to v. */
static void store_token(const struct kv_cache *staging, size_t from, const float *mean, void *k,
                        void *v, enum mp_dtype dtype, size_t to)
{
    size_t d = (size_t)staging->head_dim;
    store_key(staging, from, mean, k, dtype, to);
    for (size_t c = 0; c < d; c++) {
        mp_store(v, dtype, to + c, mp_load(staging->v, staging->dtype, from * d + c));
    }
}

/* As store_token, to a token of MP_I8. */
static void store_token_int8(const struct kv_cache *staging, size_t from, const float *mean,
                             const struct offloaded_kv *off, size_t to)
{
    size_t d = (size_t)staging->head_dim;
    size_t at = to * (size_t)kv_pitch(off);
    off->scales[to].k =
        int8_store_row(staging->k, staging->dtype, from, mean, d, (int8_t *)off->k + at);
    off->scales[to].v =
        int8_store_row(staging->v, staging->dtype, from, NULL, d, (int8_t *)off->v + at);
}

void offload_ref(const struct offload_args *a)
{
    const struct kv_cache *staging = a->staging;
    const struct kv_cache *kept = a->static_cache;
    const struct offloaded_kv *off = a->offloaded;
    offload_check_count(a);
#pragma omp parallel for
    for (int h = 0; h < staging->num_kv_heads; h++) {
        float *mean = kept->k_mean + (int64_t)h * staging->head_dim;
        if (!a->mean_given) {
            mean_key(a, h, mean);
        }
        for (int64_t i = 0; i < a->tokens; i++) {
            struct offload_slot slot = offload_slot(a, i);
            size_t from = (size_t)(h * staging->capacity + i);
            if (slot.offloaded && a->keys != NULL) {
                store_key(staging, from, mean, a->keys->k, a->keys->dtype,
                          (size_t)((h * a->keys->capacity + slot.index) * staging->head_dim));
            }
            if (slot.offloaded && off == NULL) {
                continue;
            }
            if (slot.offloaded && off->dtype == MP_I8) {
                store_token_int8(staging, from, mean, off,
                                 (size_t)(h * off->capacity + slot.index));
            } else if (slot.offloaded) {
                store_token(staging, from, mean, off->k, off->v, off->dtype,
                            (size_t)((h * off->capacity + slot.index) * kv_pitch(off)));
            } else {
                store_token(staging, from, mean, kept->k, kept->v, kept->dtype,
                            (size_t)((h * kept->capacity + slot.index) * kept->head_dim));
            }
        }
    }
}
