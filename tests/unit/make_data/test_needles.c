/* niah_*: what is hidden, how often and where, and what is asked. */
#include "tests/unit/make_data/eval_test.h"

enum { TOKENS = 4096, MAX_HIDDEN = 8, NUM_DEPTHS = 40 };

static const char NEEDLE[] = "One of the special magic ";

/* The text between instruction and question, without the needles that are asked about, and where in
 * it they were: places[i] of them, in the order of the text. */
struct cut {
    char *text;
    size_t places[MAX_HIDDEN];
    int count;
};

static bool is_in(const struct mp_words *w, const char *text, size_t length)
{
    for (size_t i = 0; i < w->count; i++) {
        if (strlen(w->items[i]) == length && memcmp(w->items[i], text, length) == 0) {
            return true;
        }
    }
    return false;
}

/* Takes a needle out with the blank or new line that parts it from what follows. Of a haystack of
 * needles only the answers are taken out. */
static struct cut cut_needles(const struct mp_sample *s, const struct mp_needles *hides)
{
    struct cut cut = {.text = mp_xcalloc(strlen(s->text) + 1, 1)};
    const char *at = strchr(s->text, '\n') + 1;
    const char *end = strrchr(s->text, '\n');
    size_t used = 0;
    while (at < end) {
        if (strncmp(at, NEEDLE, strlen(NEEDLE)) == 0) {
            const char *value = strstr(at, " is: ") + 5;
            size_t length = strcspn(value, ".");
            if (hides->haystack != MP_HAYSTACK_NEEDLES || is_in(&s->outputs, value, length)) {
                assert_in_range(cut.count, 0, MAX_HIDDEN - 1);
                cut.places[cut.count++] = used;
                at = value + length + 2;
                continue;
            }
        }
        cut.text[used++] = *at++;
    }
    return cut;
}

/* Pieces of the first `length` bytes that needles can stand between: lines or sentences, of which
 * the last one may be cut short. */
static int64_t count_pieces(const char *text, size_t length, bool essay)
{
    int64_t count = 0;
    const char *separator = essay ? " " : "\n";
    for (size_t at = 0; at < length;) {
        size_t n = strcspn(text + at, separator);
        n = n < length - at ? n : length - at;
        char *piece = mp_xstrndup(text + at, n);
        at += n + 1;
        count += n > 0 && (!essay || mp_ends_sentence(piece) || at >= length || text[at] == '\0');
        free(piece);
    }
    return count;
}

/* Each needle stands at one of 40 evenly spaced depths; `seen` collects them. */
static void check_depths(const struct cut *cut, bool essay, bool seen[NUM_DEPTHS])
{
    size_t length = strlen(cut->text);
    int64_t pieces = count_pieces(cut->text, length, essay);
    for (int i = 0; i < cut->count; i++) {
        int64_t before = count_pieces(cut->text, cut->places[i], essay);
        int depth = 0;
        while (depth < NUM_DEPTHS && pieces * (int64_t)(100.0 * depth / 39 + 0.5) / 100 != before) {
            depth++;
        }
        if (depth == NUM_DEPTHS) {
            fail_msg("a needle after %d of %d pieces", (int)before, (int)pieces);
        }
        seen[depth] = true;
    }
}

static void check_form(enum mp_needle_kind kind, const char *text, size_t length,
                       const struct mp_sources *s)
{
    if (kind == MP_NEEDLE_WORDS) {
        size_t adjective = strcspn(text, "-");
        assert_true(adjective < length);
        assert_true(is_in(&s->adjectives, text, adjective));
        assert_true(is_in(&s->nouns, text + adjective + 1, length - adjective - 1));
    } else if (kind == MP_NEEDLE_NUMBERS) {
        assert_int_equal(length, 7);
        assert_int_equal(strspn(text, "0123456789"), 7);
        assert_true(text[0] != '0');
    } else {
        assert_int_equal(length, 36);
        for (int i = 0; i < 36; i++) {
            bool dash = i == 8 || i == 13 || i == 18 || i == 23;
            assert_non_null(strchr(dash ? "-" : "0123456789abcdef", text[i]));
        }
        assert_int_equal(text[14], '4');
        assert_non_null(strchr("89ab", text[19]));
    }
}

