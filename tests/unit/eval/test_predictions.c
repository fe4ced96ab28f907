/* The file of answers: what is written comes back, each line for one prompt with one setting, and
 * what was cut short is answered again. */
#include "answers_fixture.h"

/* ---- what is written ---- */

static void test_write_and_read(void **state)
{
    (void)state;
    struct mp_predictions *p = open_with(&items, &settings, 0);
    struct mp_error err;
    const struct mp_prediction one = figures(0.5, 0.0625, 62.5, 1250000, 7, 0.125);
    const struct mp_prediction other = figures(1, 1, 1e-5, 1.5e12, 0, 123456.5);
    ASSERT_OK(add_text(p, 0, 0, half_right, strlen(half_right), &one, &err));
    ASSERT_OK(add_text(p, 1, 1, right, strlen(right), &other, &err));
    assert_figures(mp_predictions_get(p, 0, 0), &one);
    close_file(p);
    p = open_with(&items, &settings, 0);
    assert_figures(mp_predictions_get(p, 0, 0), &one);
    assert_figures(mp_predictions_get(p, 1, 1), &other);
    assert_false(is_done(p, 0, 1) || is_done(p, 1, 0) || is_done(p, 0, 2) || is_done(p, 1, 3));
    close_file(p);
}

/* The line as users of the file know it. */
static void test_line(void **state)
{
    (void)state;
    struct mp_predictions *p = open_with(&items, &settings, 0);
    struct mp_error err;
    const struct mp_prediction one = figures(1.0 / 3.0, 0.0625, 62.5, 1048576, 7, 0.1234567);
    ASSERT_OK(add_text(p, 1, 1, "yes", 3, &one, &err));
    size_t length;
    char *text = read_file(path, &length); /* before it is closed */
    assert_string_equal(
        text,
        "{\"id\":\"b\",\"task\":\"qa_1\",\"context\":1024,\"setting\":{\"method\":\"topk\","
        "\"b\":0.02},\"prompt\":\"ffffffffffffffff\",\"prompt_tokens\":900,"
        "\"exact_tokens\":800,\"max_new_tokens\":20,\"pred\":\"yes\",\"outputs\":[\"4711\","
        "\"a \\\"quoted\\\" one\"],\"score\":0.333333,\"finish_reason\":\"eos\","
        "\"generated_tokens\":3,\"batch\":4,\"sampled\":0.0625,\"rows\":62.5,\"bytes\":1.04858e+06,"
        "\"steps\":7,\"decode_seconds\":0.123457}\n");
    free(text);
    close_file(p);
}

/* What is in memory is what the file says: results are the same for who reads it. */
static void test_rounding(void **state)
{
    (void)state;
    struct mp_predictions *p = open_with(&items, &settings, 0);
    struct mp_error err;
    const struct mp_prediction exact =
        figures(2.0 / 3.0, 1.0 / 7.0, 123.4567891, 98765432.1, 3, 0.12345678);
    ASSERT_OK(add_text(p, 0, 0, "x", 1, &exact, &err));
    const struct mp_prediction kept = *mp_predictions_get(p, 0, 0);
    close_file(p);
    p = open_with(&items, &settings, 0);
    assert_figures(mp_predictions_get(p, 0, 0), &kept);
    assert_true(fabs(kept.score - exact.score) < 1e-6);
    close_file(p);
}

/* Where other answers are expected than before. */
static void test_scores_anew(void **state)
{
    (void)state;
    static char *corrected[] = {"4712", "it is", "x"};
    struct mp_error err;
    const struct mp_prediction given = figures(0.25, 0, 0, 0, 1, 0);
    struct mp_item item[] = {some_items[0]};
    const struct mp_items of = {item, 1};
    struct mp_predictions *p = open_with(&of, &settings, 0);
    ASSERT_OK(add_text(p, 0, 0, wrong, strlen(wrong), &given, &err));
    ASSERT_OK(add_text(p, 1, 0,
                       "it\0"
                       "4712\0is",
                       10, &given, &err));
    close_file(p);
    p = open_with(&of, &settings, 0);
    assert_same_number(mp_predictions_get(p, 0, 0)->score, 0.25);
    close_file(p);
    item[0].outputs = corrected;
    item[0].num_outputs = 3;
    p = open_with(&of, &settings, 0);
    assert_same_number(mp_predictions_get(p, 0, 0)->score, 2.0 / 3.0);
    assert_same_number(mp_predictions_get(p, 1, 0)->score, 1.0 / 3.0);
    close_file(p);
    item[0].any = true; /* one of them is enough */
    p = open_with(&of, &settings, 0);
    assert_same_number(mp_predictions_get(p, 0, 0)->score, 1.0);
    close_file(p);
}

