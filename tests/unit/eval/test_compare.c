/* Two files of answers side by side: which prompts they share, and how likely such a difference is
 * by chance. */
#include "eval_fixture.h"

#include "pipeline/eval/compare.h"

/* ---- the sign test ---- */

/* Sums of binomial coefficients, worked out by hand. */
static void test_few(void **state)
{
    (void)state;
    static const struct {
        size_t fewer, more;
        double wanted;
    } cases[] = {
        {0, 0, 1.0},
        {0, 1, 1.0},       /* 2 of 2 ways */
        {0, 2, 2.0 / 4.0}, /* both the same */
        {0, 5, 2.0 / 32.0},
        {1, 1, 1.0}, /* more than all, if both sides were counted */
        {1, 4, 2.0 * 6.0 / 32.0},
        {5, 5, 1.0},
        {3, 7, 2.0 * (1.0 + 10.0 + 45.0 + 120.0) / 1024.0},
        {1, 9, 2.0 * 11.0 / 1024.0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double found = mp_sign_test(cases[i].fewer, cases[i].more);
        if (!(fabs(found - cases[i].wanted) < 1e-12)) {
            fail_msg("%zu, %zu: found %.17g, expected %.17g", cases[i].fewer, cases[i].more, found,
                     cases[i].wanted);
        }
        assert_true(mp_sign_test(cases[i].more, cases[i].fewer) == found);
        assert_true(found <= 1.0);
    }
}

/* From exact fractions of whole numbers. */
static void test_many(void **state)
{
    (void)state;
    static const struct {
        size_t fewer, more;
        double wanted;
    } cases[] = {
        {40, 60, 0.05688793364098079},     {490, 510, 0.547972745923477},
        {4900, 5100, 0.04658552770494739}, {0, 100, 1.5777218104420236e-30},
        {10, 90, 3.063290175437985e-17},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double found = mp_sign_test(cases[i].fewer, cases[i].more);
        if (!(fabs(found / cases[i].wanted - 1.0) < 1e-8)) {
            fail_msg("%zu, %zu: found %.17g, expected %.17g", cases[i].fewer, cases[i].more, found,
                     cases[i].wanted);
        }
        assert_true(mp_sign_test(cases[i].more, cases[i].fewer) == found);
    }
    assert_true(mp_sign_test(0, 100000) == 0.0); /* below what a double can hold */
    assert_true(fabs(mp_sign_test(1000000, 1000000) - 1.0) < 1e-6);
}

/* ---- files ---- */

/* An answer: a file is a list of them that ends without an id. */
struct given {
    const char *id, *setting, *text;
    int prompt;
    double score;
};

static char *paths[2];

static void write_answers(const char *path, const struct given *answers)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    for (const struct given *a = answers; a->id != NULL; a++) {
        fprintf(out,
                "{\"id\":\"%s\",\"task\":\"vt\",\"setting\":{\"method\":\"%s\"},\"prompt\":\"%x\","
                "\"exact_tokens\":8,\"max_new_tokens\":3,\"outputs\":[\"x\"],\"pred\":\"%s\","
                "\"score\":%g,\"steps\":2}\n",
                a->id, a->setting, a->prompt, a->text, a->score);
    }
    assert_int_equal(fclose(out), 0);
}

/* What is written of the two files; the caller's. */
static char *compare(const struct given *a, const struct given *b)
{
    char *text;
    size_t length;
    struct mp_error err;
    FILE *out = open_memstream(&text, &length);
    write_answers(paths[0], a);
    write_answers(paths[1], b);
    ASSERT_OK(mp_eval_compare((const char *const[]){paths[0], paths[1]}, out, &err));
    fclose(out);
    return text;
}

/* The last lines, with these figures. */
static void assert_summary(const char *text, const char *score_a, const char *score_b,
                           const char *rest)
{
    char *wanted = mp_xasprintf("a: %s, score %s\nb: %s, score %s\n%s\n", paths[0], score_a,
                                paths[1], score_b, rest);
    size_t length = strlen(text);
    size_t last = strlen(wanted);
    if (length < last || strcmp(text + length - last, wanted) != 0) {
        fail_msg("expected at the end of \"%s\": \"%s\"", text, wanted);
    }
    free(wanted);
}

