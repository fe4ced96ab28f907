/* KV caches and hash tables: allocation and growth. */
#include "core/memory.h"
#include "pipeline/internal.h"

#include <stdlib.h>
#include <string.h>

int mp_kv_cache_create(struct kv_cache *cache, const struct mp_shape *shape, enum mp_dtype dtype,
                       int64_t capacity, bool centered, struct mp_error *err)
{
    size_t heads = (size_t)shape->num_key_value_heads;
    size_t width = heads * (size_t)shape->head_dim;
    *cache = (struct kv_cache){
        .capacity = capacity,
        .num_kv_heads = shape->num_key_value_heads,
        .head_dim = shape->head_dim,
        .dtype = dtype,
    };
    cache->k = mp_alloc(width * (size_t)capacity, mp_dtype_size(dtype), "key cache", err);
    cache->v = mp_alloc(width * (size_t)capacity, mp_dtype_size(dtype), "value cache", err);
    if (centered) {
        cache->k_mean = mp_zalloc(width, sizeof(float), "key means", err);
    }
    if (cache->k == NULL || cache->v == NULL || (centered && cache->k_mean == NULL)) {
        mp_kv_cache_destroy(cache);
        return MP_ERR_MEMORY;
    }
    return 0;
}

void mp_kv_cache_destroy(struct kv_cache *cache)
{
    mp_free(cache->k);
    mp_free(cache->v);
    mp_free(cache->k_mean);
    cache->k = cache->v = NULL;
    cache->k_mean = NULL;
}

/* Moves every head's first `used` tokens from the old layout to the new one. */
static void copy_heads(void *to, int64_t to_capacity, const void *from, const struct kv_cache *c,
                       int64_t used)
{
    size_t token = (size_t)c->head_dim * mp_dtype_size(c->dtype);
    for (int h = 0; h < c->num_kv_heads; h++) {
        memcpy((char *)to + (size_t)(h * to_capacity) * token,
               (const char *)from + (size_t)(h * c->capacity) * token, (size_t)used * token);
    }
}

int mp_kv_cache_reserve(struct kv_cache *cache, int64_t used, int64_t tokens, struct mp_error *err)
{
    if (tokens <= cache->capacity) {
        return 0;
    }
    int64_t capacity = cache->capacity + cache->capacity / 2;
    capacity = capacity < tokens ? tokens : capacity;

    size_t width = (size_t)cache->num_kv_heads * (size_t)cache->head_dim;
    size_t size = mp_dtype_size(cache->dtype);
    void *k = mp_alloc(width * (size_t)capacity, size, "key cache", err);
    void *v = mp_alloc(width * (size_t)capacity, size, "value cache", err);
    if (k == NULL || v == NULL) {
        mp_free(k);
        mp_free(v);
        return MP_ERR_MEMORY;
    }
    copy_heads(k, capacity, cache->k, cache, used);
    copy_heads(v, capacity, cache->v, cache, used);
    mp_free(cache->k);
    mp_free(cache->v);
    cache->k = k;
    cache->v = v;
    cache->capacity = capacity;
    return 0;
}

static int create_offloaded(struct offloaded_kv *kv, const struct mp_engine *e, int64_t tokens,
                            struct mp_error *err)
{
    size_t width = (size_t)e->shape->num_key_value_heads * (size_t)e->shape->head_dim;
    *kv = (struct offloaded_kv){
        .capacity = tokens,
        .num_kv_heads = e->shape->num_key_value_heads,
        .head_dim = e->shape->head_dim,
        .dtype = e->dtype,
    };
    kv->k = mp_alloc(width * (size_t)tokens, mp_dtype_size(e->dtype), "offloaded keys", err);
    kv->v = mp_alloc(width * (size_t)tokens, mp_dtype_size(e->dtype), "offloaded values", err);
    return kv->k == NULL || kv->v == NULL ? MP_ERR_MEMORY : 0;
}

static int create_tables(struct lsh_tables *t, const struct mp_engine *e, int64_t tokens,
                         struct mp_error *err)
{
    *t = (struct lsh_tables){
        .capacity = tokens,
        .num_kv_heads = e->shape->num_key_value_heads,
        .K = e->lsh.K,
        .L = e->lsh.L,
    };
    size_t tables = (size_t)t->num_kv_heads * (size_t)t->L;
    size_t buckets = ((size_t)1 << t->K) + 1;
    t->ids = mp_alloc(tables * (size_t)tokens, sizeof *t->ids, "hash tables", err);
    t->offsets = mp_alloc(tables * (size_t)lsh_num_blocks(tokens) * buckets, sizeof *t->offsets,
                          "hash table offsets", err);
    return t->ids == NULL || t->offsets == NULL ? MP_ERR_MEMORY : 0;
}

static int create_layer(struct mp_layer_kv *kv, const struct mp_engine *e, bool sparse,
                        int64_t tokens, struct mp_error *err)
{
    kv->sparse = sparse;
    int64_t fixed = sparse ? mp_fixed_tokens(&e->graph, tokens) : tokens;
    int code = mp_kv_cache_create(&kv->fixed, e->shape, e->dtype,
                                  fixed + e->config->generation_budget, true, err);
    if (code == 0) {
        code = create_offloaded(&kv->offloaded, e, tokens - fixed, err);
    }
    if (code == 0) {
        code = create_tables(&kv->tables, e, tokens - fixed, err);
    }
    mp_buffer_wrap(&kv->fixed_buffer, &kv->fixed, sizeof kv->fixed);
    mp_buffer_wrap(&kv->offloaded_buffer, &kv->offloaded, sizeof kv->offloaded);
    mp_buffer_wrap(&kv->tables_buffer, &kv->tables, sizeof kv->tables);
    return code;
}

int mp_kv_create(const struct mp_engine *e, int64_t tokens, struct mp_layer_kv **out,
                 struct mp_error *err)
{
    int layers = e->shape->num_hidden_layers;
    struct mp_layer_kv *kv = mp_xcalloc((size_t)layers, sizeof *kv);
    for (int l = 0; l < layers; l++) {
        int code = create_layer(&kv[l], e, e->sparse[l], tokens, err);
        if (code != 0) {
            mp_kv_destroy(e, kv);
            return code;
        }
    }
    *out = kv;
    return 0;
}

void mp_kv_destroy(const struct mp_engine *e, struct mp_layer_kv *kv)
{
    if (kv == NULL) {
        return;
    }
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        mp_buffer_release(&kv[l].fixed_buffer);
        mp_buffer_release(&kv[l].offloaded_buffer);
        mp_buffer_release(&kv[l].tables_buffer);
        mp_kv_cache_destroy(&kv[l].fixed);
        mp_free(kv[l].offloaded.k);
        mp_free(kv[l].offloaded.v);
        mp_free(kv[l].tables.ids);
        mp_free(kv[l].tables.offsets);
    }
    free(kv);
}
