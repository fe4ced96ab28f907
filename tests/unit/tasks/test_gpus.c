/* What is submitted where a model is split between two GPUs: layers on each, or a part of every
 * layer. */
#include "graph_fixture.h"

/* Layers on two GPUs: the residual stream goes from one to the other by a task whose end is waited
 * for, since the second one's tasks are in another stream. What follows the layers is on the
 * second. An earlier micro-batch goes before a later one. */
static void test_layers_on_two_gpus(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "embed@gpu0+!5 R:ids R:embed W:x",
        "projection@gpu0+!5 R:x R:wp0 W:q RW:kv0.0",
        "static_attention@gpu0+!4 R:q W:os W:ls R:kv0.0",
        "output@gpu0+!5 R:wo0 RW:x R:os R:ls",
        "ffn@gpu0+!5 R:wf0 RW:x",
        "peer_copy@gpu0!5 R:x W^:x'",
        "projection@gpu1!5 R:x' R:wp1 W:q' W:q0 RW:kv0.1",
        "sampled_attention@cpu!5 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "static_attention@gpu1!4 R:q' W:os' W:ls' R:kv0.1",
        "output@gpu1+!5 R:wo1 RW:x' R:os' R:ls' R:o0 R:l0",
        "ffn@gpu1+!5 R:wf1 RW:x'",
        "lm_head@gpu1!5 R:x' R:norm R:lm_head W:logits",
        "sample@cpu!5 RW:logits W:ids",
        NULL};
    struct fixture f;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_GPU, 0}, 1, 1);
    assert_false(mp_ends_stage(&f.graph.placements, 0));
    f.cut.list[0].device = (struct mp_device){MP_GPU, 0};
    assert_false(mp_takes_turns(&f.graph.placements));
    add_device(&f);
    assert_true(mp_takes_turns(&f.graph.placements));
    assert_true(mp_ends_stage(&f.graph.placements, 0));
    assert_false(mp_ends_stage(&f.graph.placements, 1));
    f.cut.list[0].device = (struct mp_device){MP_CPU, -1};
    f.step.lead = 4;
    submit_step(&f);
    assert_recorded(expected);
    /* A vector of the request, read and written. */
    assert_float_equal(recorded_work[5].bytes, 2 * 32 * 4.0, 1e-6);
}

/* Parts of a layer on two GPUs: what each has added is summed up by both after attention and after
 * the FFN, whose ends are waited for; after the last layer by the first alone, which has the LM
 * head. */
static void test_parts_on_two_gpus(void **state)
{
    (void)state;
    static const char *const expected[] = {"embed@gpu0!1 R:ids R:embed W:y",
                                           "peer_mean@gpu0+!1 W:x R^:y",
                                           "peer_mean@gpu1+!1 W:x' R^:y",
                                           "projection@gpu0+!1 R:x R:wp0 W:q RW:kv0.0",
                                           "static_attention@gpu0+!0 R:q W:os W:ls R:kv0.0",
                                           "output@gpu0!1 R:wo0 RW:x R:os R:ls",
                                           "projection@gpu1+!1 R:x' R:wp0 W:q' RW:kv0.0",
                                           "static_attention@gpu1+!0 R:q' W:os' W:ls' R:kv0.0",
                                           "output@gpu1!1 R:wo0 RW:x' R:os' R:ls'",
                                           "peer_mean@gpu0+!1 W:y R^:x R^:x'",
                                           "peer_mean@gpu1+!1 W:y' R^:x R^:x'",
                                           "ffn@gpu0!1 R:wf0 RW:y",
                                           "ffn@gpu1!1 R:wf0 RW:y'",
                                           "peer_mean@gpu0+!1 W:x R^:y R^:y'",
                                           "peer_mean@gpu1+!1 W:x' R^:y R^:y'",
                                           "projection@gpu0+!1 R:x R:wp1 W:q RW:kv0.1",
                                           "static_attention@gpu0+!0 R:q W:os W:ls R:kv0.1",
                                           "output@gpu0!1 R:wo1 RW:x R:os R:ls",
                                           "projection@gpu1+!1 R:x' R:wp1 W:q' RW:kv0.1",
                                           "static_attention@gpu1+!0 R:q' W:os' W:ls' R:kv0.1",
                                           "output@gpu1!1 R:wo1 RW:x' R:os' R:ls'",
                                           "peer_mean@gpu0+!1 W:y R^:x R^:x'",
                                           "peer_mean@gpu1+!1 W:y' R^:x R^:x'",
                                           "ffn@gpu0!1 R:wf1 RW:y",
                                           "ffn@gpu1!1 R:wf1 RW:y'",
                                           "peer_mean@gpu0+!1 W:x R^:y R^:y'",
                                           "lm_head@gpu0!1 R:x R:norm R:lm_head W:logits",
                                           "sample@cpu!1 RW:logits W:ids",
                                           NULL};
    struct fixture f;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_GPU, 0}, 1, 1);
    f.kv[0][1].offloaded = 0;
    f.graph.part = true;
    /* The second part has the same layers, on another device. */
    struct mp_placement places[LAYERS] = {f.places[0], f.places[1]};
    struct mp_graph graph = f.graph;
    struct mp_step_buffers buffers = f.buffers;
    struct mp_decode_step step = f.step;
    graph.placements.layers = places;
    graph.placements.devices[0] = places[0].dense = places[1].dense = (struct mp_device){MP_GPU, 1};
    buffers.dense = &f.dense[1];
    step.buffers = &buffers;
    f.parts = (struct mp_decode_parts){2, {&f.graph, &graph}, {&f.step, &step}};
    submit_step(&f);
    assert_recorded(expected);
    /* A vector of each part read, one written. */
    assert_float_equal(recorded_work[9].bytes, 3 * 32 * 4.0, 1e-6);
}

