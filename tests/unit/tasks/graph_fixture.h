/* A small graph to record submissions of: layer 0 dense, layer 1 sparse, one or two requests, and a
 * prompt of two chunks. */
#ifndef MP_TESTS_GRAPH_FIXTURE_H
#define MP_TESTS_GRAPH_FIXTURE_H

#include "recorded.h"
#include "tasks/methods/method.h"

enum { LAYERS = 2, HEADS = 4, KV_HEADS = 2, D = 8, MAX_ROWS = 2, MAX_CHUNKS = 2, DEVICES = 2 };

static const struct mp_shape SHAPE = {
    .hidden_size = 32,
    .num_hidden_layers = LAYERS,
    .num_attention_heads = HEADS,
    .num_key_value_heads = KV_HEADS,
    .head_dim = D,
    .intermediate_size = 64,
    .vocab_size = 100,
};

/* A graph with layer 0 dense and layer 1 sparse, and a request in it. */
struct fixture {
    struct mp_attention attention;
    struct mp_layer_weights layer_weights[LAYERS];
    struct mp_model_weights weights;
    struct mp_placement places[LAYERS];
    struct mp_shards cut;
    struct mp_shard shards[KV_HEADS];
    struct mp_graph graph;
    struct mp_layer_kv kv[MAX_ROWS][LAYERS];
    struct mp_shard_kv shard_kv[MAX_ROWS][KV_HEADS];
    struct mp_selection selection[MAX_ROWS][KV_HEADS];
    struct mp_selection *selections[MAX_ROWS][1];
    struct mp_rope rope;
    struct mp_step_shard step_shards[KV_HEADS];
    struct mp_step_shard *step_cuts[1];
    struct mp_buffer nnz[KV_HEADS][LAYERS];
    struct mp_buffer error[KV_HEADS][LAYERS];
    struct mp_dense_buffers dense[DEVICES];
    struct mp_step_buffers buffers;
    struct mp_decode_row rows[MAX_ROWS];
    struct mp_decode_step step;
    struct mp_decode_parts parts;
};

static inline void name_weights(struct fixture *f)
{
    name_buffer(&f->weights.embed, "embed");
    name_buffer(&f->weights.lm_head, "lm_head");
    name_buffer(&f->weights.final_norm, "norm");
    for (int l = 0; l < LAYERS; l++) {
        name_buffer(&f->layer_weights[l].projection, "wp%d", l);
        name_buffer(&f->layer_weights[l].output, "wo%d", l);
        name_buffer(&f->layer_weights[l].ffn, "wf%d", l);
    }
}

static inline void name_step(struct fixture *f)
{
    struct mp_step_buffers *b = &f->buffers;
    name_buffer(&b->ids, "ids");
    for (int d = 0; d < DEVICES; d++) {
        const char *mark = d == 0 ? "" : "'"; /* of the second device's */
        name_buffer(&b->dense[d].x, "x%s", mark);
        name_buffer(&b->dense[d].y, "y%s", mark);
        name_buffer(&b->dense[d].q, "q%s", mark);
        name_buffer(&b->dense[d].o_static, "os%s", mark);
        name_buffer(&b->dense[d].lse_static, "ls%s", mark);
        name_buffer(&b->dense[d].o_shared, "oh%s", mark);
        name_buffer(&b->dense[d].lse_shared, "lh%s", mark);
    }
    name_buffer(&b->o_merged, "om");
    name_buffer(&b->lse_merged, "lm");
    name_buffer(&b->logits, "logits");
    for (int i = 0; i < f->cut.count; i++) {
        struct mp_step_shard *s = &f->step_shards[i];
        name_buffer(&s->own_q, "q%d", i);
        name_buffer(&s->query, "query%d", i);
        name_buffer(&s->o, "o%d", i);
        name_buffer(&s->lse, "l%d", i);
        for (int l = 0; l < LAYERS; l++) {
            name_buffer(&s->nnz[l], "nnz%d.%d", i, l);
            name_buffer(&s->error[l], "err%d.%d", i, l);
        }
    }
}

