/* What is submitted for prompts that begin with tokens which another request keeps. */
#include "graph_fixture.h"

/* A method that must not be asked for an index: what is shared has one. */
static void build_nothing(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                          struct mp_shard_kv *kv, const struct mp_index_scratch *scratch)
{
    (void)sub;
    (void)g;
    (void)layer;
    (void)shard;
    (void)kv;
    (void)scratch;
    fail_msg("an index is built");
}

static const struct mp_method BUILDS_NOTHING = {.name = "nothing",
                                                .sparse = true,
                                                .keeps = true,
                                                .build = build_nothing,
                                                .select = select_nothing};

static const struct mp_device ANY_CPU = {MP_CPU, -1};
static const struct mp_device GPU = {MP_GPU, 0};

enum { SHARED = 104 };

/* The request that keeps the tokens. */
struct lender {
    struct mp_layer_kv kv[LAYERS];
    struct mp_shard_kv shards[KV_HEADS];
};

static void set_up_lender(struct lender *from)
{
    *from = (struct lender){0};
    for (int l = 0; l < LAYERS; l++) {
        name_buffer(&from->kv[l].static_buffer, "lent%d", l);
    }
    for (int i = 0; i < KV_HEADS; i++) {
        from->shards[i].offloaded.dtype = MP_BF16;
        name_buffer(&from->shards[i].offloaded_buffer, "lentoff%d", i);
    }
    from->kv[1].shards = from->shards;
    from->kv[1].offloaded = 500;
}

/* Row r of the step shares the first tokens of its prompt. */
static void share(struct fixture *f, int r, const struct lender *from)
{
    f->rows[r].shared = SHARED;
    for (int l = 0; l < LAYERS; l++) {
        f->kv[r][l].lender = &from->kv[l];
    }
}

static void submit_layers(struct fixture *f)
{
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    for (int l = 0; l < LAYERS; l++) {
        mp_submit_decode_layer(&sub, &f->parts, l);
    }
}

/* Tokens that the i-th task, a static_attention, attends to, over all rows. */
static double attended(int i)
{
    return recorded_work[i].flops / (4.0 * HEADS * D);
}

/* ---- decode ---- */

/* A dense layer attends to what the lender keeps in a task of its own, of no tokens for the row
 * that shares nothing; in a sparse one the lender's tokens are the offloaded ones. */
static void test_decode(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp0 W:q RW:kv0.0 RW:kv1.0",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.0 R:kv1.0",
        "static_attention@cpu!0 R:q W:oh W:lh R:kv0.0 R:lent0",
        "output@cpu!1 R:wo0 RW:x R:os R:ls R:oh R:lh",
        "ffn@cpu!1 R:wf0 RW:x",
        "projection@cpu!1 R:x R:wp1 W:q RW:kv0.1 RW:kv1.1",
        "sampled_attention@cpu!1 R:q R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0 R:off1.0 R:sel1.0",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1 R:kv1.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0",
        "ffn@cpu!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct lender from;
    set_up(&f, &BUILDS_NOTHING, ANY_CPU, 1, 2);
    set_up_lender(&from);
    share(&f, 1, &from);
    submit_layers(&f);
    assert_recorded(expected);
    assert_true(attended(1) == 169 + 169 - SHARED);
    assert_true(attended(2) == SHARED);
    assert_true(attended(7) == 69 + 69);
}

/* A step whose rows share nothing has no such task. */
static void test_decode_without(void **state)
{
    (void)state;
    struct fixture f;
    set_up(&f, &BUILDS_NOTHING, ANY_CPU, 1, 2);
    submit_layers(&f);
    assert_int_equal(num_recorded, 9);
    assert_string_equal(recorded[2], "output@cpu!1 R:wo0 RW:x R:os R:ls");
}

static void test_decode_on_a_gpu(void **state)
{
    (void)state;
    static const char *const expected[] = {"projection@gpu0+!1 R:x R:wp0 W:q RW:kv0.0",
                                           "static_attention@gpu0+!0 R:q W:os W:ls R:kv0.0",
                                           "static_attention@gpu0+!0 R:q W:oh W:lh R:lent0",
                                           "output@gpu0+!1 R:wo0 RW:x R:os R:ls R:oh R:lh",
                                           "ffn@gpu0+!1 R:wf0 RW:x",
                                           NULL};
    struct fixture f;
    struct lender from;
    set_up(&f, &BUILDS_NOTHING, GPU, 1, 1);
    set_up_lender(&from);
    share(&f, 0, &from);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 0);
    assert_recorded(expected);
}

/* ---- prefill ---- */

/* Two workers or a GPU, and a prompt whose first tokens a lender keeps. */
static void set_up_prefix(struct prompt *p, struct fixture *f, struct lender *from,
                          struct mp_device dense)
{
    set_up(f, &BUILDS_NOTHING, dense, 2, 1);
    set_up_lender(from);
    set_up_prompt(p, f);
    p->prefill.prefix = SHARED;
    p->prefill.kept = from->kv;
}

