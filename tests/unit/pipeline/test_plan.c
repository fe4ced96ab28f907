/* The memory plan against numbers worked out by hand, and its limits. */
#include "engine_fixture.h"
#include "pipeline/cli/summary.h"
#include "pipeline/engine/plan.h"

#include <string.h>

static const struct mp_shape SHAPE = {
    .hidden_size = 4096,
    .num_hidden_layers = 32,
    .num_attention_heads = 32,
    .num_key_value_heads = 8,
    .head_dim = 128,
    .intermediate_size = 14336,
    .vocab_size = 128256,
    .rms_norm_eps = 1e-5f,
};

static struct mp_plan make_plan(const char *const *flags, int sparse_layers, enum mp_dtype dtype,
                                int64_t tokens)
{
    struct mp_config config;
    struct mp_plan plan;
    mp_config_init(&config);
    set_flags(&config, flags);
    mp_plan_make(&(struct mp_plan_run){.config = &config,
                                       .shape = &SHAPE,
                                       .sparse_layers = sparse_layers,
                                       .dtype = dtype,
                                       .tokens = tokens,
                                       .new_tokens = 32},
                 &plan);
    mp_config_free(&config);
    return plan;
}

/* Llama-3.1-8B at 98,304 tokens with layers 0 and 16 dense. */
static void test_llama_8b(void **state)
{
    (void)state;
    struct mp_plan p = make_plan(NULL, 30, MP_BF16, 98304);
    const int64_t kv = 2 * 2 * 8 * 128; /* bytes a token and layer */
    const int64_t offloaded = 98304 - 68;
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV], 2 * (98304 + 256) * kv);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_STATIC_KV], 30 * (68 + 256) * kv);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV], 30 * offloaded * kv);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_TABLES],
                     30 * 8 * 150 * (offloaded * 2 + 2 * 1025 * 4));
    /* 8.03 billion parameters of two bytes, and a little for norms. */
    assert_true(p.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS] > INT64_C(16060) * 1000000 &&
                p.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS] < INT64_C(16070) * 1000000);
    int64_t sum = 0;
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        sum += p.bytes[MP_PLAN_CPU][i];
    }
    assert_int_equal(p.total[MP_PLAN_CPU], sum);
    /* The design's bound on KV and tables of a 96K request. */
    int64_t request =
        p.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV] + p.bytes[MP_PLAN_CPU][MP_PLAN_STATIC_KV] +
        p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV] + p.bytes[MP_PLAN_CPU][MP_PLAN_TABLES];
    assert_true(request <= INT64_C(19) << 30);
}

static void test_scaling(void **state)
{
    (void)state;
    static const char *const four[] = {"batch", "4", NULL};
    struct mp_plan one = make_plan(NULL, 31, MP_BF16, 10000);
    struct mp_plan p = make_plan(four, 31, MP_BF16, 10000);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_TABLES],
                     4 * one.bytes[MP_PLAN_CPU][MP_PLAN_TABLES]);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS],
                     one.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS]);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL],
                     one.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL]);

    p = make_plan(NULL, 0, MP_BF16, 10000);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_TABLES], 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_HASH_FUNCTIONS], 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV], 0);

    p = make_plan(NULL, 31, MP_F32, 10000);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV],
                     2 * one.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV]);

    p = make_plan(NULL, 31, MP_BF16, 68);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV], 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_TABLES], 0);
}

/* With a GPU the dense data are there, and the sampled layers that fit: no byte more than allowed.
 */
static void test_gpu(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    struct mp_plan all;
    struct mp_plan some;
    mp_config_init(&config);
    struct mp_plan_run run = {.config = &config,
                              .shape = &SHAPE,
                              .sparse_layers = 30,
                              .dtype = MP_BF16,
                              .tokens = 98304,
                              .new_tokens = 32,
                              .gpu = true,
                              .gpu_limit = INT64_C(80) << 30};
    mp_plan_make(&run, &all);
    assert_int_equal(all.gpu_kv_layers, 30);
    assert_int_equal(all.bytes[MP_PLAN_CPU][MP_PLAN_TABLES], 0);
    assert_int_equal(all.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV], 0);
    /* Weights pass through CPU memory block by block; the largest is the embedding. */
    assert_int_equal(all.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS],
                     (int64_t)SHAPE.vocab_size * SHAPE.hidden_size * 2);

    run.gpu_limit = all.total[MP_PLAN_GPU] - 1;
    mp_plan_make(&run, &some);
    assert_int_equal(some.gpu_kv_layers, 29);
    assert_true(some.total[MP_PLAN_GPU] <= run.gpu_limit);
    assert_int_equal(some.bytes[MP_PLAN_CPU][MP_PLAN_TABLES] * 30,
                     all.bytes[MP_PLAN_GPU][MP_PLAN_TABLES]);
    config.memory_limit = INT64_C(1) << 40;
    ASSERT_OK(mp_plan_check(&some, &config, &err));

    run.gpu_limit = INT64_C(8) << 30;
    mp_plan_make(&run, &some);
    assert_int_equal(some.gpu_kv_layers, 0);
    assert_int_equal(mp_plan_check(&some, &config, &err), MP_ERR_MEMORY);
    if (strstr(err.message, "the GPU has 8.00 GiB") == NULL) {
        fail_msg("%s", err.message);
    }
    mp_config_free(&config);
}

static void test_limit(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    struct mp_plan plan;
    mp_config_init(&config);
    struct mp_plan_run run = {
        .config = &config, .shape = &SHAPE, .dtype = MP_BF16, .tokens = 98304};
    mp_plan_make(&run, &plan);
    assert_int_equal(plan.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV], 0); /* logits keep no KV */
    run.new_tokens = 32;
    mp_plan_make(&run, &plan);
    config.memory_limit = plan.total[MP_PLAN_CPU];
    ASSERT_OK(mp_plan_check(&plan, &config, &err));
    config.memory_limit = plan.total[MP_PLAN_CPU] - 1;
    assert_int_equal(mp_plan_check(&plan, &config, &err), MP_ERR_MEMORY);
    assert_non_null(strstr(err.message, "98304 tokens"));
    /* The weights are the largest part. */
    if (strstr(err.message, "GiB of it weights") == NULL) {
        fail_msg("%s", err.message);
    }
    config.memory_limit = 0;
    assert_true(mp_plan_limit(&config) > 0);
    mp_config_free(&config);
}

static void test_score(void **state)
{
    (void)state;
    char *expected[] = {"ABC", "17"};
    assert_float_equal(mp_score(": abc, 17.", expected, 2), 1.0, 0);
    assert_float_equal(mp_score(": 17.", expected, 2), 0.5, 0);
    assert_float_equal(mp_score("", expected, 2), 0.0, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_8b), cmocka_unit_test(test_scaling), cmocka_unit_test(test_gpu),
        cmocka_unit_test(test_limit),    cmocka_unit_test(test_score),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
