/* vt, cwe and fwe: answers worked out from the text. */
#include "tests/unit/make_data/eval_test.h"

enum { TOKENS = 4096 };

/* ---- vt ---- */

/* The names that lines "VAR NAME = VALUE" and "VAR NAME = VAR OTHER" give the value to, in their
 * order. */
static struct mp_words assigned(const char *text, const char *value, int *assignments)
{
    struct mp_words names = {0};
    *assignments = 0;
    for (const char *at = strstr(text, "VAR "); at != NULL; at = strstr(at, "\nVAR ")) {
        at += strspn(at, "\n");
        char name[16], source[16], other[16];
        assert_int_equal(sscanf(at, "VAR %15s = %15s", name, source), 2);
        assert_int_equal(strlen(name), 5);
        assert_int_equal(strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 5);
        if (strcmp(source, "VAR") == 0) {
            assert_int_equal(sscanf(at, "VAR %15s = VAR %15s", name, other), 2);
        }
        if (strcmp(source, value) == 0 ||
            (strcmp(source, "VAR") == 0 && mp_strmap_get(&names.seen, other) != NULL)) {
            assert_true(mp_words_add_new(&names, name));
        }
        ++*assignments;
    }
    return names;
}

/* A part of a sample: that its question names the value, and that the variables with it are these,
 * five in a chain of four hops, none of which is anywhere else before the question. */
static void check_chain(const char *text, struct mp_words *names)
{
    char value[16];
    const char *question =
        strstr(text, "Question: Find all variables that are assigned the value ");
    assert_non_null(question);
    assert_int_equal(sscanf(strstr(question, "value"), "value %15s", value), 1);
    assert_int_equal(strlen(value), 5);
    int assignments;
    *names = assigned(text, value, &assignments);
    assert_int_equal(assignments, 5);
    assert_int_equal(names->count, 5);
    for (int i = 0; i < 4; i++) {
        char *hop = mp_xasprintf("VAR %s = VAR %s\n", names->items[i + 1], names->items[i]);
        assert_int_equal(count_of(text, hop), 1);
        free(hop);
    }
    for (int i = 0; i < 5; i++) {
        int after = count_of(question, names->items[i]);
        assert_int_equal(count_of(text, names->items[i]) - after, i < 4 ? 2 : 1);
    }
}

static void test_chain(void **state)
{
    struct mp_maker m = maker_of(*state, TOKENS);
    struct mp_series series = {.task = find_task("vt")};
    assert_int_equal(mp_tasks[series.task].new_tokens, 30);
    for (int i = 0; i < SAMPLES; i++) {
        struct mp_sample s = make(&m, &series);
        char *asked = strstr(s.text, "\n\nMemorize and track");
        assert_non_null(asked);
        struct mp_words names;
        check_chain(asked, &names);
        assert_int_equal(s.outputs.count, 5);
        for (size_t k = 0; k < 5; k++) {
            assert_string_equal(s.outputs.items[k], names.items[k]);
        }
        mp_words_free(&names);
        /* The example before it has its own variables, and its answer. */
        *asked = '\0';
        check_chain(s.text, &names);
        char *answer = mp_xasprintf("they are: %s, %s, %s, %s, %s", names.items[0], names.items[1],
                                    names.items[2], names.items[3], names.items[4]);
        assert_true(strlen(s.text) > strlen(answer));
        assert_string_equal(asked - strlen(answer), answer);
        for (size_t k = 0; k < 5; k++) {
            assert_int_equal(count_of(s.text, s.outputs.items[k]), 0);
        }
        assert_non_null(strstr(s.answer_prefix, "5 variables are assigned the value "));
        free(answer);
        mp_words_free(&names);
        mp_sample_free(&s);
    }
}

/* ---- words and how often they come ---- */

struct counts {
    struct mp_words words;
    int64_t times[4096]; /* [words.count] */
};

static void count_word(struct counts *c, const char *word)
{
    size_t i = mp_words_place(&c->words, word);
    assert_true(i < sizeof c->times / sizeof c->times[0]);
    c->times[i] = i + 1 == c->words.count && c->times[i] == 0 ? 1 : c->times[i] + 1;
}

static int64_t times_of(struct counts *c, const char *word)
{
    size_t count = c->words.count;
    size_t i = mp_words_place(&c->words, word);
    assert_true(i < count);
    return c->times[i];
}

/* A list "1. one 2. two ..." at text, to the end of the line. */
static struct counts *count_list(const char *text)
{
    struct counts *c = mp_xcalloc(1, sizeof *c);
    int wanted = 1;
    while (*text != '\n') {
        int number, used;
        char word[64];
        assert_int_equal(sscanf(text, "%d. %63s%n", &number, word, &used), 2);
        assert_int_equal(number, wanted++);
        count_word(c, word);
        text += used;
        text += *text == ' ';
    }
    return c;
}

