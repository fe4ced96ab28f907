/* Several attentions over one model: a prompt is read once, and each goes on as if it had read it
 * itself. */
#include "core/base/rng.h"
#include "core/base/shape.h"
#include "engine_fixture.h"
#include "tests/unit/codelets/kernel_test.h"

#include <string.h>

#define MODEL GOLDEN "llama3-rope"
enum { VOCAB = 640, NEW_TOKENS = 12, BATCH = 2, LONGEST = 400 };

/* Around sink + window = 4 + 16, and far beyond. */
static const int64_t LENGTHS[] = {1, 20, 21, 150, LONGEST, 77};
enum { NUM_PROMPTS = sizeof LENGTHS / sizeof LENGTHS[0] };

/* Layer 0 dense; caches grow. */
static const char *const BASE[] = {
    "device-budget", "20",   "window-size", "16", "chunk-size", "64", "generation-budget", "3",
    "eos",           "none", "batch",       "2",  NULL};

static const char *const SETTINGS[][11] = {
    {"lsh-k", "3", "lsh-l", "8", NULL},
    {"attention", "full", NULL},
    {"attention", "quest", "attention-budget", "0.3", "page-size", "4", NULL},
    {"attention", "topk", "attention-budget", "0.1", "cache-layers", "none", NULL},
    {"attention", "oracle", "attention-budget", "64", "center", "0", NULL},
    {"attention", "streaming", NULL},
    {"lsh-k", "5", "lsh-l", "20", "device-budget", "0", "window-size", "0", "center", "0", NULL},
};
enum { NUM_SETTINGS = sizeof SETTINGS / sizeof SETTINGS[0] };

