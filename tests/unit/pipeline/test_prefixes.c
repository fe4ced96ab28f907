/* Prompts that begin alike: what is shared, restored, kept and forgotten, and that the answers
 * stay. On the reference path a token's numbers do not depend on what it is read with, so that
 * where every token is attended to exactly, texts with and without shared prefixes are the same. */
#include "core/base/rng.h"
#include "engine_fixture.h"
#include "pipeline/engine/session/session.h"

#include <string.h>

#define MODEL GOLDEN "llama3-rope"
enum {
    VOCAB = 640,
    DOCUMENT = 261, /* little more than is kept at least */
    QUESTION = 21,
    NEW_TOKENS = 9,
    MOST_TOKENS = 90,
    SINK = 4,
    WINDOW = 16
};

static const char *const BASE[] = {
    "device-budget",     "20", "window-size", "16",  "eos",   "none", "chunk-size", "128",
    "generation-budget", "32", "isa",         "ref", "batch", "3",    NULL};

/* Methods under settings with which they select every token, each weighed by 1. */
static const char *const EXACT[][7] = {
    {"attention", "full", NULL},
    {"attention", "topk", "attention-budget", "1", NULL},
    {"attention", "quest", "attention-budget", "1", NULL},
    {"attention", "pps", "attention-samples", "100000", NULL},
};
/* Room for none whose request is gone. */
static const char *const NOTHING_KEPT[] = {"prefix-cache", "1", NULL};
enum { NUM_EXACT = sizeof EXACT / sizeof EXACT[0] };