static const struct mp_method ESTIMATES = {.name = "estimates",
                                           .sparse = true,
                                           .keeps = true,
                                           .log_weights = true,
                                           .estimates_error = true,
                                           .select = select_nothing};

/* What is observed of the last layer of a GPU is waited for: the next layer is in another stream,
 * and writes what this task reads. */
static void test_observed_before_another_gpu(void **state)
{
    (void)state;
    static const char *const error =
        "sampling_error@gpu0%s!1 R:q0 R:nnz0.0 R:om R:lm W:err0.0 R:off0.0 R:sel0.0 R:lw0.0";
    char expected[MAX_LINE];
    struct fixture f;
    for (int devices = 1; devices <= DEVICES; devices++) {
        set_up(&f, &ESTIMATES, (struct mp_device){MP_GPU, 0}, 1, 1);
        f.shards[0].device = (struct mp_device){MP_GPU, 0};
        f.places[0].sparse = true;
        f.places[0].cut = 0;
        f.kv[0][0].shards = f.shard_kv[0];
        f.kv[0][0].offloaded = 100;
        f.step.observe = true;
        if (devices > 1) {
            add_device(&f);
        }
        struct mp_submit sub = mp_submit_begin(NULL, NULL);
        mp_submit_decode_layer(&sub, &f.parts, 0);
        snprintf(expected, sizeof expected, error, devices == 1 ? "+" : "");
        assert_string_equal(recorded[num_recorded - 1], expected);
        assert_string_equal(recorded[num_recorded - 2],
                            devices == 1 ? "ffn@gpu0+!1 R:wf0 RW:x" : "peer_copy@gpu0!1 R:x W^:x'");
    }
}

/* Chunk by chunk over two GPUs. */
static void test_prefill_on_two_gpus(void **state)
{
    (void)state;
    static const char *const expected[] = {"embed@gpu0!-1 R:ids0 R:embed W:x0",
                                           "embed@gpu0!-1 R:ids1 R:embed W:x1",
                                           "projection@gpu0!-1 R:x0 R:wp0 W:pq0 RW:even0",
                                           "prefill_attention@gpu0!-1 R:pq0 W:po0 R:even0",
                                           "output@gpu0!-1 R:wo0 RW:x0 R:po0",
                                           "ffn@gpu0!-1 R:wf0 RW:x0",
                                           "peer_copy@gpu0!-1 R:x0 W^:x0'",
                                           "projection@gpu1!-1 R:x0' R:wp1 W:pq0' RW:odd0",
                                           "projection@gpu0!-1 R:x1 R:wp0 W:pq1 RW:even1",
                                           "prefill_attention@gpu0!-1 R:pq1 W:po1 R:even0 R:even1",
                                           "output@gpu0!-1 R:wo0 RW:x1 R:po1",
                                           "ffn@gpu0!-1 R:wf0 RW:x1",
                                           "peer_copy@gpu0!-1 R:x1 W^:x1'",
                                           "projection@gpu1!-1 R:x1' R:wp1 W:pq1' RW:odd1",
                                           "prefill_attention@gpu1!-1 R:pq1' W:po1' R:odd0 R:odd1",
                                           "output@gpu1!-1 R:wo1 RW:x1' R:po1'",
                                           "ffn@gpu1!-1 R:wf1 RW:x1'",
                                           "lm_head@gpu1!-1 R:x1' R:norm R:lm_head W:logits",
                                           NULL};
    struct fixture f;
    struct prompt p;
    set_up(&f, &SELECTS_NOTHING, (struct mp_device){MP_GPU, 0}, 1, 1);
    add_device(&f);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_embed(&sub, &p.parts);
    for (int c = 0; c < MAX_CHUNKS; c++) {
        mp_submit_prefill_chunk(&sub, &p.parts, 0, c);
        mp_submit_prefill_chunk(&sub, &p.parts, 1, c);
    }
    mp_submit_prefill_logits(&sub, &f.graph, &p.prefill, 1, (struct mp_rows){47, 1},
                             &f.buffers.logits);
    assert_recorded(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layers_on_two_gpus),
        cmocka_unit_test(test_parts_on_two_gpus),
        cmocka_unit_test(test_observed_before_another_gpu),
        cmocka_unit_test(test_prefill_on_two_gpus),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