static void draw_prompt(int which, struct mp_ids *out)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 2, (uint64_t)which);
    for (int64_t i = 0; i < LENGTHS[which]; i++) {
        mp_ids_push(out, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
}

static void configure(struct mp_config *config, const char *const *flags)
{
    mp_config_init(config);
    set_flags(config, BASE);
    set_flags(config, flags);
}

static void run(struct mp_session *s)
{
    struct mp_error err;
    int active = 1;
    while (active > 0) {
        ASSERT_OK(mp_session_step(s, &active, &err));
    }
}

/* Reads prompts first .. first + BATCH - 1. */
static void read_prompts(struct mp_session *s, int first, int64_t new_tokens)
{
    struct mp_error err;
    for (int i = 0; i < BATCH; i++) {
        struct mp_ids ids = {0};
        int slot;
        draw_prompt(first + i, &ids);
        ASSERT_OK(
            add_prompt(s, ids.data, (int64_t)ids.count, new_tokens, (uint64_t)i, &slot, &err));
        assert_int_equal(slot, i);
        ASSERT_OK(mp_session_read(s, &err));
        mp_ids_free(&ids);
    }
}

static void take_tokens(struct mp_session *s, int64_t skipped, int32_t out[BATCH][NEW_TOKENS])
{
    for (int i = 0; i < BATCH; i++) {
        const struct mp_request *r = mp_session_request(s, i);
        assert_int_equal(r->finish, MP_FINISH_LENGTH);
        assert_int_equal(r->generated_tokens, NEW_TOKENS + skipped);
        memcpy(out[i], r->ids + r->prompt_tokens + skipped, NEW_TOKENS * sizeof(int32_t));
    }
}

static int32_t expected[NUM_SETTINGS][NUM_PROMPTS][NEW_TOKENS]; /* each by an engine of its own */

static int compute_expected(void **state)
{
    (void)state;
    struct mp_error err;
    for (int i = 0; i < NUM_SETTINGS; i++) {
        struct mp_config config;
        configure(&config, SETTINGS[i]);
        struct mp_engine *engine = open_engine(&config, MODEL, LONGEST);
        for (int p = 0; p < NUM_PROMPTS; p += BATCH) {
            struct mp_session *s;
            ASSERT_OK(mp_session_open(engine, &s, &err));
            read_prompts(s, p, NEW_TOKENS);
            run(s);
            take_tokens(s, 0, &expected[i][p]);
            mp_session_close(s);
        }
        mp_engine_close(engine);
        mp_config_free(&config);
    }
    return 0;
}

struct fixture {
    struct mp_config base_config;
    struct mp_engine *base;
    struct mp_config configs[NUM_SETTINGS];
    struct mp_engine *engines[NUM_SETTINGS];
};

static void open_all(struct fixture *f)
{
    struct mp_error err;
    static const char *const full[] = {"attention", "full", NULL};
    configure(&f->base_config, full);
    struct mp_engine_options options = engine_options(&f->base_config, MODEL);
    ASSERT_OK(mp_engine_open(&options, &f->base, &err));
    for (int i = 0; i < NUM_SETTINGS; i++) {
        configure(&f->configs[i], SETTINGS[i]);
        ASSERT_OK(mp_engine_open_variant(f->base, &f->configs[i], &f->engines[i], &err));
    }
    ASSERT_OK(mp_engine_start(f->base, LONGEST, NEW_TOKENS, &err));
}

static void close_all(struct fixture *f)
{
    for (int i = 0; i < NUM_SETTINGS; i++) {
        mp_engine_close(f->engines[i]);
        mp_config_free(&f->configs[i]);
    }
    mp_engine_close(f->base);
    mp_config_free(&f->base_config);
}

/* Of each prompt all but `left` tokens are taken over, where it is longer. */
static void adopt(struct mp_engine *engine, struct mp_session *from, int64_t left,
                  int32_t out[BATCH][NEW_TOKENS])
{
    struct mp_error err;
    struct mp_session *s;
    ASSERT_OK(mp_session_open(engine, &s, &err));
    for (int i = 0; i < BATCH; i++) {
        struct mp_adoption a = {.from = from,
                                .slot = i,
                                .exact = mp_session_request(from, i)->prompt_tokens - left,
                                .max_new_tokens = NEW_TOKENS,
                                .stream = (uint64_t)i};
        int slot;
        ASSERT_OK(mp_session_adopt(s, &a, &slot, &err));
        assert_int_equal(slot, i);
    }
    run(s);
    take_tokens(s, left, out);
    mp_session_close(s);
}

/* Whatever the attention, a prompt that is adopted whole goes on as one that was read. */
static void test_whole_prompts(void **state)
{
    (void)state;
    struct mp_error err;
    struct fixture f;
    open_all(&f);
    for (int p = 0; p < NUM_PROMPTS; p += BATCH) {
        struct mp_session *from;
        ASSERT_OK(mp_session_open(f.base, &from, &err));
        read_prompts(from, p, 1);
        for (int i = 0; i < NUM_SETTINGS; i++) {
            int32_t tokens[BATCH][NEW_TOKENS];
            adopt(f.engines[i], from, 0, tokens);
            for (int n = 0; n < BATCH; n++) {
                assert_memory_equal(tokens[n], expected[i][p + n], sizeof tokens[n]);
            }
        }
        mp_session_close(from);
    }
    close_all(&f);
}

/* What is fed in token by token is read as exactly by full attention as by a prefill. */
static void test_rest_is_fed_in(void **state)
{
    (void)state;
    enum { FIRST = 2, LEFT = 19, FULL = 1, STREAMING = 5 };
    struct mp_error err;
    struct fixture f;
    struct mp_session *from;
    int32_t tokens[BATCH][NEW_TOKENS];
    open_all(&f);
    ASSERT_OK(mp_session_open(f.base, &from, &err));
    read_prompts(from, FIRST, 1);
    adopt(f.engines[FULL], from, LEFT, tokens);
    for (int n = 0; n < BATCH; n++) {
        assert_memory_equal(tokens[n], expected[FULL][FIRST + n], sizeof tokens[n]);
    }
    /* Nothing is left of the longer prompt then but sink, window and what is fed in. */
    adopt(f.engines[STREAMING], from, LEFT, tokens);
    assert_memory_not_equal(tokens[1], expected[FULL][FIRST + 1], sizeof tokens[1]);
    mp_session_close(from);
    close_all(&f);
}

/* What the layers of a step compute: with the exact inputs given, dense layers give the exact
 * outputs, sparse ones not quite; and with their own inputs the last layers are further off. */
static void test_probe(void **state)
{
    (void)state;
    enum { FULL = 1, SETTING = 0, PROMPT = 4 };
    struct mp_error err;
    struct fixture f;
    struct mp_session *from;
    open_all(&f);
    const struct mp_shape *shape = mp_engine_shape(f.base);
    int layers = shape->num_hidden_layers;
    size_t hidden = (size_t)(layers * shape->hidden_size);
    size_t width = (size_t)(layers * mp_shape_q_width(shape));
    ASSERT_OK(mp_session_open(f.base, &from, &err));
    read_prompts(from, PROMPT, 1);
    struct mp_adoption a = {.from = from, .exact = LONGEST - 5, .max_new_tokens = 1};
    struct mp_probe exact = {calloc(hidden, sizeof(float)), calloc(width, sizeof(float)),
                             calloc(width, sizeof(float))};
    struct mp_probe sampled = {calloc(hidden, sizeof(float)), calloc(width, sizeof(float)),
                               calloc(width, sizeof(float))};
    struct mp_session *s[2];
    int slot;
    ASSERT_OK(mp_session_open(f.engines[FULL], &s[0], &err));
    ASSERT_OK(mp_session_open(f.engines[SETTING], &s[1], &err));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(mp_session_probe(s[i], NULL, &exact, &err), MP_ERR_USAGE);
        ASSERT_OK(mp_session_adopt(s[i], &a, &slot, &err));
    }
    for (int step = 0; step < 5; step++) {
        ASSERT_OK(mp_session_probe(s[0], NULL, &exact, &err));
        ASSERT_OK(mp_session_probe(s[1], exact.x, &sampled, &err));
        assert_memory_equal(sampled.x, exact.x, hidden * sizeof(float));
        for (int l = 0; l < layers; l++) {
            size_t at = (size_t)(l * mp_shape_q_width(shape));
            double error = relative_l2(sampled.o + at, exact.o + at, width / (size_t)layers);
            bool dense = mp_engine_is_dense(f.engines[SETTING], l);
            assert_true(dense ? error < 1e-5 : error > 1e-4 && error < 1.0);
        }
    }
    assert_int_equal(mp_session_request(s[1], 0)->finish, MP_FINISH_LENGTH);
    assert_true(mp_session_request(s[1], 0)->sampled_mean > 0.0);
    for (int i = 0; i < 2; i++) {
        mp_session_close(s[i]);
    }
    struct mp_probe *const probes[] = {&exact, &sampled};
    for (int i = 0; i < 2; i++) {
        free(probes[i]->x);
        free(probes[i]->o);
        free(probes[i]->error);
    }
    mp_session_close(from);
    close_all(&f);
}

