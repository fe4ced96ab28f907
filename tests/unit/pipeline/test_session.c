/* Sessions: batches, micro-batches, schedulers, workers, growth, short prompts. The model is a
 * small random one: its texts mean nothing, but they change with any error. */
#include "core/base/rng.h"
#include "engine_fixture.h"

#include <math.h>
#include <string.h>

#define MODEL GOLDEN "llama3-rope"
enum { VOCAB = 640, NEW_TOKENS = 12 };

/* Prompts around sink + window = 4 + 16, and far beyond. */
static const int64_t LENGTHS[] = {1, 5, 19, 20, 21, 150, 400};
enum { NUM_PROMPTS = sizeof LENGTHS / sizeof LENGTHS[0] };

static void draw_prompt(int which, struct mp_ids *out)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 1, (uint64_t)which);
    for (int64_t i = 0; i < LENGTHS[which]; i++) {
        mp_ids_push(out, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
}

/* Tables that sample about half of the tokens; layer 0 dense. */
static const char *const BASE[] = {
    "device-budget", "20", "window-size",       "16", "lsh-k", "3", "lsh-l", "8", "eos", "none",
    "chunk-size",    "64", "generation-budget", "3",  NULL};

/* Generates for every prompt, `batch` at a time as slots free up, into tokens[prompt]. */
static void generate_all(const char *const *extra, int32_t tokens[NUM_PROMPTS][NEW_TOKENS])
{
    struct mp_error err;
    struct mp_config config;
    mp_config_init(&config);
    set_flags(&config, BASE);
    set_flags(&config, extra);
    struct mp_engine *engine = open_engine(&config, MODEL, 400);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));

    int prompt_of[256];
    int next = 0;
    int done = 0;
    memset(prompt_of, -1, sizeof prompt_of);
    while (done < NUM_PROMPTS) {
        while (next < NUM_PROMPTS && mp_session_can_add(session)) {
            struct mp_ids ids = {0};
            int slot;
            draw_prompt(next, &ids);
            ASSERT_OK(add_prompt(session, ids.data, (int64_t)ids.count, NEW_TOKENS, (uint64_t)next,
                                 &slot, &err));
            assert_int_equal(prompt_of[slot], -1);
            prompt_of[slot] = next++;
            mp_ids_free(&ids);
        }
        int active;
        ASSERT_OK(mp_session_step(session, &active, &err));
        for (int slot = 0; slot < config.batch; slot++) {
            if (prompt_of[slot] < 0 ||
                mp_session_request(session, slot)->finish == MP_FINISH_NONE) {
                continue;
            }
            const struct mp_request *r = mp_session_request(session, slot);
            assert_int_equal(r->finish, MP_FINISH_LENGTH);
            assert_int_equal(r->generated_tokens, NEW_TOKENS);
            memcpy(tokens[prompt_of[slot]], r->ids + r->prompt_tokens,
                   NEW_TOKENS * sizeof(int32_t));
            mp_session_remove(session, slot);
            prompt_of[slot] = -1;
            done++;
        }
    }
    mp_session_close(session);
    mp_engine_close(engine);
    mp_config_free(&config);
}

static int32_t expected[NUM_PROMPTS][NEW_TOKENS]; /* one request at a time, one worker */

static int setup(void **state)
{
    (void)state;
    generate_all(NULL, expected);
    return 0;
}

static void check_same(const char *const *extra)
{
    int32_t found[NUM_PROMPTS][NEW_TOKENS];
    memset(found, 0xff, sizeof found);
    generate_all(extra, found);
    for (int p = 0; p < NUM_PROMPTS; p++) {
        for (int i = 0; i < NEW_TOKENS; i++) {
            if (found[p][i] != expected[p][i]) {
                fail_msg("%s %s: prompt of %lld tokens, token %d: found %d, expected %d", extra[0],
                         extra[1], (long long)LENGTHS[p], i, (int)found[p][i], (int)expected[p][i]);
            }
        }
    }
}

static void test_batches(void **state)
{
    (void)state;
    static const char *const cases[][5] = {
        {"batch", "3", NULL},
        {"batch", "7", NULL},
        {"batch", "7", "micro-batches", "2", NULL},
        {"batch", "3", "micro-batches", "3", NULL},
        {"batch", "3", "prefill-share", "1", NULL},
        {"batch", "3", "prefill-share", "0.05", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        check_same(cases[i]);
    }
}

/* On the reference path a row's result does not depend on the rows computed with it. */
static void test_chunks(void **state)
{
    (void)state;
    static const char *const cases[][5] = {{"isa", "ref", "chunk-size", "1", NULL},
                                           {"isa", "ref", "chunk-size", "37", NULL},
                                           {"isa", "ref", "mem-efficient", "0", NULL}};
    static const char *const whole[] = {"isa", "ref", "chunk-size", "1000", NULL};
    int32_t a[NUM_PROMPTS][NEW_TOKENS];
    int32_t b[NUM_PROMPTS][NEW_TOKENS];
    generate_all(whole, a);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        generate_all(cases[i], b);
        assert_memory_equal(a, b, sizeof a);
    }
}

