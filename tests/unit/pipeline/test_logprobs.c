/* What a request can be told of its tokens: their logprobs, the prompt's too, how far the prompt
 * is, and special tokens in its text. With the demo model. */
#include "engine_fixture.h"

#include <math.h>

enum { NEW_TOKENS = 10, TOP = 3, PROMPT = 300 };

static struct mp_config config;
static struct mp_engine *engine;
static int32_t prompt[PROMPT];

static int start(void **state)
{
    (void)state;
    mp_config_init(&config);
    set_flags(&config, (const char *const[]){"batch", "2", "attention", "pps", "attention-samples",
                                             "128", "chunk-size", "128", NULL});
    engine = open_engine(&config, DEMO_MODEL, PROMPT + NEW_TOKENS);
    for (int i = 0; i < PROMPT; i++) {
        prompt[i] = 300 + i * 37 % 3000;
    }
    return 0;
}

static int stop(void **state)
{
    (void)state;
    mp_engine_close(engine);
    mp_config_free(&config);
    return 0;
}

/* What was told of each place of a request's ids. */
struct told {
    int32_t ids[PROMPT + NEW_TOKENS][1 + TOP];
    float logprobs[PROMPT + NEW_TOKENS][1 + TOP];
    int64_t first, next; /* places, from the first told to behind the last */
    int tokens;
    char text[256];
    struct mp_session *session;
    int64_t cancel_at; /* place; 0: never */
};

static void tell(void *user, int slot, int64_t position, const int32_t *ids, const float *logprobs,
                 int count)
{
    struct told *t = user;
    assert_int_equal(count, 1 + TOP);
    if (t->next == 0) {
        t->first = position;
    } else {
        assert_int_equal(position, t->next);
    }
    t->next = position + 1;
    memcpy(t->ids[position], ids, sizeof t->ids[0]);
    memcpy(t->logprobs[position], logprobs, sizeof t->logprobs[0]);
    if (position == t->cancel_at) {
        mp_session_cancel(t->session, slot);
    }
}

static void hear(void *user, int slot, int32_t id, const char *piece, size_t length)
{
    struct told *t = user;
    (void)slot;
    t->tokens++;
    assert_int_equal(t->ids[t->next - 1][0], id); /* its logprobs came before it */
    strncat(t->text, piece, length);
}

static struct mp_request_options request(struct told *t)
{
    *t = (struct told){0};
    return (struct mp_request_options){
        .size = sizeof(struct mp_request_options),
        .ids = prompt,
        .count = PROMPT,
        .max_new_tokens = NEW_TOKENS,
        .own_end_tokens = true,
        .on_token = hear,
        .on_logprobs = tell,
        .num_logprobs = TOP,
        .user = t,
    };
}

/* Runs one request; what the session knows of it, which is closed by the next call with NULL. */
static const struct mp_request *answer(const struct mp_request_options *options, struct told *t)
{
    static struct mp_session *session;
    struct mp_error err;
    int slot, active = 1;
    mp_session_close(session);
    session = NULL;
    if (options == NULL) {
        return NULL;
    }
    ASSERT_OK(mp_session_open(engine, &session, &err));
    t->session = session;
    ASSERT_OK(mp_session_add(session, options, &slot, &err));
    while (active > 0) {
        ASSERT_OK(mp_session_step(session, &active, &err));
    }
    return mp_session_request(session, slot);
}

/* Greedy: each token is the likeliest of its place. */
static void test_generated(void **state)
{
    (void)state;
    struct told t;
    struct mp_request_options options = request(&t);
    const struct mp_request *r = answer(&options, &t);
    assert_int_equal(r->read_tokens, PROMPT);
    assert_int_equal(t.first, PROMPT);
    assert_int_equal(t.next, PROMPT + NEW_TOKENS);
    assert_int_equal(t.tokens, NEW_TOKENS);
    for (int64_t i = t.first; i < t.next; i++) {
        assert_int_equal(t.ids[i][0], r->ids[i]);
        assert_int_equal(t.ids[i][1], r->ids[i]);
        assert_true(t.logprobs[i][0] == t.logprobs[i][1]);
        double sum = 0.0;
        for (int k = 1; k <= TOP; k++) {
            assert_true(k == 1 || t.logprobs[i][k] <= t.logprobs[i][k - 1]);
            sum += exp((double)t.logprobs[i][k]);
        }
        assert_true(sum > 0.0 && sum < 1.0 + 1e-5);
    }
    answer(NULL, NULL);
}

/* The logits of every place of the prompt, of which the next token's logprob follows. */
struct reference {
    double logprobs[PROMPT]; /* of the token behind the place */
    int64_t rows;
};