static void submit_chunks(const struct prompt *p, int layer)
{
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    for (int c = 0; c < MAX_CHUNKS; c++) {
        mp_submit_prefill_chunk(&sub, &p->parts, layer, c);
    }
}

/* Bytes of a token: a key and a value of some KV heads, read and written. */
static double restored_bytes(int num_kv_heads, double read)
{
    return SHARED * num_kv_heads * D * 2.0 * (read + 2.0);
}

/* The prefix is restored before a layer's first chunk, of a sparse layer shard by shard; every
 * chunk attends to it. */
static void test_prefill(void **state)
{
    (void)state;
    static const char *const dense[] = {
        "restore@gpu0!-1 R:lent0 RW:evenp",
        "projection@gpu0!-1 R:x0 R:wp0 W:pq0 RW:even0",
        "prefill_attention@gpu0!-1 R:pq0 W:po0 R:evenp R:even0",
        "output@gpu0!-1 R:wo0 RW:x0 R:po0",
        "ffn@gpu0!-1 R:wf0 RW:x0",
        "projection@gpu0!-1 R:x1 R:wp0 W:pq1 RW:even1",
        "prefill_attention@gpu0!-1 R:pq1 W:po1 R:evenp R:even0 R:even1",
        "output@gpu0!-1 R:wo0 RW:x1 R:po1",
        "ffn@gpu0!-1 R:wf0 RW:x1",
        NULL};
    static const char *const sparse[] = {
        "restore@gpu0!-1 R:lent1 RW:oddp R:lentoff0",
        "restore@gpu0!-1 R:lent1 RW:oddp R:lentoff1",
        "projection@gpu0!-1 R:x0 R:wp1 W:pq0 RW:odd0",
        "projection@gpu0!-1 R:x1 R:wp1 W:pq1 RW:odd1",
        "prefill_attention@gpu0!-1 R:pq1 W:po1 R:oddp R:odd0 R:odd1",
        "output@gpu0!-1 R:wo1 RW:x1 R:po1",
        "ffn@gpu0!-1 R:wf1 RW:x1",
        NULL};
    struct fixture f;
    struct prompt p;
    struct lender from;
    set_up_prefix(&p, &f, &from, GPU);
    submit_chunks(&p, 0);
    assert_recorded(dense);
    assert_true(recorded_work[0].bytes == restored_bytes(KV_HEADS, 2.0));
    num_recorded = 0;
    submit_chunks(&p, 1);
    assert_recorded(sparse);
    assert_true(recorded_work[1].bytes == restored_bytes(1, 2.0));
    num_recorded = 0;
    from.shards[0].offloaded.dtype = from.shards[1].offloaded.dtype = MP_I8;
    submit_chunks(&p, 1);
    assert_true(recorded_work[0].bytes == restored_bytes(1, 1.0));
}

/* A lender whose prompt fitted the static caches has nothing offloaded. */
static void test_prefill_nothing_offloaded(void **state)
{
    (void)state;
    struct fixture f;
    struct prompt p;
    struct lender from;
    set_up_prefix(&p, &f, &from, ANY_CPU);
    from.kv[1].offloaded = 0;
    submit_chunks(&p, 1);
    assert_string_equal(recorded[0], "restore@cpu!-1 R:lent1 RW:oddp");
    assert_string_equal(recorded[1], "projection@cpu!-1 R:x0 R:wp1 W:pq0 RW:odd0");
}

/* ---- what is kept ---- */

/* Of a prompt that was restored all is kept, from the restored tokens on. */
static void test_keep_restored(void **state)
{
    (void)state;
    struct fixture f;
    struct prompt p;
    struct lender from;
    set_up_prefix(&p, &f, &from, GPU);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 0);
    assert_int_equal(num_recorded, 1);
    assert_string_equal(recorded[0], "offload@gpu0!-2 RW:kv0.0 R:evenp R:even0 R:even1");
}

/* Of one that shares its prefix, the rest goes to the static caches, of all heads at once, with the
 * sink where the layer is sparse; nothing is offloaded or indexed. */
static void test_keep_shared(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@gpu0!-2 RW:kv0.0 R:evenp R:even0 R:even1",
                                           "offload@gpu0!-2 RW:kv0.1 R:oddp R:odd0 R:odd1", NULL};
    const double token = KV_HEADS * D * 8.0;
    struct fixture f;
    struct prompt p;
    struct lender from;
    set_up_prefix(&p, &f, &from, GPU);
    f.graph.center = true;
    f.shard_kv[0][0].offloaded.dtype = MP_I8; /* no token of this request's */
    p.prefill.keep.shared = SHARED;
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    for (int l = 0; l < LAYERS; l++) {
        mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, l);
    }
    assert_recorded(expected);
    assert_true(recorded_work[0].bytes == (168 - SHARED) * token);
    assert_true(recorded_work[1].bytes == (4 + 168 - SHARED) * token);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode),
        cmocka_unit_test(test_decode_without),
        cmocka_unit_test(test_decode_on_a_gpu),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_prefill_nothing_offloaded),
        cmocka_unit_test(test_keep_restored),
        cmocka_unit_test(test_keep_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
