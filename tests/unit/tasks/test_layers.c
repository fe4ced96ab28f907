/* What the layers submit: order, devices, access modes and priorities, with one CPU worker, with
 * several, and with a GPU before them. */
#include "recorded.h"
#include "tasks/methods/method.h"

enum { LAYERS = 2, HEADS = 4, KV_HEADS = 2, D = 8, MAX_ROWS = 2, MAX_CHUNKS = 2 };

static const struct mp_shape SHAPE = {
    .hidden_size = 32,
    .num_hidden_layers = LAYERS,
    .num_attention_heads = HEADS,
    .num_key_value_heads = KV_HEADS,
    .head_dim = D,
    .intermediate_size = 64,
    .vocab_size = 100,
};

/* A method that needs no data of its own: it selects by one task of the first op there is. */
static void select_nothing(struct mp_submit *sub, const struct mp_graph *g,
                           const struct mp_decode_step *s, int layer)
{
    (void)sub;
    (void)g;
    (void)s;
    (void)layer;
}

static const struct mp_method SELECTS_NOTHING = {
    .name = "nothing", .sparse = true, .keeps = true, .select = select_nothing};

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
    struct mp_step_buffers buffers;
    struct mp_decode_row rows[MAX_ROWS];
    struct mp_decode_step step;
};

static void name_weights(struct fixture *f)
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

static void name_step(struct fixture *f)
{
    struct mp_step_buffers *b = &f->buffers;
    name_buffer(&b->ids, "ids");
    name_buffer(&b->x, "x");
    name_buffer(&b->q, "q");
    name_buffer(&b->o_static, "os");
    name_buffer(&b->lse_static, "ls");
    name_buffer(&b->logits, "logits");
    for (int i = 0; i < f->cut.count; i++) {
        struct mp_step_shard *s = &f->step_shards[i];
        name_buffer(&s->own_q, "q%d", i);
        name_buffer(&s->query, "query%d", i);
        name_buffer(&s->o, "o%d", i);
        name_buffer(&s->lse, "l%d", i);
        for (int l = 0; l < LAYERS; l++) {
            name_buffer(&s->nnz[l], "nnz%d.%d", i, l);
        }
    }
}

/* dense: where layers run; shards: CPU workers that share the sparse layer, 1 for any worker. */
static void set_up(struct fixture *f, struct mp_device dense, int shards, int num_rows)
{
    forget_all();
    *f = (struct fixture){.attention = {.method = &SELECTS_NOTHING, .shape = &SHAPE}};
    f->weights.layers = f->layer_weights;
    f->cut = (struct mp_shards){f->shards, shards};
    for (int i = 0; i < shards; i++) {
        f->shards[i] = (struct mp_shard){.device = {MP_CPU, shards > 1 ? i : -1},
                                         .first_kv_head = i * KV_HEADS / shards,
                                         .num_kv_heads = KV_HEADS / shards};
        f->step_shards[i].q =
            shards == 1 && dense.kind == MP_CPU ? &f->buffers.q : &f->step_shards[i].own_q;
        f->step_shards[i].nnz = f->nnz[i];
    }
    f->places[0] = (struct mp_placement){.dense = dense, .cut = -1};
    f->places[1] = (struct mp_placement){.dense = dense, .sparse = true};
    f->graph = (struct mp_graph){
        .shape = &SHAPE,
        .weights = &f->weights,
        .attention = &f->attention,
        .placements = {f->places, LAYERS, dense, &f->cut, 1},
        .blocked_prefill = true,
        .sink = 4,
        .window = 64,
    };
    f->step_cuts[0] = f->step_shards;
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
            name_buffer(&f->selection[r][i].ids, "sel%d.%d", r, i);
            name_buffer(&f->selection[r][i].log_weights, "lw%d.%d", r, i);
            name_buffer(&f->selection[r][i].scratch, "scr%d.%d", r, i);
        }
        f->kv[r][1].shards = f->shard_kv[r];
        f->kv[r][1].offloaded = 100;
        f->selections[r][0] = f->selection[r];
        static const double expected[LAYERS] = {0.0, 50.0};
        f->rows[r] = (struct mp_decode_row){.kv = f->kv[r],
                                            .selections = f->selections[r],
                                            .rope = &f->rope,
                                            .position = 168,
                                            .static_index = 68,
                                            .expected_nnz = expected};
    }
    f->step = (struct mp_decode_step){
        .micro_batch = 3, .num_rows = num_rows, .rows = f->rows, .buffers = &f->buffers};
}

