/* The exact prefill of one prompt, layer by layer, chunk by chunk. */
#include "codelets/embed/embed.h"
#include "codelets/ffn/ffn.h"
#include "codelets/lm_head/lm_head.h"
#include "codelets/output/output.h"
#include "codelets/peer_copy/peer_copy.h"
#include "codelets/peer_mean/peer_mean.h"
#include "codelets/prefill_attention/prefill_attention.h"
#include "codelets/projection/projection.h"
#include "codelets/restore/restore.h"
#include "tasks/graph.h"

/* Each task is long enough for its end to be waited for. */
static void begin(struct mp_submit *sub, const struct mp_prefill *p, int layer, int chunk,
                  struct mp_device device)
{
    sub->device = device;
    sub->in_stream = false;
    sub->priority = MP_PREFILL_PRIORITY;
    sub->about.layer = layer;
    sub->about.request = p->keep.request;
    sub->about.chunk = chunk;
}

/* Where a layer's work is: which device's, and which staging area it uses. */
static int stage_of(const struct mp_graph *g, int layer)
{
    return g->placements.layers[layer].stage;
}

static int area_of(const struct mp_prefill *p, int layer)
{
    return layer % p->num_areas;
}

static void insert_projection(struct mp_submit *sub, const struct mp_graph *g,
                              const struct mp_prefill *p, int layer, int chunk)
{
    const struct mp_prefill_chunk *c = &p->chunks[chunk];
    struct projection_buffers buffers = {
        .x = &c->x[stage_of(g, layer)],
        .weights = &g->weights->layers[layer].projection,
        .q = &p->activations[stage_of(g, layer)].q[chunk % p->chunks_at_once],
    };
    struct projection_row target = {
        .cache = &c->staging[area_of(p, layer)].buffer,
        .index = c->first,
        .position = c->first,
        .inv_freq = p->rope->inv_freq,
        .rope_scale = p->rope->scale,
    };
    projection_insert(sub, g->shape, &buffers, &target, 1, c->rows);
}

/* The staging area of a layer as a prefix that is not read, if there is one, and the first `count`
 * chunks see it: at most count + 1 buffers. Returns their number. */
static int list_staging(const struct mp_prefill *p, int layer, int count,
                        const struct mp_buffer **out)
{
    int n = 0;
    if (p->prefix > 0) {
        out[n++] = &p->prefix_staging[area_of(p, layer)].buffer;
    }
    for (int i = 0; i < count; i++) {
        out[n++] = &p->chunks[i].staging[area_of(p, layer)].buffer;
    }
    return n;
}

/* Keys and values of the prefix, from where a request has kept them. */
static void insert_restore(struct mp_submit *sub, const struct mp_graph *g,
                           const struct mp_prefill *p, int layer)
{
    const struct mp_layer_kv *kept = &p->kept[layer];
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const bool sparse = shards != NULL && kept->offloaded > 0;
    struct restore_buffers buffers = {
        .kept = &kept->static_buffer,
        .staging = &p->prefix_staging[area_of(p, layer)].buffer,
    };
    const struct restore_size size = {
        .tokens = p->prefix,
        .sink = g->sink,
        .int8 = sparse && kept->shards[0].offloaded.dtype == MP_I8,
    };
    for (int i = 0; sparse && i < shards->count; i++) {
        buffers.offloaded = &kept->shards[i].offloaded_buffer;
        restore_insert(sub, g->shape, &shards->list[i], &buffers, &size);
    }
    if (!sparse) {
        restore_insert(sub, g->shape, NULL, &buffers, &size);
    }
}

/* Of the plain attention, which takes seconds for so many rows of a long prompt: an interrupt waits
 * for the task that runs. */
enum { PLAIN_ROWS = 32 };

static void insert_attention(struct mp_submit *sub, const struct mp_graph *g,
                             const struct mp_prefill *p, int layer, int chunk, struct mp_rows rows)
{
    const struct mp_buffer *caches[chunk + 2];
    int num_caches = list_staging(p, layer, chunk + 1, caches);
    const struct mp_prefill_activations *own = &p->activations[stage_of(g, layer)];
    struct prefill_attention_buffers buffers = {&own->q[chunk % p->chunks_at_once], caches,
                                                num_caches, &own->o[chunk % p->chunks_at_once]};
    int64_t most = g->blocked_prefill ? rows.count : PLAIN_ROWS;
    for (int64_t at = 0; at < rows.count; at += most) {
        int64_t left = rows.count - at;
        struct mp_rows piece = {rows.first + at, left < most ? left : most};
        prefill_attention_insert(sub, g->shape, &buffers, p->chunks[chunk].first, piece,
                                 g->blocked_prefill);
    }
}

/* The rows of a chunk whose attention and FFN are wanted in a layer; none if count is 0. */
static struct mp_rows wanted_rows(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                                  int chunk)
{
    struct mp_rows all = {0, p->chunks[chunk].rows};
    if (!p->last_row_only || layer < g->shape->num_hidden_layers - 1) {
        return all;
    }
    return chunk < p->num_chunks - 1 ? (struct mp_rows){0, 0} : (struct mp_rows){all.count - 1, 1};
}

