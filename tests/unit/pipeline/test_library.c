/* The public interface as a program uses it, with the demo model: configuration, text, what a
 * request has of its own, cancelling, several sessions. */
#include "engine_fixture.h"

#include <string.h>

enum { NEW_TOKENS = 24, MAX_TEXT = 4096 };

static const char PROMPT[] =
    "The old baker hid the broken clock. The special magic number is 48213. There was fog beside "
    "the well, and the old guard wrapped some dry bread. What is the special magic number?";

/* ---- one engine for all tests but the first ---- */

static struct mp_config *config;
static struct mp_engine *engine;
static int32_t *prompt; /* [prompt_count] */
static int64_t prompt_count;

/* What the progress of reading cancels; NULL: nothing. */
static struct mp_session *cancelling;
static int cancelled_slot;
static bool cancel_at_end; /* by the last call, and not before */

static void watch(void *user, const char *what, const char *unit, int64_t done, int64_t total)
{
    (void)user;
    (void)what;
    (void)unit;
    if (cancelling != NULL && (cancel_at_end ? done < 0 : done > 0 && done < total)) {
        mp_session_cancel(cancelling, cancelled_slot);
    }
}

static int setup(void **state)
{
    (void)state;
    struct mp_error err;
    config = mp_config_create();
    set_placement(config);
    ASSERT_OK(mp_config_set(config, "runtime.batch", "2", &err));
    ASSERT_OK(mp_config_set(config, "model_path", DEMO_MODEL, &err));
    struct mp_engine_options options = engine_options(config, NULL);
    options.progress = watch;
    ASSERT_OK(mp_engine_open(&options, &engine, &err));
    struct mp_session *session;
    assert_int_equal(mp_session_open(engine, &session, &err), MP_ERR_USAGE); /* not started */
    ASSERT_OK(mp_engine_encode(engine, PROMPT, strlen(PROMPT), &prompt, &prompt_count, &err));
    ASSERT_OK(mp_engine_start(engine, 512, NEW_TOKENS, &err));
    assert_int_equal(mp_engine_start(engine, 512, NEW_TOKENS, &err), MP_ERR_USAGE);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mp_free(prompt);
    mp_engine_close(engine);
    mp_config_destroy(config);
    return 0;
}

/* What a request was heard to say. */
struct heard {
    char text[MAX_TEXT];
    size_t length;
    int32_t ids[NEW_TOKENS];
    size_t piece_end[NEW_TOKENS]; /* bytes of the text after each token */
    int tokens;
    struct mp_session *session;
    int cancel_after; /* tokens; 0: never */
    int cancels;      /* slot it cancels then, besides its own; -1: none */
};

static void hear(void *user, int slot, int32_t id, const char *piece, size_t length)
{
    struct heard *h = user;
    assert_true(h->tokens < NEW_TOKENS && h->length + length < MAX_TEXT);
    assert_int_equal(piece[length], '\0');
    memcpy(h->text + h->length, piece, length + 1);
    h->length += length;
    h->piece_end[h->tokens] = h->length;
    h->ids[h->tokens++] = id;
    if (h->tokens == h->cancel_after) {
        mp_session_cancel(h->session, slot);
        if (h->cancels >= 0) {
            mp_session_cancel(h->session, h->cancels);
        }
    }
}

/* The prompt, to be answered with NEW_TOKENS tokens, none of which ends it. */
static struct mp_request_options request(struct heard *h)
{
    *h = (struct heard){.cancels = -1};
    return (struct mp_request_options){
        .size = sizeof(struct mp_request_options),
        .ids = prompt,
        .count = prompt_count,
        .max_new_tokens = NEW_TOKENS,
        .own_end_tokens = true,
        .on_token = hear,
        .user = h,
    };
}