/* Only those that differ are listed, whatever the order in the other file. */
static void test_by_prompt(void **state)
{
    (void)state;
    static const struct given a[] = {{"p0", "full", "one", 1, 1.0},
                                     {"p1", "full", "two", 2, 0.5},
                                     {"p2", "full", "three", 3, 0.25},
                                     {"p3", "full", "not in b", 4, 1.0},
                                     {0}};
    static const struct given b[] = {{"p2", "topk", "drei", 3, 0.75},
                                     {"p4", "topk", "not in a", 5, 1.0},
                                     {"p1", "topk", "other text", 2, 0.5},
                                     {"p0", "topk", "eins", 1, 0.0},
                                     {0}};
    char *text = compare(a, b);
    static const char wanted[] = "  vt p0: 100.0 -> 0.0\n      a: one\n      b: eins\n"
                                 "  vt p2: 25.0 -> 75.0\n      a: three\n      b: drei\na: ";
    assert_int_equal(strncmp(text, wanted, strlen(wanted)), 0);
    assert_summary(text, "58.3", "41.7",
                   "3 answers in both: a is better in 1, b in 1; sign test p = 1\n"
                   "1 answer in a alone\n1 answer in b alone");
    free(text);
}

/* The same id with other tokens is another prompt. */
static void test_other_tokens(void **state)
{
    (void)state;
    static const struct given a[] = {{"p", "full", "x", 1, 1.0}, {"q", "full", "x", 2, 0.0}, {0}};
    static const struct given b[] = {
        {"p", "full", "x", 7, 0.0}, {"r", "full", "x", 1, 0.0}, {"q", "full", "x", 2, 1.0}, {0}};
    char *text = compare(a, b);
    assert_summary(text, "0.0", "100.0",
                   "1 answer in both: a is better in 0, b in 1; sign test p = 1\n"
                   "1 answer in a alone\n2 answers in b alone");
    free(text);
}

/* Two of the one and three of the other: two pairs. */
static void test_same_prompt_twice(void **state)
{
    (void)state;
    static const struct given a[] = {{"p", "full", "x", 1, 1.0}, {"p", "full", "x", 1, 1.0}, {0}};
    static const struct given b[] = {
        {"p", "full", "x", 1, 0.0}, {"p", "full", "x", 1, 1.0}, {"p", "full", "x", 1, 0.0}, {0}};
    char *text = compare(a, b);
    assert_summary(text, "100.0", "50.0",
                   "2 answers in both: a is better in 1, b in 0; sign test p = 1\n"
                   "1 answer in b alone");
    free(text);
}

/* Where a file has several settings, each is compared with itself. */
static void test_by_setting(void **state)
{
    (void)state;
    static const struct given a[] = {
        {"p", "full", "x", 1, 1.0}, {"p", "topk", "x", 1, 0.0}, {"q", "full", "x", 2, 1.0}, {0}};
    static const struct given b[] = {
        {"p", "topk", "x", 1, 0.5}, {"p", "full", "x", 1, 1.0}, {"q", "topk", "x", 2, 0.0}, {0}};
    static const struct given one[] = {{"p", "topk", "x", 1, 0.5}, {"q", "topk", "x", 2, 0.0}, {0}};
    char *text = compare(a, b);
    assert_summary(text, "50.0", "75.0",
                   "2 answers in both: a is better in 0, b in 1; sign test p = 1\n"
                   "1 answer in a alone\n1 answer in b alone");
    free(text);
    text = compare(a, one); /* one of the files is enough */
    assert_summary(text, "0.0", "50.0",
                   "1 answer in both: a is better in 0, b in 1; sign test p = 1\n"
                   "2 answers in a alone\n1 answer in b alone");
    free(text);
}

/* Settings are the same where nothing but the model and where they begin to act differ. */
static void test_other_models(void **state)
{
    (void)state;
    static const struct given a[] = {
        {"p", "full\",\"sparse_from\":\"answer\",\"model\":\"one", "x", 1, 1.0},
        {"p", "topk\",\"sparse_from\":\"answer\",\"model\":\"one", "x", 1, 0.0},
        {0}};
    static const struct given b[] = {
        {"p", "topk\",\"sparse_from\":\"question\",\"model\":\"two", "x", 1, 1.0},
        {"p", "full\",\"sparse_from\":\"question\",\"model\":\"two", "x", 1, 1.0},
        {0}};
    char *text = compare(a, b);
    assert_summary(text, "50.0", "100.0",
                   "2 answers in both: a is better in 0, b in 1; sign test p = 1");
    free(text);
}

