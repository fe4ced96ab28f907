/* What the method pps submits in a sparse layer. */
#include "codelets/common/attention/codes.h"
#include "graph_fixture.h"

/* The fixture, with a rotation of which there is nothing but its size. */
static void set_up_pps(struct fixture *f, struct mp_config *config, struct mp_device dense,
                       int shards, int num_rows)
{
    int64_t counted[MP_MEMORIES] = {0};
    struct mp_allocator counter = {.counted = counted};
    struct mp_error err;
    mp_config_init(config);
    assert_int_equal(mp_config_set(config, "attention.samples", "30", &err), 0);
    set_up(f, &mp_method_pps, dense, shards, num_rows);
    f->attention.config = config;
    mp_method_pps.create_shared(&f->attention, &counter, mp_memory_of(dense));
    /* A sign a channel. */
    enum mp_memory memory = dense.kind == MP_GPU ? MP_MEMORY_GPU : MP_MEMORY_HOST;
    assert_int_equal(counted[memory], (int64_t)D * 4);
}

static void tear_down(struct fixture *f, struct mp_config *config)
{
    mp_method_pps.destroy_shared(&f->attention);
    mp_config_free(config);
}

static void check_layer(struct fixture *f, const char *const *expected)
{
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f->parts, 1);
    assert_recorded(expected);
}

/* On the CPU each shard selects for itself, of the step's own queries. */
static void test_decode_on_two_workers(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp1 W:q W:q0 W:q1 RW:kv0.1",
        "code_select@cpu0!1 R:q R:? W:nnz0.1 R:index0.0 W:sel0.0 W:lw0.0 W:scr0.0",
        "code_select@cpu1!1 R:q R:? W:nnz1.1 R:index0.1 W:sel0.1 W:lw0.1 W:scr0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0 R:lw0.0",
        "sampled_attention@cpu1!1 R:q1 R:nnz1.1 W:o1 W:l1 R:off0.1 R:sel0.1 R:lw0.1",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@cpu!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_CPU, -1}, 2, 1);
    check_layer(&f, expected);
    tear_down(&f, &config);
}

/* A GPU selects for shards whose keys are in CPU memory: these wait for the end of that alone, not
 * for the projection's. */
static void test_decode_before_two_workers(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@gpu0+!1 R:x R:wp1 W:q W:q0 W:q1 RW:kv0.1",
        "code_select@gpu0!1 R:q R:? W:nnz0.1 R:index0.0 W:sel0.0 W:lw0.0 W:scr0.0",
        "code_select@gpu0!1 R:q R:? W:nnz1.1 R:index0.1 W:sel0.1 W:lw0.1 W:scr0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0 R:lw0.0",
        "sampled_attention@cpu1!1 R:q1 R:nnz1.1 W:o1 W:l1 R:off0.1 R:sel0.1 R:lw0.1",
        "static_attention@gpu0!0 R:q W:os W:ls R:kv0.1",
        "output@gpu0+!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@gpu0+!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_GPU, 0}, 2, 1);
    check_layer(&f, expected);
    tear_down(&f, &config);
}

/* An observed step tells, after all else of the layer, the error of what was drawn. */
static void test_observed(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@gpu0+!1 R:x R:wp1 W:q W:q0 W:q1 RW:kv0.1",
        "code_select@gpu0!1 R:q R:? W:nnz0.1 R:index0.0 W:sel0.0 W:lw0.0 W:scr0.0",
        "code_select@gpu0!1 R:q R:? W:nnz1.1 R:index0.1 W:sel0.1 W:lw0.1 W:scr0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0 R:lw0.0",
        "sampled_attention@cpu1!1 R:q1 R:nnz1.1 W:o1 W:l1 R:off0.1 R:sel0.1 R:lw0.1",
        "static_attention@gpu0!0 R:q W:os W:ls R:kv0.1",
        "output@gpu0!1 R:wo1 RW:x W:om W:lm R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@gpu0+!1 R:wf1 RW:x",
        "sampling_error@cpu0!1 R:q0 R:nnz0.1 R:om R:lm W:err0.1 R:off0.0 R:sel0.0 R:lw0.0",
        "sampling_error@cpu1!1 R:q1 R:nnz1.1 R:om R:lm W:err1.1 R:off0.1 R:sel0.1 R:lw0.1",
        NULL};
    struct fixture f;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_GPU, 0}, 2, 1);
    f.step.observe = true;
    check_layer(&f, expected);
    tear_down(&f, &config);
}