/* Runs a request alone; returns how it finished. */
static enum mp_finish answer(const struct mp_request_options *options, struct heard *h)
{
    struct mp_error err;
    int slot;
    int active = 1;
    ASSERT_OK(mp_session_open(engine, &h->session, &err));
    ASSERT_OK(mp_session_add(h->session, options, &slot, &err));
    while (active > 0) {
        ASSERT_OK(mp_session_step(h->session, &active, &err));
    }
    const struct mp_request *r = mp_session_request(h->session, slot);
    enum mp_finish finish = r->finish;
    assert_int_equal(r->generated_tokens, h->tokens);
    assert_memory_equal(r->ids + r->prompt_tokens, h->ids, (size_t)h->tokens * sizeof *h->ids);
    ASSERT_OK(mp_session_step(h->session, &active, &err)); /* nothing to do */
    assert_int_equal(active, 0);
    mp_session_close(h->session);
    return finish;
}

/* ---- configuration and text ---- */

static void test_config(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_config *c = mp_config_create();
    ASSERT_OK(mp_config_set(c, "lsh_K", "8", &err));
    ASSERT_OK(mp_config_set(c, "cache_layers", "0,3", &err));
    assert_int_equal(c->lsh_K, 8);
    assert_int_equal(c->num_cache_layers, 2);
    assert_int_equal(mp_config_set(c, "runtime.bacth", "2", &err), MP_ERR_USAGE);
    assert_string_equal(err.message, "runtime.bacth: unknown key, did you mean \"runtime.batch\"?");
    assert_int_equal(mp_config_set(c, "runtime.batch", "0", &err), MP_ERR_USAGE);
    assert_string_equal(err.message,
                        "runtime.batch: expected an integer from 1 to 256, found \"0\"");
    assert_int_equal(mp_config_set(c, "?", "0", &err), MP_ERR_USAGE);
    assert_string_equal(err.message, "?: unknown key");
    assert_int_equal(mp_config_load(c, "no-such-file.json", &err), MP_ERR_IO);
    /* The model of a file is looked for beside it. */
    ASSERT_OK(mp_config_load(c, MP_SOURCE_DIR "/configs/magicpig_config.json", &err));
    struct mp_engine *e;
    struct mp_engine_options options = engine_options(c, NULL);
    ASSERT_OK(mp_engine_open(&options, &e, &err));
    mp_engine_close(e);
    ASSERT_OK(mp_config_set(c, "window_size", "1000", &err));
    assert_int_equal(mp_engine_open(&options, &e, &err), MP_ERR_USAGE);
    mp_config_destroy(c);
    mp_config_destroy(NULL);
    assert_true(strlen(mp_version()) > 0);
}

static void count_messages(void *user, enum mp_log_level level, const char *message)
{
    (void)message;
    *(int *)user += level == MP_LOG_WARNING;
}

/* Options of later versions, a model that is not there, messages to the program and no one else. */
static void test_options(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_engine *e;
    struct {
        struct mp_engine_options known;
        int64_t later;
    } options = {.known = engine_options(NULL, DEMO_MODEL)};
    int warnings = 0;
    options.known.size = 0;
    assert_int_equal(mp_engine_open(&options.known, &e, &err), MP_ERR_USAGE);
    options.known.size = sizeof options;
    options.later = 1;
    assert_int_equal(mp_engine_open(&options.known, &e, &err), MP_ERR_UNSUPPORTED);
    options.later = 0;
    ASSERT_OK(mp_engine_open(&options.known, &e, &err)); /* with the defaults */
    mp_engine_close(e);
    options.known.model = "/no/such/model";
    assert_int_equal(mp_engine_open(&options.known, &e, &err), MP_ERR_IO);
    options.known.model = NULL;
    assert_int_equal(mp_engine_open(&options.known, &e, &err), MP_ERR_USAGE);

    struct mp_config *c = mp_config_create();
    ASSERT_OK(mp_config_set(c, "runtime.devices", "cpu", &err));
    ASSERT_OK(mp_config_set(c, "runtime.gpu_memory", "1GiB", &err));
    options.known.config = c;
    options.known.model = DEMO_MODEL;
    options.known.log = count_messages;
    options.known.user = &warnings;
    ASSERT_OK(mp_engine_open(&options.known, &e, &err));
    assert_int_equal(warnings, 1);
    mp_engine_close(e);
    options.known.log = NULL;
    ASSERT_OK(mp_engine_open(&options.known, &e, &err));
    assert_int_equal(warnings, 1);
    mp_engine_close(e);
    mp_config_destroy(c);
}

