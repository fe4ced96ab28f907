/* Tokenizer: what a step may cost and make of a text, and that a stop is seen. */
#include "core/tokenizer/tokenizer_internal.h"
#include "core/tokenizer/unicode/nfc.h"
#include "tokenizer_test.h"

/* ---- operations ---- */

struct counter {
    size_t calls;
    size_t limit; /* calls before it says stop */
};

static bool count_call(void *user)
{
    struct counter *c = user;
    return ++c->calls > c->limit;
}

/* `head`, then `part` as often as fits. */
static char *repeated(const char *head, const char *part, size_t length)
{
    size_t n = strlen(part);
    char *text = mp_xmalloc(length + 1);
    size_t used = strlen(head);
    memcpy(text, head, used);
    for (; used + n <= length; used += n) {
        memcpy(text + used, part, n);
    }
    text[used] = '\0';
    return text;
}

/* How often encode asks whether to stop: its operations, in periods. */
static size_t periods(struct mp_tokenizer *t, const char *head, const char *part, size_t length)
{
    char *text = repeated(head, part, length);
    struct counter c = {.limit = SIZE_MAX};
    mp_tokenizer_set_stop(t, count_call, &c);
    struct mp_ids ids = encode(t, text, strlen(text), true);
    mp_ids_free(&ids);
    free(text);
    return c.calls;
}

static char *long_model(void)
{
    return mp_xasprintf("%s", "\"vocab\": {\"a\": 0, \"aa\": 1, \"aaa\": 2, \"ab\": 3, \"b\": 4, "
                              "\"\xcc\x81\": 5, \" \": 6}, "
                              "\"merges\": [\"a a\", \"aa a\", \"a b\"]");
}

/* Eight times the text takes at most ten times the operations: O(n log n). */
static void check_growth(const char *top, const char *head, const char *part)
{
    enum { SHORT = 128 * 1024, TIMES = 8 };
    char *model = long_model();
    char *members =
        mp_xasprintf("%s%s\"decoder\": {\"type\": \"Fuse\"}", top, top[0] == '\0' ? "" : ", ");
    struct mp_tokenizer *t = make(model, members);
    size_t few = periods(t, head, part, SHORT);
    size_t many = periods(t, head, part, TIMES * SHORT);
    if (few < SHORT / MP_TOKENIZER_STOP_PERIOD || many > 10 * few) {
        fail_msg("%s: %zu periods, then %zu", top, few, many);
    }
    mp_tokenizer_free(t);
    free(members);
    free(model);
}

#define SPLIT(pattern)                                                                             \
    "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {" pattern                              \
    "}, \"behavior\": \"Isolated\", \"invert\": false}"
#define NORMALIZER(type, members) "\"normalizer\": {\"type\": \"" type "\"" members "}"
#define STRIPPING(normalized)                                                                      \
    "\"added_tokens\": [{\"id\": 7, \"content\": \"<m>\", \"special\": false, "                    \
    "\"single_word\": false, \"lstrip\": true, \"rstrip\": true, \"normalized\": " normalized "}]"

static void test_growth_of_steps(void **state)
{
    (void)state;
    /* Marks in the wrong order, one run of them as long as the text. */
    check_growth(NORMALIZER("NFC", ""), "a", "\xcc\x81\xcc\xa3");
    check_growth(NORMALIZER("NFC", ""), "", "a\xcc\x81\xcc\xa3");
    check_growth(NORMALIZER("NFC", ""), "", "ab");
    check_growth(NORMALIZER("Prepend", ", \"prepend\": \"b\""), "", "a");
    check_growth(NORMALIZER("Replace", ", \"pattern\": {\"String\": \"a\"}, \"content\": \"b\""),
                 "", "a");
    check_growth(NORMALIZER("Replace", ", \"pattern\": {\"Regex\": \"b*\"}, \"content\": \"a\""),
                 "", "a");
    check_growth(SPLIT("\"Regex\": \" ?\\\\p{L}+|\\\\s+(?!\\\\S)|\\\\s+\""), "", "aa ");
    check_growth(SPLIT("\"Regex\": \"\\\\s+(?!\\\\S)|\\\\s+\""), "", " ");
    check_growth(SPLIT("\"String\": \"a\""), "", "a");
    check_growth("\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true}", "",
                 "a ");
    check_growth("\"pre_tokenizer\": {\"type\": \"Digits\", \"individual_digits\": true}", "",
                 "1a");
    check_growth("\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"b\"}", "", "a ");
}

static void test_growth_of_tokens(void **state)
{
    (void)state;
    check_growth("", "", "a"); /* one word */
    check_growth("", "", "ab");
    check_growth(STRIPPING("false"), "", "<m>");
    check_growth(STRIPPING("false"), "", "  <m>");
    check_growth(STRIPPING("false"), "<m>", " ");
    check_growth(STRIPPING("false"), " ", "<m> <m");
    check_growth(STRIPPING("true"), "", "  <m>");
}