/* A method with a budget of half of the tokens, in pages of 8. */
static void choose(struct fixture *f, struct mp_config *c, const struct mp_method *method)
{
    struct mp_error err;
    mp_config_init(c);
    assert_int_equal(mp_config_set(c, "attention.budget", "0.5", &err), 0);
    assert_int_equal(mp_config_set(c, "attention.page_size", "8", &err), 0);
    f->attention.method = method;
    f->attention.config = c;
}

static void submit_step(struct fixture *f)
{
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_embed(&sub, &f->graph, &f->step);
    for (int l = 0; l < LAYERS; l++) {
        mp_submit_decode_layer(&sub, &f->graph, &f->step, l);
    }
    mp_submit_decode_sample(&sub, &f->graph, &f->step);
}

static void test_decode_on_one_worker(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "embed@cpu!1 R:ids R:embed W:x",
        "projection@cpu!1 R:x R:wp0 W:q RW:kv0.0 RW:kv1.0",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.0 R:kv1.0",
        "output@cpu!1 R:wo0 RW:x R:os R:ls",
        "ffn@cpu!1 R:wf0 RW:x",
        "projection@cpu!1 R:x R:wp1 W:q RW:kv0.1 RW:kv1.1",
        "sampled_attention@cpu!1 R:q R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0 R:off1.0 R:sel1.0",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1 R:kv1.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0",
        "ffn@cpu!1 R:wf1 RW:x",
        "lm_head@cpu!1 R:x R:norm R:lm_head W:logits",
        "sample@cpu!1 R:logits W:ids",
        NULL};
    struct fixture f;
    set_up(&f, (struct mp_device){MP_CPU, -1}, 1, 2);
    submit_step(&f);
    assert_recorded(expected);
    for (int i = 0; i < num_recorded; i++) {
        assert_int_equal(recorded_about[i].micro_batch, 3);
        assert_int_equal(recorded_about[i].request, -1);
    }
    assert_int_equal(recorded_about[0].layer, -1);
    assert_int_equal(recorded_about[5].layer, 1);
}

/* Each worker has queries of its heads in a buffer of its own. */
static void test_decode_on_two_workers(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp1 W:q W:q0 W:q1 RW:kv0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "sampled_attention@cpu1!1 R:q1 R:nnz1.1 W:o1 W:l1 R:off0.1 R:sel0.1",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@cpu!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    set_up(&f, (struct mp_device){MP_CPU, -1}, 2, 1);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_recorded(expected);
}

/* The GPU's tasks follow each other in its stream; but the CPU waits for the queries, the host for
 * the logits, and static attention of a layer that is handed to the CPU is not to count the wait
 * for it. */
static void test_decode_on_a_gpu(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "embed@gpu0+!1 R:ids R:embed W:x",
        "projection@gpu0+!1 R:x R:wp0 W:q RW:kv0.0",
        "static_attention@gpu0+!0 R:q W:os W:ls R:kv0.0",
        "output@gpu0+!1 R:wo0 RW:x R:os R:ls",
        "ffn@gpu0+!1 R:wf0 RW:x",
        "projection@gpu0!1 R:x R:wp1 W:q W:q0 RW:kv0.1",
        "sampled_attention@cpu!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "static_attention@gpu0!0 R:q W:os W:ls R:kv0.1",
        "output@gpu0+!1 R:wo1 RW:x R:os R:ls R:o0 R:l0",
        "ffn@gpu0+!1 R:wf1 RW:x",
        "lm_head@gpu0!1 R:x R:norm R:lm_head W:logits",
        "sample@cpu!1 R:logits W:ids",
        NULL};
    struct fixture f;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 1, 1);
    assert_true(mp_handed_to_cpu(&f.graph.placements, 1));
    assert_false(mp_handed_to_cpu(&f.graph.placements, 0));
    submit_step(&f);
    assert_recorded(expected);
}

/* Prompts that fit the static cache: a sparse layer is submitted as a dense one. */
static void test_nothing_offloaded(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp1 W:q RW:kv0.1", "static_attention@cpu!0 R:q W:os W:ls R:kv0.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls", "ffn@cpu!1 R:wf1 RW:x", NULL};
    struct fixture f;
    set_up(&f, (struct mp_device){MP_CPU, -1}, 2, 1);
    f.kv[0][1].offloaded = 0;
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_recorded(expected);
}

/* A key, a value and an id a selected token; its queries, o and lse aside. */
static void test_work_follows_what_is_selected(void **state)
{
    (void)state;
    static const double more[LAYERS] = {0.0, 1050.0};
    struct fixture f;
    set_up(&f, (struct mp_device){MP_CPU, -1}, 1, 1);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    f.rows[0].expected_nnz = more;
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_float_equal(recorded_work[6].bytes - recorded_work[1].bytes, 1000.0 * (4.0 * D + 4.0),
                       1e-6);
}

