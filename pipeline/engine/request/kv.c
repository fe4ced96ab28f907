/* The KV of a request: allocation and growth. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

/* ---- always attended ---- */

static size_t cache_bytes(const struct kv_cache *c)
{
    return kv_bytes(c->num_kv_heads, c->head_dim, c->dtype, c->capacity);
}

static size_t mean_bytes(const struct kv_cache *c)
{
    return (size_t)c->num_kv_heads * (size_t)c->head_dim * sizeof(float);
}

void mp_kv_cache_create(const struct mp_engine *e, struct mp_allocator *a, struct mp_place place,
                        struct kv_cache *cache, int64_t capacity, bool centered)
{
    *cache = (struct kv_cache){
        .capacity = capacity,
        .num_kv_heads = e->shape->num_key_value_heads,
        .head_dim = e->shape->head_dim,
        .dtype = e->dtype,
    };
    cache->k = mp_allocate(a, place, cache_bytes(cache), "key cache");
    cache->v = mp_allocate(a, place, cache_bytes(cache), "value cache");
    if (centered) {
        /* 0: nothing is subtracted until offload has computed the means. */
        cache->k_mean = mp_allocate_zeroed(a, place, mean_bytes(cache), "key means");
    }
}

void mp_kv_cache_destroy(struct mp_place place, struct kv_cache *cache)
{
    mp_memory_free(place, cache->k, cache_bytes(cache));
    mp_memory_free(place, cache->v, cache_bytes(cache));
    mp_memory_free(place, cache->k_mean, mean_bytes(cache));
    cache->k = cache->v = NULL;
    cache->k_mean = NULL;
}

/* Moves every head's first `used` tokens from the old layout to the new one. */
static int copy_heads(struct mp_place place, void *to, int64_t to_capacity, const void *from,
                      const struct kv_cache *c, int64_t used, struct mp_error *err)
{
    size_t token = (size_t)c->head_dim * mp_dtype_size(c->dtype);
    int code = 0;
    for (int h = 0; h < c->num_kv_heads && code == 0; h++) {
        code = mp_memory_copy(place, (char *)to + (size_t)(h * to_capacity) * token, place,
                              (const char *)from + (size_t)(h * c->capacity) * token,
                              (size_t)used * token, err);
    }
    return code;
}

int mp_kv_cache_reserve(const struct mp_engine *e, int layer, struct kv_cache *cache, int64_t used,
                        int64_t tokens, struct mp_error *err)
{
    if (tokens <= cache->capacity) {
        return 0;
    }
    struct mp_allocator a = mp_request_allocator(e, err);
    struct kv_cache larger;
    struct mp_place place = mp_cache_place(e, layer);
    int64_t capacity = tokens + e->config->generation_budget;
    mp_kv_cache_create(e, &a, place, &larger, capacity, false);
    if (a.code == 0) {
        a.code = copy_heads(place, larger.k, capacity, cache->k, cache, used, err);
    }
    if (a.code == 0) {
        a.code = copy_heads(place, larger.v, capacity, cache->v, cache, used, err);
    }
    if (a.code != 0) {
        mp_kv_cache_destroy(place, &larger);
        return a.code;
    }
    larger.k_mean = cache->k_mean;
    cache->k_mean = NULL;
    mp_kv_cache_destroy(place, cache);
    *cache = larger;
    return 0;
}

/* ---- a layer ---- */

/* Prompt tokens in the cache of a layer that is attended as a whole. */
static int64_t static_tokens(const struct mp_engine *e, int layer, int64_t tokens)
{
    return e->graph.placements.layers[layer].sparse ? mp_static_tokens(&e->graph, tokens) : tokens;
}

void mp_kv_create_static(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                         int layer, int64_t tokens, int64_t growth)
{
    /* Where tokens leave the cache, they do so at the same size for every prompt. */
    bool grows = growth > 0 && e->graph.placements.layers[layer].sparse;
    int64_t capacity = grows ? mp_kv_static_limit(e)
                             : static_tokens(e, layer, tokens) + e->config->generation_budget;
    mp_kv_cache_create(e, a, mp_cache_place(e, layer), &kv->static_cache, capacity, true);
    mp_buffer_wrap(a, &kv->static_buffer, MP_HOST, &kv->static_cache, sizeof kv->static_cache);
}

/* Keys and values, in pairs. */
static size_t offloaded_bytes(const struct offloaded_kv *kv)
{
    return 2 * kv_bytes(kv->num_kv_heads, kv->head_dim, kv->dtype, kv->capacity);
}

