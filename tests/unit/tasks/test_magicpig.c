/* What the method magicpig submits in a sparse layer. */
#include "graph_fixture.h"

/* The fixture, with hash functions of which there is nothing but their sizes. */
static void set_up_magicpig(struct fixture *f, struct mp_config *config, struct mp_device dense,
                            int shards)
{
    int64_t counted[MP_MEMORIES] = {0};
    struct mp_allocator counter = {.counted = counted};
    mp_config_init(config);
    set_up(f, &mp_method_magicpig, dense, shards, 1);
    f->attention.config = config;
    mp_method_magicpig.create_shared(&f->attention, &counter, mp_memory_of(dense));
    /* One group of layers: KV heads x head_dim x K x L. */
    enum mp_memory memory = dense.kind == MP_GPU ? MP_MEMORY_GPU : MP_MEMORY_HOST;
    assert_int_equal(counted[memory], (int64_t)KV_HEADS * D * 10 * 150 * 4);
}

static void tear_down(struct fixture *f, struct mp_config *config)
{
    mp_method_magicpig.destroy_shared(&f->attention);
    mp_config_free(config);
}

static void submit_layer(struct fixture *f)
{
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f->parts, 1);
}

static void test_decode_on_one_worker(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@cpu!1 R:x R:wp1 W:q RW:kv0.1",
        "hashing@cpu!1 R:q R:? W:query0",
        "table_lookup@cpu!1 R:query0 W:nnz0.1 R:index0.0 W:sel0.0",
        "sampled_attention@cpu!1 R:q R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "static_attention@cpu!0 R:q W:os W:ls R:kv0.1",
        "output@cpu!1 R:wo1 RW:x R:os R:ls R:o0 R:l0",
        "ffn@cpu!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config config;
    set_up_magicpig(&f, &config, (struct mp_device){MP_CPU, -1}, 1);
    submit_layer(&f);
    assert_recorded(expected);
    tear_down(&f, &config);
}

/* The GPU hashes for all shards in one task, whose end the lookups wait for. */
static void test_decode_before_two_workers(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "projection@gpu0+!1 R:x R:wp1 W:q W:q0 W:q1 RW:kv0.1",
        "hashing@gpu0!1 R:q R:? W:query0 W:query1",
        "table_lookup@cpu0!1 R:query0 W:nnz0.1 R:index0.0 W:sel0.0",
        "table_lookup@cpu1!1 R:query1 W:nnz1.1 R:index0.1 W:sel0.1",
        "sampled_attention@cpu0!1 R:q0 R:nnz0.1 W:o0 W:l0 R:off0.0 R:sel0.0",
        "sampled_attention@cpu1!1 R:q1 R:nnz1.1 W:o1 W:l1 R:off0.1 R:sel0.1",
        "static_attention@gpu0!0 R:q W:os W:ls R:kv0.1",
        "output@gpu0+!1 R:wo1 RW:x R:os R:ls R:o0 R:l0 R:o1 R:l1",
        "ffn@gpu0+!1 R:wf1 RW:x",
        NULL};
    struct fixture f;
    struct mp_config config;
    set_up_magicpig(&f, &config, (struct mp_device){MP_GPU, 0}, 2);
    submit_layer(&f);
    assert_recorded(expected);
    tear_down(&f, &config);
}

/* Each shard gets its heads, then their codes, then its tables where it works. The first shard's
 * keys are read from a copy. */
static void test_index(void **state)
{
    (void)state;
    static const char *const expected[] = {
        "offload@gpu0!-2 RW:kv0.1 RW:off0.0 RW:keys0 R:odd0 R:odd1",
        "offload@gpu0!-2 RW:kv0.1 RW:off0.1 R:odd0 R:odd1",
        "hashing_keys@gpu0!-2 R:keys0 R:? W:scratch0",
        "table_build@cpu0!-2 R:scratch0 RW:index0.0",
        "hashing_keys@gpu0!-2 R:off0.1 R:? W:scratch1",
        "table_build@cpu1!-2 R:scratch1 RW:index0.1",
        NULL};
    struct fixture f;
    struct prompt p;
    struct mp_config config;
    set_up_magicpig(&f, &config, (struct mp_device){MP_GPU, 0}, 2);
    set_up_prompt(&p, &f);
    p.scratch[0].keys.k = &p;
    name_buffer(&p.scratch[0].keys_buffer, "keys0");
    name_buffer(&p.scratch[0].work, "scratch0");
    name_buffer(&p.scratch[1].work, "scratch1");
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
    tear_down(&f, &config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decode_on_one_worker),
        cmocka_unit_test(test_decode_before_two_workers),
        cmocka_unit_test(test_index),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
