/* What decoding needs of a prompt's layer: its static cache, what is offloaded, and the index. */
#include "codelets/offload/offload.h"
#include "tasks/methods/method.h"

/* Each task is long enough for its end to be waited for. */
static void begin(struct mp_submit *sub, const struct mp_graph *g, const struct mp_keep *k,
                  int layer)
{
    sub->device = g->placements.layers[layer].dense;
    sub->in_stream = false;
    sub->priority = MP_INDEX_PRIORITY;
    sub->about.layer = layer;
    sub->about.request = k->request;
    sub->about.chunk = -1;
}

/* A dense layer keeps every token in its static cache. What lenders keep is not kept once more: the
 * keys that follow it are stored less the lender's mean, which the static cache has. What other
 * ranks keep is not kept here, but centred as they do it: their attention and that to the static
 * cache are merged. */
static void insert_offload(struct mp_submit *sub, const struct mp_graph *g, const struct mp_keep *k,
                           int layer, const struct mp_buffer *const *staging, int num_staging)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const struct mp_layer_kv *kv = &k->kv[layer];
    bool sparse = g->placements.layers[layer].sparse;
    struct offload_buffers buffers = {staging, num_staging, &kv->static_buffer, NULL, NULL};
    struct offload_size size = {
        .tokens = k->tokens,
        .sink = sparse ? g->sink : 0,
        .window = k->shared > 0 ? k->tokens - k->shared
                  : sparse      ? g->window
                                : k->tokens,
        .center = g->center && shards != NULL,
        .mean_given = k->shared > 0,
        .int8 = kv->offloaded > 0 && kv->shards[0].offloaded.dtype == MP_I8,
    };
    if (shards == NULL || k->shared > 0) {
        offload_insert(sub, g->shape, NULL, &buffers, &size);
        return;
    }
    for (int i = 0; i < shards->count; i++) {
        const struct mp_index_scratch *scratch = &k->scratch[g->placements.layers[layer].cut][i];
        buffers.offloaded = &kv->shards[i].offloaded_buffer;
        buffers.keys = kv->offloaded > 0 && scratch->keys.k != NULL ? &scratch->keys_buffer : NULL;
        offload_insert(sub, g->shape, &shards->list[i], &buffers, &size);
    }
    buffers.offloaded = buffers.keys = NULL;
    for (int i = shards->count; i < shards->total; i++) {
        offload_insert(sub, g->shape, &shards->list[i], &buffers, &size);
    }
}

/* The method's index of what was offloaded. */
static void insert_index(struct mp_submit *sub, const struct mp_graph *g, const struct mp_keep *k,
                         int layer)
{
    const struct mp_placement *at = &g->placements.layers[layer];
    const struct mp_method *method = g->attention->method;
    if (k->kv[layer].offloaded == 0 || k->shared > 0 || method->build == NULL) {
        return;
    }
    begin(sub, g, k, layer);
    for (int i = 0; i < g->placements.cuts[at->cut].count; i++) {
        method->build(sub, g, layer, i, &k->kv[layer].shards[i], &k->scratch[at->cut][i]);
    }
}

void mp_submit_keep(struct mp_submit *sub, const struct mp_graph *g, const struct mp_keep *k,
                    int layer, const struct mp_buffer *const *staging, int num_staging)
{
    begin(sub, g, k, layer);
    insert_offload(sub, g, k, layer, staging, num_staging);
    insert_index(sub, g, k, layer);
}
