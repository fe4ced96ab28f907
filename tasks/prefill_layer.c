/* The exact prefill of one prompt, layer by layer, chunk by chunk. */
#include "codelets/common/task/task.h"
#include "codelets/hashing/hashing.h"
#include "codelets/offload/offload.h"
#include "codelets/output/output.h"
#include "codelets/prefill_attention/prefill_attention.h"
#include "codelets/projection/projection.h"
#include "codelets/table_build/table_build.h"
#include "core/base/memory.h"
#include "tasks/layer.h"

/* Of dense work. Each task is long enough for its end to be waited for. */
static enum mp_where where(const struct mp_graph *g)
{
    return g->gpu ? MP_ON_GPU : MP_ON_CPU;
}

static struct mp_span_info about(const struct mp_prefill *p, int layer, int chunk)
{
    return (struct mp_span_info){
        .layer = layer, .request = p->request, .chunk = chunk, .micro_batch = -1};
}

static int submit_projection(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                             int chunk, struct mp_error *err)
{
    const struct mp_prefill_chunk *c = &p->chunks[chunk];
    struct projection_task *arg = mp_xmalloc(sizeof *arg + sizeof arg->targets[0]);
    *arg =
        (struct projection_task){.shape = g->shape, .rows_per_target = c->rows, .num_targets = 1};
    arg->targets[0] = (struct projection_task_target){
        .index = c->first,
        .position = c->first,
        .inv_freq = p->rope->inv_freq,
        .rope_scale = p->rope->scale,
    };
    struct mp_span_info info = about(p, layer, chunk);
    struct mp_task *t = mp_task_new(&projection_codelet, arg, 4, where(g), &info);
    mp_task_reads(t, &c->x);
    mp_task_reads(t, &g->weights->layers[layer].projection);
    mp_task_writes(t, &p->q[chunk % 2]);
    mp_task_updates(t, &c->staging_buffer[layer % 2]);
    return mp_task_submit(t, MP_PREFILL_PRIORITY, err);
}

static int submit_attention(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                            int chunk, int64_t first_row, int64_t rows, struct mp_error *err)
{
    const struct mp_prefill_chunk *c = &p->chunks[chunk];
    struct prefill_attention_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct prefill_attention_task){
        .first = c->first,
        .first_row = first_row,
        .rows = rows,
        .num_heads = g->shape->num_attention_heads,
        .num_kv_heads = g->shape->num_key_value_heads,
        .head_dim = g->shape->head_dim,
        .blocked = g->blocked_prefill,
    };
    struct mp_span_info info = about(p, layer, chunk);
    struct mp_task *t = mp_task_new(&prefill_attention_codelet, arg, 3 + chunk, where(g), &info);
    mp_task_reads(t, &p->q[chunk % 2]);
    mp_task_writes(t, &p->o[chunk % 2]);
    for (int i = 0; i <= chunk; i++) {
        mp_task_reads(t, &p->chunks[i].staging_buffer[layer % 2]);
    }
    return mp_task_submit(t, MP_PREFILL_PRIORITY, err);
}

static int submit_output(const struct mp_graph *g, const struct mp_prefill *p, int layer, int chunk,
                         int64_t first_row, int64_t rows, struct mp_error *err)
{
    struct output_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct output_task){.shape = g->shape, .first_row = first_row, .rows = rows};
    struct mp_span_info info = about(p, layer, chunk);
    struct mp_task *t = mp_task_new(&output_codelet, arg, 3, where(g), &info);
    mp_task_reads(t, &g->weights->layers[layer].output);
    mp_task_updates(t, &p->chunks[chunk].x);
    mp_task_reads(t, &p->o[chunk % 2]);
    return mp_task_submit(t, MP_PREFILL_PRIORITY, err);
}

int mp_submit_prefill_chunk(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                            int chunk, struct mp_error *err)
{
    int64_t first_row = 0;
    int64_t rows = p->chunks[chunk].rows;
    int code = submit_projection(g, p, layer, chunk, err);
    if (p->last_row_only && layer == g->shape->num_hidden_layers - 1) {
        if (chunk < p->num_chunks - 1) {
            return code;
        }
        first_row = rows - 1;
        rows = 1;
    }
    struct mp_span_info info = about(p, layer, chunk);
    if (code == 0) {
        code = submit_attention(g, p, layer, chunk, first_row, rows, err);
    }
    if (code == 0) {
        code = submit_output(g, p, layer, chunk, first_row, rows, err);
    }
    if (code == 0) {
        code = mp_submit_ffn(g, where(g), MP_PREFILL_PRIORITY, layer, &p->chunks[chunk].x,
                             first_row, rows, &info, err);
    }
    return code;
}