/* From the residual stream to what attention adds to it. */
static void insert_layer_attention(struct mp_submit *sub, const struct mp_graph *g,
                                   const struct mp_prefill *p, int layer, int chunk,
                                   struct mp_rows rows)
{
    const struct mp_prefill_activations *own = &p->activations[stage_of(g, layer)];
    const struct output_part all = {.o = &own->o[chunk % p->chunks_at_once],
                                    .num_heads = g->shape->num_attention_heads};
    begin(sub, p, layer, chunk, g->placements.layers[layer].dense);
    if (chunk == 0 && p->prefix > 0) {
        insert_restore(sub, g, p, layer);
    }
    insert_projection(sub, g, p, layer, chunk);
    if (rows.count > 0) {
        insert_attention(sub, g, p, layer, chunk, rows);
        output_insert(sub, g->shape, &g->weights->layers[layer].output, &all, 1,
                      &p->chunks[chunk].x[stage_of(g, layer)], NULL, rows);
    }
}

/* What a part's FFN adds to, or the embedding fills. */
static const struct mp_buffer *part_y(const struct mp_prefill *p, int chunk)
{
    return &p->activations[0].y[chunk % p->chunks_at_once];
}

/* As in a step. */
static void insert_mean(struct mp_submit *sub, const struct mp_prefill_parts *p, int num_from,
                        int layer, int chunk, struct mp_rows rows, bool to_y)
{
    for (int i = 0; i < p->count; i++) {
        const struct mp_buffer *from[MP_MAX_GPUS];
        const struct mp_buffer *to = NULL;
        for (int j = 0; j < p->count; j++) {
            const struct mp_buffer *x = &p->prefills[j]->chunks[chunk].x[0];
            const struct mp_buffer *y = part_y(p->prefills[j], chunk);
            from[j] = to_y ? x : y;
            to = j != i ? to : to_y ? y : x;
        }
        begin(sub, p->prefills[i], layer, chunk, p->graphs[i]->placements.devices[0]);
        peer_mean_insert(sub, from, num_from, to, rows, p->graphs[i]->shape->hidden_size,
                         1.0f / (float)p->count);
    }
}

void mp_submit_prefill_chunk(struct mp_submit *sub, const struct mp_prefill_parts *p, int layer,
                             int chunk)
{
    const struct mp_graph *first = p->graphs[0];
    const struct mp_rows rows = wanted_rows(first, p->prefills[0], layer, chunk);
    for (int i = 0; i < p->count; i++) {
        insert_layer_attention(sub, p->graphs[i], p->prefills[i], layer, chunk, rows);
    }
    if (rows.count == 0) {
        return;
    }
    if (p->count > 1) {
        insert_mean(sub, p, p->count, layer, chunk, rows, true);
    }
    for (int i = 0; i < p->count; i++) {
        const struct mp_graph *g = p->graphs[i];
        const struct mp_buffer *x = &p->prefills[i]->chunks[chunk].x[stage_of(g, layer)];
        begin(sub, p->prefills[i], layer, chunk, g->placements.layers[layer].dense);
        ffn_insert(sub, g->shape, &g->weights->layers[layer].ffn,
                   g->part ? part_y(p->prefills[i], chunk) : x, rows);
    }
    if (p->count > 1) {
        insert_mean(sub, p, p->count, layer, chunk, rows, false);
    } else if (mp_ends_stage(&first->placements, layer)) {
        const struct mp_buffer *x = p->prefills[0]->chunks[chunk].x;
        peer_copy_insert(sub, &x[stage_of(first, layer)], &x[stage_of(first, layer + 1)],
                         rows.count * first->shape->hidden_size);
    }
}

void mp_submit_prefill_keep(struct mp_submit *sub, const struct mp_graph *g,
                            const struct mp_prefill *p, int layer)
{
    const struct mp_buffer *staging[p->num_chunks + 1];
    int num_staging = list_staging(p, layer, p->num_chunks, staging);
    mp_submit_keep(sub, g, &p->keep, layer, staging, num_staging);
}

void mp_submit_prefill_embed(struct mp_submit *sub, const struct mp_prefill_parts *parts)
{
    const struct mp_graph *g = parts->graphs[0];
    const struct mp_prefill *p = parts->prefills[0];
    for (int c = 0; c < p->num_chunks; c++) {
        const struct mp_prefill_chunk *chunk = &p->chunks[c];
        begin(sub, p, -1, c, g->placements.devices[0]);
        embed_insert(sub, g->shape, &chunk->ids, &g->weights->embed,
                     g->part ? part_y(p, c) : &chunk->x[0], chunk->rows);
        if (parts->count > 1) {
            insert_mean(sub, parts, 1, -1, c, (struct mp_rows){0, chunk->rows}, false);
        }
    }
}

void mp_submit_prefill_logits(struct mp_submit *sub, const struct mp_graph *g,
                              const struct mp_prefill *p, int chunk, struct mp_rows rows,
                              const struct mp_buffer *logits)
{
    begin(sub, p, -1, chunk, mp_last_device(&g->placements));
    lm_head_insert(sub, g->shape, &g->weights->final_norm, mp_lm_head(g),
                   &p->chunks[chunk].x[g->placements.num_devices - 1], rows, logits);
}