/* Forty are shown, and all of them count. */
static void test_many_differ(void **state)
{
    (void)state;
    struct given a[51] = {{0}}, b[51] = {{0}};
    for (int i = 0; i < 50; i++) {
        a[i] = (struct given){"p", "full", "x", i + 1, i < 10 ? 1.0 : 0.0};
        b[i] = (struct given){"p", "topk", "y", i + 1, i < 10 ? 0.0 : 1.0};
    }
    char *text = compare(a, b);
    int shown = 0;
    for (const char *at = text; (at = strstr(at, " -> ")) != NULL; at++) {
        shown++;
    }
    assert_int_equal(shown, 40);
    assert_contains(text, "\n  and 10 more\n");
    assert_summary(text, "20.0", "80.0",
                   "50 answers in both: a is better in 10, b in 40; sign test p = 2.39e-05");
    free(text);
}

/* One line a text, of 60 bytes or up to the end of a character there. */
static void test_long_texts(void **state)
{
    (void)state;
#define TEN "0123456789"
    static const struct given a[] = {{"p", "full", TEN TEN TEN TEN TEN TEN "x", 1, 1.0},
                                     {"q", "full", "one\\ntwo\\u0000\\u001fthree", 2, 1.0},
                                     {0}};
    static const struct given b[] = {
        {"p", "full", TEN TEN TEN TEN TEN TEN, 1, 0.0},
        {"q", "full", TEN TEN TEN TEN TEN "012345678\xe2\x82\xac and more", 2, 0.0},
        {0}};
    char *text = compare(a, b);
    assert_contains(text, "      a: " TEN TEN TEN TEN TEN TEN "...\n");
    assert_contains(text, "      b: " TEN TEN TEN TEN TEN TEN "\n");
    assert_contains(text, "      a: one two  three\n");
    assert_contains(text, "      b: " TEN TEN TEN TEN TEN "012345678\xe2\x82\xac...\n");
    free(text);
#undef TEN
}

/* ---- refusals ---- */

static void check_refused(enum mp_code code, const char *part)
{
    struct mp_error err;
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    ASSERT_FAILS(mp_eval_compare((const char *const[]){paths[0], paths[1]}, out, &err), code, part);
    fclose(out);
    assert_string_equal(text, "");
    free(text);
}

static void test_nothing_in_common(void **state)
{
    (void)state;
    static const struct given a[] = {{"p", "full", "x", 1, 1.0}, {0}};
    static const struct given b[] = {{"p", "full", "x", 2, 1.0}, {0}};
    static const struct given other[] = {
        {"p", "topk", "x", 1, 1.0}, {"p", "quest", "x", 1, 1.0}, {0}};
    static const struct given none[] = {{0}};
    write_answers(paths[0], a);
    write_answers(paths[1], b);
    char *wanted =
        mp_xasprintf("--compare: %s and %s have no prompt in common", paths[0], paths[1]);
    check_refused(MP_ERR_USAGE, wanted);
    free(wanted);
    write_answers(paths[1], other);
    check_refused(MP_ERR_USAGE, "have no prompt with the same setting in common");
    write_answers(paths[1], none);
    check_refused(MP_ERR_USAGE, "have no prompt in common");
}

static void test_bad_files(void **state)
{
    (void)state;
    static const struct given good[] = {{"p", "full", "x", 1, 1.0}, {0}};
    write_answers(paths[0], good);
    unlink(paths[1]);
    check_refused(MP_ERR_IO, "cannot open: No such file");
    write_file(paths[1], "{\"id\": 3}\n", 10);
    check_refused(MP_ERR_FORMAT, ":1: found a line that eval does not write");
    write_file(paths[0], "notes", 5);
    check_refused(MP_ERR_FORMAT, ":1: found a line that eval does not write");
    assert_int_equal(access(paths[0], F_OK), 0);
}

static int set_up(void **state)
{
    (void)state;
    paths[0] = scratch_path("a.jsonl");
    paths[1] = scratch_path("b.jsonl");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    remove_file(paths[0]);
    remove_file(paths[1]);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_by_prompt),
        cmocka_unit_test(test_other_tokens),
        cmocka_unit_test(test_same_prompt_twice),
        cmocka_unit_test(test_by_setting),
        cmocka_unit_test(test_other_models),
        cmocka_unit_test(test_many_differ),
        cmocka_unit_test(test_long_texts),
        cmocka_unit_test(test_nothing_in_common),
        cmocka_unit_test(test_bad_files),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
