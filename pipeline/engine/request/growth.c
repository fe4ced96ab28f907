/* Long answers: a sparse layer's static cache keeps its size, and what grows old in it is kept and
 * sampled from as the prompt is. */
#include "pipeline/engine/request/slot.h"

int64_t mp_kv_static_limit(const struct mp_engine *e)
{
    return e->graph.sink + e->graph.window + e->config->generation_budget;
}

/* Tokens that leave it together, once it is full. */
static int64_t block(const struct mp_engine *e)
{
    return e->config->generation_budget > 1 ? e->config->generation_budget / 2 : 1;
}

int64_t mp_kv_growth(const struct mp_engine *e, int64_t tokens, int64_t new_tokens)
{
    if (e->attention.method->extend == NULL) {
        return 0;
    }
    /* Generation ends with the model's positions; the last token is never fed in. */
    int64_t left = mp_model_max_positions(e->model) - tokens + 1;
    int64_t fed = (new_tokens < left ? new_tokens : left) - 1;
    int64_t beyond = mp_static_tokens(&e->graph, tokens) + fed - mp_kv_static_limit(e);
    return beyond <= 0 ? 0 : (beyond + block(e) - 1) / block(e) * block(e);
}

/* The oldest tokens of a shard's part of a static cache. */
static struct offloaded_kv leaving(const struct kv_cache *cache, const struct mp_shard *shard,
                                   int64_t first, int64_t count)
{
    struct kv_cache heads = kv_cache_heads(cache, shard->first_kv_head, shard->num_kv_heads);
    size_t at = kv_bytes(1, cache->head_dim, cache->dtype, first);
    return (struct offloaded_kv){
        .k = (char *)heads.k + at,
        .v = (char *)heads.v + at,
        .count = count,
        .capacity = cache->capacity,
        .num_kv_heads = heads.num_kv_heads,
        .head_dim = cache->head_dim,
        .dtype = cache->dtype,
    };
}

static void grow_part(const struct mp_engine *part, const struct mp_growth *growth,
                      struct mp_submit *sub)
{
    for (int l = 0; l < part->shape->num_hidden_layers; l++) {
        const struct mp_shards *shards = mp_shards_of(&part->graph.placements, l);
        struct mp_layer_kv *kv = &growth->kv[l];
        if (shards == NULL) {
            continue;
        }
        for (int i = 0; i < shards->count; i++) {
            kv->shards[i].leaving =
                leaving(&kv->static_cache, &shards->list[i], growth->first, growth->count);
        }
        mp_submit_growth(sub, &part->graph, growth, l);
        kv->offloaded += growth->count;
    }
}

void mp_slot_grow(struct mp_slot *r, const struct mp_engine *e, int slot, struct mp_submit *sub)
{
    struct mp_growth growth = {
        .request = slot,
        .first = r->static_prompt < e->graph.sink ? r->static_prompt : e->graph.sink,
        .count = block(e),
        .used = mp_slot_static_index(r),
    };
    if (growth.used < mp_kv_static_limit(e) || e->attention.method->extend == NULL ||
        r->shared > 0) {
        return;
    }
    for (int p = 0; p < mp_num_parts(e); p++) {
        growth.kv = mp_part_layers(mp_part(e, p), r->segment->layers);
        grow_part(mp_part(e, p), &growth, sub);
    }
    r->grown += growth.count;
}