static void test_encode_and_decode(void **state)
{
    (void)state;
    struct mp_error err;
    static const char text[] = "K\xc3\xa4se, 48213 \xf0\x9f\x90\x8b";
    static const char twice[] = "<|begin_of_text|>K\xc3\xa4se, 48213 \xf0\x9f\x90\x8b";
    int32_t *ids, *others;
    int64_t count, other_count;
    char *back;
    size_t length;
    ASSERT_OK(mp_engine_encode(engine, text, strlen(text), &ids, &count, &err));
    ASSERT_OK(mp_engine_decode(engine, ids, count, &back, &length, &err));
    assert_string_equal(back, text);
    assert_int_equal(length, strlen(text));
    ASSERT_OK(mp_engine_encode(engine, twice, strlen(twice), &others, &other_count, &err));
    assert_int_equal(other_count, count);
    assert_memory_equal(others, ids, (size_t)count * sizeof *ids);
    mp_free(back);
    mp_free(ids);
    mp_free(others);
    assert_int_equal(mp_engine_encode(engine, "\xff", 1, &ids, &count, &err), MP_ERR_FORMAT);
    ASSERT_OK(mp_engine_decode(engine, &(int32_t){INT32_MAX}, 1, &back, NULL, &err));
    assert_string_equal(back, ""); /* no token has it */
    mp_free(back);
}

/* ---- what a request has of its own ---- */

static void test_pieces_are_the_text(void **state)
{
    (void)state;
    struct mp_error err;
    struct heard h;
    char *text;
    struct mp_request_options options = request(&h);
    assert_int_equal(answer(&options, &h), MP_FINISH_LENGTH);
    ASSERT_OK(mp_engine_decode(engine, h.ids, h.tokens, &text, NULL, &err));
    assert_string_equal(h.text, text);
    mp_free(text);
}

/* Two requests decoded together, one greedy as configured, one with sampling of its own. */
static void test_own_sampling(void **state)
{
    (void)state;
    struct mp_error err;
    struct heard greedy, alone, drawn[2];
    struct mp_request_options options = request(&alone);
    answer(&options, &alone);
    for (int run = 0; run < 2; run++) {
        struct mp_session *session;
        int slot, active = 1;
        ASSERT_OK(mp_session_open(engine, &session, &err));
        options = request(&greedy);
        ASSERT_OK(mp_session_add(session, &options, &slot, &err));
        ASSERT_OK(mp_session_step(session, &active, &err));
        options = request(&drawn[run]);
        options.own_sampling = true;
        options.temperature = 3.0f;
        options.top_p = 1.0f;
        options.seed = 5;
        ASSERT_OK(mp_session_add(session, &options, &slot, &err));
        while (active > 0) {
            ASSERT_OK(mp_session_step(session, &active, &err));
        }
        mp_session_close(session);
        assert_string_equal(greedy.text, alone.text);
    }
    assert_string_equal(drawn[0].text, drawn[1].text);
    assert_string_not_equal(drawn[0].text, greedy.text);
}

static void test_own_end_tokens(void **state)
{
    (void)state;
    struct heard all, h;
    struct mp_request_options options = request(&all);
    answer(&options, &all);
    int32_t end[] = {all.ids[3], -1};
    int first = 0;
    while (all.ids[first] != end[0]) {
        first++;
    }
    options = request(&h);
    options.end_tokens = end;
    options.num_end_tokens = 2;
    assert_int_equal(answer(&options, &h), MP_FINISH_EOS);
    assert_int_equal(h.tokens, first + 1);
}