static void test_schedulers(void **state)
{
    (void)state;
    static const char *const schedulers[] = {"eager", "lws", "prio", "dmda"};
    const int least = getenv("MAGICPIG_TEST_MOCK_GPUS") != NULL ? 2 : 1; /* a worker each */
    for (size_t s = 0; s < sizeof schedulers / sizeof schedulers[0]; s++) {
        for (int workers = least; workers <= 2; workers++) {
            const char *const flags[] = {
                "sched", schedulers[s], "cpu-workers",   workers == 1 ? "1" : "2",
                "batch", "4",           "micro-batches", "2",
                NULL};
            check_same(flags);
        }
    }
}

/* The same sampled texts for one seed, whatever the batch. */
static void test_sampling_is_seeded(void **state)
{
    (void)state;
    static const char *const one[] = {"temperature", "1.0", "top-p", "0.9", "seed", "5", NULL};
    static const char *const many[] = {"temperature", "1.0",   "top-p", "0.9", "seed",
                                       "5",           "batch", "7",     NULL};
    static const char *const other[] = {"temperature", "1.0", "top-p", "0.9", "seed", "6", NULL};
    int32_t a[NUM_PROMPTS][NEW_TOKENS];
    int32_t b[NUM_PROMPTS][NEW_TOKENS];
    generate_all(one, a);
    generate_all(many, b);
    assert_memory_equal(a, b, sizeof a);
    generate_all(other, b);
    assert_memory_not_equal(a, b, sizeof a);
}

/* With so many tables that every token is selected with u near 1, sampled attention is exact. */
static void test_many_tables_are_exact(void **state)
{
    (void)state;
    static const char *const full[] = {"isa", "ref", "lsh-k", "0", NULL};
    static const char *const tables[] = {"isa", "ref", "lsh-k", "1", "lsh-l", "400", NULL};
    int32_t a[NUM_PROMPTS][NEW_TOKENS];
    int32_t b[NUM_PROMPTS][NEW_TOKENS];
    generate_all(full, a);
    generate_all(tables, b);
    assert_memory_equal(a, b, sizeof a);
}

/* A dense layer list that names every layer is full attention. */
static void test_all_layers_dense_is_full(void **state)
{
    (void)state;
    static const char *const full[] = {"lsh-k", "0", NULL};
    static const char *const dense[] = {"cache-layers", "0,1,2", NULL};
    int32_t a[NUM_PROMPTS][NEW_TOKENS];
    int32_t b[NUM_PROMPTS][NEW_TOKENS];
    generate_all(full, a);
    generate_all(dense, b);
    assert_memory_equal(a, b, sizeof a);
}

static void test_sampled_fraction(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    struct mp_ids ids = {0};
    mp_config_init(&config);
    set_flags(&config, BASE);
    struct mp_engine *engine = open_engine(&config, MODEL, 400);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    draw_prompt(NUM_PROMPTS - 1, &ids);
    const struct mp_request *r = mp_session_request(session, generate(session, &ids, 4));
    assert_int_equal(r->num_layers, 3);
    assert_true(isnan(r->sampled[0]));
    for (int l = 1; l < 3; l++) {
        assert_true(r->sampled[l] > 0.05 && r->sampled[l] < 0.95);
    }
    assert_float_equal(r->sampled_mean, (r->sampled[1] + r->sampled[2]) / 2, 1e-12);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_ids_free(&ids);
    mp_config_free(&config);
}

