/* One token step of a micro-batch. mp_submit_decode_layer is the decode step of the design. */
#include "codelets/embed/embed.h"
#include "codelets/exchange/exchange.h"
#include "codelets/ffn/ffn.h"
#include "codelets/lm_head/lm_head.h"
#include "codelets/output/output.h"
#include "codelets/peer_copy/peer_copy.h"
#include "codelets/peer_mean/peer_mean.h"
#include "codelets/projection/projection.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/sampling_error/sampling_error.h"
#include "codelets/static_attention/static_attention.h"
#include "tasks/methods/method.h"

/* Of dense work. What a CPU task or the host needs of it comes after a task of the stream that is
 * waited for: before a lookup on the CPU stands hashing, before the end of a step lm_head. */
static void begin(struct mp_submit *sub, const struct mp_decode_step *s, int layer,
                  struct mp_device device)
{
    sub->device = device;
    sub->in_stream = true;
    sub->priority = MP_DECODE_PRIORITY + s->lead;
    sub->about.layer = layer;
    sub->about.micro_batch = s->micro_batch;
}

/* Dense layers attend to everything; so does a sparse one when no prompt of the micro-batch was
 * longer than sink + window, or when nothing beyond them is kept. */
static bool samples(const struct mp_decode_step *s, int layer)
{
    for (int r = 0; r < s->num_rows; r++) {
        if (s->rows[r].kv[layer].offloaded > 0) {
            return true;
        }
    }
    return false;
}

double mp_expected_nnz(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                       const struct mp_shard *shard)
{
    int heads = g->part ? g->attention->model_kv_heads : g->shape->num_key_value_heads;
    double sum = 0.0;
    for (int r = 0; r < s->num_rows; r++) {
        sum += s->rows[r].expected_nnz[layer] * shard->num_kv_heads / heads;
    }
    return sum;
}

/* Whether a CPU worker reads the queries before any later GPU task has been waited for: the method
 * makes nothing of them on the GPU. */
static bool waits_for_queries(const struct mp_graph *g, int layer)
{
    const struct mp_method *method = g->attention->method;
    return mp_handed_to_cpu(&g->placements, layer) && method->query_bytes == NULL &&
           !method->on_dense;
}

/* Of the queries of a layer: the shards that cannot read the step's own get theirs. */
static int list_copies(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                       struct mp_head_buffer copies[MP_MAX_SHARDS])
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const struct mp_step_shard *parts = s->buffers->shards[g->placements.layers[layer].cut];
    int group = mp_shape_group(g->shape);
    int n = 0;
    for (int i = 0; i < shards->count; i++) {
        if (parts[i].q != &mp_dense_buffers_of(g, s, layer)->q) {
            copies[n++] = (struct mp_head_buffer){parts[i].q, shards->list[i].first_kv_head * group,
                                                  shards->list[i].num_kv_heads * group};
        }
    }
    return n;
}

/* ---- what other ranks compute ---- */

/* Whether there is any of a layer. */
static bool has_others(const struct mp_graph *g, int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    return shards != NULL && shards->total > shards->count;
}

/* Rows of one number for each of a shard's heads, or for each that it selects for. */
static size_t head_bytes(const struct mp_graph *g, const struct mp_decode_step *s,
                         const struct mp_shard *shard, bool selections)
{
    bool shared = selections && g->attention->method->shared_rows;
    int heads = shard->num_kv_heads * (shared ? 1 : mp_shape_group(g->shape));
    return (size_t)s->num_rows * (size_t)heads * sizeof(float);
}

/* The attention of each rank's shards, and how many tokens it has selected, to all of them. */
static void insert_exchange(struct mp_submit *sub, const struct mp_graph *g,
                            const struct mp_decode_step *s, int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    struct exchange_part parts[3 * MP_MAX_SHARDS];
    int n = 0;
    for (int i = 0; i < shards->total; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct mp_step_shard *of = &s->buffers->shards[g->placements.layers[layer].cut][i];
        size_t lse = head_bytes(g, s, shard, false);
        parts[n++] = (struct exchange_part){&of->o, lse * (size_t)g->shape->head_dim, shard->rank};
        parts[n++] = (struct exchange_part){&of->lse, lse, shard->rank};
        parts[n++] =
            (struct exchange_part){&of->nnz[layer], head_bytes(g, s, shard, true), shard->rank};
    }
    exchange_insert(sub, g->ranks, parts, n, 2 * s->micro_batch);
}

/* The same of the estimated errors. */
static void insert_error_exchange(struct mp_submit *sub, const struct mp_graph *g,
                                  const struct mp_decode_step *s, int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    struct exchange_part parts[MP_MAX_SHARDS];
    for (int i = 0; i < shards->total; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct mp_step_shard *of = &s->buffers->shards[g->placements.layers[layer].cut][i];
        parts[i] =
            (struct exchange_part){&of->error[layer], head_bytes(g, s, shard, false), shard->rank};
    }
    exchange_insert(sub, g->ranks, parts, shards->total, 2 * s->micro_batch + 1);
}

