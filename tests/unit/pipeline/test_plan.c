/* The memory plan against numbers worked out by hand, and its limits. */
#include "engine_fixture.h"
#include "pipeline/engine/internal.h"
#include "pipeline/generate/summary.h"

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

/* An engine that holds nothing but what a plan asks of it. gpu_limit 0: it has no GPU. */
static struct mp_engine imagine(const struct mp_config *config, enum mp_dtype dtype,
                                int64_t gpu_limit)
{
    struct mp_error err;
    struct mp_engine e = {
        .config = config,
        .shape = &SHAPE,
        .dtype = dtype,
        .attention = {.config = config, .shape = &SHAPE},
        .gpu_limit = gpu_limit,
        .num_ranks = 1,
        .graph = {.placements = {.devices = {{gpu_limit > 0 ? MP_GPU : MP_CPU,
                                              gpu_limit > 0 ? 0 : -1}},
                                 .num_devices = 1},
                  .shape = &SHAPE,
                  .sink = config->device_budget - config->window_size,
                  .window = config->window_size},
    };
    ASSERT_OK(mp_method_choose(config, &e.attention.method, &err));
    return e;
}

static struct mp_plan make_plan(const char *const *flags, enum mp_dtype dtype, int64_t tokens)
{
    struct mp_config config;
    struct mp_plan plan;
    mp_config_init(&config);
    set_flags(&config, flags);
    struct mp_engine e = imagine(&config, dtype, 0);
    mp_plan_make(&e, tokens, 32, &plan);
    mp_config_free(&config);
    return plan;
}

/* Llama-3.1-8B at 98,304 tokens with layers 0 and 16 dense. */
static void test_llama_8b(void **state)
{
    (void)state;
    static const char *const two_dense[] = {"cache-layers", "0,16", NULL};
    struct mp_plan p = make_plan(two_dense, MP_BF16, 98304);
    const int64_t mean = 8 * 128 * 4;   /* of the keys */
    const int64_t kv = 2 * 2 * 8 * 128; /* bytes a token and layer */
    const int64_t offloaded = 98304 - 68;
    /* The second cache is that of a request that shares a prefix: up to window + budget tokens that
     * follow it, and the budget of generated tokens once more. */
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV],
                     2 * ((98304 + 256) * kv + mean) + 2 * ((64 + 2 * 256) * kv + mean));
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_STATIC_KV],
                     30 * ((68 + 256) * kv + mean) + 30 * ((68 + 2 * 256) * kv + mean));
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV], 30 * offloaded * kv);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_INDEX],
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
        p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV] + p.bytes[MP_PLAN_CPU][MP_PLAN_INDEX];
    assert_true(request <= INT64_C(19) << 30);
}

static void test_scaling(void **state)
{
    (void)state;
    static const char *const four[] = {"batch", "4", NULL};
    struct mp_plan one = make_plan(NULL, MP_BF16, 10000);
    struct mp_plan p = make_plan(four, MP_BF16, 10000);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_INDEX],
                     4 * one.bytes[MP_PLAN_CPU][MP_PLAN_INDEX]);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS],
                     one.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS]);
    /* Of several one lets in one of a chunk: ids, residual stream, and what its index takes. */
    const struct mp_plan chunk = make_plan(NULL, MP_BF16, 8192);
    const int64_t kv = 2 * 2 * 8 * 128;
    const int64_t room = 8192 * (2 * kv + 4 * 32 * 128 * 4); /* staging, queries and attention */
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL],
                     one.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL] +
                         chunk.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL] - room);
    p = make_plan(four, MP_BF16, 8192);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL],
                     chunk.bytes[MP_PLAN_CPU][MP_PLAN_PREFILL]);

    static const char *const full[] = {"attention", "full", NULL};
    p = make_plan(full, MP_BF16, 10000);
    assert_int_equal(p.sparse_layers, 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_INDEX], 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_SHARED], 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV], 0);

    p = make_plan(NULL, MP_F32, 10000);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV],
                     2 * one.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV]);

    p = make_plan(NULL, MP_BF16, 68);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_OFFLOADED_KV], 0);
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_INDEX], 0);
}

