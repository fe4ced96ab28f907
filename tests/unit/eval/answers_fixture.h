/* A file of answers to four prompts with two settings. */
#ifndef MP_TESTS_ANSWERS_FIXTURE_H
#define MP_TESTS_ANSWERS_FIXTURE_H

#include "predictions_fixture.h"

/* The last two are the same prompt under the same name. */
static struct mp_item some_items[] = {ITEM("a", "vt", 1), ITEM("b", "qa_1", UINT64_MAX),
                                      ITEM("twice", "vt", 3), ITEM("twice", "vt", 3)};
static const struct mp_items items = {some_items, 4};

static struct mp_setting some_settings[] = {SETTING("full", "{\"method\":\"full\"}"),
                                            SETTING("topk", "{\"method\":\"topk\",\"b\":0.02}")};
static const struct mp_settings settings = {some_settings, 2};
static const struct mp_settings first_setting = {some_settings, 1};

static char *path;

static inline int set_up(void **state)
{
    (void)state;
    path = scratch_path("answers.jsonl");
    return 0;
}

static inline int tear_down(void **state)
{
    (void)state;
    remove_file(path);
    return 0;
}

static inline struct mp_predictions *open_with(const struct mp_items *of,
                                               const struct mp_settings *with, size_t left_wanted)
{
    struct mp_predictions *p;
    struct mp_error err;
    size_t left = 99;
    ASSERT_OK(mp_predictions_open(path, of, with, &p, &left, &err));
    assert_int_equal(left, left_wanted);
    return p;
}

static inline void close_file(struct mp_predictions *p)
{
    struct mp_error err;
    ASSERT_OK(mp_predictions_close(p, &err));
}

static inline bool is_done(const struct mp_predictions *p, size_t setting, size_t item)
{
    return mp_predictions_get(p, setting, item)->done;
}

/* A line that is right, and what is wrong once a part of it has been replaced. */
static const char good_line[] =
    "{\"id\":\"a\",\"task\":\"vt\",\"context\":1024,\"setting\":{\"method\":\"full\"},"
    "\"prompt\":\"0000000000000001\",\"prompt_tokens\":900,\"exact_tokens\":800,"
    "\"max_new_tokens\":20,\"pred\":\"x\",\"outputs\":[\"y\"],\"score\":1,"
    "\"finish_reason\":\"eos\",\"generated_tokens\":3,\"sampled\":null,\"rows\":null,"
    "\"bytes\":null,\"steps\":7,\"decode_seconds\":0.5}\n";

static inline char *replaced(const char *part, const char *by)
{
    const char *at = strstr(good_line, part);
    assert_non_null(at);
    return mp_xasprintf("%.*s%s%s", (int)(at - good_line), good_line, by, at + strlen(part));
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
