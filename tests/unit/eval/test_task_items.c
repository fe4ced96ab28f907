/* Prompts that eval makes itself, as make-data does, and the options that say which. */
#include "items_fixture.h"

#include "pipeline/make_data/task.h"

/* Lengths in the order given, at each the tasks in that of the help. */
static void test_order(void **state)
{
    (void)state;
    static const char *const ids[] = {"niah_single_1-0", "niah_single_1-1", "vt-0", "vt-1"};
    struct loaded l;
    load(&l, 8, NULL,
         WITH("--task", "vt,niah_single_1", "--tokens", "2000,1024", "--samples", "2"));
    for (size_t i = 0; i < 8; i++) {
        const struct mp_item *item = item_of(&l, i);
        assert_string_equal(item->id, ids[i % 4]);
        assert_int_equal(strncmp(item->task, ids[i % 4], strlen(item->task)), 0);
        assert_int_equal(item->context, i < 4 ? 2000 : 1024);
        assert_int_equal(item->max_new_tokens, i % 4 < 2 ? 128 : 30);
        assert_int_equal(item->exact, item->ids.count);
        assert_int_equal(item->num_outputs, i % 4 < 2 ? 1 : 5);
        assert_false(item->any);
        for (size_t j = 0; j < i; j++) {
            assert_true(item->fingerprint != item_of(&l, j)->fingerprint);
        }
    }
    free_loaded(&l);
}

/* Prompt and answer fill the length; BOS is not counted. */
static void test_lengths(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, 2, NULL, WITH("--task", "vt,fwe", "--tokens", "1536", "--samples", "1"));
    for (size_t i = 0; i < 2; i++) {
        const struct mp_item *item = item_of(&l, i);
        assert_in_range((int64_t)item->ids.count - 1 + item->max_new_tokens, 1505, 1536);
    }
    free_loaded(&l);
}

static uint64_t fingerprint_of(const char *const *arguments)
{
    struct loaded l;
    load(&l, 1, NULL, arguments);
    uint64_t fingerprint = item_of(&l, 0)->fingerprint;
    free_loaded(&l);
    return fingerprint;
}

#define VT "--task", "vt", "--tokens", "1024", "--samples", "1"

/* The seed, and what stands around a prompt, change it; the seed of the sampling does not. */
static void test_seed_and_template(void **state)
{
    (void)state;
    uint64_t usual = fingerprint_of(WITH(VT));
    assert_true(fingerprint_of(WITH(VT, "--data-seed", "0")) == usual);
    assert_true(fingerprint_of(WITH(VT, "--seed", "1")) == usual);
    assert_true(fingerprint_of(WITH(VT, "--data-seed", "1")) != usual);
    assert_true(fingerprint_of(WITH(VT, "--template", "none")) == usual);
    assert_true(fingerprint_of(WITH(VT, "--template", "llama3")) != usual);
}

/* Every task that needs no file of the user's has its question near its end. */
static void test_questions(void **state)
{
    (void)state;
    struct loaded l;
    load(&l, 10, NULL,
         WITH("--task",
              "niah_single_1,niah_single_2,niah_single_3,niah_multikey_1,niah_multikey_2,"
              "niah_multikey_3,niah_multivalue,niah_multiquery,vt,fwe",
              "--tokens", "2048", "--samples", "1", "--sparse-from", "question"));
    for (size_t i = 0; i < 10; i++) {
        const struct mp_item *item = item_of(&l, i);
        int64_t left = (int64_t)item->ids.count - item->exact;
        char *text;
        struct mp_error err;
        ASSERT_OK(
            mp_engine_decode(l.engine, item->ids.data + item->exact, left, &text, NULL, &err));
        /* A token may begin before it. */
        const char *at = strstr(text, i < 8 ? "What " : "Question: ");
        if (at == NULL || at > text + 2 || left > 250) {
            fail_msg("%s: %d tokens, \"%s\"", item->task, (int)left, text);
        }
        mp_free(text);
    }
    free_loaded(&l);
}

/* ---- refusals ---- */

static void check_refused(const char *const *arguments, enum mp_code code, const char *part)
{
    struct loaded l;
    struct mp_error err;
    ASSERT_FAILS(load_items(&l, NULL, arguments, &err), code, part);
    assert_true(l.items.items == NULL && l.items.count == 0);
    free_loaded(&l);
}