static void expect_failure(int code, const char *message, const struct mp_error *err)
{
    assert_int_equal(code, MP_ERR_USAGE);
    if (strstr(err->message, message) == NULL) {
        fail_msg("found \"%s\", expected \"%s\"", err->message, message);
    }
}

static void test_misuse(void **state)
{
    (void)state;
    struct mp_error err;
    struct fixture f;
    struct mp_session *from, *to;
    struct mp_engine *more;
    int slot;
    open_all(&f);
    expect_failure(mp_engine_open_variant(f.base, &f.configs[0], &more, &err),
                   "before it is started", &err);
    expect_failure(mp_engine_start(f.engines[0], 1, 1, &err), "with its base", &err);
    ASSERT_OK(mp_session_open(f.base, &from, &err));
    ASSERT_OK(mp_session_open(f.engines[0], &to, &err));
    struct mp_adoption a = {.from = from, .exact = 1, .max_new_tokens = 1};
    expect_failure(mp_session_adopt(to, &a, &slot, &err), "no prompt that has been read", &err);
    read_prompts(from, 0, 1);
    a.exact = 2;
    expect_failure(mp_session_adopt(to, &a, &slot, &err), "2 of a prompt of 1 tokens", &err);
    a.exact = 1;
    a.max_new_tokens = 0;
    expect_failure(mp_session_adopt(to, &a, &slot, &err), "max_new_tokens", &err);
    a.max_new_tokens = 1;
    expect_failure(mp_session_adopt(from, &a, &slot, &err), "its base's", &err);
    for (int i = 0; i < BATCH; i++) {
        ASSERT_OK(mp_session_adopt(to, &a, &slot, &err));
    }
    expect_failure(mp_session_adopt(to, &a, &slot, &err), "slots are in use", &err);
    mp_session_close(to);
    mp_session_close(from);
    close_all(&f);
}