/* ---- a layer ---- */

/* The slot of the token fed in, in the layer's static cache. */
static int64_t slot(const struct mp_graph *g, const struct mp_decode_row *row, int layer)
{
    return g->placements.layers[layer].sparse ? row->static_index : row->position - row->shared;
}

/* Where the rows' keys and values go. */
static void list_targets(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                         struct projection_row *targets)
{
    for (int r = 0; r < s->num_rows; r++) {
        const struct mp_decode_row *row = &s->rows[r];
        targets[r] = (struct projection_row){
            .cache = &row->kv[layer].static_buffer,
            .index = slot(g, row, layer),
            .position = row->position,
            .inv_freq = row->rope->inv_freq,
            .rope_scale = row->rope->scale,
        };
    }
}

static void insert_projection(struct mp_submit *sub, const struct mp_graph *g,
                              const struct mp_decode_step *s, int layer, bool sampled)
{
    struct mp_head_buffer copies[MP_MAX_SHARDS];
    struct projection_row targets[MP_MAX_BATCH];
    const struct mp_dense_buffers *b = mp_dense_buffers_of(g, s, layer);
    struct projection_buffers buffers = {
        .x = &b->x,
        .weights = &g->weights->layers[layer].projection,
        .q = &b->q,
        .copies = copies,
        .num_copies = sampled ? list_copies(g, s, layer, copies) : 0,
    };
    list_targets(g, s, layer, targets);
    projection_insert(sub, g->shape, &buffers, targets, s->num_rows, 1);
}

/* Attention over what the method has selected, shard by shard; each adds a part to the output, and
 * so do those of other ranks. */
static int insert_sampled_attention(struct mp_submit *sub, const struct mp_graph *g,
                                    const struct mp_decode_step *s, int layer,
                                    struct output_part *parts)
{
    const struct mp_method *method = g->attention->method;
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    int cut = g->placements.layers[layer].cut;
    int group = mp_shape_group(g->shape);
    for (int i = 0; i < shards->count; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct mp_step_shard *of = &s->buffers->shards[cut][i];
        struct sampled_attention_row rows[s->num_rows];
        for (int r = 0; r < s->num_rows; r++) {
            const struct mp_selection *from = &s->rows[r].selections[cut][i];
            rows[r] = (struct sampled_attention_row){
                .kv = &s->rows[r].kv[layer].shards[i].offloaded_buffer,
                .ids = &from->ids,
                .log_weights = method->log_weights ? &from->log_weights : NULL,
                .room = from->room,
            };
        }
        sub->device = shard->device;
        sub->in_stream = !has_others(g, layer);
        sampled_attention_insert(
            sub, g->shape, shard,
            &(struct sampled_attention_buffers){of->q, &of->nnz[layer], &of->o, &of->lse}, rows,
            s->num_rows,
            &(struct sampled_attention_weight){
                .function = method->weight != NULL ? method->weight(g->attention) : NULL,
                .shared = method->shared_rows,
                .int8 = s->rows[0].kv[layer].shards[i].offloaded.dtype == MP_I8,
                .expected_nnz =
                    mp_expected_nnz(g, s, layer, shard) / (method->shared_rows ? group : 1),
            });
    }
    if (has_others(g, layer)) {
        insert_exchange(sub, g, s, layer);
    }
    for (int i = 0; i < shards->total; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct mp_step_shard *of = &s->buffers->shards[cut][i];
        parts[i] = (struct output_part){&of->o, &of->lse, shard->first_kv_head * group,
                                        shard->num_kv_heads * group};
    }
    return shards->total;
}

static void insert_static_attention(struct mp_submit *sub, const struct mp_graph *g,
                                    const struct mp_decode_step *s, int layer,
                                    struct output_part *part)
{
    struct static_attention_row rows[s->num_rows];
    for (int r = 0; r < s->num_rows; r++) {
        const struct mp_decode_row *row = &s->rows[r];
        rows[r] = (struct static_attention_row){
            .cache = &row->kv[layer].static_buffer,
            .length = 1 + slot(g, row, layer),
        };
    }
    const struct mp_dense_buffers *b = mp_dense_buffers_of(g, s, layer);
    static_attention_insert(sub, g->shape, &b->q, rows, s->num_rows, &b->o_static, &b->lse_static);
    *part = (struct output_part){&b->o_static, &b->lse_static, 0, g->shape->num_attention_heads};
}

/* Of a dense layer: attention to what lenders keep of the rows' prompts. Returns the parts that
 * this adds to the output: one, or none where no row shares a prefix. */
