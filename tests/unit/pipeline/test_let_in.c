/* Short prompts that are read between the layers of a long one: in which order, that the answers
 * stay, how much the long one gives way, and what happens when either ends. On the reference path a
 * token's numbers do not depend on what it is read with. */
#include "core/base/rng.h"
#include "engine_fixture.h"
#include "pipeline/engine/session/session.h"

#include <string.h>
#include <unistd.h>

#define MODEL GOLDEN "llama3-rope"
enum { VOCAB = 640, LAYERS = 3, CHUNK = 64, LONG = 400, SHORT = 50, NEW_TOKENS = 5 };

static const char *const BASE[] = {
    "device-budget", "20", "window-size",       "16", "lsh-k", "3",   "lsh-l", "8", "eos", "none",
    "chunk-size",    "64", "generation-budget", "3",  "isa",   "ref", "batch", "4", NULL};

struct fixture {
    struct mp_config config;
    struct mp_engine *engine;
    struct mp_session *session;
    bool interrupts; /* while a prompt is read, another one is to be let in */
    int cancels;     /* slot of a request that is cancelled then; -1: none */
};

static mp_progress_callback hear;

static void open_fixture(struct fixture *f, const char *const *extra)
{
    struct mp_error err;
    *f = (struct fixture){.cancels = -1};
    mp_config_init(&f->config);
    set_flags(&f->config, BASE);
    set_flags(&f->config, extra);
    struct mp_engine_options options = engine_options(&f->config, MODEL);
    options.progress = hear;
    options.user = f;
    ASSERT_OK(mp_engine_open(&options, &f->engine, &err));
    ASSERT_OK(mp_engine_start(f->engine, LONG, NEW_TOKENS, &err));
    ASSERT_OK(mp_session_open(f->engine, &f->session, &err));
}

static void close_fixture(struct fixture *f)
{
    mp_session_close(f->session);
    f->session = NULL;
    mp_engine_close(f->engine);
    mp_config_free(&f->config);
}

static struct mp_ids draw(int which, int64_t count)
{
    struct mp_ids ids = {0};
    struct mp_rng rng;
    mp_rng_init(&rng, 3, (uint64_t)which);
    for (int64_t i = 0; i < count; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    return ids;
}

static int try_add(struct fixture *f, int which, int64_t count, int64_t new_tokens, int *slot)
{
    struct mp_error err;
    struct mp_ids ids = draw(which, count);
    int code = add_prompt(f->session, ids.data, count, new_tokens, (uint64_t)which, slot, &err);
    mp_ids_free(&ids);
    return code;
}

static int add(struct fixture *f, int which, int64_t count)
{
    int slot;
    assert_int_equal(try_add(f, which, count, NEW_TOKENS, &slot), 0);
    return slot;
}

static bool lets_in(const struct fixture *f, int which, int64_t count)
{
    struct mp_ids ids = draw(which, count);
    bool in = mp_hook_lets_in(f->session, ids.data, count, NEW_TOKENS);
    mp_ids_free(&ids);
    return in;
}

static void hear(void *user, const char *what, const char *unit, int64_t done, int64_t total)
{
    struct fixture *f = user;
    (void)what;
    (void)unit;
    (void)total;
    if (f->session == NULL || done < 0) {
        return;
    }
    if (f->interrupts && lets_in(f, 1, SHORT)) {
        assert_false(mp_hook_interrupt(f->session)); /* not within a step */
    }
    if (f->cancels >= 0) {
        mp_session_cancel(f->session, f->cancels);
    }
}

static int64_t generated(const struct fixture *f, int slot)
{
    return mp_session_request(f->session, slot)->generated_tokens;
}

static int step(struct fixture *f)
{
    struct mp_error err;
    int active;
    ASSERT_OK(mp_session_step(f->session, &active, &err));
    return active;
}

/* Tokens of an answer that is read and generated alone. */
static void answer_alone(int which, int64_t count, int32_t tokens[NEW_TOKENS])
{
    struct fixture f;
    open_fixture(&f, NULL);
    int slot = add(&f, which, count);
    while (step(&f) > 0) {
    }
    const struct mp_request *r = mp_session_request(f.session, slot);
    memcpy(tokens, r->ids + r->prompt_tokens, NEW_TOKENS * sizeof *tokens);
    close_fixture(&f);
}

static void check_answer(const struct fixture *f, int slot, const int32_t tokens[NEW_TOKENS])
{
    const struct mp_request *r = mp_session_request(f->session, slot);
    assert_int_equal(r->finish, MP_FINISH_LENGTH);
    assert_memory_equal(r->ids + r->prompt_tokens, tokens, NEW_TOKENS * sizeof *tokens);
}

/* Steps until the prompt that is read is at the end of a layer. */
static void go_to_end_of_layer(struct fixture *f)
{
    while (!mp_hook_interrupt(f->session)) {
        assert_true(step(f) > 0);
    }
}

/* The short prompt has its first token first, whether somebody decodes or nobody does, and both
 * have the answers that they have alone. */
static void test_order(void **state)
{
    (void)state;
    int32_t expected[2][NEW_TOKENS];
    answer_alone(0, LONG, expected[0]);
    answer_alone(1, SHORT, expected[1]);
    for (int beside = 0; beside < 2; beside++) {
        struct fixture f;
        int slot = -1;
        open_fixture(&f, NULL);
        if (beside == 1) {
            assert_int_equal(try_add(&f, 2, 100, 1000, &slot), 0);
            step(&f);
            step(&f);
        }
        int first = add(&f, 0, LONG);
        assert_int_equal(mp_session_units_left(f.session), 7 * LAYERS);
        f.interrupts = true;
        step(&f);
        go_to_end_of_layer(&f);
        f.interrupts = false;
        int left = mp_session_units_left(f.session);
        assert_true(left > 0 && left % 7 == 0);
        assert_true(beside == 1 || left == 7 * (LAYERS - 1)); /* in the first step */
        assert_false(mp_session_can_add(f.session));
        assert_true(lets_in(&f, 1, SHORT));
        int second = add(&f, 1, SHORT);
        assert_int_equal(mp_session_units_left(f.session), LAYERS);
        while (generated(&f, second) == 0) {
            step(&f);
            assert_int_equal(generated(&f, first), 0);
        }
        assert_int_equal(mp_session_units_left(f.session), left);
        while (generated(&f, first) < NEW_TOKENS || generated(&f, second) < NEW_TOKENS) {
            step(&f);
        }
        check_answer(&f, first, expected[0]);
        check_answer(&f, second, expected[1]);
        if (slot >= 0) {
            assert_true(generated(&f, slot) > NEW_TOKENS);
        }
        close_fixture(&f);
    }
}

/* Who asks to be let in and does not come holds nobody up. */
static void test_nobody_comes(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, NULL);
    int slot = add(&f, 0, LONG);
    for (int left = 7 * LAYERS; left > 0; left -= 7) {
        assert_int_equal(mp_session_units_left(f.session), left);
        assert_int_equal(generated(&f, slot), 0);
        mp_hook_interrupt(f.session);
        step(&f);
    }
    assert_int_equal(generated(&f, slot), 1);
    close_fixture(&f);
}

