/* Scores of answers, as RULER counts. */
#include "pipeline/generate/records/score.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static double score(const char *text, char *const *expected, size_t count, bool any)
{
    return mp_answer_score(text, strlen(text), expected, count, any);
}

static void test_share(void **state)
{
    (void)state;
    char *expected[] = {"ABC", "17"};
    assert_float_equal(score(": abc, 17.", expected, 2, false), 1.0, 0);
    assert_float_equal(score(": 17.", expected, 2, false), 0.5, 0);
    assert_float_equal(score(": 18.", expected, 2, false), 0.0, 0);
}

static void test_any(void **state)
{
    (void)state;
    char *expected[] = {"New York", "NYC"};
    assert_float_equal(score("in nyc.", expected, 2, true), 1.0, 0);
    assert_float_equal(score("in new york", expected, 2, true), 1.0, 0);
    assert_float_equal(score("in York", expected, 2, true), 0.0, 0);
}

static void test_empty_answer(void **state)
{
    (void)state;
    char *expected[] = {" "};
    assert_float_equal(score("", expected, 1, false), 0.0, 0);
    assert_float_equal(score(" \t\n ", expected, 1, true), 0.0, 0);
}

static void test_case_beyond_ascii(void **state)
{
    (void)state;
    char *expected[] = {"\xc3\x89"
                        "COLE",
                        "\xce\xa3"}; /* E with acute; capital sigma */
    assert_float_equal(score("\xc3\xa9"
                             "cole \xcf\x83",
                             expected, 2, false),
                       1.0, 0);
}

static void test_control_characters(void **state)
{
    (void)state;
    char *expected[] = {"b\nc", "b\tc"};
    const char text[] = "a\0b\tc";
    assert_float_equal(mp_answer_score(text, sizeof text - 1, expected, 2, false), 0.5, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share),
        cmocka_unit_test(test_any),
        cmocka_unit_test(test_empty_answer),
        cmocka_unit_test(test_case_beyond_ascii),
        cmocka_unit_test(test_control_characters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