/* dense: where layers run; shards: CPU workers that share the sparse layer, 1 for any worker. */
static inline void set_up(struct fixture *f, const struct mp_method *method, struct mp_device dense,
                          int shards, int num_rows)
{
    forget_all();
    *f = (struct fixture){.attention = {.method = method, .shape = &SHAPE}};
    f->weights.layers = f->layer_weights;
    f->cut = (struct mp_shards){f->shards, shards, shards};
    for (int i = 0; i < shards; i++) {
        f->shards[i] = (struct mp_shard){.dense = dense,
                                         .device = {MP_CPU, shards > 1 ? i : -1},
                                         .first_kv_head = i * KV_HEADS / shards,
                                         .num_kv_heads = KV_HEADS / shards};
        f->step_shards[i].q =
            shards == 1 && dense.kind == MP_CPU ? &f->dense[0].q : &f->step_shards[i].own_q;
        f->step_shards[i].nnz = f->nnz[i];
        f->step_shards[i].error = f->error[i];
    }
    f->places[0] = (struct mp_placement){.dense = dense, .cut = -1};
    f->places[1] = (struct mp_placement){.dense = dense, .sparse = true};
    f->graph = (struct mp_graph){
        .shape = &SHAPE,
        .weights = &f->weights,
        .attention = &f->attention,
        .placements = {f->places, LAYERS, {dense}, 1, &f->cut, 1},
        .blocked_prefill = true,
        .sink = 4,
        .window = 64,
    };
    f->step_cuts[0] = f->step_shards;
    f->buffers.dense = f->dense;
    f->buffers.shards = f->step_cuts;
    name_weights(f);
    name_step(f);
    for (int r = 0; r < num_rows; r++) {
        for (int l = 0; l < LAYERS; l++) {
            name_buffer(&f->kv[r][l].static_buffer, "kv%d.%d", r, l);
        }
        for (int i = 0; i < shards; i++) {
            name_buffer(&f->shard_kv[r][i].offloaded_buffer, "off%d.%d", r, i);
            name_buffer(&f->shard_kv[r][i].index_buffer, "index%d.%d", r, i);
            name_buffer(&f->shard_kv[r][i].leaving_buffer, "leave%d.%d", r, i);
            name_buffer(&f->selection[r][i].ids, "sel%d.%d", r, i);
            name_buffer(&f->selection[r][i].log_weights, "lw%d.%d", r, i);
            name_buffer(&f->selection[r][i].scratch, "scr%d.%d", r, i);
        }
        f->kv[r][1].shards = f->shard_kv[r];
        f->kv[r][1].offloaded = 100;
        f->selections[r][0] = f->selection[r];
        static const double expected[LAYERS] = {0.0, 50.0};
        static const int64_t samples[LAYERS] = {0, 30};
        f->rows[r] = (struct mp_decode_row){.kv = f->kv[r],
                                            .selections = f->selections[r],
                                            .rope = &f->rope,
                                            .position = 168,
                                            .static_index = 68,
                                            .expected_nnz = expected,
                                            .samples = samples};
    }
    f->step = (struct mp_decode_step){
        .micro_batch = 3, .num_rows = num_rows, .rows = f->rows, .buffers = &f->buffers};
    f->parts = (struct mp_decode_parts){1, {&f->graph}, {&f->step}};
}

/* Then: the sparse layer is on a second device of the kind. */
static inline void add_device(struct fixture *f)
{
    struct mp_placements *p = &f->graph.placements;
    p->devices[1] = (struct mp_device){p->devices[0].kind, p->devices[0].index + 1};
    p->num_devices = DEVICES;
    f->places[1].dense = p->devices[1];
    f->places[1].stage = 1;
    for (int i = 0; i < f->cut.count; i++) {
        f->shards[i].dense = p->devices[1];
    }
}

/* A method that needs no data of its own. */
static inline void select_nothing(struct mp_submit *sub, const struct mp_graph *g,
                                  const struct mp_decode_step *s, int layer)
{
    (void)sub;
    (void)g;
    (void)s;
    (void)layer;
}

static const struct mp_method SELECTS_NOTHING = {
    .name = "nothing", .sparse = true, .keeps = true, .select = select_nothing};

static inline void submit_step(struct fixture *f)
{
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_embed(&sub, &f->parts);
    for (int l = 0; l < LAYERS; l++) {
        mp_submit_decode_layer(&sub, &f->parts, l);
    }
    mp_submit_decode_sample(&sub, &f->parts);
}

/* ---- a prompt ---- */

struct prompt {
    struct mp_prefill_chunk chunks[MAX_CHUNKS];
    struct mp_buffer x[MAX_CHUNKS][DEVICES];
    struct mp_staging staging[MAX_CHUNKS][LAYERS];
    struct mp_staging prefix_staging[LAYERS];
    struct mp_prefill_activations activations[DEVICES];
    struct mp_index_scratch scratch[KV_HEADS];
    struct mp_index_scratch *scratch_cuts[1];
    struct mp_prefill prefill;
    struct mp_prefill_parts parts;
};

static inline void set_up_prompt(struct prompt *p, struct fixture *f)
{
    *p = (struct prompt){.chunks = {{.rows = 120}, {.first = 120, .rows = 48}}};
    p->scratch_cuts[0] = p->scratch;
    p->prefill = (struct mp_prefill){
        .keep = {.request = 5, .tokens = 168, .kv = f->kv[0], .scratch = p->scratch_cuts},
        .num_chunks = MAX_CHUNKS,
        .chunks = p->chunks,
        .num_areas = LAYERS,
        .chunks_at_once = 2,
        .activations = p->activations,
        .prefix_staging = p->prefix_staging,
        .rope = &f->rope,
        .last_row_only = true,
    };
    p->parts = (struct mp_prefill_parts){1, {&f->graph}, {&p->prefill}};
    name_buffer(&p->prefix_staging[0].buffer, "evenp");
    name_buffer(&p->prefix_staging[1].buffer, "oddp");
    for (int c = 0; c < MAX_CHUNKS; c++) {
        p->chunks[c].x = p->x[c];
        p->chunks[c].staging = p->staging[c];
        name_buffer(&p->chunks[c].ids, "ids%d", c);
        for (int d = 0; d < DEVICES; d++) {
            const char *mark = d == 0 ? "" : "'";
            name_buffer(&p->x[c][d], "x%d%s", c, mark);
            name_buffer(&p->activations[d].q[c], "pq%d%s", c, mark);
            name_buffer(&p->activations[d].o[c], "po%d%s", c, mark);
        }
        name_buffer(&p->staging[c][0].buffer, "even%d", c);
        name_buffer(&p->staging[c][1].buffer, "odd%d", c);
    }
}

#endif
