/* Tokenizer: regular expressions mean what they mean in Hugging Face's engine, or are refused. */
#include "core/tokenizer/regex/regex.h"
#include "tokenizer_test.h"

#include <utf8proc.h>

/* Where the pattern matches: the matches, each followed by '|'. */
static void check_matches(const char *regex, const char *text, const char *expected)
{
    char why[256];
    struct mp_pattern *p = mp_pattern_new(regex, strlen(regex), false, why, sizeof why);
    if (p == NULL) {
        fail_msg("%s: %s", regex, why);
    }
    struct mp_error err;
    struct mp_work work = {.err = &err};
    struct mp_matches m;
    mp_matches_begin(&m, p, text, strlen(text), &work);
    struct mp_bytes found = {0};
    mp_bytes_append(&found, "", 0);
    bool more;
    while (mp_matches_next(&m, &more) == MP_OK && more) {
        mp_bytes_append(&found, text + m.start, m.end - m.start);
        mp_bytes_append(&found, "|", 1);
    }
    mp_matches_end(&m);
    mp_pattern_free(p);
    if (strcmp(found.data, expected) != 0) {
        fail_msg("%s on \"%s\": found \"%s\", expected \"%s\"", regex, text, found.data, expected);
    }
    mp_bytes_free(&found);
}

static void check_refused(const char *regex, const char *part)
{
    char why[256];
    struct mp_pattern *p = mp_pattern_new(regex, strlen(regex), false, why, sizeof why);
    if (p != NULL) {
        fail_msg("%s is taken", regex);
    }
    if (strstr(why, part) == NULL) {
        fail_msg("%s: expected \"%s\", found \"%s\"", regex, part, why);
    }
}

/* ---- sets ---- */

static void test_white_space(void **state)
{
    (void)state;
    /* U+180E was white space once; U+0085 and U+3000 are. */
    check_matches("\\s", "a\xe1\xa0\x8e\xc2\x85\xe3\x80\x80", "\xc2\x85|\xe3\x80\x80|");
    check_matches("\\S+", "a\xe1\xa0\x8e\t", "a\xe1\xa0\x8e|");
    check_matches("[^\\s]+", " a\xe1\xa0\x8e ", "a\xe1\xa0\x8e|");
    check_matches("\\s+", "\t\n\v\f\r \xc2\xa0", "\t\n\v\f\r \xc2\xa0|");
}

static void test_categories(void **state)
{
    (void)state;
    /* U+1C89 and U+10D40 came with Unicode 16, U+31350 with 15. */
    check_matches("\\p{Lu}",
                  "\xe1\xb2\x89"
                  "a",
                  "\xe1\xb2\x89|");
    check_matches("\\p{N}", "1\xf0\x90\xb5\x80x", "1|\xf0\x90\xb5\x80|");
    check_matches("\\p{L}+", "\xf0\xb1\x8d\x90z1", "\xf0\xb1\x8d\x90z|");
    check_matches("\\P{L}+", "a1-b", "1-|");
    check_matches("\\p{^L}+", "a1-b", "1-|");
    check_matches("[^\\p{L}\\p{N}]", "a1-b", "-|");
    check_matches("[\\P{L}&&[^1]]", "a1-b", "-|");
    check_matches("\\p{M}", "e\xcc\x81", "\xcc\x81|");
    check_matches("\\p{Han}+", "a\xe4\xb8\xad\xe3\x80\x85\xe3\x81\x82",
                  "\xe4\xb8\xad\xe3\x80\x85|");
}

/* Marks and circled letters are word characters; \h is a hexadecimal digit. */
static void test_named_sets(void **state)
{
    (void)state;
    check_matches("\\w+", "e\xcc\x81x_9-", "e\xcc\x81x_9|");
    check_matches("\\w", "\xe2\x93\x90\xe2\x80\xbf\xe2\x82\x82", "\xe2\x93\x90|\xe2\x80\xbf|");
    check_matches("\\w", "\xc2\xb2\xc2\xbd", "\xc2\xb2|\xc2\xbd|"); /* but not in classes */
    check_matches("[\\w]|\\W|[^\\W]", "\xc2\xb2\xc2\xbd-", "-|");
    check_matches("\\W+", "a\xcc\x81 -b", " -|");
    check_matches("\\h+", "xfF09g \t", "fF09|");
    check_matches("\\H+", "a \tg", " \tg|");
    check_matches("\\d", "1\xd9\xa1\xc2\xbd", "1|\xd9\xa1|");
    check_matches("[a-c\\]^&-]+", "a]^&-d", "a]^&-|");
    check_matches("[\\x41\\x{42}\\u0043]+", "ABCD", "ABC|");
    check_matches("[a&&b]|x", "a]x", "x|"); /* a class of nothing */
    check_matches("[\\p{Cs}]?a", "a]", "a|");
    check_refused("[$-&&b]", "at byte 2: expected \\- for \"-\" before \"&&\"");
}

