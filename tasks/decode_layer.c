/* One token step of a micro-batch. mp_submit_decode_layer is the decode step of the design. */
#include "codelets/common/task/task.h"
#include "codelets/hashing/hashing.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "codelets/sample/sample.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"
#include "codelets/table_lookup/table_lookup.h"
#include "core/base/memory.h"
#include "tasks/layer.h"

static struct mp_span_info about(const struct mp_decode_step *s, int layer)
{
    return (struct mp_span_info){
        .layer = layer, .request = -1, .chunk = -1, .micro_batch = s->micro_batch};
}

/* Of dense work. What a CPU task or the host needs of it comes after a task that is waited for:
 * before a lookup on the CPU stands hashing, before the end of a step lm_head. */
static enum mp_where in_stream(const struct mp_graph *g)
{
    return g->gpu ? MP_IN_GPU_STREAM : MP_ON_CPU;
}

/* Where the tables and the offloaded KV of a layer are: the same for all requests of a step. */
static bool sampled_on_gpu(const struct mp_decode_step *s, int layer)
{
    return s->rows[0].kv[layer].place == MP_PLACE_GPU;
}

/* Whether the GPU hands the layer's lookup and sampled attention to the CPU. */
static bool handed_to_cpu(const struct mp_graph *g, const struct mp_decode_step *s, int layer)
{
    return g->gpu && !sampled_on_gpu(s, layer);
}

/* Of lookup and sampled attention. */
static enum mp_where sampled_where(const struct mp_decode_step *s, int layer)
{
    return sampled_on_gpu(s, layer) ? MP_IN_GPU_STREAM : MP_ON_CPU;
}

/* copy_q: sampled_attention will want the queries on the CPU, all else on the GPU. */
static int submit_projection(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                             bool copy_q, struct mp_error *err)
{
    struct projection_task *arg =
        mp_xmalloc(sizeof *arg + (size_t)s->num_rows * sizeof arg->targets[0]);
    *arg = (struct projection_task){
        .shape = g->shape, .copy_q = copy_q, .rows_per_target = 1, .num_targets = s->num_rows};

    struct mp_span_info info = about(s, layer);
    struct mp_task *t = mp_task_new(&projection_codelet, arg, 4 + s->num_rows, in_stream(g), &info);
    mp_task_reads(t, &s->buffers->x);
    mp_task_reads(t, &g->weights->layers[layer].projection);
    mp_task_writes(t, &s->buffers->q);
    if (copy_q) {
        mp_task_writes(t, &s->buffers->q_host);
    }
    for (int r = 0; r < s->num_rows; r++) {
        const struct mp_decode_row *row = &s->rows[r];
        const struct mp_layer_kv *kv = &row->kv[layer];
        arg->targets[r] = (struct projection_task_target){
            .index = kv->sparse ? row->fixed_index : row->position,
            .position = row->position,
            .inv_freq = row->rope->inv_freq,
            .rope_scale = row->rope->scale,
        };
        mp_task_updates(t, &kv->fixed_buffer);
    }
    return mp_task_submit(t, MP_DECODE_PRIORITY, err);
}

static int submit_hashing(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                          struct mp_error *err)
{
    struct hashing_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct hashing_task){
        .shape = g->shape,
        .K = g->lsh->K,
        .L = g->lsh->L,
        .heads_per_projection = g->lsh->kv_heads_per_projection * mp_shape_group(g->shape),
        .rows = s->num_rows,
    };
    struct mp_span_info info = about(s, layer);
    /* A lookup on the CPU reads the codes as soon as this is done. */
    enum mp_where where = handed_to_cpu(g, s, layer) ? MP_ON_GPU : in_stream(g);
    struct mp_task *t = mp_task_new(&hashing_codelet, arg, 3, where, &info);
    mp_task_reads(t, &s->buffers->q);
    mp_task_reads(t, mp_lsh_projection(g->lsh, layer));
    mp_task_writes(t, &s->buffers->codes);
    return mp_task_submit(t, MP_DECODE_PRIORITY, err);
}

/* ---- lookup and sampled attention, share by share ---- */

static const struct mp_shares *shares_of(const struct mp_graph *g, const struct mp_decode_step *s,
                                         int layer)
{
    return &g->shares[sampled_on_gpu(s, layer)];
}

