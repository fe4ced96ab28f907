/* What quest, topk and oracle, methods with a budget of tokens, submit in a sparse layer. */
#include "graph_fixture.h"

/* The fixture with a budget of half of the tokens, in pages of 8. */
static void set_up_budget(struct fixture *f, struct mp_config *c, const struct mp_method *method,
                          struct mp_device dense, int shards, int num_rows)
{
    struct mp_error err;
    mp_config_init(c);
    assert_int_equal(mp_config_set(c, "attention.budget", "0.5", &err), 0);
    assert_int_equal(mp_config_set(c, "attention.page_size", "8", &err), 0);
    set_up(f, method, dense, shards, num_rows);
    f->attention.config = c;
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
    set_up_budget(&f, &c, &mp_method_topk, (struct mp_device){MP_CPU, -1}, 2, 1);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
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
    set_up_budget(&f, &c, &mp_method_oracle, (struct mp_device){MP_GPU, 0}, 1, 2);
    f.shards[0].device = (struct mp_device){MP_GPU, 0};
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
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
    set_up_budget(&f, &c, &mp_method_quest, (struct mp_device){MP_GPU, 0}, 1, 1);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_decode_layer(&sub, &f.parts, 1);
    assert_recorded(expected);
    /* 12 full pages of 100 tokens: their bounds, and a score for each of the four query heads. */
    assert_float_equal(recorded_work[1].bytes, 12.0 * (4.0 * KV_HEADS * D + 8.0 * HEADS), 1e-6);
    mp_config_free(&c);
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
    set_up_budget(&f, &c, &mp_method_quest, (struct mp_device){MP_GPU, 0}, 2, 1);
    set_up_prompt(&p, &f);
    struct mp_submit sub = mp_submit_begin(NULL, NULL);
    mp_submit_prefill_keep(&sub, &f.graph, &p.prefill, 1);
    assert_recorded(expected);
    mp_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topk),
        cmocka_unit_test(test_oracle_on_a_gpu),
        cmocka_unit_test(test_quest_beside_a_gpu),
        cmocka_unit_test(test_keep_pages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