/* The text ends where the stop string begins in the text without one. */
static void check_stop(const struct heard *all, const char *const *stop, int count)
{
    struct heard h;
    struct mp_request_options options = request(&h);
    options.stop = stop;
    options.num_stop = count;
    const char *first = NULL;
    for (int i = 0; i < count; i++) {
        const char *at = strstr(all->text, stop[i]);
        first = at != NULL && (first == NULL || at < first) ? at : first;
    }
    assert_int_equal(answer(&options, &h), first != NULL ? MP_FINISH_STOP : MP_FINISH_LENGTH);
    size_t expected = first != NULL ? (size_t)(first - all->text) : all->length;
    assert_int_equal(h.length, expected);
    assert_memory_equal(h.text, all->text, expected);
    assert_true(h.tokens <= all->tokens);
}

static void test_stop_strings(void **state)
{
    (void)state;
    struct heard all;
    struct mp_request_options options = request(&all);
    answer(&options, &all);
    print_message("%s\n", all.text);
    char stop[64];
    const char *one = stop;
    /* Inside a piece, and whole pieces, wherever there are characters of one byte. */
    for (int t = 1; t < all.tokens; t += 3) {
        size_t begin = all.piece_end[t - 1];
        snprintf(stop, sizeof stop, "%.*s", (int)(all.piece_end[t] - begin), all.text + begin);
        if (stop[0] != '\0') {
            check_stop(&all, &one, 1);
        }
    }
    /* Across pieces: the end of one, all of the next two, the beginning of another. */
    snprintf(stop, sizeof stop, "%.*s", (int)(all.piece_end[7] + 1 - (all.piece_end[4] - 1)),
             all.text + all.piece_end[4] - 1);
    check_stop(&all, &one, 1);
    /* At once. */
    snprintf(stop, sizeof stop, "%.1s", all.text);
    check_stop(&all, &one, 1);
    /* One that nearly comes: what was held back for it is delivered. */
    snprintf(stop, sizeof stop, "%.5s\x01", all.text + all.piece_end[2]);
    check_stop(&all, &one, 1);
    /* At the very end, which is held back until then. */
    snprintf(stop, sizeof stop, "%s\x01", all.text + all.length - 3);
    check_stop(&all, &one, 1);
    /* The first of several. */
    const char *several[] = {"\x02", stop + 1, "not there"};
    snprintf(stop, sizeof stop, "\x03%.4s", all.text + all.piece_end[5]);
    check_stop(&all, several, 3);
}

static void expect_refused(struct mp_request_options options, const char *message)
{
    struct mp_error err;
    struct mp_session *session;
    int slot;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    assert_int_equal(mp_session_add(session, &options, &slot, &err), MP_ERR_USAGE);
    if (strstr(err.message, message) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", message, err.message);
    }
    assert_true(mp_session_can_add(session));
    mp_session_close(session);
}

static void test_bad_requests(void **state)
{
    (void)state;
    struct heard h;
    const char *empty = "";
    struct mp_request_options options = request(&h);
    options.stop = &empty;
    options.num_stop = 1;
    expect_refused(options, "stop string 0 is empty");
    options = request(&h);
    options.size = 1;
    expect_refused(options, "found size 1");
    options = request(&h);
    options.own_sampling = true;
    expect_refused(options, "top_p: found 0");
    options.top_p = 1.0f;
    options.temperature = -1.0f;
    expect_refused(options, "temperature: found -1");
}

/* ---- cancelling ---- */