/* Once the program says stop, encode ends within a period, and leaves out as it was. */
static void test_stop(void **state)
{
    (void)state;
    static const char *const tops[] = {
        NORMALIZER("NFC", ""),
        SPLIT("\"Regex\": \"a\""),
        "\"pre_tokenizer\": {\"type\": \"Digits\", \"individual_digits\": true}",
        STRIPPING("false"),
    };
    char *model = long_model();
    char *text = repeated("a", "\xcc\x81\xcc\xa3", 1 << 20);
    for (size_t i = 0; i < sizeof tops / sizeof tops[0]; i++) {
        char *members = mp_xasprintf("%s, \"decoder\": {\"type\": \"Fuse\"}", tops[i]);
        struct mp_tokenizer *t = make(model, members);
        for (size_t limit = 0; limit < 300; limit += 37) {
            struct counter c = {.limit = limit};
            mp_tokenizer_set_stop(t, count_call, &c);
            struct mp_ids ids = {0};
            mp_ids_push(&ids, 42);
            struct mp_error err;
            assert_int_equal(mp_tokenizer_encode(t, text, strlen(text), true, &ids, &err),
                             MP_ERR_INTERRUPTED);
            assert_int_equal(c.calls, limit + 1);
            assert_int_equal(ids.count, 1);
            mp_ids_free(&ids);
        }
        mp_tokenizer_free(t);
        free(members);
    }
    free(text);
    free(model);
}

/* ---- matches ---- */

/* No search from a byte on can find what starts before it or ends before it starts. */
static void test_matches_in_order(void **state)
{
    (void)state;
    char why[256];
    struct mp_pattern *p = mp_pattern_new("a", 1, true, why, sizeof why);
    struct mp_error err;
    struct mp_work work = {.err = &err};
    struct mp_matches m;
    bool found;
    mp_matches_begin(&m, p, "xxaaxx", 6, &work);
    assert_int_equal(mp_matches_take(&m, 2, 3, &found), MP_OK);
    assert_true(found);
    assert_int_equal(mp_matches_take(&m, 3, 3, &found), MP_OK);
    assert_false(found); /* empty, right after a match: the search goes on one character later */
    assert_int_equal(m.at, 4);
    assert_int_equal(mp_matches_take(&m, 5, 4, &found), MP_ERR_RUNTIME);
    assert_non_null(strstr(err.message, "matched bytes 5 to 4 of 6, searched from byte 4 on"));
    assert_int_equal(mp_matches_take(&m, 3, 5, &found), MP_ERR_RUNTIME);
    assert_int_equal(mp_matches_take(&m, 4, 7, &found), MP_ERR_RUNTIME);
    assert_int_equal(mp_matches_take(&m, 6, 6, &found), MP_OK);
    assert_true(found);
    assert_int_equal(mp_matches_take(&m, 6, 6, &found), MP_OK);
    assert_false(found);
    assert_int_equal(mp_matches_next(&m, &found), MP_OK);
    assert_false(found); /* nothing is left to search */
    mp_matches_end(&m);
    mp_pattern_free(p);
}

/* A pattern with exponentially many ways to fail ends with an error, and leaves out as it was. */
static void test_endless_pattern(void **state)
{
    (void)state;
    struct mp_tokenizer *t =
        make("\"vocab\": {\"a\": 0}, \"merges\": []",
             "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": "
             "\"(a|a?)+$\"}, \"behavior\": \"Isolated\", \"invert\": false}, "
             "\"decoder\": {\"type\": \"Fuse\"}");
    char text[64];
    memset(text, 'a', sizeof text);
    text[sizeof text - 1] = 'b';
    struct mp_ids ids = {0};
    struct mp_error err;
    assert_int_equal(mp_tokenizer_encode(t, text, sizeof text, true, &ids, &err), MP_ERR_RUNTIME);
    assert_int_equal(ids.count, 0);
    mp_ids_free(&ids);
    mp_tokenizer_free(t);
}

/* ---- sizes ---- */

static void check_too_large(const char *top, const char *part)
{
    char *model = long_model();
    char *members = mp_xasprintf("%s, \"decoder\": {\"type\": \"Fuse\"}", top);
    struct mp_tokenizer *t = make(model, members);
    struct mp_ids ids = {0};
    struct mp_error err;
    char *text = repeated("", "a", 100 * 1000);
    assert_int_equal(mp_tokenizer_encode(t, text, strlen(text), true, &ids, &err), MP_ERR_RUNTIME);
    if (strstr(err.message, part) == NULL) {
        fail_msg("expected \"%s\", found \"%s\"", part, err.message);
    }
    assert_int_equal(ids.count, 0);
    free(text);
    mp_tokenizer_free(t);
    free(members);
    free(model);
}

#define DOUBLE "{\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, \"content\": \"aa\"}"
#define DOUBLE_7 DOUBLE ", " DOUBLE ", " DOUBLE ", " DOUBLE ", " DOUBLE ", " DOUBLE ", " DOUBLE

static void test_text_that_explodes(void **state)
{
    (void)state;
    check_too_large("\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [" DOUBLE_7 "]}",
                    "tokenizer: step 5 of 7 of its normalizer: 100000 bytes of text have become "
                    "16");
    check_too_large("\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \"a\"}, "
                    "\"content\": \"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}",
                    "tokenizer: step 1 of 1 of its normalizer: 100000 bytes of text have become "
                    "16");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth_of_steps),
        cmocka_unit_test(test_growth_of_tokens),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_matches_in_order),
        cmocka_unit_test(test_endless_pattern),
        cmocka_unit_test(test_text_that_explodes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