/* The last of three ranks has 3 of 8 KV heads, and what else there is as a whole. */
static void test_ranks(void **state)
{
    (void)state;
    static const char *const alone[] = {"prefix-cache", "0", "batch", "2", NULL};
    struct mp_error err;
    struct mp_config config;
    struct mp_plan p;
    struct mp_plan one = make_plan(alone, MP_BF16, 98304);
    mp_config_init(&config);
    set_flags(&config, alone);
    struct mp_engine e = imagine(&config, MP_BF16, 0);
    ASSERT_OK(mp_engine_plan_ranks(&e, 3, &err));
    mp_plan_make(&e, 98304, 32, &p);
    static const enum mp_plan_row shared[] = {MP_PLAN_OFFLOADED_KV, MP_PLAN_INDEX,
                                              MP_PLAN_SELECTION};
    static const enum mp_plan_row whole[] = {MP_PLAN_WEIGHTS, MP_PLAN_STATIC_KV, MP_PLAN_DENSE_KV};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(8 * p.bytes[MP_PLAN_CPU][shared[i]],
                         3 * one.bytes[MP_PLAN_CPU][shared[i]]);
        assert_int_equal(p.bytes[MP_PLAN_CPU][whole[i]], one.bytes[MP_PLAN_CPU][whole[i]]);
    }
    /* Of 4 query heads a KV head: a vector of 128, a sum and a count each. */
    const int64_t head = 4 * 4 * (128 + 1 + 1);
    assert_int_equal(one.sent, 0);
    assert_int_equal(one.received, 0);
    assert_int_equal(p.sent, 2 * p.kept_layers * head * 3 * 2);
    assert_int_equal(p.received, 2 * p.kept_layers * head * 5);
    assert_int_equal(mp_engine_plan_ranks(&e, 9, &err), MP_ERR_USAGE);
    assert_string_equal(err.message,
                        "found 9 ranks, expected at most 8: each keeps KV heads of its "
                        "own, and the model has 8");
    mp_config_free(&config);
}

/* A model and settings as large as they may be: more bytes than 63 bits count. */
static void test_huge(void **state)
{
    (void)state;
    static const struct mp_shape huge = {
        .hidden_size = 1 << 20,
        .num_hidden_layers = 64,
        .num_attention_heads = 4096,
        .num_key_value_heads = 4096,
        .head_dim = 256,
        .intermediate_size = 1 << 24,
        .vocab_size = 1 << 24,
        .rms_norm_eps = 1e-5f,
    };
    struct mp_error err;
    struct mp_config config;
    struct mp_plan p;
    mp_config_init(&config);
    set_flags(&config,
              (const char *const[]){"batch", "256", "lsh-l", "1024", "lsh-k", "16", "chunk-size",
                                    "1048576", "generation-budget", "1073741824", NULL});
    for (int gpu = 0; gpu < 2; gpu++) {
        struct mp_engine e = imagine(&config, MP_F32, gpu != 0 ? INT64_MAX : 0);
        e.shape = e.attention.shape = e.graph.shape = &huge;
        mp_plan_make(&e, INT32_MAX, 1 << 30, &p);
        assert_true(p.total[gpu != 0 ? MP_PLAN_GPU : MP_PLAN_CPU] == INT64_MAX);
        for (int i = 0; i < MP_PLAN_ROWS; i++) {
            assert_true(p.bytes[MP_PLAN_CPU][i] >= 0 && p.bytes[MP_PLAN_GPU][i] >= 0);
        }
        config.memory_limit = INT64_MAX;
        assert_int_equal(mp_plan_check(&p, &config, &err), MP_ERR_MEMORY);
        assert_non_null(strstr(err.message, "needs 8589934592.00 GiB for 256 x 2147483647 tokens"));
    }
    mp_config_free(&config);
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
    set_flags(&config, (const char *const[]){"cache-layers", "0,16", "prefix-cache", "0", NULL});
    config.gpu_kv_layers = -1;
    struct mp_engine e = imagine(&config, MP_BF16, INT64_C(80) << 30);
    mp_plan_make(&e, 98304, 32, &all);
    assert_int_equal(all.gpu_kv_layers, 30);
    assert_int_equal(all.bytes[MP_PLAN_CPU][MP_PLAN_INDEX], 0);
    assert_int_equal(all.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV], 0);
    /* Weights pass through CPU memory block by block; the largest is the embedding. */
    assert_int_equal(all.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS],
                     (int64_t)SHAPE.vocab_size * SHAPE.hidden_size * 2);

    e.gpu_limit = all.total[MP_PLAN_GPU] - 1;
    mp_plan_make(&e, 98304, 32, &some);
    assert_int_equal(some.gpu_kv_layers, 29);
    assert_true(some.total[MP_PLAN_GPU] <= e.gpu_limit);
    assert_int_equal(some.bytes[MP_PLAN_CPU][MP_PLAN_INDEX] * 30,
                     all.bytes[MP_PLAN_GPU][MP_PLAN_INDEX]);
    config.memory_limit = INT64_C(1) << 40;
    ASSERT_OK(mp_plan_check(&some, &config, &err));

    e.gpu_limit = INT64_C(8) << 30;
    mp_plan_make(&e, 98304, 32, &some);
    assert_int_equal(some.gpu_kv_layers, 0);
    assert_int_equal(mp_plan_check(&some, &config, &err), MP_ERR_MEMORY);
    if (strstr(err.message, "the GPU has 8.00 GiB") == NULL) {
        fail_msg("%s", err.message);
    }
    mp_config_free(&config);
}