static size_t scale_bytes(const struct offloaded_kv *kv)
{
    return kv_scale_bytes(kv->num_kv_heads, kv->dtype, kv->capacity);
}

static void create_shard(const struct mp_engine *e, struct mp_allocator *a,
                         const struct mp_shard *shard, int64_t tokens, int64_t growth,
                         struct mp_shard_kv *out)
{
    struct offloaded_kv *kv = &out->offloaded;
    struct mp_place place = mp_offloaded_place(shard);
    *kv = (struct offloaded_kv){
        .count = tokens,
        .capacity = tokens + growth,
        .num_kv_heads = shard->num_kv_heads,
        .head_dim = e->shape->head_dim,
        .dtype = mp_offloaded_dtype(e),
        .paired = true,
    };
    kv->k = mp_allocate(a, place, offloaded_bytes(kv), "offloaded keys and values");
    if (kv->k != NULL) { /* not where memory is only counted */
        kv->v = (char *)kv->k + (size_t)kv->head_dim * mp_dtype_size(kv->dtype);
    }
    if (kv->dtype == MP_I8) {
        kv->scales =
            mp_allocate(a, mp_scale_place(shard), scale_bytes(kv), "scales of keys and values");
    }
    mp_buffer_wrap(a, &out->offloaded_buffer, MP_HOST, kv, sizeof *kv);
    if (growth > 0) {
        mp_buffer_wrap(a, &out->leaving_buffer, MP_HOST, &out->leaving, sizeof out->leaving);
    }
}

void mp_kv_create_shards(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                         int layer, int64_t growth)
{
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    kv->shards = mp_xcalloc((size_t)shards->count, sizeof *kv->shards);
    for (int i = 0; i < shards->count; i++) {
        create_shard(e, a, &shards->list[i], kv->offloaded, growth, &kv->shards[i]);
    }
}

void mp_kv_create_offloaded(const struct mp_engine *e, struct mp_allocator *a,
                            struct mp_layer_kv *kv, int layer, int64_t tokens, int64_t growth)
{
    if (mp_shards_of(&e->graph.placements, layer) != NULL) {
        kv->offloaded = tokens - static_tokens(e, layer, tokens);
        mp_kv_create_shards(e, a, kv, layer, growth);
    }
}

struct mp_shard_size mp_kv_shard_size(const struct mp_engine *e, const struct mp_shard *shard,
                                      int64_t offloaded)
{
    return (struct mp_shard_size){
        .kv_heads = shard->num_kv_heads,
        .query_heads = shard->num_kv_heads * mp_shape_group(e->shape),
        .tokens = offloaded,
        .capacity = offloaded,
        .dtype = e->dtype,
    };
}

void mp_kv_create_index(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                        int layer)
{
    const struct mp_method *method = e->attention.method;
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    for (int i = 0; shards != NULL && method->create_index != NULL && i < shards->count; i++) {
        struct mp_shard_size size = mp_kv_shard_size(e, &shards->list[i], kv->offloaded);
        struct mp_place place = mp_selecting_place(method, &shards->list[i]);
        size.capacity = kv->shards[i].offloaded.capacity;
        kv->shards[i].index =
            method->create_index(&e->attention, a, place, &size, &kv->shards[i].index_buffer);
    }
}

int mp_kv_create_layer(const struct mp_engine *e, struct mp_layer_kv *kv, int layer, int64_t tokens,
                       int64_t growth, struct mp_error *err)
{
    struct mp_allocator a = mp_request_allocator(e, err);
    mp_kv_create_static(e, &a, kv, layer, tokens, growth);
    mp_kv_create_offloaded(e, &a, kv, layer, tokens, growth);
    mp_kv_create_index(e, &a, kv, layer);
    return a.code;
}

/* view: all that it has is another request's. */
static void destroy_shard(const struct mp_engine *e, const struct mp_shard *shard,
                          struct mp_shard_kv *kv, bool view)
{
    struct mp_place place = mp_offloaded_place(shard);
    mp_buffer_release(&kv->offloaded_buffer);
    mp_buffer_release(&kv->leaving_buffer);
    mp_buffer_release(&kv->index_buffer);
    if (view) {
        free(kv->index);
        return;
    }
    mp_memory_free(place, kv->offloaded.k, offloaded_bytes(&kv->offloaded));
    mp_memory_free(mp_scale_place(shard), kv->offloaded.scales, scale_bytes(&kv->offloaded));
    if (kv->index != NULL) {
        const struct mp_method *method = e->attention.method;
        method->destroy_index(mp_selecting_place(method, shard), kv->index);
    }
}

