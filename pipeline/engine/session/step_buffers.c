/* The activations of one micro-batch. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

/* ---- what a step exchanges with a shard ---- */

/* Whether the shard reads the step's own queries: it has all heads, in the same memory. */
static bool sees_queries(const struct mp_shards *shards)
{
    const struct mp_shard *first = &shards->list[0];
    return shards->total == 1 && mp_same_device(first->device, first->dense);
}

/* Its dense device's activations: all layers that are cut so are on one. */
static const struct mp_dense_buffers *dense_buffers(const struct mp_placements *p, int cut,
                                                    const struct mp_step_buffers *b)
{
    int stage = 0;
    while (!mp_same_device(p->devices[stage], p->cuts[cut].list[0].dense)) {
        stage++;
    }
    return &b->dense[stage];
}

/* What this rank computes with. */
static void create_own(const struct mp_engine *e, struct mp_allocator *a, int rows, int cut,
                       int index, struct mp_step_buffers *b)
{
    const struct mp_placements *p = &e->graph.placements;
    const struct mp_method *method = e->attention.method;
    const struct mp_shard *shard = &p->cuts[cut].list[index];
    struct mp_step_shard *out = &b->shards[cut][index];
    struct mp_place place = mp_exchange_place(shard);
    int query_heads = shard->num_kv_heads * mp_shape_group(e->shape);
    out->q = &dense_buffers(p, cut, b)->q;
    if (!sees_queries(&p->cuts[cut])) {
        size_t vectors = (size_t)rows * (size_t)query_heads * (size_t)e->shape->head_dim;
        mp_buffer_create(a, &out->own_q, place, vectors * sizeof(float), "queries");
        out->q = &out->own_q;
    }
    if (method->query_bytes != NULL) {
        size_t bytes = (size_t)rows * method->query_bytes(&e->attention, query_heads);
        mp_buffer_create(a, &out->query, place, bytes, "what selects");
    }
}

/* What comes of it, here or on another rank. */
static void create_results(const struct mp_engine *e, struct mp_allocator *a, int rows, int cut,
                           int index, struct mp_step_buffers *b)
{
    const struct mp_placements *p = &e->graph.placements;
    const struct mp_method *method = e->attention.method;
    const struct mp_shards *shards = &p->cuts[cut];
    const struct mp_shard *shard = &shards->list[index];
    struct mp_step_shard *out = &b->shards[cut][index];
    struct mp_place place = shards->total > shards->count ? MP_PINNED : mp_exchange_place(shard);
    int query_heads = shard->num_kv_heads * mp_shape_group(e->shape);
    size_t heads = (size_t)rows * (size_t)query_heads;
    size_t selections =
        (size_t)rows * (size_t)(method->shared_rows ? shard->num_kv_heads : query_heads);
    size_t vectors = heads * (size_t)e->shape->head_dim * sizeof(float);
    out->nnz = mp_xcalloc((size_t)p->num_layers, sizeof *out->nnz);
    for (int l = 0; l < p->num_layers; l++) {
        if (p->layers[l].cut == cut) {
            mp_buffer_create(a, &out->nnz[l], MP_PINNED, selections * sizeof(int32_t),
                             "selection sizes");
        }
    }
    if (method->estimates_error) {
        out->error = mp_xcalloc((size_t)p->num_layers, sizeof *out->error);
    }
    for (int l = 0; method->estimates_error && l < p->num_layers; l++) {
        if (p->layers[l].cut == cut) {
            mp_buffer_create(a, &out->error[l], MP_PINNED, heads * sizeof(float), "errors");
        }
    }
    mp_buffer_create(a, &out->o, place, vectors, "sampled attention");
    mp_buffer_create(a, &out->lse, place, heads * sizeof(float), "sampled attention");
}

static void destroy_shard(const struct mp_placements *p, struct mp_step_shard *shard)
{
    mp_buffer_release(&shard->own_q);
    mp_buffer_release(&shard->query);
    for (int l = 0; shard->nnz != NULL && l < p->num_layers; l++) {
        mp_buffer_release(&shard->nnz[l]);
    }
    for (int l = 0; shard->error != NULL && l < p->num_layers; l++) {
        mp_buffer_release(&shard->error[l]);
    }
    free(shard->nnz);
    free(shard->error);
    mp_buffer_release(&shard->o);
    mp_buffer_release(&shard->lse);
}