/* ---- several GPUs ---- */

/* The same engine with more of them. */
static void add_gpus(struct mp_engine *e, int count)
{
    struct mp_placements *p = &e->graph.placements;
    p->num_devices = count;
    for (int i = 0; i < count; i++) {
        p->devices[i] = (struct mp_device){MP_GPU, i};
    }
}

static void assert_stages(const struct mp_plan *p, const int *first, int devices)
{
    assert_int_equal(p->devices, devices);
    assert_int_equal(p->gpus, devices);
    for (int d = 0; d <= devices; d++) {
        assert_int_equal(p->stages.first[d], first[d]);
    }
}

/* Each has the weights, caches and KV of its layers, and what it needs itself; the embedding is on
 * the first one, the LM head on the last one. */
static void test_gpus(void **state)
{
    (void)state;
    struct mp_config config;
    struct mp_plan one;
    struct mp_plan p;
    mp_config_init(&config);
    set_flags(&config, (const char *const[]){"cache-layers", "0,16", "prefix-cache", "0", NULL});
    struct mp_engine e = imagine(&config, MP_BF16, INT64_C(80) << 30);
    mp_plan_make(&e, 98304, 32, &one);
    assert_stages(&one, (const int[]){0, 32}, 1);
    add_gpus(&e, 2);
    mp_plan_make(&e, 98304, 32, &p);
    assert_stages(&p, (const int[]){0, 16, 32}, 2);
    assert_int_equal(p.gpu_kv_layers, 30);
    const int64_t *first = p.bytes[MP_PLAN_GPU];
    const int64_t *second = p.bytes[MP_PLAN_GPU + 1];
    const int64_t *all = one.bytes[MP_PLAN_GPU];
    static const enum mp_plan_row halves[] = {MP_PLAN_DENSE_KV, MP_PLAN_STATIC_KV,
                                              MP_PLAN_OFFLOADED_KV, MP_PLAN_INDEX};
    for (size_t i = 0; i < sizeof halves / sizeof halves[0]; i++) {
        assert_int_equal(first[halves[i]], all[halves[i]] / 2);
        assert_int_equal(second[halves[i]], all[halves[i]] / 2);
    }
    static const enum mp_plan_row own[] = {MP_PLAN_SHARED, MP_PLAN_WORKSPACE, MP_PLAN_PROCESS};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        assert_int_equal(first[own[i]], all[own[i]]);
        assert_int_equal(second[own[i]], all[own[i]]);
    }
    const int64_t norm = 4096 * 4;
    assert_int_equal(first[MP_PLAN_WEIGHTS] + second[MP_PLAN_WEIGHTS], all[MP_PLAN_WEIGHTS]);
    assert_int_equal(second[MP_PLAN_WEIGHTS] - first[MP_PLAN_WEIGHTS], norm);
    assert_int_equal(mp_plan_gpu_total(&p), p.total[MP_PLAN_GPU + 1]);
    for (int d = MP_PLAN_GPU + 2; d < MP_PLAN_DEVICES; d++) {
        assert_int_equal(p.total[d], 0);
    }

    /* Tied: both have the matrix. */
    struct mp_shape tied = SHAPE;
    tied.tied_embeddings = true;
    e.shape = e.graph.shape = e.attention.shape = &tied;
    mp_plan_make(&e, 98304, 32, &p);
    assert_int_equal(second[MP_PLAN_WEIGHTS] - first[MP_PLAN_WEIGHTS], norm);
    mp_config_free(&config);
}

