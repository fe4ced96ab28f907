/* Generated tokens that have grown old: from the static cache to the offloaded ones. */
#include "codelets/evict/evict.h"
#include "tasks/methods/method.h"

void mp_submit_growth(struct mp_submit *sub, const struct mp_graph *g, const struct mp_growth *w,
                      int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    struct mp_layer_kv *kv = &w->kv[layer];
    const struct evict_size size = {w->first, w->count, w->used};
    sub->in_stream = false;
    sub->priority = MP_DECODE_PRIORITY;
    sub->about.layer = layer;
    sub->about.request = w->request;
    for (int i = 0; i < shards->count; i++) {
        struct mp_shard_kv *part = &kv->shards[i];
        g->attention->method->extend(sub, g, layer, i, part, kv->offloaded, w->count);
        sub->device = g->placements.layers[layer].dense;
        evict_insert(sub, g->shape, &shards->list[i], &kv->static_buffer, &part->leaving_buffer,
                     &part->offloaded_buffer, &size);
    }
    sub->device = g->placements.layers[layer].dense;
    for (int i = shards->count; i < shards->total; i++) {
        evict_insert(sub, g->shape, &shards->list[i], &kv->static_buffer, NULL, NULL, &size);
    }
}