static int take_logits(void *arg, const float *logits, int64_t rows, struct mp_error *err)
{
    struct reference *r = arg;
    int vocab = mp_engine_vocab_size(engine);
    (void)err;
    for (int64_t i = 0; i < rows; i++, r->rows++) {
        double total = 0.0;
        for (int v = 0; v < vocab; v++) {
            total += exp((double)logits[i * vocab + v]);
        }
        int32_t next = r->rows + 1 < PROMPT ? prompt[r->rows + 1] : 0;
        r->logprobs[r->rows] = (double)logits[i * vocab + next] - log(total);
    }
    return 0;
}

static void test_prompt(void **state)
{
    (void)state;
    struct mp_error err;
    struct told t;
    struct reference reference = {0};
    struct mp_request_options options = request(&t);
    options.prompt_logprobs = true;
    answer(&options, &t);
    assert_int_equal(t.first, 1);
    assert_int_equal(t.next, PROMPT + NEW_TOKENS);
    answer(NULL, NULL);
    ASSERT_OK(mp_engine_logits(engine, prompt, PROMPT, take_logits, &reference, &err));
    for (int64_t i = 1; i < PROMPT; i++) {
        assert_int_equal(t.ids[i][0], prompt[i]);
        assert_true(fabs((double)t.logprobs[i][0] - reference.logprobs[i - 1]) < 0.02);
    }
}

/* Cancelled while the prompt's are told: nothing more is, and the session goes on. */
static void test_cancel(void **state)
{
    (void)state;
    struct mp_error err;
    struct told t;
    struct mp_session *session;
    int slot, active = 1;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    struct mp_request_options options = request(&t);
    options.prompt_logprobs = true;
    t.cancel_at = 100;
    t.session = session;
    ASSERT_OK(mp_session_add(session, &options, &slot, &err));
    while (active > 0) {
        ASSERT_OK(mp_session_step(session, &active, &err));
    }
    assert_int_equal(mp_session_request(session, slot)->finish, MP_FINISH_CANCELLED);
    assert_int_equal(t.next, 101);
    assert_int_equal(t.tokens, 0);
    mp_session_remove(session, slot);
    options = request(&t);
    ASSERT_OK(mp_session_add(session, &options, &slot, &err));
    for (active = 1; active > 0;) {
        ASSERT_OK(mp_session_step(session, &active, &err));
    }
    assert_int_equal(t.tokens, NEW_TOKENS);
    mp_session_close(session);
}

/* Special tokens are text if that is wanted, the end token never is. After the first token of a
 * text the model begins a header. */
static void test_special_text(void **state)
{
    (void)state;
    static const int32_t begin = 4091;
    struct told t;
    struct mp_request_options options = request(&t);
    options.ids = &begin;
    options.count = 1;
    int32_t last = answer(&options, &t)->ids[2];
    assert_null(strstr(t.text, "<|start_header_id|>"));
    struct told shown;
    options.user = &shown;
    shown = (struct told){0};
    options.special_text = true;
    answer(&options, &shown);
    assert_memory_equal(shown.text, "<|start_header_id|>", 19);
    assert_true(strlen(shown.text) > 19);
    options.end_tokens = &last;
    options.num_end_tokens = 1;
    shown = (struct told){0};
    assert_int_equal(answer(&options, &shown)->finish, MP_FINISH_EOS);
    assert_string_equal(shown.text, "<|start_header_id|>");
    answer(NULL, NULL);
}

/* Few samples for one request of a session, as many as there is room for. */
static void test_samples(void **state)
{
    (void)state;
    struct told t;
    struct mp_request_options options = request(&t);
    double share = answer(&options, &t)->sampled_mean;
    options = request(&t);
    options.samples = 16;
    double less = answer(&options, &t)->sampled_mean;
    answer(NULL, NULL);
    assert_true(share > 0.4 && less < 0.1);
}

static void refuse(struct mp_request_options options, const char *message)
{
    struct mp_error err;
    struct mp_session *session;
    int slot;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    assert_int_equal(mp_session_add(session, &options, &slot, &err), MP_ERR_USAGE);
    assert_string_equal(err.message, message);
    mp_session_close(session);
}

static void test_refusals(void **state)
{
    (void)state;
    struct told t;
    struct mp_request_options options = request(&t);
    options.num_logprobs = MP_MOST_LOGPROBS + 1;
    refuse(options, "num_logprobs: found 33, expected 0 to 32");
    options = request(&t);
    options.samples = 129;
    refuse(options, "samples: found 129, expected at most 128");
    options = request(&t);
    options.epsilon = 0.1f;
    refuse(options, "epsilon: found 0.1, expected none, as the configuration has no "
                    "attention.epsilon");
    options = request(&t);
    options.own_sampling = true;
    options.top_p = 1.0f;
    options.min_p = 2.0f;
    refuse(options, "min_p: found 2, expected a number from 0 to 1");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generated), cmocka_unit_test(test_prompt),
        cmocka_unit_test(test_cancel),    cmocka_unit_test(test_special_text),
        cmocka_unit_test(test_samples),   cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