/* Tokens that the last step selected for the share's heads. */
static double expected_nnz(const struct mp_graph *g, const struct mp_decode_row *row, int layer,
                           const struct mp_share *share)
{
    return row->expected_nnz[layer] * share->num_kv_heads / g->shape->num_key_value_heads;
}

static int submit_lookup(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                         int share, struct mp_error *err)
{
    struct table_lookup_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct table_lookup_task){
        .shape = g->shape,
        .share = &shares_of(g, s, layer)->list[share],
        .rows = s->num_rows,
        .L = g->lsh->L,
    };
    struct mp_span_info info = about(s, layer);
    const struct mp_step_share *out = &s->buffers->shares[sampled_on_gpu(s, layer)][share];
    struct mp_task *t =
        mp_task_new(&table_lookup_codelet, arg, 3 + s->num_rows, sampled_where(s, layer), &info);
    mp_task_on_cpu_worker(t, arg->share->worker);
    mp_task_reads(t, &s->buffers->codes);
    mp_task_updates(t, &out->selection);
    mp_task_writes(t, &out->nnz[layer]);
    for (int r = 0; r < s->num_rows; r++) {
        /* A selected token was met at least twice; the tail met once is of the same order. */
        arg->expected_hits += 4.0 * expected_nnz(g, &s->rows[r], layer, arg->share);
        mp_task_reads(t, &s->rows[r].kv[layer].tables_buffer);
    }
    return mp_task_submit(t, MP_DECODE_PRIORITY, err);
}

static int submit_sampled_attention(const struct mp_graph *g, const struct mp_decode_step *s,
                                    int layer, int share, struct mp_error *err)
{
    struct sampled_attention_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct sampled_attention_task){
        .shape = g->shape,
        .share = &shares_of(g, s, layer)->list[share],
        .weight = &g->lsh->weight,
        .rows = s->num_rows,
    };
    struct mp_span_info info = about(s, layer);
    const struct mp_step_share *out = &s->buffers->shares[sampled_on_gpu(s, layer)][share];
    struct mp_task *t = mp_task_new(&sampled_attention_codelet, arg, 5 + s->num_rows,
                                    sampled_where(s, layer), &info);
    mp_task_on_cpu_worker(t, arg->share->worker);
    mp_task_reads(t, handed_to_cpu(g, s, layer) ? &s->buffers->q_host : &s->buffers->q);
    mp_task_reads(t, &out->selection);
    mp_task_reads(t, &out->nnz[layer]);
    mp_task_writes(t, &out->o_sampled);
    mp_task_writes(t, &out->lse_sampled);
    for (int r = 0; r < s->num_rows; r++) {
        arg->expected_nnz += expected_nnz(g, &s->rows[r], layer, arg->share);
        mp_task_reads(t, &s->rows[r].kv[layer].offloaded_buffer);
    }
    return mp_task_submit(t, MP_DECODE_PRIORITY, err);
}

static int submit_shares(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                         struct mp_error *err)
{
    int count = shares_of(g, s, layer)->count;
    int code = 0;
    for (int i = 0; i < count && code == 0; i++) {
        code = submit_lookup(g, s, layer, i, err);
        if (code == 0) {
            code = submit_sampled_attention(g, s, layer, i, err);
        }
    }
    return code;
}

/* ---- dense work ---- */

/* sampled: beside what the layer samples. */
static int submit_static_attention(const struct mp_graph *g, const struct mp_decode_step *s,
                                   int layer, bool sampled, struct mp_error *err)
{
    struct static_attention_task *arg =
        mp_xmalloc(sizeof *arg + (size_t)s->num_rows * sizeof arg->length[0]);
    *arg = (struct static_attention_task){
        .rows = s->num_rows,
        .num_heads = g->shape->num_attention_heads,
        .num_kv_heads = g->shape->num_key_value_heads,
        .head_dim = g->shape->head_dim,
    };
    struct mp_span_info info = about(s, layer);
    /* If the GPU then waits for the CPU, its idle time is not this op's. */
    enum mp_where where = sampled && handed_to_cpu(g, s, layer) ? MP_ON_GPU : in_stream(g);
    struct mp_task *t = mp_task_new(&static_attention_codelet, arg, 3 + s->num_rows, where, &info);
    mp_task_reads(t, &s->buffers->q);
    mp_task_writes(t, &s->buffers->o_static);
    mp_task_writes(t, &s->buffers->lse_static);
    for (int r = 0; r < s->num_rows; r++) {
        const struct mp_decode_row *row = &s->rows[r];
        const struct mp_layer_kv *kv = &row->kv[layer];
        arg->length[r] = 1 + (kv->sparse ? row->fixed_index : row->position);
        mp_task_reads(t, &kv->fixed_buffer);
    }
    return mp_task_submit(t, MP_STATIC_PRIORITY, err);
}