/* A unit is a chunk in a layer; a request that decodes beside it gets its tokens meanwhile. */
static void test_units_left(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    mp_config_init(&config);
    set_flags(&config, BASE);
    set_flags(&config, (const char *const[]){"batch", "2", NULL});
    struct mp_engine *engine = open_engine(&config, MODEL, 400);
    struct mp_session *session;
    struct mp_ids ids = {0};
    int slot, other, active;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    assert_int_equal(mp_session_units_left(session), 0);
    draw_prompt(5, &ids);
    ASSERT_OK(add_prompt(session, ids.data, (int64_t)ids.count, 1000, 0, &slot, &err));
    assert_int_equal(mp_session_units_left(session), 3 * 3);
    ASSERT_OK(mp_session_step(session, &active, &err)); /* nobody waits: all of it */
    assert_int_equal(mp_session_units_left(session), 0);
    ASSERT_OK(add_prompt(session, ids.data, (int64_t)ids.count, 1, 0, &other, &err));
    int left = mp_session_units_left(session);
    assert_int_equal(left, 3 * 3);
    while (left > 0) {
        int64_t tokens = mp_session_request(session, slot)->generated_tokens;
        ASSERT_OK(mp_session_step(session, &active, &err));
        assert_int_equal(mp_session_request(session, slot)->generated_tokens, tokens + 1);
        assert_true(mp_session_units_left(session) <= left);
        left = mp_session_units_left(session);
        assert_int_equal(mp_session_request(session, other)->generated_tokens, left == 0);
    }
    mp_session_close(session);
    mp_engine_close(engine);
    mp_ids_free(&ids);
    mp_config_free(&config);
}

/* Prompts that cannot run are refused and leave the session usable. */
static void test_bad_prompts(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    mp_config_init(&config);
    set_flags(&config, BASE);
    struct mp_engine *engine = open_engine(&config, MODEL, 400);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));

    int slot;
    int32_t ids[2049] = {0};
    assert_int_equal(add_prompt(session, ids, 0, 1, 0, &slot, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "empty"));
    assert_int_equal(add_prompt(session, ids, 2049, 1, 0, &slot, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "2048"));
    assert_int_equal(add_prompt(session, ids, 1, 0, 0, &slot, &err), MP_ERR_USAGE);
    config.chunk_size = 1;
    assert_int_equal(add_prompt(session, ids, 1025, 1, 0, &slot, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "chunk_size: found 1"));
    assert_non_null(strstr(err.message, "expected at least 2"));
    config.chunk_size = 64;
    ids[1] = VOCAB;
    assert_int_equal(add_prompt(session, ids, 2, 1, 0, &slot, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "639"));

    struct mp_ids good = {0};
    draw_prompt(1, &good);
    assert_int_equal(mp_session_request(session, generate(session, &good, 3))->generated_tokens, 3);
    mp_ids_free(&good);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_config_free(&config);
}

/* Generation stops where the model's positions end. */
static void test_positions_run_out(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config config;
    mp_config_init(&config);
    set_flags(&config, BASE);
    struct mp_engine *engine = open_engine(&config, MODEL, 2046);
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    struct mp_ids ids = {0};
    for (int i = 0; i < 2046; i++) {
        mp_ids_push(&ids, i % VOCAB);
    }
    const struct mp_request *r = mp_session_request(session, generate(session, &ids, 100));
    assert_int_equal(r->generated_tokens, 2);
    assert_int_equal(r->finish, MP_FINISH_LENGTH);
    mp_ids_free(&ids);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_config_free(&config);
}

static void open_fails(const char *const *flags, const char *message)
{
    struct mp_error err;
    struct mp_config config;
    struct mp_engine *engine;
    mp_config_init(&config);
    set_flags(&config, flags);
    struct mp_engine_options options = engine_options(&config, MODEL);
    int code = mp_engine_open(&options, &engine, &err);
    if (code == 0) {
        code = mp_engine_start(engine, 100, 1, &err);
        mp_engine_close(engine);
    }
    assert_int_not_equal(code, 0);
    if (strstr(err.message, message) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", message, err.message);
    }
    mp_config_free(&config);
}

static void test_bad_settings(void **state)
{
    (void)state;
    static const char *const scheduler[] = {"sched", "best", NULL};
    static const char *const workers[] = {"cpu-workers", "500", NULL};
    static const char *const layers[] = {"cache-layers", "3", NULL};
    static const char *const memory[] = {"memory-limit", "1MiB", NULL};
    open_fails(scheduler, "found \"best\"");
    open_fails(workers, "500");
    open_fails(layers, "layers 0 to 2");
    open_fails(memory, "memory_limit is");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_schedulers),
        cmocka_unit_test(test_sampling_is_seeded),
        cmocka_unit_test(test_many_tables_are_exact),
        cmocka_unit_test(test_all_layers_dense_is_full),
        cmocka_unit_test(test_sampled_fraction),
        cmocka_unit_test(test_units_left),
        cmocka_unit_test(test_bad_prompts),
        cmocka_unit_test(test_positions_run_out),
        cmocka_unit_test(test_bad_settings),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