static void test_nan_is_null(void **state)
{
    (void)state;
    struct mp_predictions *p = open_with(&items, &settings, 0);
    struct mp_error err;
    const struct mp_prediction none = figures(0, NAN, NAN, -NAN, 0, NAN);
    ASSERT_OK(add_text(p, 0, 0, "x", 1, &none, &err));
    close_file(p);
    size_t length;
    char *text = read_file(path, &length);
    assert_contains(text, "\"sampled\":null,\"rows\":null,\"bytes\":null,\"steps\":0,"
                          "\"decode_seconds\":null}");
    free(text);
    p = open_with(&items, &settings, 0);
    assert_figures(mp_predictions_get(p, 0, 0), &none);
    close_file(p);
}

/* NUL, other control characters, quotes and other languages, in answers and names. */
static void test_any_text(void **state)
{
    (void)state;
    char all[0x20 + 1];
    struct mp_error err;
    static struct mp_item odd[] = {ITEM("a \"\\\n\x01 \xc3\xa9", "t\t\xf0\x9f\x90\x8b", 1)};
    static const struct mp_items of = {odd, 1};
    for (int c = 0; c < 0x20; c++) {
        all[c] = (char)c;
    }
    all[0x20] = '"';
    const struct mp_prediction one = figures(1, 0, 0, 0, 1, 0);
    struct mp_predictions *p = open_with(&of, &settings, 0);
    ASSERT_OK(add_text(p, 0, 0, all, sizeof all, &one, &err));
    ASSERT_OK(add_text(p, 1, 0, "\xf0\x9f\x90\x8b\xef\xbf\xbd\x7f", 8, &one, &err));
    close_file(p);
    size_t length;
    char *text = read_file(path, &length);
    assert_int_equal(strlen(text), length);
    assert_contains(text, "\"pred\":\"\\u0000\\u0001");
    free(text);
    p = open_with(&of, &settings, 0);
    assert_true(is_done(p, 0, 0) && is_done(p, 1, 0));
    close_file(p);
    struct mp_line *lines;
    size_t count;
    ASSERT_OK(mp_lines_read(path, &lines, &count, NULL, &err));
    assert_int_equal(count, 2);
    assert_string_equal(lines[0].id, odd[0].id);
    assert_string_equal(lines[0].task, odd[0].task);
    assert_string_equal(lines[1].text, "\xf0\x9f\x90\x8b\xef\xbf\xbd\x7f");
    mp_lines_free(lines, count);
}

static void test_without_a_file(void **state)
{
    (void)state;
    struct mp_predictions *p;
    struct mp_error err;
    size_t left = 99;
    ASSERT_OK(mp_predictions_open(NULL, &items, &settings, &p, &left, &err));
    assert_int_equal(left, 0);
    add_answer(p, 1, 3, 0.5);
    assert_true(is_done(p, 1, 3) && !is_done(p, 1, 2) && !is_done(p, 0, 3));
    close_file(p);
    ASSERT_OK(mp_predictions_close(NULL, &err));
}

/* ---- what was cut short ---- */

/* Two answers, of which the last line ends `missing` bytes too early. */
static char *write_torn(size_t missing, size_t *whole)
{
    struct mp_predictions *p = open_with(&items, &settings, 0);
    size_t length;
    add_answer(p, 0, 0, 1.0);
    free(read_file(path, whole));
    add_answer(p, 0, 1, 1.0);
    close_file(p);
    char *text = read_file(path, &length);
    assert_true(missing < length - *whole);
    write_file(path, text, length - missing);
    return text;
}