static int insert_shared_attention(struct mp_submit *sub, const struct mp_graph *g,
                                   const struct mp_decode_step *s, int layer,
                                   struct output_part *part)
{
    struct static_attention_row rows[s->num_rows];
    bool any = false;
    if (g->placements.layers[layer].sparse) {
        return 0;
    }
    for (int r = 0; r < s->num_rows; r++) {
        const struct mp_layer_kv *kv = &s->rows[r].kv[layer];
        const struct mp_layer_kv *from = kv->lender != NULL ? kv->lender : kv;
        rows[r] = (struct static_attention_row){&from->static_buffer, s->rows[r].shared};
        any = any || s->rows[r].shared > 0;
    }
    if (!any) {
        return 0;
    }
    const struct mp_dense_buffers *b = mp_dense_buffers_of(g, s, layer);
    static_attention_insert(sub, g->shape, &b->q, rows, s->num_rows, &b->o_shared, &b->lse_shared);
    *part = (struct output_part){&b->o_shared, &b->lse_shared, 0, g->shape->num_attention_heads};
    return 1;
}

/* How far the layer's output is from that over all tokens, shard by shard. Nothing waits for it but
 * who uses the same buffers next: if that is another device, which does not follow in the stream,
 * for its end. */
static void insert_sampling_error(struct mp_submit *sub, const struct mp_graph *g,
                                  const struct mp_decode_step *s, int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const struct mp_step_buffers *b = s->buffers;
    int cut = g->placements.layers[layer].cut;
    for (int i = 0; i < shards->count; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct mp_step_shard *of = &b->shards[cut][i];
        struct sampling_error_row rows[s->num_rows];
        for (int r = 0; r < s->num_rows; r++) {
            const struct mp_selection *from = &s->rows[r].selections[cut][i];
            rows[r] = (struct sampling_error_row){
                .kv = &s->rows[r].kv[layer].shards[i].offloaded_buffer,
                .ids = &from->ids,
                .log_weights = &from->log_weights,
                .room = from->room,
            };
        }
        sub->device = shard->device;
        sub->in_stream = !g->part && !mp_ends_stage(&g->placements, layer);
        sampling_error_insert(sub, g->shape, shard,
                              &(struct sampling_error_buffers){of->q, &of->nnz[layer], &b->o_merged,
                                                               &b->lse_merged, &of->error[layer]},
                              rows, s->num_rows,
                              mp_expected_nnz(g, s, layer, shard) / mp_shape_group(g->shape));
    }
}

/* Whether a layer's error is estimated. */
static bool told(const struct mp_graph *g, const struct mp_decode_step *s, int layer)
{
    return s->observe && samples(s, layer) && g->attention->method->estimates_error;
}

static void insert_observed(struct mp_submit *sub, const struct mp_graph *g,
                            const struct mp_decode_step *s, int layer)
{
    begin(sub, s, layer, g->placements.layers[layer].dense);
    insert_sampling_error(sub, g, s, layer);
    if (has_others(g, layer)) {
        insert_error_exchange(sub, g, s, layer);
    }
}

/* The residual stream, to the device of the next layer. The tasks there are in another stream. */
static void insert_peer_copy(struct mp_submit *sub, const struct mp_graph *g,
                             const struct mp_decode_step *s, int layer)
{
    sub->in_stream = false;
    peer_copy_insert(sub, &mp_dense_buffers_of(g, s, layer)->x,
                     &mp_dense_buffers_of(g, s, layer + 1)->x,
                     s->num_rows * (int64_t)g->shape->hidden_size);
}

/* From the residual stream to what attention adds to it. Returns the bytes that all between
 * projection and output move. */
static double insert_attention(struct mp_submit *sub, const struct mp_graph *g,
                               const struct mp_decode_step *s, int layer)
{
    const struct mp_device dense = g->placements.layers[layer].dense;
    const bool sampled = samples(s, layer);
    const struct output_merged_buffers merged = {&s->buffers->o_merged, &s->buffers->lse_merged};
    struct output_part parts[2 + MP_MAX_SHARDS];
    int num_parts = 1;

    begin(sub, s, layer, dense);
    sub->in_stream = !sampled || !waits_for_queries(g, layer);
    insert_projection(sub, g, s, layer, sampled);
    const double before = sub->bytes;
    begin(sub, s, layer, dense);
    if (sampled) {
        g->attention->method->select(sub, g, s, layer);
        num_parts += insert_sampled_attention(sub, g, s, layer, parts + 1);
    }
    begin(sub, s, layer, dense);
    sub->priority = MP_STATIC_PRIORITY + s->lead;
    /* If the GPU then waits for the CPU, its idle time is not this op's. */
    sub->in_stream = !sampled || !(mp_handed_to_cpu(&g->placements, layer) || has_others(g, layer));
    insert_static_attention(sub, g, s, layer, &parts[0]);
    num_parts += insert_shared_attention(sub, g, s, layer, parts + num_parts);
    const double attention = sub->bytes - before;
    begin(sub, s, layer, dense);
    /* CPU workers read the merged attention; other GPUs read what this one has added. */
    sub->in_stream = !g->part && (!told(g, s, layer) || !mp_handed_to_cpu(&g->placements, layer));
    output_insert(sub, g->shape, &g->weights->layers[layer].output, parts, num_parts,
                  &mp_dense_buffers_of(g, s, layer)->x, s->observe ? &merged : NULL,
                  (struct mp_rows){0, s->num_rows});
    return attention;
}

