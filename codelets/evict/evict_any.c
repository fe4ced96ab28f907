#include "codelets/common/attention/int8_rows.h"
#include "codelets/evict/evict.h"
#include "core/base/error.h"

#include <string.h>

void evict_check(const struct evict_args *a)
{
    const struct offloaded_kv *off = a->offloaded;
    if (a->first + a->count > a->used || a->used > a->cache->capacity) {
        mp_panic("evict: slots %lld to %lld of %lld, of %lld", (long long)a->first,
                 (long long)(a->first + a->count), (long long)a->used,
                 (long long)a->cache->capacity);
    }
    if (off != NULL && (off->count > off->capacity || off->count < a->count)) {
        mp_panic("evict: %lld more tokens make %lld of %lld", (long long)a->count,
                 (long long)off->count, (long long)off->capacity);
    }
}

/* The leaving tokens of KV head h. */
static void leave(const struct evict_args *a, int h)
{
    const struct kv_cache *cache = a->cache;
    const struct offloaded_kv *off = a->offloaded;
    size_t d = (size_t)cache->head_dim;
    size_t from = (size_t)(h * cache->capacity + a->first);
    size_t to = (size_t)(h * off->capacity + off->count - a->count);
    size_t row = d * mp_dtype_size(cache->dtype);
    for (size_t i = 0; i < (size_t)a->count; i++) {
        size_t at = kv_row_at(off, 0, (int64_t)(to + i));
        char *k = (char *)off->k + at;
        char *v = (char *)off->v + at;
        if (off->dtype == MP_I8) {
            off->scales[to + i] = (struct kv_scale){
                .k = int8_store_row(cache->k, cache->dtype, from + i, NULL, d, (int8_t *)k),
                .v = int8_store_row(cache->v, cache->dtype, from + i, NULL, d, (int8_t *)v),
            };
        } else {
            memcpy(k, (const char *)cache->k + (from + i) * row, row);
            memcpy(v, (const char *)cache->v + (from + i) * row, row);
        }
    }
}

/* Those behind them. */
static void close_gap(const struct evict_args *a, int h)
{
    const struct kv_cache *cache = a->cache;
    size_t row = (size_t)cache->head_dim * mp_dtype_size(cache->dtype);
    size_t to = (size_t)(h * cache->capacity + a->first) * row;
    size_t from = to + (size_t)a->count * row;
    size_t bytes = (size_t)(a->used - a->first - a->count) * row;
    memmove((char *)cache->k + to, (char *)cache->k + from, bytes);
    memmove((char *)cache->v + to, (char *)cache->v + from, bytes);
}

void evict_any(const struct evict_args *a)
{
    evict_check(a);
#pragma omp parallel for
    for (int h = 0; h < a->cache->num_kv_heads; h++) {
        if (a->offloaded != NULL) {
            leave(a, h);
        }
        close_gap(a, h);
    }
}