/* No other split leaves less on the GPU that has most. */
static void test_split(void **state)
{
    (void)state;
    static const struct {
        int gpus;
        const char *cache_layers;
        int first[5];
    } cases[] = {
        /* The embedding and the LM head are 2.4 layers each. */
        {3, "none", {0, 10, 22, 32}},
        {4, "none", {0, 7, 16, 25, 32}},
        /* Layers with the KV of all tokens are 1.9 of the others, whose KV is elsewhere. */
        {2, "0,1,2,3,4,5,6,7", {0, 12, 32}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_config config;
        struct mp_plan p;
        mp_config_init(&config);
        set_flags(&config, (const char *const[]){"cache-layers", cases[i].cache_layers, NULL});
        config.gpu_kv_layers = 0;
        struct mp_engine e = imagine(&config, MP_BF16, INT64_C(80) << 30);
        add_gpus(&e, cases[i].gpus);
        mp_plan_make(&e, 98304, 32, &p);
        assert_stages(&p, cases[i].first, cases[i].gpus);
        mp_config_free(&config);
    }
}

/* As many layers keep their KV on a GPU as fit on every one; each keeps its part. */
static void test_gpus_that_are_full(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    struct mp_plan p;
    mp_config_init(&config);
    set_flags(&config, (const char *const[]){"cache-layers", "0,16", "prefix-cache", "0", NULL});
    config.gpu_kv_layers = 15;
    struct mp_engine e = imagine(&config, MP_BF16, INT64_C(80) << 30);
    add_gpus(&e, 2);
    mp_plan_make(&e, 98304, 32, &p);
    const int64_t *first = p.bytes[MP_PLAN_GPU];
    const int64_t *second = p.bytes[MP_PLAN_GPU + 1];
    assert_int_equal(first[MP_PLAN_INDEX] * 8, second[MP_PLAN_INDEX] * 7);

    config.gpu_kv_layers = -1;
    e.gpu_limit = p.total[MP_PLAN_GPU + 1];
    mp_plan_make(&e, 98304, 32, &p);
    assert_int_equal(p.gpu_kv_layers, 16);
    assert_true(mp_plan_gpu_total(&p) <= e.gpu_limit);

    e.gpu_limit = p.total[MP_PLAN_GPU + 1] - 1;
    config.gpu_kv_layers = 16;
    config.memory_limit = INT64_C(1) << 40;
    mp_plan_make(&e, 98304, 32, &p);
    assert_int_equal(mp_plan_check(&p, &config, &err), MP_ERR_MEMORY);
    if (strstr(err.message, "but GPU 1 has ") == NULL) {
        fail_msg("%s", err.message);
    }
    mp_config_free(&config);
}

/* Each has half of the layers' weights, caches and KV; the first one embedding and LM head, too. */
static void test_parts(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    struct mp_plan one, layers, p;
    mp_config_init(&config);
    set_flags(&config, (const char *const[]){"prefix-cache", "0", "gpus", "2", NULL});
    struct mp_engine e = imagine(&config, MP_BF16, INT64_C(80) << 30);
    mp_plan_make(&e, 98304, 32, &one);
    /* Those of CPU workers are planned as those of GPUs are, in another memory. */
    struct mp_engine mock = imagine(&config, MP_BF16, 0);
    mock.graph.placements.devices[0].index = 0;
    mp_plan_make(&mock, 98304, 32, &layers);
    ASSERT_OK(mp_parts_create(&mock, &err));
    mp_plan_make(&mock, 98304, 32, &p);
    assert_int_equal(p.parts, 2);
    static const enum mp_plan_row same[] = {MP_PLAN_DENSE_KV, MP_PLAN_STATIC_KV,
                                            MP_PLAN_OFFLOADED_KV, MP_PLAN_INDEX, MP_PLAN_SHARED};
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        assert_int_equal(p.bytes[MP_PLAN_CPU][same[i]], layers.bytes[MP_PLAN_CPU][same[i]]);
        assert_int_equal(p.bytes[MP_PLAN_CPU][same[i]], one.bytes[MP_PLAN_GPU][same[i]]);
    }
    /* Norms are on both. */
    assert_int_equal(p.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS],
                     layers.bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS] + 32 * 2 * 4096 * 4);
    mp_parts_destroy(&mock);
    mp_config_free(&config);
}