/* The outputs come `common` times each, all others `other` times. */
static void check_list(const char *list, const struct mp_words *outputs, int common, int other)
{
    struct counts *c = count_list(list);
    int most = 0;
    for (size_t k = 0; k < c->words.count; k++) {
        assert_true(c->times[k] == common || c->times[k] == other);
        most += c->times[k] == common;
    }
    assert_int_equal(most, 10);
    assert_int_equal(outputs->count, 10);
    for (size_t k = 0; k < 10; k++) {
        assert_int_equal(times_of(c, outputs->items[k]), common);
    }
    mp_words_free(&c->words);
    free(c);
}

static void check_common_words(const struct eval_test *t, int64_t tokens, int samples, int common,
                               int other, int example_common, int example_other)
{
    struct mp_maker m = maker_of(t, tokens);
    struct mp_series series = {.task = find_task("cwe")};
    assert_int_equal(mp_tasks[series.task].new_tokens, 120);
    for (int i = 0; i < samples; i++) {
        struct mp_sample s = make(&m, &series);
        const char *example = strstr(s.text, "\n1. ") + 1;
        const char *asked = strstr(strstr(example, "\n\n"), "\n1. ") + 1;
        check_list(asked, &s.outputs, common, other);

        struct mp_words answers = {0};
        const char *answer = strstr(example, s.answer_prefix) + strlen(s.answer_prefix);
        for (int k = 0; k < 10; k++) {
            int number, used;
            char word[64];
            assert_int_equal(sscanf(answer, " %d. %63s%n", &number, word, &used), 2);
            assert_int_equal(number, k + 1);
            mp_words_add(&answers, word, strlen(word));
            answer += used;
        }
        check_list(example, &answers, example_common, example_other);
        mp_words_free(&answers);
        mp_sample_free(&s);
    }
}

static void test_common_words(void **state)
{
    check_common_words(*state, 4096, SAMPLES, 30, 3, 3, 1);
    check_common_words(*state, 16384, 5, 30, 3, 10, 3);
    check_common_words(*state, 2048, 5, 6, 1, 3, 1);
}

static int compare_times(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a;
    int64_t y = *(const int64_t *)b;
    return x > y ? -1 : x < y;
}

/* Words come as a zeta distribution of exponent 2 says: that of rank k a k^2th as often as that of
 * rank 1 without the fraction, down to the last rank that comes at all. */
static void check_zeta(struct counts *c)
{
    int64_t ranks = (int64_t)c->words.count;
    qsort(c->times, c->words.count, sizeof c->times[0], compare_times);
    int64_t first = c->times[0]; /* that of rank 1, without the fraction */
    for (int64_t k = 1; k <= ranks; k++) {
        assert_in_range(c->times[k - 1], first / (k * k), (first + 1) / (k * k));
    }
    assert_true(ranks > 20 && ranks * ranks <= first + 1 && (ranks + 1) * (ranks + 1) > first);
}

/* The dots come most often, then the three that are asked for, then all others. */
static void check_coded(struct counts *c, const struct mp_words *outputs)
{
    int64_t before = times_of(c, "...");
    assert_int_equal(outputs->count, 3);
    for (size_t k = 0; k < 3; k++) {
        int64_t times = times_of(c, outputs->items[k]);
        assert_true(times < before);
        before = times;
    }
    int64_t as_often = 0;
    for (size_t k = 0; k < c->words.count; k++) {
        as_often += c->times[k] >= before;
    }
    assert_int_equal(as_often, 4);
}

static void test_coded_words(void **state)
{
    struct mp_maker m = maker_of(*state, TOKENS);
    struct mp_series series = {.task = find_task("fwe")};
    assert_int_equal(mp_tasks[series.task].new_tokens, 50);
    for (int i = 0; i < SAMPLES; i++) {
        struct mp_sample s = make(&m, &series);
        struct counts *c = mp_xcalloc(1, sizeof *c);
        char *text = strstr(s.text, "coded words. ") + strlen("coded words. ");
        *strchr(text, '\n') = '\0';
        for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " ")) {
            if (strcmp(word, "...") != 0) {
                assert_int_equal(strlen(word), 6);
                assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz"), 6);
            }
            count_word(c, word);
        }
        check_coded(c, &s.outputs);
        check_zeta(c);
        mp_words_free(&c->words);
        free(c);
        mp_sample_free(&s);
    }
}

static void test_too_few_words(void **state)
{
    struct eval_test *t = *state;
    struct mp_sources few = t->sources;
    struct mp_maker m = maker_of(t, 16384);
    m.sources = &few;
    struct mp_series series = {.task = find_task("cwe")};
    struct mp_sample s;
    struct mp_error err;
    few.words.count = 100;
    assert_int_equal(mp_make_sample(&m, &series, &s, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "--words: cwe has "));
    assert_non_null(strstr(err.message, " tokens with all the words, expected 16384"));
    few.words.count = 50;
    assert_int_equal(mp_make_sample(&m, &series, &s, &err), MP_ERR_USAGE);
    assert_string_equal(err.message, "--words: the file has too few words for cwe");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chain),
        cmocka_unit_test(test_common_words),
        cmocka_unit_test(test_coded_words),
        cmocka_unit_test(test_too_few_words),
    };
    return cmocka_run_group_tests(tests, eval_setup, eval_teardown);
}