/* A layer that the model does not have, of one variant of several. */
static void test_bad_setting(void **state)
{
    (void)state;
    static const char *const bad[] = {"cache-layers", "99", NULL};
    struct mp_error err;
    struct mp_config config, bad_config;
    struct mp_engine *base, *variant;
    configure(&config, NULL);
    configure(&bad_config, bad);
    struct mp_engine_options options = engine_options(&config, MODEL);
    ASSERT_OK(mp_engine_open(&options, &base, &err));
    expect_failure(mp_engine_open_variant(base, &bad_config, &variant, &err), "layer 99", &err);
    mp_engine_close(base);
    mp_config_free(&config);
    mp_config_free(&bad_config);
}

/* Without room for a variant's tables beside what is kept of the prompts, nothing is loaded. */
static void test_no_room(void **state)
{
    (void)state;
    static const char *const flags[] = {"attention", "full", "devices", "cpu", "gpus", "1", NULL};
    static const char *const large[] = {"lsh-k", "16",   "lsh-l", "1024", "devices",
                                        "cpu",   "gpus", "1",     NULL};
    struct mp_error err;
    struct mp_config config, large_config;
    struct mp_engine *base, *variant;
    struct mp_plan plan;
    configure(&config, flags);
    configure(&large_config, large);
    struct mp_engine_options options = engine_options(&config, MODEL);
    ASSERT_OK(mp_engine_open(&options, &base, &err));
    ASSERT_OK(mp_engine_open_variant(base, &large_config, &variant, &err));
    mp_engine_plan(variant, LONGEST, NEW_TOKENS, &plan);
    assert_true(plan.bytes[MP_PLAN_CPU][MP_PLAN_PROMPTS] > 0);
    mp_engine_plan(base, LONGEST, NEW_TOKENS, &plan);
    assert_int_equal(plan.bytes[MP_PLAN_CPU][MP_PLAN_PROMPTS], 0);
    config.memory_limit = plan.total[MP_PLAN_CPU];
    assert_int_equal(mp_engine_start(base, LONGEST, NEW_TOKENS, &err), MP_ERR_MEMORY);
    assert_non_null(strstr(err.message, "magicpig, (K, L) = (16, 1024): "));
    assert_non_null(strstr(err.message, "hash tables"));
    mp_engine_close(variant);
    mp_engine_close(base);
    mp_config_free(&config);
    mp_config_free(&large_config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_prompts), cmocka_unit_test(test_rest_is_fed_in),
        cmocka_unit_test(test_probe),         cmocka_unit_test(test_misuse),
        cmocka_unit_test(test_bad_setting),   cmocka_unit_test(test_no_room),
    };
    return cmocka_run_group_tests(tests, compute_expected, NULL);
}