/* Codes are where the selecting is: the GPU reads the keys that it has offloaded. */
static void test_index(void **state)
{
    (void)state;
    static const char *const expected[] = {"offload@gpu0!-2 RW:kv0.1 RW:off0.0 R:odd0 R:odd1",
                                           "offload@gpu0!-2 RW:kv0.1 RW:off0.1 R:odd0 R:odd1",
                                           "encode_keys@gpu0!-2 R:off0.0 R:? RW:index0.0",
                                           "encode_keys@gpu0!-2 R:off0.1 R:? RW:index0.1", NULL};
    struct fixture f;
    struct prompt p;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_GPU, 0}, 2, 1);
    set_up_prompt(&p, &f);
    struct key_codes codes = {
        .count = 100, .capacity = 100, .num_kv_heads = 1, .head_dim = D, .bits = 2};
    f.kv[0][1].shards[0].index = f.kv[0][1].shards[1].index = &codes;
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
    tear_down(&f, &config);
}

/* Old tokens are encoded as they lie in the static cache, then they leave it, both where that is.
 */
static void test_growth(void **state)
{
    (void)state;
    static const char *const expected[] = {"encode_keys@gpu0!1 R:leave0.0 R:? RW:index0.0",
                                           "evict@gpu0!1 RW:kv0.1 RW:off0.0 RW:leave0.0",
                                           "encode_keys@gpu0!1 R:leave0.1 R:? RW:index0.1",
                                           "evict@gpu0!1 RW:kv0.1 RW:off0.1 RW:leave0.1", NULL};
    struct fixture f;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_GPU, 0}, 2, 1);
    struct key_codes codes = {
        .count = 100, .capacity = 200, .num_kv_heads = 1, .head_dim = D, .bits = 2};
    f.kv[0][1].shards[0].index = f.kv[0][1].shards[1].index = &codes;
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    struct mp_growth growth = {.kv = f.kv[0], .first = 4, .count = 32, .used = 100};
    mp_submit_growth(&sub, &f.graph, &growth, 1);
    assert_recorded(expected);
    tear_down(&f, &config);
}

/* Those of another rank's heads leave, too, and are kept there. */
static void test_growth_on_two_ranks(void **state)
{
    (void)state;
    static const char *const expected[] = {"encode_keys@cpu0!1 R:leave0.0 R:? RW:index0.0",
                                           "evict@cpu!1 RW:kv0.1 RW:off0.0 RW:leave0.0",
                                           "evict@cpu!1 RW:kv0.1", NULL};
    struct fixture f;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_CPU, -1}, 2, 1);
    f.cut.count = 1;
    f.shards[1].rank = 1;
    struct key_codes codes = {
        .count = 100, .capacity = 200, .num_kv_heads = 1, .head_dim = D, .bits = 2};
    f.kv[0][1].shards[0].index = &codes;
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    struct mp_growth growth = {.kv = f.kv[0], .first = 4, .count = 32, .used = 100};
    mp_submit_growth(&sub, &f.graph, &growth, 1);
    assert_recorded(expected);
    tear_down(&f, &config);
}

/* One sample more than asked for finds room, and no more than there are tokens. */
static void test_room(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_config config;
    set_up_pps(&f, &config, (struct mp_device){MP_CPU, -1}, 1, 1);
    static const int64_t tokens[][2] = {{0, 0}, {30, 30}, {31, 31}, {32, 31}, {1000, 31}};
    for (size_t i = 0; i < sizeof tokens / sizeof tokens[0]; i++) {
        struct mp_shard_size size = {.kv_heads = 1, .query_heads = 2, .tokens = tokens[i][0]};
        assert_int_equal(mp_method_pps.room(&f.attention, &size), tokens[i][1]);
        assert_int_equal(mp_selections_of(&mp_method_pps, &size), 1);
    }
    assert_float_equal(mp_method_pps.expected_share(&f.attention, 300), 0.1, 1e-12);
    assert_float_equal(mp_method_pps.expected_share(&f.attention, 20), 1.0, 0);
    tear_down(&f, &config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_on_two_workers),
        cmocka_unit_test(test_decode_before_two_workers),
        cmocka_unit_test(test_observed),
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_growth_on_two_ranks),
        cmocka_unit_test(test_room),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