void mp_kv_destroy_layer(const struct mp_engine *e, struct mp_layer_kv *kv, int layer)
{
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    mp_buffer_release(&kv->static_buffer);
    mp_kv_cache_destroy(mp_cache_place(e, layer), &kv->static_cache);
    for (int i = 0; kv->shards != NULL && i < shards->count; i++) {
        destroy_shard(e, &shards->list[i], &kv->shards[i], kv->lender != NULL);
    }
    free(kv->shards);
    *kv = (struct mp_layer_kv){0};
}

void mp_kv_destroy(const struct mp_engine *e, struct mp_layer_kv *kv)
{
    for (int p = 0; kv != NULL && p < mp_num_parts(e); p++) {
        struct mp_layer_kv *own = mp_part_layers(mp_part(e, p), kv);
        for (int l = 0; l < e->shape->num_hidden_layers; l++) {
            mp_kv_destroy_layer(mp_part(e, p), &own[l], l);
        }
    }
    free(kv);
}

struct mp_layer_kv *mp_kv_layers(const struct mp_engine *e)
{
    size_t count = (size_t)mp_num_parts(e) * (size_t)e->shape->num_hidden_layers;
    return mp_xcalloc(count, sizeof(struct mp_layer_kv));
}

/* Pages are locked while nobody waits for them, and kept (mp_memory_free). */
int mp_kv_lock_pages(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                     struct mp_error *err)
{
    int64_t growth = mp_kv_growth(e, tokens, new_tokens);
    struct mp_layer_kv *kv = mp_kv_layers(e);
    struct mp_allocator a = {.err = err};
    for (int i = 0; i < mp_num_parts(e) && mp_dense(e).kind == MP_GPU; i++) {
        const struct mp_engine *part = mp_part(e, i);
        const struct mp_placements *p = &part->graph.placements;
        for (int l = 0; l < p->num_layers; l++) {
            const struct mp_shards *shards = mp_shards_of(p, l);
            if (shards != NULL && mp_shard_in_host(&shards->list[0])) {
                mp_kv_create_offloaded(part, &a, &mp_part_layers(part, kv)[l], l, tokens, growth);
            }
        }
    }
    mp_kv_destroy(e, kv);
    return a.code;
}

/* ---- room for selections ---- */

static void create_selection(const struct mp_engine *e, struct mp_allocator *a,
                             const struct mp_shard *shard, int64_t offloaded,
                             struct mp_selection *out)
{
    struct mp_shard_size size = mp_kv_shard_size(e, shard, offloaded);
    const struct mp_method *method = e->attention.method;
    struct mp_place place = mp_selection_place(method, shard);
    out->room = method->room != NULL ? method->room(&e->attention, &size) : size.tokens;
    size_t room = (size_t)mp_selections_of(method, &size) * (size_t)out->room;
    mp_buffer_create(a, &out->ids, place, room * sizeof(uint32_t), "selected tokens");
    if (method->log_weights) {
        mp_buffer_create(a, &out->log_weights, place, room * sizeof(float), "their weights");
    }
    if (method->selection_scratch != NULL) {
        mp_buffer_create(a, &out->scratch, mp_selecting_place(method, shard),
                         method->selection_scratch(&e->attention, &size), "what selects them");
    }
}

struct mp_selection **mp_selections_create(const struct mp_engine *e, struct mp_allocator *a,
                                           int64_t offloaded)
{
    const struct mp_placements *p = &e->graph.placements;
    struct mp_selection **s = mp_xcalloc((size_t)p->num_cuts + 1, sizeof *s);
    for (int c = 0; c < p->num_cuts; c++) {
        s[c] = mp_xcalloc((size_t)p->cuts[c].count, sizeof *s[c]);
        for (int i = 0; i < p->cuts[c].count; i++) {
            create_selection(e, a, &p->cuts[c].list[i], offloaded, &s[c][i]);
        }
    }
    return s;
}

void mp_selections_destroy(const struct mp_engine *e, struct mp_selection **s)
{
    const struct mp_placements *p = &e->graph.placements;
    for (int c = 0; s != NULL && c < p->num_cuts; c++) {
        for (int i = 0; i < p->cuts[c].count; i++) {
            mp_buffer_release(&s[c][i].ids);
            mp_buffer_release(&s[c][i].log_weights);
            mp_buffer_release(&s[c][i].scratch);
        }
        free(s[c]);
    }
    free(s);
}