/* Only between two layers, only one that has no more tokens than a chunk, and one at a time. */
static void test_refused(void **state)
{
    (void)state;
    struct fixture f;
    int slot;
    open_fixture(&f, NULL);
    assert_false(lets_in(&f, 1, SHORT)); /* nothing is read */
    assert_int_equal(try_add(&f, 1, SHORT, 1000, &slot), 0);
    assert_false(lets_in(&f, 2, 10)); /* what is read is short itself */
    step(&f);
    add(&f, 0, LONG);
    assert_true(lets_in(&f, 1, CHUNK));
    assert_false(lets_in(&f, 1, CHUNK + 1));
    assert_int_equal(try_add(&f, 1, CHUNK + 1, 1, &slot), MP_ERR_USAGE);
    while (mp_session_units_left(f.session) % 7 == 0) {
        step(&f); /* a unit or more of a layer, beside the other's tokens */
    }
    assert_false(mp_hook_interrupt(f.session));
    assert_int_equal(try_add(&f, 1, SHORT, 1, &slot), MP_ERR_USAGE);
    go_to_end_of_layer(&f);
    add(&f, 2, SHORT);
    assert_false(lets_in(&f, 3, 10));
    assert_int_equal(try_add(&f, 3, 10, 1, &slot), MP_ERR_USAGE);
    close_fixture(&f);
}

/* Others are let in until as much has been read of them as of the one that lets them in. */
static void test_lead(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, (const char *const[]){"prefill-share", "1", NULL});
    int first = add(&f, 0, LONG);
    int let_in = 0;
    for (int layer = 0; layer < LAYERS; layer++) {
        while (lets_in(&f, 1, CHUNK)) {
            int slot = add(&f, 1, CHUNK);
            step(&f);
            assert_int_equal(generated(&f, slot), 1);
            mp_session_remove(f.session, slot);
            let_in++;
        }
        /* Of 64 tokens in 3 layers each: one at first, two or three after each layer of 400. */
        assert_int_equal(let_in, 1 + layer * LONG / (CHUNK * LAYERS));
        mp_hook_interrupt(f.session);
        step(&f);
    }
    assert_int_equal(generated(&f, first), 1);
    close_fixture(&f);
}

/* Either may be cancelled or removed, also while the other one is read, and the other one goes on.
 */
static void test_ends(void **state)
{
    (void)state;
    int32_t expected[2][NEW_TOKENS];
    answer_alone(0, LONG, expected[0]);
    answer_alone(1, SHORT, expected[1]);
    for (int gone = 0; gone < 2; gone++) {
        for (int how = 0; how < 3; how++) {
            struct fixture f;
            open_fixture(&f, NULL);
            const int slots[2] = {add(&f, 0, LONG), add(&f, 1, SHORT)};
            if (how == 0) {
                mp_session_cancel(f.session, slots[gone]);
            } else if (how == 1) {
                mp_session_remove(f.session, slots[gone]);
            } else {
                f.cancels = slots[gone];
                step(&f);
                f.cancels = -1;
            }
            while (step(&f) > 0) {
            }
            check_answer(&f, slots[1 - gone], expected[1 - gone]);
            if (how != 1) {
                assert_int_equal(mp_session_request(f.session, slots[gone])->finish,
                                 MP_FINISH_CANCELLED);
            }
            close_fixture(&f);
        }
    }
    struct fixture f;
    open_fixture(&f, NULL);
    add(&f, 0, LONG);
    add(&f, 1, SHORT);
    close_fixture(&f); /* with both */
}