/* The keys that are asked for, in their order, one after the other in `text`; the first is at it.
 * *next: behind a key. */
static size_t key_length(const char *text, const char **next)
{
    size_t length = strcspn(text, ", ");
    *next = text + length;
    *next += strspn(*next, ", ");
    *next += strncmp(*next, "and ", 4) == 0 ? 4 : 0;
    return length;
}

/* The task's keys are distinct and each has its number of values, each in a needle of its own; of a
 * haystack of needles every key has one. */
static void check_keys(const struct mp_sample *s, const struct mp_needles *hides)
{
    struct mp_words keys = {0}, values = {0};
    size_t needles = 0;
    for (const char *at = strstr(s->text, NEEDLE); at != NULL; at = strstr(at, NEEDLE), needles++) {
        const char *key = strstr(at, " for ") + 5;
        const char *value = strstr(key, " is: ") + 5;
        char *found = mp_xstrndup(key, (size_t)(value - 5 - key));
        char *needle = mp_xasprintf(" for %s is: ", found);
        assert_int_equal(count_of(s->text, needle), hides->num_values);
        mp_words_add_new(&keys, found);
        free(found);
        free(needle);
        found = mp_xstrndup(value, strcspn(value, "."));
        assert_true(mp_words_add_new(&values, found));
        free(found);
        at = value;
    }
    assert_int_equal(keys.count * (size_t)hides->num_values, needles);
    assert_true(hides->haystack == MP_HAYSTACK_NEEDLES || keys.count == (size_t)hides->num_keys);
    mp_words_free(&keys);
    mp_words_free(&values);
}

/* Each key that is asked for has its values in the text, once each, and they are the answer. */
static void check_question(const struct mp_sample *s, const struct mp_needles *hides,
                           const struct mp_sources *sources)
{
    bool one = hides->num_queries * hides->num_values == 1;
    const char *values = hides->values == MP_NEEDLE_UUIDS ? "uuid" : "number";
    char *start = mp_xasprintf(" The special magic %s%s for ", values, one ? "" : "s");
    assert_int_equal(strncmp(s->answer_prefix, start, strlen(start)), 0);
    assert_int_equal(s->outputs.count, (size_t)(hides->num_queries * hides->num_values));
    const char *key = s->answer_prefix + strlen(start);
    const char *last_line = strrchr(s->text, '\n');
    struct mp_words answers = {0};
    for (size_t i = 0; i < s->outputs.count; i += (size_t)hides->num_values) {
        const char *next;
        size_t length = key_length(key, &next);
        check_form(hides->keys, key, length, sources);
        char *asked = mp_xstrndup(key, length);
        assert_int_equal(count_of(last_line, asked), 1);
        for (size_t v = i; v < i + (size_t)hides->num_values; v++) {
            const char *value = s->outputs.items[v];
            check_form(hides->values, value, strlen(value), sources);
            char *needle = mp_xasprintf("%s%ss for %s is: %s.", NEEDLE, values, asked, value);
            assert_int_equal(count_of(s->text, needle), 1);
            assert_int_equal(count_of(s->text, value), 1);
            assert_true(mp_words_add_new(&answers, value));
            free(needle);
        }
        free(asked);
        key = next;
    }
    assert_non_null(strstr(s->answer_prefix, one ? " provided text is" : " provided text are"));
    assert_int_equal(strncmp(s->text, one ? "A special" : "Some special", one ? 9 : 12), 0);
    mp_words_free(&answers);
    free(start);
}

