#include "pipeline/engine/prefixes/segment.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

struct mp_segment *mp_segment_create(const struct mp_engine *e)
{
    struct mp_segment *s = mp_xcalloc(1, sizeof *s);
    s->layers = mp_kv_layers(e);
    s->refs = 1;
    return s;
}

void mp_segment_ref(struct mp_segment *s)
{
    s->refs++;
}

void mp_segment_unref(const struct mp_engine *e, struct mp_segment *s)
{
    if (s == NULL || --s->refs > 0) {
        return;
    }
    mp_kv_destroy(e, s->layers);
    mp_segment_unref(e, s->lender);
    free(s->ids);
    free(s);
}

/* ---- a layer that is shared ---- */

/* free() frees it. */
static void *view_index(const struct mp_index_view *view, const void *index, int64_t tokens)
{
    char *out = mp_xmalloc(view->bytes);
    memcpy(out, index, view->bytes);
    memcpy(out + view->count, &tokens, sizeof tokens);
    return out;
}

static void share_shard(const struct mp_engine *e, struct mp_allocator *a,
                        const struct mp_shard_kv *from, int64_t tokens, struct mp_shard_kv *out)
{
    const struct mp_index_view *view = &e->attention.method->index_view;
    out->offloaded = from->offloaded;
    out->offloaded.count = tokens;
    mp_buffer_wrap(a, &out->offloaded_buffer, MP_HOST, &out->offloaded, sizeof out->offloaded);
    if (from->index != NULL) {
        out->index = view_index(view, from->index, tokens);
        mp_buffer_wrap(a, &out->index_buffer, MP_HOST, out->index, view->bytes);
    }
}

void mp_kv_create_rest(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                       int layer, int64_t rest)
{
    int64_t sink = e->graph.placements.layers[layer].sparse ? e->graph.sink : 0;
    mp_kv_cache_create(e, a, mp_cache_place(e, layer), &kv->static_cache,
                       sink + rest + e->config->generation_budget, true);
    mp_buffer_wrap(a, &kv->static_buffer, MP_HOST, &kv->static_cache, sizeof kv->static_cache);
}

int mp_kv_share_layer(const struct mp_engine *e, struct mp_layer_kv *kv,
                      const struct mp_prefix *prefix, int layer, int64_t tokens,
                      struct mp_error *err)
{
    struct mp_allocator a = mp_request_allocator(e, err);
    const struct mp_layer_kv *from = &mp_part_layers(e, prefix->segment->layers)[layer];
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    int64_t sink = e->graph.placements.layers[layer].sparse ? e->graph.sink : 0;
    struct mp_place place = mp_cache_place(e, layer);
    kv->lender = from;
    mp_kv_create_rest(e, &a, kv, layer, tokens - prefix->tokens);
    if (a.code == 0) {
        size_t width = (size_t)e->shape->num_key_value_heads * (size_t)e->shape->head_dim;
        a.code = mp_memory_copy(place, kv->static_cache.k_mean, place, from->static_cache.k_mean,
                                width * sizeof(float), err);
    }
    if (shards != NULL) {
        kv->offloaded = prefix->tokens - sink;
        kv->shards = mp_xcalloc((size_t)shards->count, sizeof *kv->shards);
    }
    for (int i = 0; shards != NULL && i < shards->count; i++) {
        share_shard(e, &a, &from->shards[i], kv->offloaded, &kv->shards[i]);
    }
    return a.code;
}