/* Layers on two devices, which CPU workers stand for: a prompt goes through them chunk by chunk,
 * and lets no other one in, so that none is planned. */
static void test_several_devices(void **state)
{
    (void)state;
    if (sysconf(_SC_NPROCESSORS_ONLN) < 2) {
        skip(); /* a worker needs a core */
    }
    struct fixture f;
    struct mp_plan one, two;
    int slot;
    open_fixture(&f, (const char *const[]){"devices", "mock", "gpus", "2", "threads", "2", NULL});
    add(&f, 0, LONG);
    assert_false(lets_in(&f, 1, SHORT));
    assert_int_equal(try_add(&f, 1, SHORT, 1, &slot), MP_ERR_USAGE);
    while (step(&f) > 0) {
    }
    mp_engine_plan(f.engine, LONG, NEW_TOKENS, &two);
    f.config.batch = 1;
    mp_engine_plan(f.engine, LONG, NEW_TOKENS, &one);
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        assert_int_equal(two.bytes[d][MP_PLAN_PREFILL], one.bytes[d][MP_PLAN_PREFILL]);
    }
    f.config.batch = 4;
    close_fixture(&f);
}

/* A question about a document that is known is short, however long the document. */
static void test_known(void **state)
{
    (void)state;
    enum { DOCUMENT = 330, QUESTION = 10 };
    struct fixture f;
    struct mp_error err;
    open_fixture(&f, (const char *const[]){"generation-budget", "32", NULL});
    struct mp_ids ids = draw(1, DOCUMENT + QUESTION);
    mp_session_remove(f.session, generate(f.session, &ids, 1));
    for (int i = DOCUMENT; i < DOCUMENT + QUESTION; i++) {
        ids.data[i] = (ids.data[i] + 1) % VOCAB;
    }
    int first = add(&f, 0, LONG);
    int second;
    assert_false(lets_in(&f, 2, DOCUMENT + QUESTION));
    assert_true(mp_hook_lets_in(f.session, ids.data, (int64_t)ids.count, 1));
    assert_true(mp_hook_interrupt(f.session));
    ASSERT_OK(add_prompt(f.session, ids.data, (int64_t)ids.count, 1, 0, &second, &err));
    assert_true(mp_session_request(f.session, second)->cached_tokens >= 300);
    step(&f);
    assert_int_equal(generated(&f, first), 0);
    assert_int_equal(generated(&f, second), 1);
    while (step(&f) > 0) {
    }
    assert_int_equal(generated(&f, first), NEW_TOKENS);
    mp_ids_free(&ids);
    close_fixture(&f);
}

/* The KV that two prompts at a time restore is within the budget, or one of them is read. */
static void test_both_restored(void **state)
{
    (void)state;
    enum { FIRST = 700, SECOND = 305, KNOWN = 300, RESTORED = 4 + 256 };
    for (int room = 0; room < 2; room++) {
        struct fixture f;
        struct mp_error err;
        const struct mp_segment *kept[2];
        int slots[2];
        open_fixture(&f, (const char *const[]){"chunk-size", "320", "prefix-cache", "1GiB", NULL});
        struct mp_ids ids[2] = {draw(1, FIRST), draw(2, SECOND)};
        for (int i = 0; i < 2; i++) {
            size_t count = ids[i].count;
            ids[i].count = KNOWN;
            mp_session_remove(f.session, generate(f.session, &ids[i], 1));
            ids[i].count = count;
            kept[i] = f.engine->prefixes->first;
        }
        int64_t *budget = f.engine->prefixes->budget;
        for (int d = 0; d < MP_PLAN_DEVICES; d++) {
            budget[d] = kept[0]->bytes[d] + kept[1]->bytes[d];
        }
        budget[MP_PLAN_CPU] -= 1 - room;
        for (int i = 0; i < 2; i++) {
            ASSERT_OK(add_prompt(f.session, ids[i].data, (int64_t)ids[i].count, NEW_TOKENS, 0,
                                 &slots[i], &err));
            assert_int_equal(mp_session_request(f.session, slots[i])->cached_tokens,
                             i == 0 || room == 1 ? RESTORED : 0);
            mp_ids_free(&ids[i]);
        }
        while (step(&f) > 0) {
        }
        for (int i = 0; i < 2; i++) {
            assert_int_equal(generated(&f, slots[i]), NEW_TOKENS);
        }
        close_fixture(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),         cmocka_unit_test(test_nobody_comes),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_lead),
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_known),
        cmocka_unit_test(test_both_restored), cmocka_unit_test(test_several_devices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