/* The KV of past prompts: as much as asked for, parted as a request's is; or one request's, but
 * only beside all else. */
static void test_prefixes(void **state)
{
    (void)state;
    struct mp_config config;
    struct mp_plan p;
    mp_config_init(&config);
    set_flags(&config, (const char *const[]){"cache-layers", "0,16", "gpu-kv-layers", "0", NULL});
    config.memory_limit = INT64_C(1) << 40;
    struct mp_engine e = imagine(&config, MP_BF16, INT64_C(80) << 30);
    mp_plan_make(&e, 98304, 32, &p);
    const int64_t *cpu = p.bytes[MP_PLAN_CPU];
    const int64_t *gpu = p.bytes[MP_PLAN_GPU];
    int64_t offloaded = cpu[MP_PLAN_OFFLOADED_KV] + cpu[MP_PLAN_INDEX];
    assert_true(llabs(cpu[MP_PLAN_PREFIXES] - offloaded) <= 1 << 10);
    const int64_t mean = 8 * 128 * 4;
    const int64_t kv = 2 * 2 * 8 * 128;
    int64_t caches = 2 * ((98304 + 256) * kv + mean) + 30 * ((68 + 256) * kv + mean);
    assert_true(llabs(gpu[MP_PLAN_PREFIXES] - caches) <= 1 << 10);

    config.memory_limit = p.total[MP_PLAN_CPU];
    int64_t without = p.total[MP_PLAN_CPU] - cpu[MP_PLAN_PREFIXES];
    mp_plan_make(&e, 98304, 32, &p);
    assert_true(cpu[MP_PLAN_PREFIXES] > 0);
    config.memory_limit--;
    mp_plan_make(&e, 98304, 32, &p);
    assert_int_equal(cpu[MP_PLAN_PREFIXES] + gpu[MP_PLAN_PREFIXES], 0);
    assert_int_equal(p.total[MP_PLAN_CPU], without);

    config.prefix_cache = INT64_C(7) << 30;
    mp_plan_make(&e, 98304, 32, &p);
    assert_int_equal(cpu[MP_PLAN_PREFIXES] + gpu[MP_PLAN_PREFIXES], config.prefix_cache);
    mp_config_free(&config);

    /* What drops tokens has nothing to keep. */
    p = make_plan((const char *const[]){"attention", "streaming", NULL}, MP_BF16, 10000);
    assert_int_equal(cpu[MP_PLAN_PREFIXES], 0);
}

static void test_limit(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    struct mp_plan plan;
    mp_config_init(&config);
    struct mp_engine e = imagine(&config, MP_BF16, 0);
    mp_plan_make(&e, 98304, 0, &plan);
    assert_int_equal(plan.bytes[MP_PLAN_CPU][MP_PLAN_DENSE_KV], 0); /* logits keep no KV */
    mp_plan_make(&e, 98304, 32, &plan);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_8b), cmocka_unit_test(test_scaling),
        cmocka_unit_test(test_ranks),    cmocka_unit_test(test_huge),
        cmocka_unit_test(test_gpu),      cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_limit),    cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_split),    cmocka_unit_test(test_gpus_that_are_full),
        cmocka_unit_test(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
