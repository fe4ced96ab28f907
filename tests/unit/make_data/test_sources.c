/* Essays and lists of words: the program's and the user's. */
#include "tests/unit/make_data/eval_test.h"

static int load(const char *essay, const char *words, struct mp_sources *out, struct mp_error *err)
{
    char *essay_path = essay != NULL ? write_scratch("essay.txt", essay, strlen(essay)) : NULL;
    char *words_path = words != NULL ? write_scratch("words.txt", words, strlen(words)) : NULL;
    int code = mp_sources_load(essay_path, words_path, out, err);
    if (essay_path != NULL) {
        remove_scratch(essay_path);
    }
    if (words_path != NULL) {
        remove_scratch(words_path);
    }
    return code;
}

/* Enough keys for the longest texts, and words for 128K tokens of five each. */
static void test_own(void **state)
{
    (void)state;
    struct mp_sources s;
    struct mp_error err;
    assert_int_equal(load(NULL, NULL, &s, &err), 0);
    assert_true(s.adjectives.count * s.nouns.count > 100000);
    assert_in_range(s.words.count, (131072 / 5 - 300) / 3 + 50, 20000);
    assert_in_range(s.essay.words.count, 10000, 20000);
    assert_in_range(s.essay.num_sentences, 300, 1000);
    assert_int_equal(s.essay.sentences[0], 0);
    for (size_t i = 1; i < s.essay.num_sentences; i++) {
        assert_true(mp_ends_sentence(s.essay.words.items[s.essay.sentences[i] - 1]));
    }
    for (size_t i = 0; i < s.words.count; i++) {
        assert_int_equal(strspn(s.words.items[i], "abcdefghijklmnopqrstuvwxyz"),
                         strlen(s.words.items[i]));
    }
    mp_sources_free(&s);
}

static void test_essay(void **state)
{
    (void)state;
    struct mp_sources s;
    struct mp_error err;
    assert_int_equal(load("\n A caf\xc3\xa9? \"Yes.\" (It\n\nis!)  Then so", NULL, &s, &err), 0);
    assert_int_equal(s.essay.words.count, 7);
    assert_string_equal(s.essay.words.items[1], "caf\xc3\xa9?");
    static const size_t starts[] = {0, 2, 3, 5};
    assert_int_equal(s.essay.num_sentences, 4);
    assert_memory_equal(s.essay.sentences, starts, sizeof starts);
    mp_sources_free(&s);
}

static void test_sentence_ends(void **state)
{
    (void)state;
    static const char *const ends[] = {"end.",    "end?",       "end!", "end.)",
                                       "end.'\"", "end.\u201d", "."};
    static const char *const none[] = {"end", "end,", "e.nd", "\"", "", "end)", "'\""};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        assert_true(mp_ends_sentence(ends[i]));
        assert_false(mp_ends_sentence(none[i]));
    }
}

static void test_words(void **state)
{
    (void)state;
    struct mp_sources s, own;
    struct mp_error err;
    assert_int_equal(load(NULL, NULL, &own, &err), 0);
    assert_int_equal(load(NULL, "# mine\none\r\n\ntwo \none\n[nouns]\nstone\n", &s, &err), 0);
    assert_int_equal(s.words.count, 2);
    assert_string_equal(s.words.items[0], "one");
    assert_string_equal(s.words.items[1], "two");
    assert_int_equal(s.nouns.count, 1);
    assert_int_equal(s.adjectives.count, own.adjectives.count);
    mp_sources_free(&s);
    assert_int_equal(load(NULL, "[adjectives]\ngreen", &s, &err), 0);
    assert_int_equal(s.adjectives.count, 1);
    assert_int_equal(s.words.count, own.words.count);
    mp_sources_free(&s);
    mp_sources_free(&own);
}

static void refuse(const char *essay, const char *words, const char *part)
{
    struct mp_sources s;
    struct mp_error err;
    assert_int_equal(load(essay, words, &s, &err), MP_ERR_FORMAT);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, err.message);
    }
    mp_sources_free(&s);
}

static void test_bad(void **state)
{
    (void)state;
    refuse("", NULL, "essay.txt: found no words, expected a text");
    refuse(" \n", NULL, "essay.txt: found no words");
    refuse("a\nb\xff", NULL, "essay.txt:2: found an invalid byte, expected UTF-8 text");
    refuse(NULL, "# nothing\n", "words.txt: found no words, expected one a line");
    refuse(NULL, "one\ntwo words\n",
           "words.txt:2: found \"two words\", expected one word, or [adj");
    refuse(NULL, "[verbs]\nrun\n", "words.txt:1: found \"[verbs]\"");
    refuse(NULL, "caf\xe9\n", "words.txt:1: found an invalid byte");
    struct mp_sources s;
    struct mp_error err;
    assert_int_equal(mp_sources_load("/nowhere", NULL, &s, &err), MP_ERR_IO);
    mp_sources_free(&s);
    char *path = write_scratch("nul.txt", "a\0b", 3);
    assert_int_equal(mp_sources_load(path, NULL, &s, &err), MP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "nul.txt:1: found a NUL"));
    mp_sources_free(&s);
    remove_scratch(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own),   cmocka_unit_test(test_essay),
        cmocka_unit_test(test_words), cmocka_unit_test(test_sentence_ends),
        cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