/* Every character, once, is where its category says. */
static void test_every_character(void **state)
{
    (void)state;
    struct mp_bytes text = {0};
    for (int32_t c = 1; c <= MP_LAST_CHAR; c++) {
        utf8proc_uint8_t bytes[4];
        if (c < 0xd800 || c > 0xdfff) {
            mp_bytes_append(&text, (char *)bytes, (size_t)utf8proc_encode_char(c, bytes));
        }
    }
    char why[256];
    struct mp_pattern *p = mp_pattern_new("(?=\\p{N}|\\s)[^a]", 16, false, why, sizeof why);
    struct mp_error err;
    struct mp_work work = {.err = &err};
    struct mp_matches m;
    mp_matches_begin(&m, p, text.data, text.length, &work);
    bool found;
    assert_int_equal(mp_matches_next(&m, &found), MP_OK);
    for (size_t at = 0; at < text.length;) {
        int32_t c;
        size_t n = (size_t)utf8proc_iterate((const utf8proc_uint8_t *)text.data + at, 4, &c);
        enum mp_category category = mp_char_category((uint32_t)c);
        bool expected = mp_char_is_space((uint32_t)c) || (category >= MP_ND && category <= MP_NO);
        assert_int_equal(found && m.start == at && m.end == at + n, expected);
        assert_int_equal(expected ? mp_matches_next(&m, &found) : MP_OK, MP_OK);
        at += n;
    }
    assert_false(found);
    mp_matches_end(&m);
    mp_pattern_free(p);
    mp_bytes_free(&text);
}

/* A pattern may tell 256 kinds of characters apart: here each of its own, and all others. */
static void test_kinds(void **state)
{
    (void)state;
    struct mp_bytes regex = {0};
    for (int32_t c = 0; c < 255; c++) {
        utf8proc_uint8_t bytes[4];
        mp_bytes_append(&regex, (char *)bytes, (size_t)utf8proc_encode_char(0x4e00 + c, bytes));
    }
    mp_bytes_append(&regex, "|\xe4\xb8\x80", 4);
    check_matches(regex.data, "\xe4\xb8\x81\xe4\xb8\x80", "\xe4\xb8\x80|");
    mp_bytes_append(&regex, "|a", 2);
    check_refused(regex.data, "1024 sets of characters or 256 kinds that they tell apart");
    regex.length = 0;
    for (int32_t c = 0; c < 20000; c++) { /* in time, too */
        utf8proc_uint8_t bytes[4];
        mp_bytes_append(&regex, (char *)bytes, (size_t)utf8proc_encode_char(0x4e00 + c, bytes));
    }
    check_refused(regex.data, "1024 sets of characters or 256 kinds that they tell apart");
    mp_bytes_free(&regex);
}

/* ---- counts, anchors and groups ---- */

/* A mark after {n,m} counts again, but for the '?' of {n,m}?. */
static void test_counts(void **state)
{
    (void)state;
    check_matches("a{1,2}+a", "aaaa", "aaaa|"); /* as possessive: never */
    check_matches("a{2}?", "aaa", "aa||");      /* once or not at all */
    check_matches("a{1,2}?", "aa", "a|a|");
    check_matches("a{,2}b", "aaab", "aab|");
    check_matches("a++a|b", "aaab", "b|");
    check_matches("a?+a|b", "ab", "b|");
    check_matches("a{x}", "a{x}", "a{x}|");
    check_refused("a{2,1}", "at byte 1: expected {n,m} with n <= m");
    check_refused("a{70000}", "expected {n,m} with n <= m <= 65535");
    static const char *const loops[] = {"(?:a|b?){2}",         "(a*){1,2}",
                                        "(?:^|a){3,}",         "(?:a{2}?){2}",
                                        "(?:(?=a)|a+?b*|){2}", "(?:a(?:b*|c)|(?i)){,2}"};
    for (size_t i = 0; i < sizeof loops / sizeof loops[0]; i++) {
        check_refused(loops[i], "{n,m} after what can match nothing is not supported");
    }
    check_matches("(?:ab?){2}(?:a|b*){0,1}c", "ababc", "ababc|");
    check_refused("a**", "a count after a count is not supported");
    check_refused("*a", "at byte 0: a count of nothing");
    check_refused("(?=a)*", "a count after what has no width is not supported");
}

/* ^ and $ are at every line; \A is at the beginning of the text. */
static void test_anchors(void **state)
{
    (void)state;
    check_matches("^.", "a\nb\n", "a|b|");
    check_matches(".$", "a\nb\n", "a|b|");
    check_matches("$", "a\n", "||");
    check_matches("\\A.", "a\nb", "a|");
    check_matches(".", "a\r\n", "a|\r|");
}