static void test_cancel(void **state)
{
    (void)state;
    struct mp_error err;
    struct heard h, other;
    struct mp_request_options options = request(&h);
    h.cancel_after = 3;
    assert_int_equal(answer(&options, &h), MP_FINISH_CANCELLED);
    assert_int_equal(h.tokens, 3);
    options = request(&h);
    h.cancel_after = 1; /* by the step that reads the prompt */
    assert_int_equal(answer(&options, &h), MP_FINISH_CANCELLED);

    /* Before it is read; the slot beside it goes on. */
    struct mp_session *session;
    int slot, next, active;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    options = request(&h);
    ASSERT_OK(mp_session_add(session, &options, &slot, &err));
    assert_false(mp_session_can_add(session));
    assert_int_equal(mp_session_add(session, &options, &next, &err), MP_ERR_USAGE);
    mp_session_cancel(session, slot);
    assert_int_equal(mp_session_request(session, slot)->finish, MP_FINISH_CANCELLED);
    assert_true(mp_session_can_add(session));
    options = request(&other);
    ASSERT_OK(mp_session_add(session, &options, &next, &err));
    do {
        ASSERT_OK(mp_session_step(session, &active, &err));
    } while (active > 0);
    mp_session_cancel(session, next); /* too late */
    assert_int_equal(mp_session_request(session, next)->finish, MP_FINISH_LENGTH);
    assert_int_equal(h.tokens, 0);
    assert_int_equal(other.tokens, NEW_TOKENS);
    mp_session_remove(session, slot);
    mp_session_remove(session, slot);
    mp_session_close(session);
}

/* A callback ends the other request of its step too: that has the token of this step or not. */
static void test_cancel_another(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_session *session;
    struct heard h[2];
    int slot[2], active;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    for (int i = 0; i < 2; i++) {
        struct mp_request_options options = request(&h[i]);
        ASSERT_OK(mp_session_add(session, &options, &slot[i], &err));
        ASSERT_OK(mp_session_read(session, &err));
        assert_int_equal(h[i].tokens, 1);
        h[i].session = session;
    }
    h[1].cancels = slot[0];
    h[1].cancel_after = h[1].tokens + 1;
    int before = h[0].tokens;
    ASSERT_OK(mp_session_step(session, &active, &err));
    assert_int_equal(active, 0);
    for (int i = 0; i < 2; i++) {
        const struct mp_request *r = mp_session_request(session, slot[i]);
        assert_int_equal(r->finish, MP_FINISH_CANCELLED);
        assert_int_equal(r->generated_tokens, h[i].tokens);
    }
    assert_true(h[0].tokens == before || h[0].tokens == before + 1);
    mp_session_close(session);
}

/* The progress of reading may be where a request is cancelled. */
static void test_cancel_while_reading(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_session *session;
    struct heard h;
    int active;
    struct mp_request_options options = request(&h);
    ASSERT_OK(mp_session_open(engine, &session, &err));
    ASSERT_OK(mp_session_add(session, &options, &cancelled_slot, &err));
    cancelling = session;
    ASSERT_OK(mp_session_step(session, &active, &err));
    cancelling = NULL;
    assert_int_equal(active, 0);
    assert_int_equal(mp_session_request(session, cancelled_slot)->finish, MP_FINISH_CANCELLED);
    assert_int_equal(h.tokens, 0);
    assert_true(mp_session_can_add(session));
    mp_session_remove(session, cancelled_slot);

    options = request(&h);
    ASSERT_OK(mp_session_add(session, &options, &cancelled_slot, &err));
    cancelling = session;
    cancel_at_end = true;
    do {
        ASSERT_OK(mp_session_step(session, &active, &err));
    } while (active > 0);
    cancelling = NULL;
    cancel_at_end = false;
    assert_int_equal(mp_session_request(session, cancelled_slot)->finish, MP_FINISH_CANCELLED);
    mp_session_close(session);
}