/* One document for all, and a question of its own; which < 0: another document. */
static struct mp_ids make_prompt(int which, int64_t question)
{
    struct mp_ids ids = {0};
    struct mp_rng rng;
    mp_rng_init(&rng, 7, which < 0 ? 1 : 0);
    for (int64_t i = 0; i < DOCUMENT; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    mp_rng_init(&rng, 8, (uint64_t)(which + 100));
    for (int64_t i = 0; i < question; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    return ids;
}

struct fixture {
    struct mp_config config;
    struct mp_engine *engine;
    struct mp_session *session;
};

static void open_fixture(struct fixture *f, const char *const *method, const char *const *extra)
{
    struct mp_error err;
    mp_config_init(&f->config);
    set_flags(&f->config, BASE);
    set_flags(&f->config, method);
    set_flags(&f->config, extra);
    f->engine = open_engine(&f->config, MODEL, 500);
    ASSERT_OK(mp_session_open(f->engine, &f->session, &err));
}

static void close_fixture(struct fixture *f)
{
    mp_session_close(f->session);
    mp_engine_close(f->engine);
    mp_config_free(&f->config);
}

/* Reads a prompt and generates; tokens [new_tokens] gets the answer, unless it is NULL. Returns the
 * slot, still in use; *cached gets how much was known. */
static int answer(struct mp_session *s, int which, int64_t question, int64_t new_tokens,
                  int32_t *tokens, int64_t *cached)
{
    struct mp_ids prompt = make_prompt(which, question);
    int slot = generate(s, &prompt, new_tokens);
    const struct mp_request *r = mp_session_request(s, slot);
    assert_int_equal(r->generated_tokens, new_tokens);
    assert_int_equal(r->read_tokens, r->prompt_tokens);
    if (tokens != NULL) {
        memcpy(tokens, r->ids + r->prompt_tokens, (size_t)new_tokens * sizeof *tokens);
    }
    *cached = r->cached_tokens;
    mp_ids_free(&prompt);
    return slot;
}

static int64_t ask(struct mp_session *s, int which, int64_t question, int64_t new_tokens,
                   int32_t *tokens)
{
    int64_t cached;
    mp_session_remove(s, answer(s, which, question, new_tokens, tokens, &cached));
    return cached;
}

/* The first tokens of the answer, with full attention and nothing shared. */
static const int32_t *expected_answer(int which, int64_t question)
{
    static struct {
        int which;
        int64_t question;
        int32_t tokens[MOST_TOKENS];
    } known[10];
    static int count;
    for (int i = 0; i < count; i++) {
        if (known[i].which == which && known[i].question == question) {
            return known[i].tokens;
        }
    }
    struct fixture f;
    assert_true(count < (int)(sizeof known / sizeof known[0]));
    known[count].which = which;
    known[count].question = question;
    open_fixture(&f, EXACT[0], (const char *const[]){"prefix-cache", "0", NULL});
    assert_int_equal(ask(f.session, which, question, MOST_TOKENS, known[count].tokens), 0);
    close_fixture(&f);
    return known[count++].tokens;
}

/* What a prompt with the document has in common with what is kept of another one. */
static int64_t shared_of_document(const char *const *method)
{
    return strcmp(method[1], "full") == 0 ? DOCUMENT : SINK + (DOCUMENT - SINK) / 64 * 64;
}

/* Questions in turn, the request before each one gone: with a question that follows closely the
 * prefix is shared in place, with a longer one, or an answer that grows, it is restored. */
static void test_in_turn(void **state)
{
    (void)state;
    static const int64_t questions[] = {QUESTION, 3, 150};
    for (int m = 0; m < NUM_EXACT; m++) {
        struct fixture f;
        open_fixture(&f, EXACT[m], (const char *const[]){"prefix-cache", "1GiB", NULL});
        assert_int_equal(ask(f.session, 0, QUESTION, NEW_TOKENS, NULL), 0);
        for (int i = 0; i < 6; i++) {
            int64_t new_tokens = i < 3 ? NEW_TOKENS : MOST_TOKENS;
            int32_t found[MOST_TOKENS];
            int64_t cached = ask(f.session, 1 + i, questions[i % 3], new_tokens, found);
            assert_int_equal(cached, shared_of_document(EXACT[m]));
            assert_memory_equal(found, expected_answer(1 + i, questions[i % 3]),
                                (size_t)new_tokens * sizeof *found);
        }
        close_fixture(&f);
    }
}

/* The lender decodes, grows and ends while others share what it has. */
static void test_beside_each_other(void **state)
{
    (void)state;
    for (int m = 0; m < NUM_EXACT; m++) {
        struct fixture f;
        struct mp_error err;
        int slots[3];
        const int64_t lengths[3] = {60, 20, 30}; /* the first one grows */
        open_fixture(&f, EXACT[m], NOTHING_KEPT);
        for (int i = 0; i < 3; i++) {
            struct mp_ids prompt = make_prompt(i, QUESTION);
            ASSERT_OK(add_prompt(f.session, prompt.data, (int64_t)prompt.count, lengths[i], 0,
                                 &slots[i], &err));
            mp_ids_free(&prompt);
            int active;
            while (!mp_session_can_add(f.session) && i < 2) {
                ASSERT_OK(mp_session_step(f.session, &active, &err));
            }
            assert_int_equal(mp_session_request(f.session, slots[i])->cached_tokens,
                             i == 0 ? 0 : shared_of_document(EXACT[m]));
        }
        for (int active = 1; active > 0;) {
            ASSERT_OK(mp_session_step(f.session, &active, &err));
        }
        for (int i = 0; i < 3; i++) {
            const struct mp_request *r = mp_session_request(f.session, slots[i]);
            assert_memory_equal(r->ids + r->prompt_tokens, expected_answer(i, QUESTION),
                                (size_t)lengths[i] * sizeof(int32_t));
        }
        close_fixture(&f);
    }
}

/* Who shares goes on when the lender is gone, and a third one finds what both have left. */
static void test_lender_leaves(void **state)
{
    (void)state;
    for (int m = 0; m < NUM_EXACT; m++) {
        struct fixture f;
        struct mp_error err;
        int64_t cached;
        open_fixture(&f, EXACT[m], NOTHING_KEPT);
        ask(f.session, 1, QUESTION, NEW_TOKENS, NULL);
        assert_int_equal(ask(f.session, 2, QUESTION, NEW_TOKENS, NULL), 0); /* nothing is kept */

        int lender = answer(f.session, 0, QUESTION, NEW_TOKENS, NULL, &cached);
        assert_int_equal(cached, 0);
        struct mp_ids prompt = make_prompt(1, QUESTION);
        int slot;
        int active;
        ASSERT_OK(
            add_prompt(f.session, prompt.data, (int64_t)prompt.count, NEW_TOKENS, 0, &slot, &err));
        mp_session_remove(f.session, lender);
        while (mp_session_request(f.session, slot)->finish == MP_FINISH_NONE) {
            ASSERT_OK(mp_session_step(f.session, &active, &err));
        }
        const struct mp_request *r = mp_session_request(f.session, slot);
        assert_int_equal(r->cached_tokens, shared_of_document(EXACT[m]));
        assert_memory_equal(r->ids + r->prompt_tokens, expected_answer(1, QUESTION),
                            NEW_TOKENS * sizeof(int32_t));
        assert_int_equal(ask(f.session, 3, QUESTION, NEW_TOKENS, NULL), r->cached_tokens);
        mp_session_remove(f.session, slot);
        assert_int_equal(ask(f.session, 4, QUESTION, NEW_TOKENS, NULL), 0);
        mp_ids_free(&prompt);
        close_fixture(&f);
    }
}

/* The budget has room for one prompt: the one that was used last is kept. */
static void test_budget(void **state)
{
    (void)state;
    struct fixture f;
    int64_t known = shared_of_document(EXACT[1]);
    open_fixture(&f, EXACT[1], NULL); /* that of the longest prompt there may be */
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    assert_int_equal(ask(f.session, 1, QUESTION, NEW_TOKENS, NULL), known);
    assert_int_equal(ask(f.session, -1, QUESTION, NEW_TOKENS, NULL), 0);
    assert_int_equal(ask(f.session, 0, QUESTION, NEW_TOKENS, NULL), 0);
    close_fixture(&f);

    open_fixture(&f, EXACT[1], (const char *const[]){"prefix-cache", "1GiB", NULL});
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    assert_int_equal(ask(f.session, -1, QUESTION, NEW_TOKENS, NULL), 0);
    assert_int_equal(ask(f.session, 1, QUESTION, NEW_TOKENS, NULL), known);
    assert_int_equal(ask(f.session, -2, QUESTION, NEW_TOKENS, NULL), known);
    close_fixture(&f);
}

static bool idle_fit(const struct mp_engine *e)
{
    int64_t bytes[MP_PLAN_DEVICES] = {0};
    const int64_t *budget = e->prefixes->budget;
    for (const struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        for (int d = 0; d < MP_PLAN_DEVICES; d++) {
            bytes[d] += s->owner == NULL ? s->bytes[d] : 0;
        }
    }
    return bytes[MP_PLAN_CPU] <= budget[MP_PLAN_CPU] && bytes[MP_PLAN_GPU] <= budget[MP_PLAN_GPU];
}

static int count_segments(const struct mp_engine *e)
{
    int n = 0;
    for (const struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        n++;
    }
    return n;
}

/* The budget is each device's: where one of them is short, room on the other does not help. */
static void test_budget_of_devices(void **state)
{
    (void)state;
    struct fixture f;
    open_fixture(&f, EXACT[1], (const char *const[]){"prefix-cache", "1GiB", NULL});
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    ask(f.session, -1, QUESTION, NEW_TOKENS, NULL);
    assert_int_equal(count_segments(f.engine), 2);
    const int32_t *last = f.engine->prefixes->first->ids;
    for (struct mp_segment *s = f.engine->prefixes->first; s != NULL; s = s->next) {
        s->bytes[MP_PLAN_GPU] = 10;
    }
    f.engine->prefixes->budget[MP_PLAN_GPU] = 15;
    struct mp_ids prompt = make_prompt(-2, 0);
    prompt.count = 20;
    mp_session_remove(f.session, generate(f.session, &prompt, 1)); /* too short to be kept */
    assert_int_equal(count_segments(f.engine), 1);
    assert_ptr_equal(f.engine->prefixes->first->ids, last);
    mp_ids_free(&prompt);
    close_fixture(&f);
}

/* Before a request's allocation fails all go that no request uses, and no others. */
static void test_makes_room(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    int64_t cached;
    open_fixture(&f, EXACT[1], (const char *const[]){"prefix-cache", "1GiB", NULL});
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    ask(f.session, -1, QUESTION, NEW_TOKENS, NULL);
    int slot = answer(f.session, 1, 150, NEW_TOKENS, NULL, &cached);
    assert_int_equal(count_segments(f.engine), 3);
    struct mp_allocator a = mp_request_allocator(f.engine, &err);
    assert_null(mp_allocate(&a, MP_HOST, SIZE_MAX, "too much"));
    assert_int_equal(a.code, MP_ERR_MEMORY);
    assert_int_equal(count_segments(f.engine), 1);
    assert_non_null(f.engine->prefixes->first->owner);
    mp_session_remove(f.session, slot);
    close_fixture(&f);
}

/* Caches that have grown while a request generated count as what they are. */
static void test_grown(void **state)
{
    (void)state;
    struct fixture f;
    int64_t fresh[MP_PLAN_DEVICES];
    open_fixture(&f, EXACT[1], (const char *const[]){"prefix-cache", "1GiB", NULL});
    const struct mp_engine *e = f.engine;
    mp_kv_count(e, DOCUMENT + QUESTION, 1, fresh);
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    assert_memory_equal(e->prefixes->first->bytes, fresh, sizeof fresh);
    ask(f.session, -1, QUESTION, 100, NULL);
    const struct mp_segment *s = e->prefixes->first;
    int64_t more = 0;
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        const struct kv_cache *cache = &s->layers[l].static_cache;
        int64_t first = e->graph.placements.layers[l].sparse ? SINK + WINDOW : DOCUMENT + QUESTION;
        assert_true(cache->capacity >= first + 99);
        more += 2 * (int64_t)kv_bytes(cache->num_kv_heads, cache->head_dim, cache->dtype,
                                      cache->capacity - first - 32);
    }
    assert_int_equal(s->bytes[MP_PLAN_CPU] + s->bytes[MP_PLAN_GPU],
                     fresh[MP_PLAN_CPU] + fresh[MP_PLAN_GPU] + more);
    memcpy(e->prefixes->budget, fresh, sizeof fresh);
    ask(f.session, -2, QUESTION, 100, NULL); /* which shares the last one's, and lets it go */
    assert_int_equal(count_segments(e), 0);
    close_fixture(&f);
}

/* A lender and one that shares as little as can be in place take what the plan says of a request;
 * when their caches have grown, no more. */
static void test_planned(void **state)
{
    (void)state;
    const int64_t known = SINK + 4 * 64;
    const int64_t tokens = known + WINDOW + 32;
    static const enum mp_plan_row rows[] = {MP_PLAN_STATIC_KV, MP_PLAN_DENSE_KV,
                                            MP_PLAN_OFFLOADED_KV, MP_PLAN_INDEX};
    for (int m = 0; m < 2 * NUM_EXACT; m++) {
        struct fixture f;
        struct mp_plan plan;
        int64_t new_tokens = m < NUM_EXACT ? NEW_TOKENS : 100;
        if (m == 2 * NUM_EXACT - 1) {
            continue; /* pps shares nothing in place if more tokens are to come */
        }
        open_fixture(&f, EXACT[m % NUM_EXACT], NULL);
        struct mp_ids lender = make_prompt(0, tokens - DOCUMENT);
        struct mp_ids borrower = make_prompt(0, tokens - DOCUMENT);
        for (int64_t i = known; i < tokens; i++) {
            borrower.data[i] = (borrower.data[i] + 1) % VOCAB;
        }
        generate(f.session, &lender, new_tokens);
        int slot = generate(f.session, &borrower, new_tokens);
        assert_int_equal(mp_session_request(f.session, slot)->cached_tokens, known);
        assert_non_null(f.session->slots[slot].segment->lender);
        mp_engine_plan(f.engine, tokens, new_tokens, &plan);
        for (int d = 0; d < MP_PLAN_DEVICES; d++) {
            int64_t held = 0;
            int64_t planned = 0;
            for (int i = 0; i < 2; i++) {
                int64_t bytes[MP_PLAN_DEVICES];
                mp_kv_count_held(f.engine, f.session->slots[i].segment->layers, bytes);
                held += bytes[d];
            }
            for (int i = 0; i < 4; i++) {
                planned += plan.bytes[d][rows[i]] / plan.batch;
            }
            if (m < NUM_EXACT ? held != planned : held > planned) {
                fail_msg("%s: %lld bytes held, %lld planned", EXACT[m % NUM_EXACT][1],
                         (long long)held, (long long)planned);
            }
        }
        mp_ids_free(&lender);
        mp_ids_free(&borrower);
        close_fixture(&f);
    }
}

/* What is kept at least: 256 tokens, and where a method selects whole blocks behind the sink. */
static void test_least(void **state)
{
    (void)state;
    static const int64_t least[] = {256, SINK + 256};
    for (int m = 0; m < 2; m++) {
        struct fixture f;
        open_fixture(&f, EXACT[m], NULL);
        ask(f.session, 0, QUESTION, 1, NULL);
        for (int i = 0; i < 2; i++) {
            struct mp_ids prompt = make_prompt(1, QUESTION);
            prompt.count = (size_t)least[m] + (size_t)i; /* its last token is read in any case */
            int slot = generate(f.session, &prompt, 1);
            assert_int_equal(mp_session_request(f.session, slot)->cached_tokens,
                             i == 0 ? 0 : least[m]);
            mp_session_remove(f.session, slot);
            mp_ids_free(&prompt);
        }
        close_fixture(&f);
    }
}

/* A prefix that is being restored counts: another prompt whose request ends meanwhile goes. */
static void test_budget_while_restored(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    int64_t cached;
    int slot;
    int active;
    open_fixture(&f, EXACT[1], NULL);
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    int other = answer(f.session, -1, QUESTION, NEW_TOKENS, NULL, &cached);
    struct mp_ids prompt = make_prompt(1, 150);
    ASSERT_OK(add_prompt(f.session, prompt.data, (int64_t)prompt.count, 1, 0, &slot, &err));
    assert_true(mp_session_request(f.session, slot)->cached_tokens > 0);
    mp_session_remove(f.session, other);
    assert_true(idle_fit(f.engine));
    while (mp_session_request(f.session, slot)->finish == MP_FINISH_NONE) {
        ASSERT_OK(mp_session_step(f.session, &active, &err));
    }
    assert_true(idle_fit(f.engine));
    mp_ids_free(&prompt);
    close_fixture(&f);
}

static void count_rows(void *user, int slot, int64_t position, const int32_t *ids,
                       const float *logprobs, int count)
{
    (void)slot;
    (void)position;
    (void)ids;
    (void)logprobs;
    (void)count;
    ++*(int *)user;
}

/* Nothing is shared where all of a prompt is wanted, where its tokens are dropped, by another
 * session while the lender lives, or of a short prompt. */
static void test_not_shared(void **state)
{
    (void)state;
    struct mp_error err;
    struct fixture f;
    open_fixture(&f, EXACT[0], NULL);
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    struct mp_ids prompt = make_prompt(1, QUESTION);
    int rows = 0;
    int slot;
    const struct mp_request_options options = {.size = sizeof options,
                                               .ids = prompt.data,
                                               .count = (int64_t)prompt.count,
                                               .max_new_tokens = 1,
                                               .on_logprobs = count_rows,
                                               .prompt_logprobs = true,
                                               .user = &rows};
    ASSERT_OK(mp_session_add(f.session, &options, &slot, &err));
    for (int active = 1; active > 0;) {
        ASSERT_OK(mp_session_step(f.session, &active, &err));
    }
    assert_int_equal(rows, (int)prompt.count);
    assert_int_equal(mp_session_request(f.session, slot)->cached_tokens, 0);

    struct mp_session *other;
    ASSERT_OK(mp_session_open(f.engine, &other, &err));
    prompt.count = 255;
    mp_session_remove(f.session, generate(f.session, &prompt, 1));
    int64_t cached;
    int lender = answer(f.session, -1, QUESTION, NEW_TOKENS, NULL, &cached);
    assert_int_equal(ask(other, -2, QUESTION, NEW_TOKENS, NULL), 0);
    mp_session_remove(f.session, lender);
    assert_int_equal(ask(other, -3, QUESTION, NEW_TOKENS, NULL), DOCUMENT);
    mp_session_close(other);
    mp_ids_free(&prompt);
    close_fixture(&f);

    open_fixture(&f, (const char *const[]){"attention", "streaming", NULL}, NULL);
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    assert_int_equal(ask(f.session, 1, QUESTION, NEW_TOKENS, NULL), 0);
    close_fixture(&f);
}

/* The whole prompt once more: its last token is read, for its logits. */
static void test_same_prompt(void **state)
{
    (void)state;
    for (int m = 0; m < NUM_EXACT; m++) {
        struct fixture f;
        int32_t second[NEW_TOKENS];
        open_fixture(&f, EXACT[m], NULL);
        ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
        int64_t most = DOCUMENT + QUESTION - 1;
        int64_t before_window = DOCUMENT + QUESTION - WINDOW - SINK;
        assert_int_equal(ask(f.session, 0, QUESTION, NEW_TOKENS, second),
                         m == 0 ? most : SINK + before_window / 64 * 64);
        assert_memory_equal(second, expected_answer(0, QUESTION), sizeof second);
        close_fixture(&f);
    }
}

/* Sampling methods on every kernel variant and with 8-bit rows: a prefix is shared, and what is
 * sampled of it stays what the method samples. */
static void test_sampled(void **state)
{
    (void)state;
    static const char *const methods[][9] = {
        {"lsh-k", "3", "lsh-l", "8", NULL},
        {"lsh-k", "3", "lsh-l", "8", "kv-dtype", "int8", NULL},
        {"attention", "pps", "attention-samples", "64", "kv-dtype", "int8", NULL},
        {"attention", "pps", "attention-samples", "64", NULL},
        {"attention", "quest", "attention-budget", "0.2", "page-size", "48", NULL},
        {"attention", "oracle", "attention-budget", "0.2", NULL},
    };
    for (size_t m = 0; m < sizeof methods / sizeof methods[0]; m++) {
        struct fixture f;
        int64_t cached;
        open_fixture(&f, methods[m], (const char *const[]){"isa", "auto", NULL});
        int first = answer(f.session, 0, QUESTION, 60, NULL, &cached);
        double whole = mp_session_request(f.session, first)->sampled_mean;
        int second = answer(f.session, 1, QUESTION, 30, NULL, &cached);
        double shared = mp_session_request(f.session, second)->sampled_mean;
        assert_int_equal(cached, SINK + (DOCUMENT - SINK) / 64 * 64);
        if (!(shared > 0.7 * whole && shared < 1.4 * whole)) {
            fail_msg("%s: %g of the tokens sampled, expected about %g", methods[m][1], shared,
                     whole);
        }
        close_fixture(&f);
    }
}

/* Given up while the prefix is being restored, and closed with all of it in use. */
static void test_given_up(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    int slot;
    int active;
    open_fixture(&f, EXACT[3], NULL);
    ask(f.session, 0, QUESTION, NEW_TOKENS, NULL);
    for (int i = 0; i < 2; i++) {
        struct mp_ids prompt = make_prompt(1, i == 0 ? QUESTION : 300);
        ASSERT_OK(
            add_prompt(f.session, prompt.data, (int64_t)prompt.count, NEW_TOKENS, 0, &slot, &err));
        mp_session_cancel(f.session, slot);
        ASSERT_OK(mp_session_step(f.session, &active, &err));
        mp_session_remove(f.session, slot);
        mp_ids_free(&prompt);
    }
    struct mp_ids prompt = make_prompt(2, QUESTION);
    ASSERT_OK(
        add_prompt(f.session, prompt.data, (int64_t)prompt.count, NEW_TOKENS, 0, &slot, &err));
    assert_true(mp_session_request(f.session, slot)->cached_tokens > 0);
    mp_ids_free(&prompt);
    close_fixture(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_in_turn),
        cmocka_unit_test(test_beside_each_other),
        cmocka_unit_test(test_lender_leaves),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_budget_of_devices),
        cmocka_unit_test(test_makes_room),
        cmocka_unit_test(test_grown),
        cmocka_unit_test(test_planned),
        cmocka_unit_test(test_least),
        cmocka_unit_test(test_not_shared),
        cmocka_unit_test(test_same_prompt),
        cmocka_unit_test(test_sampled),
        cmocka_unit_test(test_given_up),
        cmocka_unit_test(test_budget_while_restored),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