static void insert_ffn(struct mp_submit *sub, const struct mp_graph *g,
                       const struct mp_decode_step *s, int layer)
{
    const struct mp_dense_buffers *b = mp_dense_buffers_of(g, s, layer);
    begin(sub, s, layer, g->placements.layers[layer].dense);
    sub->in_stream = !g->part;
    ffn_insert(sub, g->shape, &g->weights->layers[layer].ffn, g->part ? &b->y : &b->x,
               (struct mp_rows){0, s->num_rows});
}

/* The residual stream of the first num_to parts: what num_from of them have added up to, shared out
 * again. */
static void insert_mean(struct mp_submit *sub, const struct mp_decode_parts *p, int num_from,
                        int num_to, int layer, bool to_y)
{
    for (int i = 0; i < num_to; i++) {
        const struct mp_buffer *from[MP_MAX_GPUS];
        const struct mp_buffer *to = NULL;
        for (int j = 0; j < p->count; j++) {
            struct mp_dense_buffers *b = &p->steps[j]->buffers->dense[0];
            from[j] = to_y ? &b->x : &b->y;
            to = j != i ? to : to_y ? &b->y : &b->x;
        }
        begin(sub, p->steps[i], layer, p->graphs[i]->placements.devices[0]);
        peer_mean_insert(sub, from, num_from, to, (struct mp_rows){0, p->steps[i]->num_rows},
                         p->graphs[i]->shape->hidden_size, 1.0f / (float)p->count);
    }
}

double mp_submit_decode_layer(struct mp_submit *sub, const struct mp_decode_parts *p, int layer)
{
    double attention = 0.0;
    for (int i = 0; i < p->count; i++) {
        attention += insert_attention(sub, p->graphs[i], p->steps[i], layer);
    }
    if (p->count > 1) {
        insert_mean(sub, p, p->count, p->count, layer, true);
    }
    for (int i = 0; i < p->count; i++) {
        insert_ffn(sub, p->graphs[i], p->steps[i], layer);
    }
    if (p->count > 1) {
        /* The first one alone goes on after the last layer: the others have nothing in their
         * streams then that nobody waits for. */
        bool last = layer == p->graphs[0]->shape->num_hidden_layers - 1;
        insert_mean(sub, p, p->count, last ? 1 : p->count, layer, false);
    } else if (mp_ends_stage(&p->graphs[0]->placements, layer)) {
        insert_peer_copy(sub, p->graphs[0], p->steps[0], layer);
    }
    for (int i = 0; i < p->count; i++) {
        if (told(p->graphs[i], p->steps[i], layer)) {
            insert_observed(sub, p->graphs[i], p->steps[i], layer);
        }
    }
    return attention;
}

void mp_submit_decode_embed(struct mp_submit *sub, const struct mp_decode_parts *p)
{
    const struct mp_graph *g = p->graphs[0];
    const struct mp_decode_step *s = p->steps[0];
    const struct mp_dense_buffers *b = &s->buffers->dense[0];
    begin(sub, s, -1, g->placements.devices[0]);
    sub->in_stream = !g->part;
    embed_insert(sub, g->shape, &s->buffers->ids, &g->weights->embed, g->part ? &b->y : &b->x,
                 s->num_rows);
    if (p->count > 1) {
        insert_mean(sub, p, 1, p->count, -1, false);
    }
}

void mp_submit_decode_sample(struct mp_submit *sub, const struct mp_decode_parts *parts)
{
    const struct mp_graph *g = parts->graphs[0];
    const struct mp_decode_step *s = parts->steps[0];
    const struct mp_placements *p = &g->placements;
    struct sample_row list[s->num_rows];
    for (int r = 0; r < s->num_rows; r++) {
        list[r] = s->rows[r].sample;
    }
    begin(sub, s, -1, mp_last_device(p));
    sub->in_stream = false;
    lm_head_insert(sub, g->shape, &g->weights->final_norm, mp_lm_head(g),
                   &s->buffers->dense[p->num_devices - 1].x, (struct mp_rows){0, s->num_rows},
                   &s->buffers->logits);
    sample_insert(sub, g->shape, &s->buffers->logits, list, &s->buffers->ids, s->num_rows);
}