/* Sizes that no prompt can have are refused, whatever they are. */
static void test_bad_starts(void **state)
{
    (void)state;
    static const int64_t sizes[][2] = {{-5, 1}, {0, 1}, {INT64_MAX, 1}, {100, -1}};
    struct mp_error err;
    struct mp_engine *e;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct mp_engine_options options = engine_options(NULL, DEMO_MODEL);
        ASSERT_OK(mp_engine_open(&options, &e, &err));
        assert_int_equal(mp_engine_start(e, sizes[i][0], sizes[i][1], &err), MP_ERR_USAGE);
        mp_engine_close(e);
    }
}

/* ---- several sessions ---- */

enum { SESSIONS = 2 };

/* Each has a prompt that is shorter than the other's. */
static struct mp_request_options request_of(int session, struct heard *h)
{
    struct mp_request_options options = request(h);
    options.count -= 7 * session;
    return options;
}

static void test_sessions_take_turns(void **state)
{
    (void)state;
    struct mp_error err;
    struct heard alone[SESSIONS], turns[SESSIONS];
    struct mp_session *sessions[SESSIONS];
    int active[SESSIONS] = {1, 1};
    int slot;
    for (int i = 0; i < SESSIONS; i++) {
        struct mp_request_options options = request_of(i, &alone[i]);
        answer(&options, &alone[i]);
        ASSERT_OK(mp_session_open(engine, &sessions[i], &err));
        options = request_of(i, &turns[i]);
        ASSERT_OK(mp_session_add(sessions[i], &options, &slot, &err));
    }
    while (active[0] + active[1] > 0) {
        for (int i = 0; i < SESSIONS; i++) {
            ASSERT_OK(mp_session_step(sessions[i], &active[i], &err));
        }
    }
    for (int i = 0; i < SESSIONS; i++) {
        mp_session_close(sessions[i]);
        assert_int_equal(turns[i].tokens, NEW_TOKENS);
        assert_memory_equal(turns[i].ids, alone[i].ids, sizeof alone[i].ids);
    }
    assert_memory_not_equal(alone[0].ids, alone[1].ids, sizeof alone[0].ids);
}

/* Steps of all sessions are submitted before any of them is waited for. */
static void test_steps_of_sessions_overlap(void **state)
{
    (void)state;
    struct mp_error err;
    struct heard alone[SESSIONS], turns[SESSIONS];
    struct mp_session *sessions[SESSIONS];
    int active[SESSIONS];
    int slot;
    for (int i = 0; i < SESSIONS; i++) {
        struct mp_request_options options = request_of(i, &alone[i]);
        answer(&options, &alone[i]);
        ASSERT_OK(mp_session_open(engine, &sessions[i], &err));
        options = request_of(i, &turns[i]);
        ASSERT_OK(mp_session_add(sessions[i], &options, &slot, &err));
        ASSERT_OK(mp_session_read(sessions[i], &err));
    }
    for (int step = 1; step < NEW_TOKENS; step++) {
        for (int i = 0; i < SESSIONS; i++) {
            assert_int_equal(mp_session_decoding(sessions[i]), 1);
            ASSERT_OK(mp_session_begin_step(sessions[i], &err));
        }
        for (int i = 0; i < SESSIONS; i++) {
            ASSERT_OK(mp_session_end_step(sessions[i], &active[i], &err));
        }
    }
    for (int i = 0; i < SESSIONS; i++) {
        assert_int_equal(active[i], 0);
        mp_session_close(sessions[i]);
        assert_int_equal(turns[i].tokens, NEW_TOKENS);
        assert_memory_equal(turns[i].ids, alone[i].ids, sizeof alone[i].ids);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_config),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_encode_and_decode),
        cmocka_unit_test(test_pieces_are_the_text),
        cmocka_unit_test(test_own_sampling),
        cmocka_unit_test(test_own_end_tokens),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_bad_requests),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancel_another),
        cmocka_unit_test(test_cancel_while_reading),
        cmocka_unit_test(test_bad_starts),
        cmocka_unit_test(test_sessions_take_turns),
        cmocka_unit_test(test_steps_of_sessions_overlap),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
