/* Requests that find no memory fail alone. The program's allocator fails when the test says so.
 * And what they hold at most is planned. */
#include "core/base/memory.h"
#include "engine_fixture.h"
#include "pipeline/engine/session/session.h"

#define MODEL GOLDEN "llama3-rope"
enum { REQUESTS = 2, NEW_TOKENS = 12, PROMPT = 150, CHUNK = 64 };

static const char *failing_what; /* allocations of this fail, NULL: none */
static int failures;             /* so many of them still */

void *__real_mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err);
void *__wrap_mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err);

static struct mp_config config;
static struct mp_engine *engine;

static const struct mp_session *watched; /* what its requests hold at most is measured */
static int64_t most_held;

/* Bytes of the KV of the requests, and of a cache that takes the place of one of them. */
static int64_t count_held(const struct mp_session *session, int64_t larger)
{
    int64_t held = larger;
    for (int i = 0; i < REQUESTS; i++) {
        int64_t bytes[MP_PLAN_DEVICES];
        mp_kv_count_held(engine, session->slots[i].segment->layers, bytes);
        held += bytes[MP_PLAN_CPU];
    }
    return held;
}

void *__wrap_mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err)
{
    if (watched != NULL && strcmp(what, "value cache") == 0) {
        int64_t held = count_held(watched, 2 * (int64_t)(count * size));
        most_held = held > most_held ? held : most_held;
    }
    if (failing_what != NULL && strcmp(what, failing_what) == 0 && failures > 0) {
        failures--;
        mp_fail(err, MP_ERR_MEMORY, "%s: the test gives no memory", what);
        return NULL;
    }
    return __real_mp_alloc(count, size, what, err);
}

/* The next allocation of `what`, and no other. */
static void fail_one(const char *what)
{
    failing_what = what;
    failures = 1;
}

/* Room for two generated tokens at first: caches grow while decoding. */
static int start(void **state)
{
    (void)state;
    mp_config_init(&config);
    set_flags(
        &config,
        (const char *const[]){
            "devices",      "cpu", "batch",      "2",  "eos",   "none", "device-budget",     "20",
            "window-size",  "16",  "lsh-k",      "3",  "lsh-l", "8",    "generation-budget", "2",
            "prefix-cache", "0",   "chunk-size", "64", NULL});
    engine = open_engine(&config, MODEL, PROMPT);
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mp_engine_close(engine);
    mp_config_free(&config);
    return 0;
}

/* Two prompts, read one after the other. */
static struct mp_session *read_prompts(int slot[REQUESTS])
{
    struct mp_error err;
    struct mp_session *session;
    int32_t ids[PROMPT];
    ASSERT_OK(mp_session_open(engine, &session, &err));
    for (int r = 0; r < REQUESTS; r++) {
        for (int i = 0; i < PROMPT; i++) {
            ids[i] = (i * (7 + r) + r) % 600;
        }
        ASSERT_OK(add_prompt(session, ids, PROMPT, NEW_TOKENS, (uint64_t)r, &slot[r], &err));
        ASSERT_OK(mp_session_read(session, &err));
    }
    return session;
}

static void decode(struct mp_session *session)
{
    struct mp_error err;
    int active = 1;
    while (active > 0) {
        ASSERT_OK(mp_session_step(session, &active, &err));
    }
}

static void copy_tokens(const struct mp_session *session, int slot, int32_t out[NEW_TOKENS])
{
    const struct mp_request *r = mp_session_request(session, slot);
    assert_int_equal(r->finish, MP_FINISH_LENGTH);
    memcpy(out, r->ids + r->prompt_tokens, NEW_TOKENS * sizeof *out);
}

/* A cache that cannot grow ends its request; the other one's tokens are what they were. */
static void test_growth(void **state)
{
    (void)state;
    int slot[REQUESTS];
    int32_t expected[NEW_TOKENS], found[NEW_TOKENS];
    struct mp_session *session = read_prompts(slot);
    decode(session);
    copy_tokens(session, slot[1], expected);
    mp_session_close(session);

    session = read_prompts(slot);
    fail_one("value cache"); /* that of the first slot's first layer grows first */
    decode(session);
    const struct mp_request *failed = mp_session_request(session, slot[0]);
    assert_int_equal(failed->finish, MP_FINISH_FAILED);
    assert_non_null(strstr(failed->failure.message, "value cache: the test gives no memory"));
    assert_true(failed->generated_tokens < NEW_TOKENS);
    copy_tokens(session, slot[1], found);
    assert_memory_equal(found, expected, sizeof expected);
    mp_session_close(session);
}

/* Without anybody left to decode for, a step ends in peace. */
static void test_growth_of_all(void **state)
{
    (void)state;
    int slot[REQUESTS];
    struct mp_session *session = read_prompts(slot);
    failures = REQUESTS;
    failing_what = "value cache";
    decode(session);
    for (int r = 0; r < REQUESTS; r++) {
        assert_int_equal(mp_session_request(session, slot[r])->finish, MP_FINISH_FAILED);
    }
    mp_session_close(session);
}