/* A method that drops what it would offload has no shards. */
static void test_nothing_kept(void **state)
{
    (void)state;
    static const char *const expected[] = {"projection@gpu0+!1 R:x R:wp1 W:q RW:kv0.1",
                                           "static_attention@gpu0+!0 R:q W:os W:ls R:kv0.1",
                                           "output@gpu0+!1 R:wo1 RW:x R:os R:ls",
                                           "ffn@gpu0+!1 R:wf1 RW:x", NULL};
    struct fixture f;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 1, 1);
    f.attention.method = &mp_method_streaming;
    f.places[1].cut = -1;
    f.kv[0][1].shards = NULL;
    f.kv[0][1].offloaded = 0;
    assert_false(mp_takes_turns(&f.graph.placements));
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_recorded(expected);
}

/* Each shard scores every key for its own heads. */
static void test_topk(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp1 W:q W:q0 W:q1 RW:kv0.1",
        "key_select@cpu0!1 R:q0 W:nnz0.1 R:off0.0 W:sel0.0 W:scr0.0",
        "key_select@cpu1!1 R:q1 W:nnz1.1 R:off0.1 W:sel0.1 W:scr0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "sampled_attention@cpu1!1 R:q1 R:nnz1.1 W:o1 W:l1 R:off0.1 R:sel0.1",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@cpu!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config c;
    set_up(&f, (struct mp_device){MP_CPU, -1}, 2, 1);
    choose(&f, &c, &mp_method_topk);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_recorded(expected);
    /* 100 keys of the shard's one KV head, and a score for each of its two query heads. */
    assert_float_equal(recorded_work[1].bytes, 100.0 * (2.0 * D + 8.0 * 2), 1e-6);
    mp_config_free(&c);
}

/* A GPU that has the keys too; drawn tokens come with their weights. */
static void test_oracle_on_a_gpu(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@gpu0+!1 R:x R:wp1 W:q W:q0 RW:kv0.1 RW:kv1.1",
        "key_select@gpu0+!1 R:q0 W:nnz0.1 R:off0.0 W:sel0.0 W:scr0.0 W:lw0.0 "
        "R:off1.0 W:sel1.0 W:scr1.0 W:lw1.0",
        "sampled_attention@gpu0+!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0 R:lw0.0 "
        "R:off1.0 R:sel1.0 R:lw1.0",
        "static_attention@gpu0+!0 R:q W:os W:ls R:kv0.1 R:kv1.1",
        "output@gpu0+!1 R:wo1 RW:x R:os R:ls R:o0 R:l0",
        "ffn@gpu0+!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config c;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 1, 2);
    f.shards[0].device = (struct mp_device){MP_GPU, 0};
    choose(&f, &c, &mp_method_oracle);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_recorded(expected);
    mp_config_free(&c);
}

/* The CPU has keys and page bounds; the queries that it reads are waited for. */
static void test_quest_beside_a_gpu(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@gpu0!1 R:x R:wp1 W:q W:q0 RW:kv0.1",
        "page_select@cpu!1 R:q0 W:nnz0.1 R:index0.0 W:sel0.0 W:scr0.0",
        "sampled_attention@cpu!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "static_attention@gpu0!0 R:q W:os W:ls R:kv0.1",
        "output@gpu0+!1 R:wo1 RW:x R:os R:ls R:o0 R:l0",
        "ffn@gpu0+!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config c;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 1, 1);
    choose(&f, &c, &mp_method_quest);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.graph, &f.step, 1);
    assert_recorded(expected);
    /* 13 pages of 100 tokens: their bounds, and a score for each of the four query heads. */
    assert_float_equal(recorded_work[1].bytes, 13.0 * (4.0 * KV_HEADS * D + 8.0 * HEADS), 1e-6);
    mp_config_free(&c);
}

/* ---- prefill ---- */

struct prompt {
    struct mp_prefill_chunk chunks[MAX_CHUNKS];
    struct mp_buffer scratch[KV_HEADS];
    struct mp_buffer *scratch_cuts[1];
    struct mp_prefill prefill;
};

static void set_up_prompt(struct prompt *p, struct fixture *f)
{
    *p = (struct prompt){.chunks = {{.rows = 120}, {.first = 120, .rows = 48}}};
    p->scratch_cuts[0] = p->scratch;
    p->prefill = (struct mp_prefill){
        .request = 5,
        .tokens = 168,
        .num_chunks = MAX_CHUNKS,
        .chunks = p->chunks,
        .scratch = p->scratch_cuts,
        .kv = f->kv[0],
        .rope = &f->rope,
        .last_row_only = true,
    };
    for (int c = 0; c < MAX_CHUNKS; c++) {
        name_buffer(&p->chunks[c].ids, "ids%d", c);
        name_buffer(&p->chunks[c].x, "x%d", c);
        name_buffer(&p->prefill.q[c], "pq%d", c);
        name_buffer(&p->prefill.o[c], "po%d", c);
        name_buffer(&p->chunks[c].staging_buffer[0], "even%d", c);
        name_buffer(&p->chunks[c].staging_buffer[1], "odd%d", c);
    }
}

