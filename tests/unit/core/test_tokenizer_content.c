/* Tokenizer: texts of which some bytes are content, where special tokens are not looked for. */
#include "tokenizer_test.h"

#define WORDS "\"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3}, \"merges\": []"

/* content: '#' where a byte of text is content. */
static void check_content(const struct mp_tokenizer *t, const char *text, const char *content,
                          const char *expected)
{
    char marks[64];
    char found[256] = "";
    struct mp_ids ids = {0};
    struct mp_error err;
    for (size_t i = 0; i < strlen(text); i++) {
        marks[i] = content[i] == '#';
    }
    assert_int_equal(mp_tokenizer_encode_content(t, text, marks, strlen(text), false, &ids, &err),
                     0);
    for (size_t i = 0; i < ids.count; i++) {
        size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s%d", i > 0 ? " " : "", (int)ids.data[i]);
    }
    assert_string_equal(found, expected);
    mp_ids_free(&ids);
}

/* Special tokens are none where a byte of them is content; other added tokens are. */
static void test_content(void **state)
{
    (void)state;
    static const char top[] =
        "\"added_tokens\": [{\"id\": 4, \"content\": \"abc\", \"special\": true, " NO_FLAGS "}, "
        "{\"id\": 3, \"content\": \"ab\", \"special\": false, " NO_FLAGS "}%s], %s"
        "\"decoder\": {\"type\": \"Fuse\"}";
    static const char late[] = ", {\"id\": 5, \"content\": \"<s>\", \"special\": true, "
                               "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                               "\"normalized\": true}";
    char filled[1024];
    snprintf(filled, sizeof filled, top, "", "");
    struct mp_tokenizer *t = make(WORDS, filled);
    check_text(t, "abcabc", false, "4 4");
    check_content(t, "abcabc", "......", "4 4");
    check_content(t, "abcabc", "###...", "3 2 4");
    check_content(t, "abcabc", "..#...", "3 2 4");
    check_content(t, "abcabc", "######", "3 2 3 2");
    mp_tokenizer_free(t);

    snprintf(filled, sizeof filled, top, late, "");
    t = make(WORDS, filled);
    check_text(t, "<s>", false, "5");
    check_content(t, "<s>", "...", "5");
    mp_tokenizer_free(t);

    snprintf(filled, sizeof filled, top, late, "\"normalizer\": {\"type\": \"NFC\"}, ");
    t = make(WORDS, filled);
    struct mp_ids ids = {0};
    struct mp_error err;
    assert_int_equal(mp_tokenizer_encode_content(t, "a", "", 1, false, &ids, &err),
                     MP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "special token <s> is looked for in normalized text"));
    assert_int_equal(mp_tokenizer_encode_content(t, "<s>", NULL, 3, false, &ids, &err), 0);
    mp_ids_free(&ids);
    mp_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_content)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
