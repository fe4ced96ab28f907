/* What the layers submit: order, devices, access modes and priorities, with one CPU worker, with
 * several, and with a GPU before them. */
#include "graph_fixture.h"

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
        "sample@cpu!1 RW:logits W:ids",
        NULL};
    struct fixture f;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_CPU, -1}, 1, 2);
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
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_CPU, -1}, 2, 1);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
    assert_recorded(expected);
}

/* The GPU's tasks follow each other in its stream; but the host waits for the logits, the CPU for
 * the queries that a method makes nothing of, and static attention of a layer that is handed to the
 * CPU is not to count the wait for it. */
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
        "sample@cpu!1 RW:logits W:ids",
        NULL};
    struct fixture f;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_GPU, 0}, 1, 1);
    assert_true(mp_handed_to_cpu(&f.graph.placements, 1));
    assert_false(mp_handed_to_cpu(&f.graph.placements, 0));
    submit_step(&f);
    assert_recorded(expected);
}

/* The second shard is another rank's. */
static void set_up_ranks(struct fixture *f, struct mp_device dense)
{
    set_up(f, &SELECTS_NOTHING, dense, 2, 1);
    f->cut.count = 1;
    f->shards[1].rank = 1;
}

/* What each of two ranks has computed, and how much it has selected, gets to both before it is
 * merged. */
static void test_decode_on_two_ranks(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp1 W:q W:q0 RW:kv0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "exchange@cpu!1 R:o0 R:l0 R:nnz0.1 W:o1 W:l1 W:nnz1.1",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@cpu!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    set_up_ranks(&f, (struct mp_device){MP_CPU, -1});
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
    assert_recorded(expected);
    /* Two query heads a shard: their vectors, a sum and a count each. */
    assert_float_equal(recorded_work[2].bytes, 2 * (2 * D * 4.0 + 2 * 4.0 + 2 * 4.0), 1e-6);
}

/* A GPU's results are sent by the CPU: they are waited for. */
static void test_decode_on_two_gpus(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@gpu0+!1 R:x R:wp1 W:q W:q0 RW:kv0.1",
        "sampled_attention@gpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "exchange@cpu!1 R:o0 R:l0 R:nnz0.1 W:o1 W:l1 W:nnz1.1",
        "static_attention@gpu0!0 R:q W:os W:ls R:kv0.1",
        "output@gpu0+!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@gpu0+!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    set_up_ranks(&f, (struct mp_device){MP_GPU, 0});
    f.shards[0].device = (struct mp_device){MP_GPU, 0};
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
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
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_CPU, -1}, 2, 1);
    f.kv[0][1].offloaded = 0;
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
    assert_recorded(expected);
}

/* A key, a value and an id a selected token; its queries, o and lse aside. */
static void test_work_follows_what_is_selected(void **state)
{
    (void)state;
    static const double more[LAYERS] = {0.0, 1050.0};
    struct fixture f;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_CPU, -1}, 1, 1);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
    f.rows[0].expected_nnz = more;
    mp_submit_decode_layer(&sub, &f.parts, 1);
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
    set_up(&f, &mp_method_streaming, (struct mp_device){MP_GPU, 0}, 1, 1);
    f.places[1].cut = -1;
    f.kv[0][1].shards = NULL;
    f.kv[0][1].offloaded = 0;
    assert_false(mp_takes_turns(&f.graph.placements));
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
    assert_recorded(expected);
}

/* ---- prefill ---- */

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
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_GPU, 0}, 1, 1);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_embed(&sub, &p.parts);
    mp_submit_prefill_chunk(&sub, &p.parts, 0, 1);
    mp_submit_prefill_chunk(&sub, &p.parts, 1, 0);
    mp_submit_prefill_chunk(&sub, &p.parts, 1, 1);
    mp_submit_prefill_logits(&sub, &f.graph, &p.prefill, 1, (struct mp_rows){47, 1},
                             &f.buffers.logits);
    assert_recorded(expected);
    assert_int_equal(recorded_about[3].request, 5);
    assert_int_equal(recorded_about[3].chunk, 1);
}

/* The plain attention of a chunk is several tasks, all rows in all: an interrupt waits for one. */
static void test_plain_prefill(void **state)
{
    (void)state;
    static const char *const expected[] = {"projection@cpu!-1 R:x1 R:wp0 W:pq1 RW:even1",
                                           "prefill_attention@cpu!-1 R:pq1 W:po1 R:even0 R:even1",
                                           "prefill_attention@cpu!-1 R:pq1 W:po1 R:even0 R:even1",
                                           "output@cpu!-1 R:wo0 RW:x1 R:po1",
                                           "ffn@cpu!-1 R:wf0 RW:x1",
                                           NULL};
    struct fixture f;
    struct prompt p;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_CPU, -1}, 1, 1);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_chunk(&sub, &p.parts, 0, 1);
    assert_int_equal(num_recorded, 4);
    double whole = recorded_work[1].flops;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_CPU, -1}, 1, 1);
    set_up_prompt(&p, &f);
    f.graph.blocked_prefill = false;
    mp_submit_prefill_chunk(&sub, &p.parts, 0, 1);
    assert_recorded(expected);
    assert_true(recorded_work[2].flops > 0.0);
    assert_true(recorded_work[1].flops + recorded_work[2].flops == whole);
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
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_GPU, 0}, 2, 1);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 0);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
}

/* Of another rank's heads, the sink and the window are kept here, too. */
static void test_keep_on_two_ranks(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@cpu!-2 RW:kv0.1 RW:off0.0 R:odd0 R:odd1",
                                           "offload@cpu!-2 RW:kv0.1 R:odd0 R:odd1", NULL};
    struct fixture f;
    struct prompt p;
    set_up_ranks(&f, (struct mp_device){MP_CPU, -1});
    f.graph.center = true;
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
    /* What is dropped is read for the mean: its keys alone. */
    assert_float_equal(recorded_work[1].bytes, (8.0 * 68 + 2.0 * 168) * D, 1e-6);
}

/* Of a layer whose offloaded tokens are dropped: sink and window go to the static cache. */
static void test_keep_without_shards(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@cpu!-2 RW:kv0.1 R:odd0 R:odd1", NULL};
    struct fixture f;
    struct prompt p;
    set_up(&f, &mp_method_streaming, (struct mp_device){MP_CPU, -1}, 1, 1);
    f.places[1].cut = -1;
    f.kv[0][1].offloaded = 0;
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_on_one_worker),
        cmocka_unit_test(test_decode_on_two_workers),
        cmocka_unit_test(test_decode_on_a_gpu),
        cmocka_unit_test(test_decode_on_two_ranks),
        cmocka_unit_test(test_decode_on_two_gpus),
        cmocka_unit_test(test_nothing_offloaded),
        cmocka_unit_test(test_nothing_kept),
        cmocka_unit_test(test_work_follows_what_is_selected),
        cmocka_unit_test(test_prefill),
        cmocka_unit_test(test_plain_prefill),
        cmocka_unit_test(test_keep),
        cmocka_unit_test(test_keep_on_two_ranks),
        cmocka_unit_test(test_keep_without_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
