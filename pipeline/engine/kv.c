/* KV caches and hash tables: allocation and growth. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- always attended ---- */

/* Bytes of the keys, or values, of `capacity` tokens. */
static size_t kv_bytes(const struct mp_engine *e, int64_t capacity)
{
    return (size_t)e->shape->num_key_value_heads * (size_t)e->shape->head_dim * (size_t)capacity *
           mp_dtype_size(e->dtype);
}

static size_t mean_bytes(const struct kv_cache *c)
{
    return (size_t)c->num_kv_heads * (size_t)c->head_dim * sizeof(float);
}

/* Key means of 0: nothing is subtracted until offload has computed them. */
static int create_mean(struct kv_cache *cache, const struct mp_engine *e, struct mp_error *err)
{
    cache->k_mean = mp_memory_alloc(e->dense_place, mean_bytes(cache), "key means", err);
    if (cache->k_mean == NULL) {
        return MP_ERR_MEMORY;
    }
    float *zeros = mp_xcalloc(1, mean_bytes(cache));
    int code =
        mp_memory_copy(e->dense_place, cache->k_mean, MP_PLACE_HOST, zeros, mean_bytes(cache), err);
    free(zeros);
    return code;
}

int mp_kv_cache_create(struct kv_cache *cache, const struct mp_engine *e, int64_t capacity,
                       bool centered, struct mp_error *err)
{
    *cache = (struct kv_cache){
        .capacity = capacity,
        .num_kv_heads = e->shape->num_key_value_heads,
        .head_dim = e->shape->head_dim,
        .dtype = e->dtype,
    };
    size_t bytes = kv_bytes(e, cache->capacity);
    cache->k = mp_memory_alloc(e->dense_place, bytes, "key cache", err);
    cache->v = cache->k == NULL ? NULL : mp_memory_alloc(e->dense_place, bytes, "value cache", err);
    int code = cache->v == NULL ? MP_ERR_MEMORY : 0;
    if (code == 0 && centered) {
        code = create_mean(cache, e, err);
    }
    if (code != 0) {
        mp_kv_cache_destroy(cache, e);
    }
    return code;
}

void mp_kv_cache_destroy(struct kv_cache *cache, const struct mp_engine *e)
{
    size_t bytes = kv_bytes(e, cache->capacity);
    mp_memory_free(e->dense_place, cache->k, bytes);
    mp_memory_free(e->dense_place, cache->v, bytes);
    mp_memory_free(e->dense_place, cache->k_mean, mean_bytes(cache));
    cache->k = cache->v = NULL;
    cache->k_mean = NULL;
}

/* Moves every head's first `used` tokens from the old layout to the new one. */
static int copy_heads(const struct mp_engine *e, void *to, int64_t to_capacity, const void *from,
                      const struct kv_cache *c, int64_t used, struct mp_error *err)
{
    size_t token = (size_t)c->head_dim * mp_dtype_size(c->dtype);
    int code = 0;
    for (int h = 0; h < c->num_kv_heads && code == 0; h++) {
        code = mp_memory_copy(
            e->dense_place, (char *)to + (size_t)(h * to_capacity) * token, e->dense_place,
            (const char *)from + (size_t)(h * c->capacity) * token, (size_t)used * token, err);
    }
    return code;
}

int mp_kv_cache_reserve(struct kv_cache *cache, const struct mp_engine *e, int64_t used,
                        int64_t tokens, struct mp_error *err)
{
    if (tokens <= cache->capacity) {
        return 0;
    }
    int64_t capacity = tokens + e->config->generation_budget;

    struct kv_cache larger;
    int code = mp_kv_cache_create(&larger, e, capacity, false, err);
    if (code != 0) {
        return code;
    }
    code = copy_heads(e, larger.k, capacity, cache->k, cache, used, err);
    if (code == 0) {
        code = copy_heads(e, larger.v, capacity, cache->v, cache, used, err);
    }
    if (code != 0) {
        mp_kv_cache_destroy(&larger, e);
        return code;
    }
    larger.k_mean = cache->k_mean;
    cache->k_mean = NULL;
    mp_kv_cache_destroy(cache, e);
    *cache = larger;
    return 0;
}

/* ---- sampled ---- */

static const struct mp_shares *shares_at(const struct mp_engine *e, enum mp_place place)
{
    return &e->graph.shares[place == MP_PLACE_GPU];
}