static void check_task(void **state, const char *name, enum mp_haystack haystack,
                       enum mp_needle_kind keys, enum mp_needle_kind values, int num_keys,
                       int num_values, int num_queries)
{
    const struct eval_test *t = *state;
    const struct mp_needles hides = {haystack, keys, values, num_keys, num_values, num_queries};
    struct mp_maker m = maker_of(t, TOKENS);
    struct mp_series series = {.task = find_task(name)};
    assert_int_equal(mp_tasks[series.task].new_tokens, 128);
    bool seen[NUM_DEPTHS] = {0};
    struct mp_words questions = {0};
    for (int i = 0; i < SAMPLES; i++) {
        struct mp_sample s = make(&m, &series);
        check_question(&s, &hides, &t->sources);
        check_keys(&s, &hides);
        struct cut cut = cut_needles(&s, &hides);
        assert_int_equal(cut.count, num_keys * num_values);
        check_depths(&cut, haystack == MP_HAYSTACK_ESSAY, seen);
        if (haystack == MP_HAYSTACK_NEEDLES) {
            int64_t lines = count_pieces(cut.text, strlen(cut.text), false);
            assert_int_equal(count_of(cut.text, NEEDLE), lines);
        } else if (haystack == MP_HAYSTACK_NOISE) {
            int64_t lines = count_pieces(cut.text, strlen(cut.text), false);
            assert_int_equal(count_of(cut.text, mp_noise_line), lines);
        }
        assert_true(mp_words_add_new(&questions, s.answer_prefix));
        free(cut.text);
        mp_sample_free(&s);
    }
    int depths = 0;
    for (int i = 0; i < NUM_DEPTHS; i++) {
        depths += seen[i];
    }
    assert_in_range(depths, 22, NUM_DEPTHS); /* 50 draws of 40 see 29 in the mean */
    mp_words_free(&questions);
}

#define WORDS MP_NEEDLE_WORDS
#define NUMBERS MP_NEEDLE_NUMBERS
#define UUIDS MP_NEEDLE_UUIDS

static void test_single_1(void **state)
{
    check_task(state, "niah_single_1", MP_HAYSTACK_NOISE, WORDS, NUMBERS, 1, 1, 1);
}

static void test_single_2(void **state)
{
    check_task(state, "niah_single_2", MP_HAYSTACK_ESSAY, WORDS, NUMBERS, 1, 1, 1);
}

static void test_single_3(void **state)
{
    check_task(state, "niah_single_3", MP_HAYSTACK_ESSAY, WORDS, UUIDS, 1, 1, 1);
}

static void test_multikey_1(void **state)
{
    check_task(state, "niah_multikey_1", MP_HAYSTACK_ESSAY, WORDS, NUMBERS, 4, 1, 1);
}

static void test_multikey_2(void **state)
{
    check_task(state, "niah_multikey_2", MP_HAYSTACK_NEEDLES, WORDS, NUMBERS, 1, 1, 1);
}

static void test_multikey_3(void **state)
{
    check_task(state, "niah_multikey_3", MP_HAYSTACK_NEEDLES, UUIDS, UUIDS, 1, 1, 1);
}

static void test_multivalue(void **state)
{
    check_task(state, "niah_multivalue", MP_HAYSTACK_ESSAY, WORDS, NUMBERS, 1, 4, 1);
}

static void test_multiquery(void **state)
{
    check_task(state, "niah_multiquery", MP_HAYSTACK_ESSAY, WORDS, NUMBERS, 4, 1, 4);
}

static void test_too_few_keys(void **state)
{
    struct eval_test *t = *state;
    struct mp_maker m = maker_of(t, TOKENS);
    struct mp_sources few = t->sources;
    few.adjectives.count = few.nouns.count = 5;
    m.sources = &few;
    struct mp_series series = {.task = find_task("niah_multikey_2")};
    struct mp_sample s;
    struct mp_error err;
    assert_int_equal(mp_make_sample(&m, &series, &s, &err), MP_ERR_USAGE);
    assert_non_null(
        strstr(err.message, "--words: 5 adjectives and 5 nouns are too few for the keys"));
    assert_null(s.text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_single_1),     cmocka_unit_test(test_single_2),
        cmocka_unit_test(test_single_3),     cmocka_unit_test(test_multikey_1),
        cmocka_unit_test(test_multikey_2),   cmocka_unit_test(test_multikey_3),
        cmocka_unit_test(test_multivalue),   cmocka_unit_test(test_multiquery),
        cmocka_unit_test(test_too_few_keys),
    };
    return cmocka_run_group_tests(tests, eval_setup, eval_teardown);
}