/* While a cache grows there are two of it, of one layer and request. */
static void test_growth_is_planned(void **state)
{
    (void)state;
    static const enum mp_plan_row rows[] = {MP_PLAN_STATIC_KV, MP_PLAN_DENSE_KV,
                                            MP_PLAN_OFFLOADED_KV, MP_PLAN_INDEX};
    struct mp_plan plan;
    int64_t planned = 0;
    int slot[REQUESTS];
    struct mp_session *session = read_prompts(slot);
    watched = session;
    decode(session);
    watched = NULL;
    mp_session_close(session);
    mp_engine_plan(engine, PROMPT, NEW_TOKENS, &plan);
    for (int i = 0; i < 4; i++) {
        planned += plan.bytes[MP_PLAN_CPU][rows[i]];
    }
    int64_t growing = plan.bytes[MP_PLAN_CPU][MP_PLAN_GROWING];
    print_message("%lld bytes held at most, planned %lld and %lld for a cache that grows\n",
                  (long long)most_held, (long long)planned, (long long)growing);
    assert_true(most_held > planned && most_held <= planned + growing);
    mp_engine_plan(engine, PROMPT, 2, &plan); /* the room that there is at first */
    assert_int_equal(plan.bytes[MP_PLAN_CPU][MP_PLAN_GROWING], 0);
}

/* A prompt whose KV finds no memory fails; the session goes on. */
static void test_prompt(void **state)
{
    (void)state;
    struct mp_error err;
    int slot, failed_slot;
    int32_t ids[PROMPT] = {0};
    struct mp_session *session;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    ASSERT_OK(add_prompt(session, ids, PROMPT, NEW_TOKENS, 0, &failed_slot, &err));
    fail_one("offloaded keys and values");
    ASSERT_OK(mp_session_read(session, &err));
    assert_int_equal(failures, 0);
    assert_int_equal(mp_session_request(session, failed_slot)->finish, MP_FINISH_FAILED);
    mp_session_remove(session, failed_slot);
    ASSERT_OK(add_prompt(session, ids, PROMPT, NEW_TOKENS, 0, &slot, &err));
    decode(session);
    assert_int_equal(mp_session_request(session, slot)->finish, MP_FINISH_LENGTH);
    mp_session_close(session);
}

/* Nor does the prompt that has let in another one, which finds no memory at first or later. */
static void test_prompt_let_in(void **state)
{
    (void)state;
    static const char *const whats[] = {"prefill residual stream", "offloaded keys and values"};
    struct mp_error err;
    int32_t ids[PROMPT] = {0};
    for (int i = 0; i < 2; i++) {
        int slot, failed_slot;
        struct mp_session *session;
        ASSERT_OK(mp_session_open(engine, &session, &err));
        ASSERT_OK(add_prompt(session, ids, PROMPT, NEW_TOKENS, 0, &slot, &err));
        fail_one(whats[i]);
        int code = add_prompt(session, ids, CHUNK, NEW_TOKENS, 0, &failed_slot, &err);
        assert_int_equal(code, i == 0 ? MP_ERR_MEMORY : 0);
        if (code == 0) {
            ASSERT_OK(mp_session_read(session, &err));
            assert_int_equal(mp_session_request(session, failed_slot)->finish, MP_FINISH_FAILED);
        }
        assert_int_equal(failures, 0);
        decode(session);
        assert_int_equal(mp_session_request(session, slot)->finish, MP_FINISH_LENGTH);
        mp_session_close(session);
    }
}

static void hear_nothing(void *user, int slot, int64_t position, const int32_t *ids,
                         const float *logprobs, int count)
{
    (void)user;
    (void)slot;
    (void)position;
    (void)ids;
    (void)logprobs;
    (void)count;
    fail_msg("there was no memory for logits");
}

/* Nor does the session end with a prompt whose logprobs find no memory. */
static void test_prompt_logprobs(void **state)
{
    (void)state;
    struct mp_error err;
    int slot;
    int32_t ids[PROMPT] = {0};
    struct mp_session *session;
    const struct mp_request_options options = {.size = sizeof options,
                                               .ids = ids,
                                               .count = PROMPT,
                                               .max_new_tokens = NEW_TOKENS,
                                               .on_logprobs = hear_nothing,
                                               .prompt_logprobs = true};
    ASSERT_OK(mp_session_open(engine, &session, &err));
    ASSERT_OK(mp_session_add(session, &options, &slot, &err));
    fail_one("logits");
    decode(session);
    assert_int_equal(failures, 0);
    assert_int_equal(mp_session_request(session, slot)->finish, MP_FINISH_FAILED);
    mp_session_remove(session, slot);
    ASSERT_OK(add_prompt(session, ids, PROMPT, NEW_TOKENS, 0, &slot, &err));
    decode(session);
    assert_int_equal(mp_session_request(session, slot)->finish, MP_FINISH_LENGTH);
    mp_session_close(session);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_growth_of_all),
        cmocka_unit_test(test_growth_is_planned),
        cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_prompt_let_in),
        cmocka_unit_test(test_prompt_logprobs),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