static int create_offloaded(struct offloaded_kv *kv, const struct mp_engine *e, enum mp_place place,
                            int64_t tokens, struct mp_error *err)
{
    *kv = (struct offloaded_kv){
        .capacity = tokens,
        .num_kv_heads = e->shape->num_key_value_heads,
        .head_dim = e->shape->head_dim,
        .dtype = e->dtype,
    };
    enum mp_place at = mp_offloaded_place(place);
    const struct mp_shares *shares = shares_at(e, place);
    kv->k = mp_memory_alloc_shares(at, shares, kv_bytes(e, tokens), "offloaded keys", err);
    if (kv->k != NULL) {
        kv->v = mp_memory_alloc_shares(at, shares, kv_bytes(e, tokens), "offloaded values", err);
    }
    return kv->k == NULL || kv->v == NULL ? MP_ERR_MEMORY : 0;
}

static size_t table_ids_bytes(const struct lsh_tables *t)
{
    return (size_t)t->num_kv_heads * (size_t)t->L * (size_t)t->capacity * sizeof *t->ids;
}

static size_t table_offsets_bytes(const struct lsh_tables *t)
{
    size_t buckets = ((size_t)1 << t->K) + 1;
    return (size_t)t->num_kv_heads * (size_t)lsh_num_blocks(t->capacity) * (size_t)t->L * buckets *
           sizeof *t->offsets;
}

static int create_tables(struct lsh_tables *t, const struct mp_engine *e, enum mp_place place,
                         int64_t tokens, struct mp_error *err)
{
    *t = (struct lsh_tables){
        .capacity = tokens,
        .num_kv_heads = e->shape->num_key_value_heads,
        .K = e->lsh.K,
        .L = e->lsh.L,
    };
    const struct mp_shares *shares = shares_at(e, place);
    t->ids = mp_memory_alloc_shares(place, shares, table_ids_bytes(t), "hash tables", err);
    if (t->ids != NULL) {
        t->offsets = mp_memory_alloc_shares(place, shares, table_offsets_bytes(t),
                                            "hash table offsets", err);
    }
    return t->ids == NULL || t->offsets == NULL ? MP_ERR_MEMORY : 0;
}

/* ---- a request ---- */

int mp_kv_create_layer(const struct mp_engine *e, struct mp_layer_kv *of, int layer, int64_t tokens,
                       struct mp_error *err)
{
    struct mp_layer_kv *kv = &of[layer];
    kv->sparse = e->sparse[layer];
    kv->place = e->sampled_place[layer];
    int64_t fixed = kv->sparse ? mp_fixed_tokens(&e->graph, tokens) : tokens;
    int code = mp_kv_cache_create(&kv->fixed, e, fixed + e->config->generation_budget, true, err);
    if (code == 0) {
        code = create_offloaded(&kv->offloaded, e, kv->place, tokens - fixed, err);
    }
    if (code == 0) {
        code = create_tables(&kv->tables, e, kv->place, tokens - fixed, err);
    }
    mp_buffer_wrap(&kv->fixed_buffer, MP_PLACE_HOST, &kv->fixed, sizeof kv->fixed);
    mp_buffer_wrap(&kv->offloaded_buffer, MP_PLACE_HOST, &kv->offloaded, sizeof kv->offloaded);
    mp_buffer_wrap(&kv->tables_buffer, MP_PLACE_HOST, &kv->tables, sizeof kv->tables);
    return code;
}

void mp_kv_destroy(const struct mp_engine *e, struct mp_layer_kv *kv)
{
    if (kv == NULL) {
        return;
    }
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        struct mp_layer_kv *layer = &kv[l];
        mp_buffer_release(&layer->fixed_buffer);
        mp_buffer_release(&layer->offloaded_buffer);
        mp_buffer_release(&layer->tables_buffer);
        mp_kv_cache_destroy(&layer->fixed, e);
        enum mp_place place = mp_offloaded_place(layer->place);
        mp_memory_free(place, layer->offloaded.k, kv_bytes(e, layer->offloaded.capacity));
        mp_memory_free(place, layer->offloaded.v, kv_bytes(e, layer->offloaded.capacity));
        mp_memory_free(layer->place, layer->tables.ids, table_ids_bytes(&layer->tables));
        mp_memory_free(layer->place, layer->tables.offsets, table_offsets_bytes(&layer->tables));
    }
    free(kv);
}