static int submit_offload(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                          struct mp_error *err)
{
    const struct mp_layer_kv *kv = &p->kv[layer];
    struct offload_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct offload_task){
        .tokens = p->tokens,
        .sink = kv->sparse ? g->sink : 0,
        .window = kv->sparse ? g->window : p->tokens,
        .kv_width = g->shape->num_key_value_heads * g->shape->head_dim,
    };
    struct mp_span_info info = about(p, layer, -1);
    struct mp_task *t = mp_task_new(&offload_codelet, arg, 2 + p->num_chunks, where(g), &info);
    mp_task_updates(t, &kv->fixed_buffer);
    mp_task_updates(t, &kv->offloaded_buffer);
    for (int i = 0; i < p->num_chunks; i++) {
        mp_task_reads(t, &p->chunks[i].staging_buffer[layer % 2]);
    }
    return mp_task_submit(t, MP_TABLES_PRIORITY, err);
}

static int submit_hashing(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                          struct mp_error *err)
{
    const struct mp_layer_kv *kv = &p->kv[layer];
    struct hashing_keys_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct hashing_keys_task){
        .K = g->lsh->K,
        .L = g->lsh->L,
        .heads_per_projection = g->lsh->kv_heads_per_projection,
        .count = kv->offloaded.capacity,
        .shape = g->shape,
    };
    struct mp_span_info info = about(p, layer, -1);
    struct mp_task *t = mp_task_new(&hashing_keys_codelet, arg, 3, where(g), &info);
    mp_task_reads(t, &kv->offloaded_buffer);
    mp_task_reads(t, mp_lsh_projection(g->lsh, layer));
    mp_task_writes(t, &p->codes);
    return mp_task_submit(t, MP_TABLES_PRIORITY, err);
}

static int submit_table_build(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                              struct mp_error *err)
{
    const struct mp_layer_kv *kv = &p->kv[layer];
    struct table_build_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct table_build_task){
        .count = kv->tables.capacity,
        .num_kv_heads = g->shape->num_key_value_heads,
        .L = g->lsh->L,
    };
    struct mp_span_info info = about(p, layer, -1);
    struct mp_task *t = mp_task_new(&table_build_codelet, arg, 2,
                                    kv->place == MP_PLACE_GPU ? MP_ON_GPU : MP_ON_CPU, &info);
    mp_task_reads(t, &p->codes);
    mp_task_updates(t, &kv->tables_buffer);
    return mp_task_submit(t, MP_TABLES_PRIORITY, err);
}

int mp_submit_prefill_tables(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                             struct mp_error *err)
{
    int code = submit_hashing(g, p, layer, err);
    return code == 0 ? submit_table_build(g, p, layer, err) : code;
}

int mp_submit_prefill_keep(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                           struct mp_error *err)
{
    int code = submit_offload(g, p, layer, err);
    if (code == 0 && p->kv[layer].offloaded.capacity > 0) {
        code = mp_submit_prefill_tables(g, p, layer, err);
    }
    return code;
}

int mp_submit_prefill_embed(const struct mp_graph *g, const struct mp_prefill *p,
                            struct mp_error *err)
{
    int code = 0;
    for (int c = 0; c < p->num_chunks && code == 0; c++) {
        struct mp_span_info info = about(p, -1, c);
        code = mp_submit_embed(g, where(g), MP_PREFILL_PRIORITY, &p->chunks[c].ids, &p->chunks[c].x,
                               p->chunks[c].rows, &info, err);
    }
    return code;
}

int mp_submit_prefill_logits(const struct mp_graph *g, const struct mp_prefill *p, int chunk,
                             int64_t first_row, int64_t rows, const struct mp_buffer *logits,
                             struct mp_error *err)
{
    struct mp_span_info info = about(p, -1, chunk);
    return mp_submit_lm_head(g, MP_PREFILL_PRIORITY, &p->chunks[chunk].x, first_row, rows, logits,
                             &info, err);
}