static void test_bad_tokens(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       ",",   "1024,",  ",1024",      "1024,,2048",           "1024 2048", "0", "-5",
        "1024,x", "1e3", "1024.5", "4294967296", "99999999999999999999", "1024;2048"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *message = mp_xasprintf("--tokens: found \"%s\", expected whole numbers from 1 with "
                                     "commas",
                                     bad[i]);
        check_refused(WITH("--task", "vt", "--samples", "1", "--tokens", bad[i]), MP_ERR_USAGE,
                      message);
        free(message);
    }
    check_refused(WITH("--task", "vt", "--samples", "1", "--tokens", "1024,2048,1024"),
                  MP_ERR_USAGE, "--tokens: found 1024 twice");
    check_refused(WITH("--task", "vt", "--samples", "1", "--tokens", "1024,10"), MP_ERR_USAGE,
                  "--tokens: found 10, but vt needs at least");
    /* Before the other lengths are made. */
    check_refused(WITH("--task", "vt", "--tokens", "1024,65537"), MP_ERR_USAGE,
                  "--tokens 65537: the prompt is too long: found 65537 tokens");
}

static void test_bad_tasks(void **state)
{
    (void)state;
    check_refused(WITH("--task", "vtt", "--tokens", "1024"), MP_ERR_USAGE,
                  "--task: found \"vtt\" (nearest: vt)");
    check_refused(WITH("--task", "vt,", "--tokens", "1024"), MP_ERR_USAGE, "--task: found \"\"");
    check_refused(WITH("--task", "vt,fwe,vt", "--tokens", "1024"), MP_ERR_USAGE,
                  "--task: found vt twice");
    check_refused(WITH("--task", "qa_1", "--tokens", "1024"), MP_ERR_USAGE,
                  "--task: qa_1 needs --squad FILE");
    check_refused(WITH("--task", "all", "--tokens", "1024"), MP_ERR_USAGE, "--task: ");
    check_refused(WITH(VT, "--template", "chat"), MP_ERR_USAGE, "--template");
    check_refused(WITH(VT, "--essay", "/absent.txt"), MP_ERR_IO, "/absent.txt");
    check_refused(WITH(VT, "--sparse-from", "all"), MP_ERR_USAGE, "--sparse-from: found \"all\"");
}

/* ---- options ---- */

static int check_options(const char *const *arguments, struct mp_error *err)
{
    struct mp_cli cli;
    parse_command(&cli, arguments);
    int code = mp_items_check_options(&cli, err);
    mp_cli_free(&cli);
    return code;
}

static void test_options(void **state)
{
    (void)state;
    struct mp_error err;
    static const char wanted[] = "eval needs --input FILE, or --task NAMES and --tokens N";
    ASSERT_OK(check_options(WITH("--input", "x"), &err));
    ASSERT_OK(check_options(WITH("--input", "x", "--task", "vt"), &err));
    ASSERT_OK(check_options(WITH("--task", "vt", "--tokens", "1"), &err));
    ASSERT_FAILS(check_options(NOTHING, &err), MP_ERR_USAGE, wanted);
    ASSERT_FAILS(check_options(WITH("--task", "vt"), &err), MP_ERR_USAGE, wanted);
    ASSERT_FAILS(check_options(WITH("--tokens", "1"), &err), MP_ERR_USAGE, wanted);
    ASSERT_OK(check_options(WITH("--input", "x", "--gen-len", "3"), &err));
    ASSERT_FAILS(check_options(WITH("--task", "vt", "--tokens", "1", "--gen-len", "3"), &err),
                 MP_ERR_USAGE, "--gen-len: the tasks of --task say how much is generated");
}

/* What only acts where samples are made. */
static void test_options_of_tasks(void **state)
{
    (void)state;
    static const char *const options[][2] = {
        {"--tokens", "1024"}, {"--samples", "3"}, {"--data-seed", "0"}, {"--template", "none"},
        {"--essay", "x"},     {"--words", "x"},   {"--squad", "x"},     {"--hotpot", "x"}};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        struct mp_error err;
        char *message = mp_xasprintf("%s makes prompts, but --input names some", options[i][0]);
        ASSERT_FAILS(check_options(WITH("--input", "x", options[i][0], options[i][1]), &err),
                     MP_ERR_USAGE, message);
        ASSERT_OK(check_options(
            WITH("--task", "vt", "--tokens", "1024", options[i][0], options[i][1]), &err));
        free(message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_seed_and_template),
        cmocka_unit_test(test_questions),
        cmocka_unit_test(test_bad_tokens),
        cmocka_unit_test(test_bad_tasks),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_options_of_tasks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