/* Wherever it was cut: one byte is missing, or all but one. */
static void test_torn_line(void **state)
{
    (void)state;
    size_t line = 0, whole;
    for (size_t missing = 1; line == 0 || missing < line; missing += missing < 12 ? 1 : 37) {
        char *wanted = write_torn(missing, &whole);
        line = strlen(wanted) - whole;
        struct mp_predictions *p = open_with(&items, &settings, 0);
        assert_true(is_done(p, 0, 0));
        assert_false(is_done(p, 0, 1));
        size_t length;
        char *text = read_file(path, &length);
        assert_int_equal(length, whole);
        free(text);
        add_answer(p, 0, 1, 1.0);
        close_file(p);
        text = read_file(path, &length);
        assert_string_equal(text, wanted);
        free(text);
        free(wanted);
        unlink(path);
    }
}

/* ---- answers of others ---- */

/* Each of these makes another question of item 0. */
static void test_other_questions(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"id\":\"a\"", "\"id\":\"c\""},
        {"\"task\":\"vt\"", "\"task\":\"fwe\""},
        {"{\"method\":\"full\"}", "{\"method\":\"full\",\"model\":\"x\"}"},
        {"0000000000000001", "0000000000000004"},
        {"\"exact_tokens\":800", "\"exact_tokens\":799"},
        {"\"max_new_tokens\":20", "\"max_new_tokens\":21"},
    };
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *other = replaced(changes[i][0], changes[i][1]);
        write_file(path, other, strlen(other));
        struct mp_predictions *p = open_with(&items, &settings, 1);
        assert_false(is_done(p, 0, 0));
        add_answer(p, 0, 0, 1.0);
        close_file(p);
        size_t length;
        char *text = read_file(path, &length);
        assert_int_equal(strncmp(text, other, strlen(other)), 0);
        free(text);
        free(other);
        close_file(open_with(&items, &settings, 1));
    }
}

/* Files are shared by evaluations: what one has not asked for is there for the others. */
static void test_other_settings(void **state)
{
    (void)state;
    static const struct mp_items one_item = {some_items, 1};
    struct mp_predictions *p = open_with(&items, &settings, 0);
    add_answer(p, 0, 0, 1.0);
    add_answer(p, 1, 0, 0.5);
    add_answer(p, 0, 1, 1.0);
    close_file(p);
    p = open_with(&one_item, &first_setting, 2);
    assert_true(is_done(p, 0, 0));
    close_file(p);
    p = open_with(&items, &settings, 0);
    assert_true(is_done(p, 0, 0) && is_done(p, 1, 0) && is_done(p, 0, 1) && !is_done(p, 1, 1));
    assert_same_number(mp_predictions_get(p, 1, 0)->score, 0.5);
    close_file(p);
}

/* A line for each: the one that is there is not both's. */
static void test_same_item_twice(void **state)
{
    (void)state;
    struct mp_predictions *p = open_with(&items, &settings, 0);
    add_answer(p, 0, 2, 1.0);
    close_file(p);
    p = open_with(&items, &settings, 0);
    assert_true(is_done(p, 0, 2) && !is_done(p, 0, 3));
    add_answer(p, 0, 3, 0.5);
    close_file(p);
    p = open_with(&items, &settings, 0);
    assert_same_number(mp_predictions_get(p, 0, 2)->score, 1.0);
    assert_same_number(mp_predictions_get(p, 0, 3)->score, 0.5);
    close_file(p);
    static const struct mp_items one_item = {some_items + 2, 1};
    close_file(open_with(&one_item, &settings, 1));
}

/* Items that cannot be asked take no answers. */
static void test_items_with_errors(void **state)
{
    (void)state;
    write_file(path, good_line, strlen(good_line));
    struct mp_item broken[] = {some_items[0]};
    broken[0].error = "too long";
    const struct mp_items of = {broken, 1};
    struct mp_predictions *p = open_with(&of, &settings, 1);
    assert_false(is_done(p, 0, 0));
    close_file(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_write_and_read),  TEST(test_line),
        TEST(test_rounding),        TEST(test_scores_anew),
        TEST(test_nan_is_null),     TEST(test_any_text),
        TEST(test_without_a_file),  TEST(test_torn_line),
        TEST(test_other_questions), TEST(test_other_settings),
        TEST(test_same_item_twice), TEST(test_items_with_errors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