static int submit_output(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                         bool merge, struct mp_error *err)
{
    struct output_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct output_task){.shape = g->shape, .rows = s->num_rows, .merge = merge};
    struct mp_span_info info = about(s, layer);
    int shares = merge ? shares_of(g, s, layer)->count : 0;
    struct mp_task *t = mp_task_new(&output_codelet, arg, 4 + 2 * shares, in_stream(g), &info);
    mp_task_reads(t, &g->weights->layers[layer].output);
    mp_task_updates(t, &s->buffers->x);
    mp_task_reads(t, &s->buffers->o_static);
    if (merge) {
        mp_task_reads(t, &s->buffers->lse_static);
    }
    for (int i = 0; i < shares; i++) {
        const struct mp_step_share *part = &s->buffers->shares[sampled_on_gpu(s, layer)][i];
        mp_task_reads(t, &part->o_sampled);
        mp_task_reads(t, &part->lse_sampled);
    }
    return mp_task_submit(t, MP_DECODE_PRIORITY, err);
}

/* Dense layers attend to everything; so does a sparse one when no prompt of the micro-batch was
 * longer than sink + window. */
static bool samples(const struct mp_decode_step *s, int layer)
{
    for (int r = 0; r < s->num_rows; r++) {
        const struct mp_layer_kv *kv = &s->rows[r].kv[layer];
        if (kv->sparse && kv->offloaded.count > 0) {
            return true;
        }
    }
    return false;
}

int mp_submit_decode_layer(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                           struct mp_error *err)
{
    bool sampled = samples(s, layer);
    struct mp_span_info info = about(s, layer);

    int code = submit_projection(g, s, layer, sampled && handed_to_cpu(g, s, layer), err);
    if (code == 0 && sampled) {
        code = submit_hashing(g, s, layer, err);
    }
    if (code == 0 && sampled) {
        code = submit_shares(g, s, layer, err);
    }
    if (code == 0) {
        code = submit_static_attention(g, s, layer, sampled, err);
    }
    if (code == 0) {
        code = submit_output(g, s, layer, sampled, err);
    }
    if (code == 0) {
        code = mp_submit_ffn(g, in_stream(g), MP_DECODE_PRIORITY, layer, &s->buffers->x, 0,
                             s->num_rows, &info, err);
    }
    return code;
}

int mp_submit_decode_embed(const struct mp_graph *g, const struct mp_decode_step *s,
                           struct mp_error *err)
{
    struct mp_span_info info = about(s, -1);
    return mp_submit_embed(g, in_stream(g), MP_DECODE_PRIORITY, &s->buffers->ids, &s->buffers->x,
                           s->num_rows, &info, err);
}

int mp_submit_decode_sample(const struct mp_graph *g, const struct mp_decode_step *s,
                            struct mp_error *err)
{
    struct mp_span_info info = about(s, -1);
    int code = mp_submit_lm_head(g, MP_DECODE_PRIORITY, &s->buffers->x, 0, s->num_rows,
                                 &s->buffers->logits, &info, err);
    if (code != 0) {
        return code;
    }
    struct sample_row row[s->num_rows];
    for (int r = 0; r < s->num_rows; r++) {
        row[r] = (struct sample_row){s->rows[r].sampling, s->rows[r].rng};
    }
    return mp_submit_sample(g, &s->buffers->logits, &s->buffers->ids, MP_DECODE_PRIORITY, row,
                            s->num_rows, &info, err);
}
