/* What a folder of prompts may take, on disk and in memory. */
#define FOLDER MP_SCRATCH_DIR "/kv_folder"

#include "kv_files_test.h"

/* Files that were not used for the longest time make room. */
static void test_limit(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char size[32];
    struct stat st;
    empty_folder();
    run(METHODS[5], NULL, 0, 0, tokens);
    count_files(".kv", path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    snprintf(size, sizeof size, "%lld", (long long)(2 * st.st_size + st.st_size / 2));
    const char *const limit[] = {"kv-dir-size", size, NULL};
    assert_int_equal(run(METHODS[5], limit, 1, 0, tokens), 0);
    assert_true(run(METHODS[5], limit, 0, 1, tokens) > 0);
    assert_int_equal(run(METHODS[5], limit, 2, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 2);
    assert_true(run(METHODS[5], limit, 0, 2, tokens) > 0);
    assert_int_equal(run(METHODS[5], limit, 1, 1, tokens), 0);

    const char *const none[] = {"kv-dir-size", "1000", NULL};
    empty_folder();
    assert_int_equal(run(METHODS[5], none, 0, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 0);
}

/* Several prompts that end together keep to the limit, and one that cannot be kept removes none. */
static void test_limit_of_several(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char size[32];
    struct stat st;
    struct mp_error err;
    struct fixture f;
    struct mp_session *session;
    empty_folder();
    run(METHODS[5], NULL, 0, 0, tokens);
    count_files(".kv", path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    snprintf(size, sizeof size, "%lld", (long long)(st.st_size + st.st_size / 2));
    empty_folder();

    mp_config_init(&f.config);
    set_flags(&f.config, BASE);
    set_flags(&f.config, METHODS[5]);
    set_flags(&f.config, (const char *const[]){"kv-dir-size", size, "batch", "4", NULL});
    f.engine = open_engine(&f.config, MODEL, 400);
    ASSERT_OK(mp_session_open(f.engine, &session, &err));
    for (int i = 0; i < 4; i++) {
        struct mp_ids prompt = make_prompt(i, 0, QUESTION);
        generate(session, &prompt, 1);
        mp_ids_free(&prompt);
    }
    mp_session_close(session);
    close_fixture(&f);
    assert_int_equal(count_files(".kv", NULL, 0), 1);

    const char *const less[] = {"kv-dir-size", "1000", NULL};
    assert_int_equal(run(METHODS[5], less, 9, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 1);
    empty_folder();
}

/* A prompt of which nothing is offloaded but what belongs to the window has nothing to keep. */
static void test_little_offloaded(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    static const char *const most[] = {"device-budget", "360", NULL};
    for (int m = 1; m < NUM_METHODS; m++) {
        empty_folder();
        assert_int_equal(run(METHODS[m], most, 0, 0, tokens), 0);
        assert_int_equal(count_files(".kv", NULL, 0), 0);
    }
}

/* What is in memory makes room for a file that then turns out to be bad: the prompt is read. */
static void test_room_for_a_bad_file(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    struct mp_session *session;
    write_file(1, true);
    mp_config_init(&f.config);
    set_flags(&f.config, BASE);
    set_flags(&f.config, METHODS[1]);
    f.engine = open_engine(&f.config, MODEL, 500);
    ASSERT_OK(mp_session_open(f.engine, &session, &err));

    /* The document's first 300 tokens, and others, for which nothing is loaded; then all of it. */
    f.engine->prefixes->budget = 0;
    struct mp_ids prompt = make_prompt(0, 1, QUESTION);
    for (size_t i = 300; i < prompt.count; i++) {
        prompt.data[i] = 1;
    }
    int slot = generate(session, &prompt, 1);
    mp_ids_free(&prompt);
    assert_non_null(f.engine->prefixes->first);
    f.engine->prefixes->budget = f.engine->prefixes->first->bytes;
    mp_session_remove(session, slot);
    prompt = make_prompt(0, 2, 150);
    slot = generate(session, &prompt, 1);
    assert_int_equal(mp_session_request(session, slot)->cached_tokens, 0);
    mp_ids_free(&prompt);
    mp_session_close(session);
    close_fixture(&f);
    empty_folder();
}

/* The KV of a file that is longer than any prompt of the plan is loaded only if there is memory for
 * it. */
static void test_longer_than_planned(void **state)
{
    (void)state;
    struct mp_error err;
    for (int i = 0; i < 3; i++) {
        struct fixture f;
        struct mp_session *session;
        write_file(0, false);
        mp_config_init(&f.config);
        set_flags(&f.config, BASE);
        set_flags(&f.config, METHODS[0]);
        f.engine = open_engine(&f.config, MODEL, i == 0 ? 350 : 300);
        f.engine->prefixes->budget = i == 1 ? INT64_C(1) << 30 : 0;
        ASSERT_OK(mp_session_open(f.engine, &session, &err));
        struct mp_ids prompt = make_prompt(0, 1, 0);
        prompt.count = 290;
        int slot = generate(session, &prompt, 1);
        assert_int_equal(mp_session_request(session, slot)->cached_tokens, i == 2 ? 0 : 289);
        mp_ids_free(&prompt);
        mp_session_close(session);
        close_fixture(&f);
    }
    empty_folder();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_limit_of_several),
        cmocka_unit_test(test_little_offloaded),
        cmocka_unit_test(test_room_for_a_bad_file),
        cmocka_unit_test(test_longer_than_planned),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