/* ---- all of them ---- */

static void create_dense(const struct mp_engine *e, struct mp_allocator *a, int rows,
                         struct mp_device device, struct mp_dense_buffers *out)
{
    const struct mp_shape *s = e->shape;
    const struct mp_place place = mp_memory_of(device);
    size_t n = (size_t)rows;
    size_t heads = n * (size_t)s->num_attention_heads * sizeof(float);
    size_t vectors = n * (size_t)mp_shape_q_width(s) * sizeof(float);
    mp_buffer_create(a, &out->x, place, n * (size_t)s->hidden_size * sizeof(float),
                     "residual stream");
    if (e->graph.part) {
        mp_buffer_create(a, &out->y, place, n * (size_t)s->hidden_size * sizeof(float),
                         "residual stream");
    }
    mp_buffer_create(a, &out->q, place, vectors, "queries");
    mp_buffer_create(a, &out->o_static, place, vectors, "static attention");
    mp_buffer_create(a, &out->lse_static, place, heads, "static attention");
    mp_buffer_create(a, &out->o_shared, place, vectors, "shared attention");
    mp_buffer_create(a, &out->lse_shared, place, heads, "shared attention");
}

static void destroy_dense(struct mp_dense_buffers *b)
{
    mp_buffer_release(&b->x);
    mp_buffer_release(&b->y);
    mp_buffer_release(&b->q);
    mp_buffer_release(&b->o_static);
    mp_buffer_release(&b->lse_static);
    mp_buffer_release(&b->o_shared);
    mp_buffer_release(&b->lse_shared);
}

void mp_step_buffers_create(const struct mp_engine *e, struct mp_allocator *a, int rows,
                            struct mp_step_buffers *out)
{
    const struct mp_shape *s = e->shape;
    const struct mp_placements *p = &e->graph.placements;
    size_t n = (size_t)rows;
    size_t heads = n * (size_t)s->num_attention_heads;
    size_t vectors = n * (size_t)mp_shape_q_width(s) * sizeof(float);

    *out = (struct mp_step_buffers){0};
    if (e->part == 0) {
        mp_buffer_create(a, &out->ids, MP_PINNED, n * sizeof(int32_t), "token ids");
        mp_buffer_create(a, &out->logits, MP_PINNED, n * (size_t)s->vocab_size * sizeof(float),
                         "logits");
    }
    out->dense = mp_xcalloc((size_t)p->num_devices, sizeof *out->dense);
    for (int d = 0; d < p->num_devices; d++) {
        create_dense(e, a, rows, p->devices[d], &out->dense[d]);
    }
    mp_buffer_create(a, &out->o_merged, MP_PINNED, vectors, "attention");
    mp_buffer_create(a, &out->lse_merged, MP_PINNED, heads * sizeof(float), "attention");
    out->shards = mp_xcalloc((size_t)p->num_cuts + 1, sizeof *out->shards);
    for (int c = 0; c < p->num_cuts; c++) {
        out->shards[c] = mp_xcalloc((size_t)p->cuts[c].total, sizeof *out->shards[c]);
        for (int i = 0; i < p->cuts[c].total; i++) {
            if (i < p->cuts[c].count) {
                create_own(e, a, rows, c, i, out);
            }
            create_results(e, a, rows, c, i, out);
        }
    }
}

void mp_step_buffers_destroy(const struct mp_engine *e, struct mp_step_buffers *b)
{
    const struct mp_placements *p = &e->graph.placements;
    mp_buffer_release(&b->ids);
    for (int d = 0; b->dense != NULL && d < p->num_devices; d++) {
        destroy_dense(&b->dense[d]);
    }
    free(b->dense);
    mp_buffer_release(&b->o_merged);
    mp_buffer_release(&b->lse_merged);
    mp_buffer_release(&b->logits);
    for (int c = 0; b->shards != NULL && c < p->num_cuts; c++) {
        for (int i = 0; i < p->cuts[c].total; i++) {
            destroy_shard(p, &b->shards[c][i]);
        }
        free(b->shards[c]);
    }
    free(b->shards);
    *b = (struct mp_step_buffers){0};
}