static void test_groups(void **state)
{
    (void)state;
    check_matches("a(?i)b|c", "aB aC ab c", "aB|aC|ab|");
    check_matches("(?i:'s|'LL)", "x'S y'll", "'S|'ll|");
    check_matches("(?i:'s)", "'\xc5\xbf", "'\xc5\xbf|"); /* the long s */
    check_matches("(?i:[a-c]+)d", "ABcd", "ABcd|");
    check_matches("(?>a+)b", "aab", "aab|");
    check_matches("a+(?>b?|c)a", "aa", "aa|");
    check_matches("(?<=a)b", "abb", "b|");
    check_matches("b(?!c)", "bcb", "b|");
    check_refused("(?i:ss)", "\"ss\" inside (?i:...) is not supported");
    check_refused("(?i:\xc3\xa9)", "more than ASCII inside (?i:...)");
    check_refused("(?i:[a[b]])", "a class inside a class inside (?i:...) is not supported");
    check_refused("(?i:[a&&b])", "\"&&\" inside (?i:...) is not supported");
    check_refused("(a", "at byte 0: a group without its \")\"");
    check_refused("a)", "at byte 1: \")\" without its \"(\"");
}

/* What both engines have, with other meanings or one of them not at all, is refused by name. */
static void test_refused(void **state)
{
    (void)state;
    static const char *const refused[] = {
        "[[:alpha:]]", "\\bx",     "\\Gx",     "\\Rx",        "\\Kx",      "(a)\\1",  "\\p{Greek}",
        "(?x: a)",     "(?<n>a)",  "(?#c)a",   "(?~ab)",      "(?(1)a|b)", "(*FAIL)", "(?&x)",
        "(?R)",        "a\\Z",     "a\\z",     "\\X",         "\\k<n>",    "\\g<n>",  "\\Qa\\E",
        "\\p{Letter}", "\\x80",    "\\u12",    "[b-a]",       "[a",        "\\",      "[]",
        "[a-\\d]",     "(?m:.)",   "(?C1)a",   "\\N",         "\\0",       "\\cA",    "\\M-a",
        "(?|a|b)",     "(?P<n>a)", "\\o{101}", "[a--b]",      "\\O",       "\\y",     "[\\b]",
        "\\pL",        "a{99999}", "(?<=a+)b", "\\x{110000}", "\\ud800",
    };
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        check_refused(refused[i], "regular expression");
    }
    char deep[1024] = "";
    for (int i = 0; i < 200; i++) {
        strcat(deep, "(");
    }
    check_refused(deep, "more than 100 groups");
}

/* ---- patterns that models come with ---- */

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define UPPER "\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}"
#define LOWER "\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}"

static void test_patterns_of_models(void **state)
{
    (void)state;
    static const char text[] = "I'LL go\tto \xe4\xb8\xad\xe6\x96\x87 12345!\n\n  ok  ";
    check_matches(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" TAIL, text,
                  "I|'LL| go|\tto| \xe4\xb8\xad\xe6\x96\x87| |123|45|!\n\n| | ok|  |");
    check_matches("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}{1,3}| "
                  "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+",
                  text, "I|'LL| go|\tto| \xe4\xb8\xad\xe6\x96\x87| |123|45|!\n\n| | ok|  |");
    check_matches("[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]*[" LOWER "]+" CONTRACTIONS
                  "?|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "]+[" LOWER "]*" CONTRACTIONS
                  "?|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
                  text, "I'LL| go|\tto| \xe4\xb8\xad\xe6\x96\x87| |123|45|!\n\n| | ok|  |");
    check_matches(
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]"
        "?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
        text, "I|'LL| go|\tto| \xe4\xb8\xad\xe6\x96\x87| |!\n\n| | ok|  |");
    check_matches("[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+",
                  text, "\xe4\xb8\xad\xe6\x96\x87|");
    check_matches("[\\p{Han}]+|[^\\r\\n\\p{L}\\p{N}]?[" UPPER "&&[^\\p{Han}]]*[" LOWER
                  "&&[^\\p{Han}]]+",
                  text, " go|\tto|\xe4\xb8\xad\xe6\x96\x87| ok|");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_character), cmocka_unit_test(test_kinds),
        cmocka_unit_test(test_white_space),     cmocka_unit_test(test_categories),
        cmocka_unit_test(test_named_sets),      cmocka_unit_test(test_counts),
        cmocka_unit_test(test_anchors),         cmocka_unit_test(test_groups),
        cmocka_unit_test(test_refused),         cmocka_unit_test(test_patterns_of_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
