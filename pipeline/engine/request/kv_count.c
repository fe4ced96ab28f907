/* What the KV of a request takes: what is to be allocated is counted by the functions that will do
 * it, and what there is as if it were allocated so at once. */
#include "core/base/memory.h"
#include "pipeline/engine/prefixes/segment.h"

#include <stdlib.h>

/* A cache grows once the budget is used up, unless its tokens leave it. */
static bool grows(const struct mp_engine *e, int64_t new_tokens)
{
    return new_tokens > e->config->generation_budget;
}

static void count_grown(const struct mp_engine *e, struct mp_allocator *a, int layer,
                        int64_t new_tokens)
{
    if (grows(e, new_tokens)) {
        struct kv_cache grown;
        mp_kv_cache_create(e, a, mp_cache_place(e, layer), &grown, new_tokens, false);
    }
}

/* New tokens of a layer's cache, of those that are generated: none where they leave it. */
static int64_t new_in_cache(const struct mp_engine *e, int layer, int64_t tokens,
                            int64_t new_tokens)
{
    bool leave =
        e->graph.placements.layers[layer].sparse && mp_kv_growth(e, tokens, new_tokens) > 0;
    return leave ? 0 : new_tokens;
}

void mp_kv_count_static(const struct mp_engine *e, struct mp_allocator *a, int layer,
                        int64_t tokens, int64_t new_tokens)
{
    struct mp_layer_kv kv = {0};
    mp_kv_create_static(e, a, &kv, layer, tokens, mp_kv_growth(e, tokens, new_tokens));
    count_grown(e, a, layer, new_in_cache(e, layer, tokens, new_tokens));
    mp_kv_destroy_layer(e, &kv, layer);
}

/* Tokens in a cache when it grows for the last time, at most: it is full, one more is to be fed in,
 * and the last one never is. */
static int64_t before_growth(const struct mp_engine *e, int64_t prompt, int64_t new_tokens)
{
    return grows(e, new_tokens) ? prompt + new_tokens - 2 : 0;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* The same of the larger one of a request's own and a borrower's. */
static int64_t most_before_growth(const struct mp_engine *e, int layer, int64_t tokens,
                                  int64_t new_tokens)
{
    bool sparse = e->graph.placements.layers[layer].sparse;
    int64_t prompt = sparse ? mp_static_tokens(&e->graph, tokens) : tokens;
    int64_t rest = (sparse ? e->graph.sink : 0) + mp_prefix_most_rest(e);
    int64_t borrowed = mp_prefix_is_on(e) && new_tokens <= mp_prefix_most_new(e) ? new_tokens : 0;
    return larger(before_growth(e, prompt, new_in_cache(e, layer, tokens, new_tokens)),
                  before_growth(e, rest, borrowed));
}

void mp_kv_count_growing(const struct mp_engine *e, struct mp_allocator *a, int64_t tokens,
                         int64_t new_tokens)
{
    int layers = e->shape->num_hidden_layers;
    int64_t most = 0;
    for (int l = 0; l < layers; l++) {
        most = larger(most, most_before_growth(e, l, tokens, new_tokens));
        if (most > 0 && (l == layers - 1 || mp_ends_stage(&e->graph.placements, l))) {
            struct kv_cache old;
            mp_kv_cache_create(e, a, mp_cache_place(e, l), &old, most, false);
            most = 0;
        }
    }
}

void mp_kv_count_borrower(const struct mp_engine *e, struct mp_allocator *a, int layer,
                          int64_t new_tokens)
{
    struct mp_layer_kv kv = {0};
    int64_t most = mp_prefix_most_new(e);
    mp_kv_create_rest(e, a, &kv, layer, mp_prefix_most_rest(e));
    count_grown(e, a, layer, new_tokens < most ? new_tokens : most);
    mp_kv_destroy_layer(e, &kv, layer);
}

void mp_kv_count_layer(const struct mp_engine *e, struct mp_allocator *a, int layer, int64_t tokens,
                       int64_t new_tokens)
{
    struct mp_layer_kv kv = {0};
    mp_kv_count_static(e, a, layer, tokens, new_tokens);
    mp_kv_create_offloaded(e, a, &kv, layer, tokens, mp_kv_growth(e, tokens, new_tokens));
    mp_kv_create_index(e, a, &kv, layer);
    mp_kv_destroy_layer(e, &kv, layer);
}

void mp_kv_count(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                 int64_t bytes[MP_PLAN_DEVICES])
{
    int64_t counted[MP_MEMORIES] = {0};
    struct mp_allocator counter = {.counted = counted};
    for (int p = 0; p < mp_num_parts(e); p++) {
        for (int l = 0; l < e->shape->num_hidden_layers; l++) {
            mp_kv_count_layer(mp_part(e, p), &counter, l, tokens, new_tokens);
        }
    }
    mp_plan_by_device(counted, bytes);
}

static void count_held_part(const struct mp_engine *part, struct mp_allocator *counter,
                            const struct mp_layer_kv *layers)
{
    for (int l = 0; l < part->shape->num_hidden_layers; l++) {
        const struct mp_layer_kv *kv = &layers[l];
        struct mp_layer_kv same = {.offloaded = kv->offloaded};
        mp_kv_cache_create(part, counter, mp_cache_place(part, l), &same.static_cache,
                           kv->static_cache.capacity, true);
        if (kv->lender == NULL && kv->shards != NULL) {
            mp_kv_create_shards(part, counter, &same, l,
                                kv->shards[0].offloaded.capacity - kv->offloaded);
            mp_kv_create_index(part, counter, &same, l);
        }
        mp_kv_destroy_layer(part, &same, l);
    }
}

void mp_kv_count_held(const struct mp_engine *e, const struct mp_layer_kv *layers,
                      int64_t bytes[MP_PLAN_DEVICES])
{
    int64_t counted[MP_MEMORIES] = {0};
    struct mp_allocator counter = {.counted = counted};
    for (int p = 0; p < mp_num_parts(e); p++) {
        count_held_part(mp_part(e, p), &counter, layers + p * e->shape->num_hidden_layers);
    }
    mp_plan_by_device(counted, bytes);
}