/* Every chunk attends to those before it; the last layer does what its last row needs. */
static void test_prefill(void **state)
{
    (void)state;
    static const char *const expected[] = {"embed@gpu0!-1 R:ids0 R:embed W:x0",
                                           "embed@gpu0!-1 R:ids1 R:embed W:x1",
                                           "projection@gpu0!-1 R:x1 R:wp0 W:pq1 RW:even1",
                                           "prefill_attention@gpu0!-1 R:pq1 W:po1 R:even0 R:even1",
                                           "output@gpu0!-1 R:wo0 RW:x1 R:po1",
                                           "ffn@gpu0!-1 R:wf0 RW:x1",
                                           "projection@gpu0!-1 R:x0 R:wp1 W:pq0 RW:odd0",
                                           "projection@gpu0!-1 R:x1 R:wp1 W:pq1 RW:odd1",
                                           "prefill_attention@gpu0!-1 R:pq1 W:po1 R:odd0 R:odd1",
                                           "output@gpu0!-1 R:wo1 RW:x1 R:po1",
                                           "ffn@gpu0!-1 R:wf1 RW:x1",
                                           "lm_head@gpu0!-1 R:x1 R:norm R:lm_head W:logits",
                                           NULL};
    struct fixture f;
    struct prompt p;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 1, 1);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_embed(&sub, &f.graph, &p.prefill);
    mp_submit_prefill_chunk(&sub, &f.graph, &p.prefill, 0, 1);
    mp_submit_prefill_chunk(&sub, &f.graph, &p.prefill, 1, 0);
    mp_submit_prefill_chunk(&sub, &f.graph, &p.prefill, 1, 1);
    mp_submit_prefill_logits(&sub, &f.graph, &p.prefill, 1, (struct mp_rows){47, 1},
                             &f.buffers.logits);
    assert_recorded(expected);
    assert_int_equal(recorded_about[3].request, 5);
    assert_int_equal(recorded_about[3].chunk, 1);
}

/* A dense layer keeps all in its static cache; of a sparse one each shard gets its heads. */
static void test_keep(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@gpu0!-2 RW:kv0.0 R:even0 R:even1",
                                           "offload@gpu0!-2 RW:kv0.1 RW:off0.0 R:odd0 R:odd1",
                                           "offload@gpu0!-2 RW:kv0.1 RW:off0.1 R:odd0 R:odd1",
                                           NULL};
    struct fixture f;
    struct prompt p;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 2, 1);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 0);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
}

/* Of a layer whose offloaded tokens are dropped: sink and window go to the static cache. */
static void test_keep_without_shards(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@cpu!-2 RW:kv0.1 R:odd0 R:odd1", NULL};
    struct fixture f;
    struct prompt p;
    set_up(&f, (struct mp_device){MP_CPU, -1}, 1, 1);
    f.attention.method = &mp_method_streaming;
    f.places[1].cut = -1;
    f.kv[0][1].offloaded = 0;
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
}

/* The bounds of the pages are found where the keys are. */
static void test_keep_pages(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@gpu0!-2 RW:kv0.1 RW:off0.0 R:odd0 R:odd1",
                                           "offload@gpu0!-2 RW:kv0.1 RW:off0.1 R:odd0 R:odd1",
                                           "page_bounds@cpu0!-2 R:off0.0 RW:index0.0",
                                           "page_bounds@cpu1!-2 R:off0.1 RW:index0.1", NULL};
    struct fixture f;
    struct prompt p;
    struct mp_config c;
    set_up(&f, (struct mp_device){MP_GPU, 0}, 2, 1);
    set_up_prompt(&p, &f);
    choose(&f, &c, &mp_method_quest);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
    mp_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_on_one_worker),
        cmocka_unit_test(test_decode_on_two_workers),
        cmocka_unit_test(test_decode_on_a_gpu),
        cmocka_unit_test(test_nothing_offloaded),
        cmocka_unit_test(test_nothing_kept),
        cmocka_unit_test(test_topk),
        cmocka_unit_test(test_oracle_on_a_gpu),
        cmocka_unit_test(test_quest_beside_a_gpu),
        cmocka_unit_test(test_work_follows_what_is_selected),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_keep_without_shards),
        cmocka_unit_test(test_keep_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
