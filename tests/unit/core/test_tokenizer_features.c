/* Tokenizer: one small hand-made tokenizer.json for each feature the golden ones do not use. */
#include "core/base/rng.h"
#include "tokenizer_test.h"

static void check_decoded(const struct mp_tokenizer *t, const int32_t *ids, size_t count,
                          bool skip_special, const char *expected)
{
    struct mp_ids all = {0};
    for (size_t i = 0; i < count; i++) {
        mp_ids_push(&all, ids[i]);
    }
    check_stream(t, &all, skip_special);
    char *text = decode(t, &all, skip_special, NULL);
    assert_string_equal(text, expected);
    free(text);
    mp_ids_free(&all);
}
#define CHECK_DECODED(t, skip_special, expected, ...)                                              \
    check_decoded(t, (const int32_t[]){__VA_ARGS__},                                               \
                  sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t), skip_special,          \
                  expected)

/* ---- merges ---- */

/* Some of GPT-2's tokens, with its ids. */
#define GPT2_VOCAB                                                                                 \
    "\"vocab\": {\"!\": 0, \"'\": 6, \",\": 11, \"1\": 16, \"H\": 39, \"d\": 67, \"e\": 68, "      \
    "\"l\": 75, \"o\": 78, \"r\": 81, \"s\": 82, \"w\": 86, \"\xc4\x8a\": 198, "                   \
    "\"\xc4\xa0\": 220, \"\xc4\xa0w\": 266, \"or\": 273, \"ll\": 297, \"ld\": 335, \"'s\": 338, "  \
    "\"\xc4\xa0world\": 995, \"He\": 1544, \"orld\": 1764, \"world\": 6894, "                      \
    "\"Hello\": 15496, \"Hell\": 28254}"
#define GPT2_MERGES                                                                                \
    "\"merges\": [\"\xc4\xa0 w\", \"o r\", \"l l\", \"l d\", \"H e\", \"He ll\", \"' s\", "        \
    "\"or ld\", \"\xc4\xa0w orld\", \"Hell o\", \"w orld\"]"
#define BYTE_LEVEL_DECODER "\"decoder\": {\"type\": \"ByteLevel\"}"

static void test_gpt2_byte_level(void **state)
{
    (void)state;
    struct mp_tokenizer *t =
        make(GPT2_VOCAB ", " GPT2_MERGES,
             "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false}, "
             "\"post_processor\": {\"type\": \"ByteLevel\"}, " BYTE_LEVEL_DECODER);
    check_text(t, "Hello world", false, "15496 995");
    check_text(t, "Hello, world!", true, "15496 11 995 0");
    check_text(t, "Hello  world", false, "15496 220 995");
    check_text(t, "world's  \n", false, "6894 338 220 220 198");
    check_text(t, "He11", false, "1544 16 16");
    check_text(t, "", true, "");
    assert_true(mp_tokenizer_has(t, 0) && mp_tokenizer_has(t, 28254));
    assert_false(mp_tokenizer_has(t, 1) || mp_tokenizer_has(t, 28255) || mp_tokenizer_has(t, -1));
    mp_tokenizer_free(t);

    t = make(GPT2_VOCAB ", " GPT2_MERGES,
             "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
             "\"trim_offsets\": true, \"use_regex\": true}, " BYTE_LEVEL_DECODER);
    check_text(t, "world", false, "995");
    check_text(t, " world", false, "995");
    check_text(t, "", false, "");
    mp_tokenizer_free(t);
}

/* Lower ranks first; of equal ranks the leftmost; a pair that is there twice has its last rank. */
static void test_merge_order(void **state)
{
    (void)state;
    static const char vocab[] =
        "\"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"ab\": 3, \"bc\": 4, \"aa\": 5, \"aaa\": 6}";
    char model[512];
    snprintf(model, sizeof model,
             "%s, \"merges\": [[\"b\", \"c\"], [\"a\", \"b\"], "
             "[\"a\", \"a\"], [\"aa\", \"a\"]]",
             vocab);
    struct mp_tokenizer *t = make(model, "\"decoder\": {\"type\": \"Fuse\"}");
    check_text(t, "abc", false, "0 4");
    check_text(t, "ab", false, "3");
    check_text(t, "aaa", false, "6");
    check_text(t, "aaaa", false, "5 5");
    check_text(t, "aab", false, "0 3");
    check_text(t, "axc", false, "0 2"); /* no unk_token: unknown characters are dropped */
    mp_tokenizer_free(t);

    snprintf(model, sizeof model, "%s, \"merges\": [\"b c\", \"a b\", \"b c\"]", vocab);
    t = make(model, "\"decoder\": {\"type\": \"Fuse\"}");
    check_text(t, "abc", false, "3 2");
    mp_tokenizer_free(t);
}

static void test_unknown_characters(void **state)
{
    (void)state;
    static const char vocab[] = "\"vocab\": {\"<unk>\": 0, \"a\": 1, \"b\": 2, \"<0xC3>\": 3, "
                                "\"<0xA9>\": 4}, \"merges\": [], \"unk_token\": \"<unk>\"";
    static const char decoder[] = "\"decoder\": {\"type\": \"ByteFallback\"}";
    char model[256];
    snprintf(model, sizeof model, "%s, \"fuse_unk\": true", vocab);
    struct mp_tokenizer *t = make(model, decoder);
    check_text(t, "a??b?", false, "1 0 2 0");
    mp_tokenizer_free(t);

    snprintf(model, sizeof model, "%s, \"fuse_unk\": false, \"byte_fallback\": true", vocab);
    t = make(model, decoder);
    check_text(t, "a??b", false, "1 0 0 2");
    check_text(t, "a\xc3\xa9\xc3\xa8", false, "1 3 4 0"); /* the last has no token <0xA8> */
    CHECK_DECODED(t, false,
                  "a\xc3\xa9"
                  "b",
                  1, 3, 4, 2);
    /* A run of bytes that is no text is one U+FFFD a byte, all of it. */
    CHECK_DECODED(t, false,
                  "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
                  "b",
                  3, 4, 3, 2);
    CHECK_DECODED(t, false, "b\xef\xbf\xbd", 2, 3);
    mp_tokenizer_free(t);
}

/* ---- pre-tokenizers ---- */

/* Words are whole tokens, so that the ids show where the text was cut. */
#define WORDS                                                                                      \
    "\"vocab\": {\"a\": 0, \"b\": 1, \"c\": 2, \"-\": 3, \"a-\": 4, \"b-\": 5, \"-b\": 6, "        \
    "\"-c\": 7, \"--\": 8, \"a-b--c\": 9, \"12\": 10, \"1\": 11, \"2\": 12, \"_\": 13, "           \
    "\"_a\": 14, \"_b\": 15, \"ab\": 16, \"_a_b\": 17, "                                           \
    "\"(18)\": 18, \"(19)\": 19}, \"merges\": [], \"ignore_merges\": true"

static void check_split(const char *pattern, const char *behavior, const char *invert,
                        const char *text, const char *expected)
{
    char top[512];
    snprintf(top, sizeof top,
             "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {%s}, \"behavior\": \"%s\", "
             "\"invert\": %s}, \"decoder\": {\"type\": \"Fuse\"}",
             pattern, behavior, invert);
    struct mp_tokenizer *t = make(WORDS, top);
    check_text(t, text, false, expected);
    mp_tokenizer_free(t);
}

static void test_split(void **state)
{
    (void)state;
    static const char dash[] = "\"String\": \"-\"";
    check_split(dash, "Isolated", "false", "a-b--c", "0 3 1 3 3 2");
    check_split(dash, "Removed", "false", "a-b--c", "0 1 2");
    check_split(dash, "MergedWithPrevious", "false", "a-b--c", "4 5 3 2");
    check_split(dash, "MergedWithNext", "false", "a-b--c", "0 6 3 7");
    check_split(dash, "Contiguous", "false", "a-b--c", "0 3 1 8 2");
    check_split(dash, "Removed", "true", "a-b--c", "3 3 3");
    check_split(dash, "Removed", "false", "---", "");
    check_split(dash, "Isolated", "false", "-a-", "3 0 3");
    check_split("\"Regex\": \"[a-z]\"", "Removed", "false", "a-b--c", "3 8");
    check_split("\"Regex\": \"[a-z]\"", "Removed", "true", "a-b--c", "0 1 2");
    check_split("\"Regex\": \"x*\"", "Isolated", "false", "a-b", "0 3 1"); /* empty matches */
    check_split("\"Regex\": \"\\\\.\"", "Isolated", "false", "a-b--c", "9");
    check_split("\"String\": \".\"", "Isolated", "false", "a-b--c", "9"); /* not any character */
}

static void test_digits(void **state)
{
    (void)state;
    struct mp_tokenizer *t =
        make(WORDS, "\"pre_tokenizer\": {\"type\": \"Digits\", \"individual_digits\": false}, "
                    "\"decoder\": {\"type\": \"Fuse\"}");
    check_text(t, "a12b", false, "0 10 1");
    mp_tokenizer_free(t);
    t = make(WORDS, "\"pre_tokenizer\": {\"type\": \"Digits\", \"individual_digits\": true}, "
                    "\"decoder\": {\"type\": \"Fuse\"}");
    check_text(t, "a12b", false, "0 11 12 1");
    mp_tokenizer_free(t);
}

static void check_metaspace(const char *members, const char *text, const char *expected,
                            const char *decoded)
{
    char top[512];
    snprintf(
        top, sizeof top,
        "\"added_tokens\": [" PLAIN_TOKEN(
            20, "<s>",
            NO_FLAGS) "], "
                      "\"pre_tokenizer\": {\"type\": \"Metaspace\", \"replacement\": \"_\", %s}, "
                      "\"decoder\": {\"type\": \"Metaspace\", \"replacement\": \"_\", %s}",
        members, members);
    struct mp_tokenizer *t = make(WORDS, top);
    check_text(t, text, false, expected);
    struct mp_ids ids = encode(t, text, strlen(text), false);
    char *found = decode(t, &ids, true, NULL);
    assert_string_equal(found, decoded);
    free(found);
    mp_ids_free(&ids);
    mp_tokenizer_free(t);
}

static void test_metaspace(void **state)
{
    (void)state;
    check_metaspace("\"prepend_scheme\": \"always\"", "a b<s>a", "14 15 20 14", "a b a");
    check_metaspace("\"prepend_scheme\": \"first\", \"split\": true", "a b<s>a", "14 15 20 0",
                    "a ba");
    check_metaspace("\"prepend_scheme\": \"never\"", "a b", "0 15", "a b");
    check_metaspace("\"prepend_scheme\": \"never\", \"add_prefix_space\": false", "a b", "0 15",
                    "a b");
    check_metaspace("\"add_prefix_space\": true", "a b", "14 15", "a b");
    check_metaspace("\"prepend_scheme\": \"always\", \"split\": false", "a b", "17", "ab");
    check_metaspace("\"prepend_scheme\": \"always\"", " a", "14", "a");
    check_metaspace("\"prepend_scheme\": \"first\"", "<s>a", "20 0", "a");
}

/* ---- normalizers ---- */

static void test_nfc(void **state)
{
    (void)state;
    struct mp_tokenizer *t =
        make("\"vocab\": {\"e\": 0, \"\xcc\x81\": 1, \"\xc3\xa9\": 2, \"\xea\xb0\x80\": 3}, "
             "\"merges\": []",
             "\"normalizer\": {\"type\": \"NFC\"}, \"decoder\": {\"type\": \"Fuse\"}");
    check_text(t, "e\xcc\x81", false, "2");
    check_text(t,
               "\xc3\xa9"
               "e",
               false, "2 0");
    check_text(t,
               "\xcc\x81"
               "e",
               false, "1 0");
    check_text(t, "\xe1\x84\x80\xe1\x85\xa1", false, "3"); /* Hangul is composed by a formula */
    mp_tokenizer_free(t);
}

static void test_normalizer_sequence(void **state)
{
    (void)state;
    struct mp_tokenizer *t = make(
        WORDS, "\"normalizer\": {\"type\": \"Sequence\", \"normalizers\": ["
               "{\"type\": \"Replace\", \"pattern\": {\"Regex\": \"[xy]+\"}, \"content\": \"\"}, "
               "{\"type\": \"Prepend\", \"prepend\": \"_\"}, "
               "{\"type\": \"Replace\", \"pattern\": {\"String\": \"..\"}, \"content\": \"--\"}]}, "
               "\"decoder\": {\"type\": \"Strip\", \"content\": \"_\", \"start\": 1, \"stop\": 1}");
    check_text(t, "a", false, "14");
    check_text(t, "yxaxy", false, "14");
    check_text(t, "xy", false, "");        /* nothing is left to prepend to */
    check_text(t, "_a", false, "13 13 0"); /* prepended in any case */
    check_text(t, "a..", false, "13 0 3 3");
    CHECK_DECODED(t, false, "aa_b-", 14, 17, 13, 3);
    mp_tokenizer_free(t);
}

/* ---- added tokens ---- */

static void check_added(const char *flags, const char *text, const char *expected)
{
    char top[1024];
    snprintf(top, sizeof top,
             "\"added_tokens\": [{\"id\": 20, \"content\": \"<m>\", \"special\": false, %s}], "
             "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
             "\"content\": \"_\"}, \"decoder\": {\"type\": \"Fuse\"}",
             flags);
    struct mp_tokenizer *t = make(WORDS, top);
    check_text(t, text, false, expected);
    mp_tokenizer_free(t);
}

static void test_added_token_flags(void **state)
{
    (void)state;
    check_added(NO_FLAGS, "a  <m>  b", "0 13 13 20 13 13 1");
    check_added(NO_FLAGS, "<m><m", "20");
    static const char lstrip[] =
        "\"single_word\": false, \"lstrip\": true, \"rstrip\": false, \"normalized\": false";
    check_added(lstrip, "a \xe3\x80\x80<m> b", "0 20 15");
    check_added(lstrip, "  <m> <m>", "20 20");
    static const char rstrip[] =
        "\"single_word\": false, \"lstrip\": false, \"rstrip\": true, \"normalized\": false";
    check_added(rstrip, "a <m>\t\n b", "0 13 20 1");
    static const char single[] =
        "\"single_word\": true, \"lstrip\": false, \"rstrip\": false, \"normalized\": false";
    check_added(single, "-<m>-", "3 20 3");
    check_added(single, "a<m>", "0");
    check_added(single, "<m>\xc3\xa9", "");
}

/* A token that is looked for in the normalized text is normalized itself. */
static void test_added_normalized(void **state)
{
    (void)state;
    static const char top[] =
        "\"added_tokens\": [{\"id\": 20, \"content\": \"a %s\", \"special\": false, "
        "\"single_word\": false, \"lstrip\": false, \"rstrip\": false, \"normalized\": true}, "
        "{\"id\": 21, \"content\": \"b \", \"special\": false, " NO_FLAGS "}], "
        "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"String\": \" \"}, "
        "\"content\": \"_\"}, \"decoder\": {\"type\": \"Fuse\"}";
    char filled[1024];
    snprintf(filled, sizeof filled, top, "c");
    struct mp_tokenizer *t = make(WORDS, filled);
    check_text(t, "a c", false, "20");
    check_text(t, "a_c", false, "20");
    check_text(t, "b c", false, "21 2");
    check_text(t, "b_c", false, "1 13 2");
    mp_tokenizer_free(t);
}

/* The ids of the file do not count: a token of the model's keeps its own, others follow. */
static void test_added_ids(void **state)
{
    (void)state;
    char *top = mp_xasprintf("\"added_tokens\": [%s, %s, %s], \"decoder\": {\"type\": \"Fuse\"}",
                             PLAIN_TOKEN(3, "<s>", NO_FLAGS), PLAIN_TOKEN(7, "ab", NO_FLAGS),
                             PLAIN_TOKEN(20, "<t>", NO_FLAGS));
    struct mp_tokenizer *t = make(WORDS, top);
    free(top);
    check_text(t, "<s>ab-<t>", false, "20 16 3 21");
    CHECK_DECODED(t, false, "<s>ab-<t>", 20, 16, 3, 21);
    CHECK_DECODED(t, true, "-", 20, 16, 3, 21);
    assert_int_equal(mp_tokenizer_size(t), 22);
    mp_tokenizer_free(t);
}

/* The leftmost match counts, of those the longest; what is special can be left out. */
static void test_added_longest(void **state)
{
    (void)state;
    char *top = mp_xasprintf("\"added_tokens\": [%s, %s, %s, %s, %s], "
                             "\"decoder\": {\"type\": \"Fuse\"}",
                             PLAIN_TOKEN(20, "<a", NO_FLAGS), PLAIN_TOKEN(21, "<a><b>", NO_FLAGS),
                             PLAIN_TOKEN(22, "<a>", NO_FLAGS), PLAIN_TOKEN(23, "a><b>cc", NO_FLAGS),
                             PLAIN_TOKEN(1, "b", NO_FLAGS));
    struct mp_tokenizer *t = make(WORDS, top);
    free(top);
    check_text(t, "<a><b>", false, "21");
    check_text(t, "<a><b", false, "22 1");
    check_text(t, "<a<a>", false, "20 22");
    check_text(t, "<a><b>cc", false, "21 2 2");
    check_text(t, "a><b>cc", false, "23");
    CHECK_DECODED(t, false, "a<a>b", 0, 22, 1);
    CHECK_DECODED(t, true, "a", 0, 22, 1);
    assert_int_equal(mp_tokenizer_size(t), 24);
    CHECK_DECODED(t, true, "", 20);
    mp_tokenizer_free(t);
}

/* ---- post-processors and decoders ---- */

static void test_template(void **state)
{
    (void)state;
    char *top = mp_xasprintf(
        "\"added_tokens\": [%s, %s], \"post_processor\": {\"type\": \"Sequence\", "
        "\"processors\": [{\"type\": \"ByteLevel\"}, {\"type\": \"TemplateProcessing\", "
        "\"single\": [{\"SpecialToken\": {\"id\": \"B\"}}, {\"Sequence\": {\"id\": \"A\"}}, "
        "{\"SpecialToken\": {\"id\": \"E\"}}], \"special_tokens\": {"
        "\"B\": {\"ids\": [20, 20]}, \"E\": {\"ids\": [21]}}}]}, "
        "\"decoder\": {\"type\": \"Fuse\"}",
        PLAIN_TOKEN(20, "<s>", NO_FLAGS), PLAIN_TOKEN(21, "</s>", NO_FLAGS));
    struct mp_tokenizer *t = make(WORDS, top);
    free(top);
    check_text(t, "ab", true, "20 20 16 21");
    check_text(t, "ab", false, "16");
    check_text(t, "", true, "20 20 21");
    check_text(t, "<s>ab", true, "20 20 20 16 21");
    mp_tokenizer_free(t);
}

static void test_decoder_strip_after_fuse(void **state)
{
    (void)state;
    struct mp_tokenizer *t =
        make(WORDS, "\"decoder\": {\"type\": \"Sequence\", \"decoders\": ["
                    "{\"type\": \"Replace\", \"pattern\": {\"String\": \"--\"}, "
                    "\"content\": \"_\"}, {\"type\": \"Fuse\"}, "
                    "{\"type\": \"Strip\", \"content\": \"_\", \"start\": 2, \"stop\": 0}]}");
    CHECK_DECODED(t, false, "a_b", 14, 15);
    CHECK_DECODED(t, false, "_a", 8, 13, 14);
    CHECK_DECODED(t, false, "a_", 0, 8);
    CHECK_DECODED(t, false, "", 13, 8);
    mp_tokenizer_free(t);
}

/* Tokens that are not in the byte-level alphabet stand for themselves; bad UTF-8 is one U+FFFD for
 * each part that could have started a character. */
static void test_decoder_byte_level(void **state)
{
    (void)state;
    struct mp_tokenizer *t =
        make("\"vocab\": {\"\xc3\xa2\": 0, \"\xc4\xa4\": 1, \"\xc2\xac\": 2, \"a\": 3, "
             "\"\xe2\x82\xac \": 4}, \"merges\": []",
             BYTE_LEVEL_DECODER); /* bytes e2, 82 and ac */
    CHECK_DECODED(t, false,
                  "\xe2\x82\xac"
                  "a",
                  0, 1, 2, 3);
    CHECK_DECODED(t, false, "a\xe2\x82\xac a", 3, 4, 3);
    CHECK_DECODED(t, false,
                  "\xef\xbf\xbd"
                  "a",
                  0, 1, 3);
    CHECK_DECODED(t, false,
                  "\xef\xbf\xbd\xef\xbf\xbd"
                  "a",
                  0, 0, 3);
    CHECK_DECODED(t, false, "\xef\xbf\xbd\xef\xbf\xbd", 1, 2);
    CHECK_DECODED(t, false, "a\xef\xbf\xbd", 3, 0, 1);
    CHECK_DECODED(t, false, "\xef\xbf\xbd\xe2\x82\xac ", 0, 1, 4);
    mp_tokenizer_free(t);
}

/* ---- broken files ---- */

/* Every file that differs from a good one in a few bytes loads or is refused, and what loads
 * encodes and decodes without reading where it must not. */
static void test_mutated_files(void **state)
{
    (void)state;
    static const char good[] = "{\"added_tokens\": [" PLAIN_TOKEN(
        6, "<s>",
        NO_FLAGS) "], "
                  "\"model\": {\"type\": \"BPE\", \"byte_fallback\": true, \"unk_token\": \"a\", "
                  "\"vocab\": {\"a\": 0, \"b\": 1, \"ab\": 2, \"_a\": 3, \"_\": 4, \"<0x00>\": 5}, "
                  "\"merges\": [[\"a\", \"b\"], \"_ a\"]}, "
                  "\"normalizer\": {\"type\": \"Replace\", \"pattern\": {\"Regex\": \"[x-z]+\"}, "
                  "\"content\": \"_\"}, "
                  "\"pre_tokenizer\": {\"type\": \"Split\", \"pattern\": {\"Regex\": "
                  "\"a*(?!b)|\\\\s\"}, "
                  "\"behavior\": \"MergedWithNext\", \"invert\": false}, "
                  "\"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": ["
                  "{\"SpecialToken\": {\"id\": \"B\"}}, {\"Sequence\": {\"id\": \"A\"}}], "
                  "\"special_tokens\": {\"B\": {\"ids\": [6]}}}, "
                  "\"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": "
                  "\"ByteFallback\"}, "
                  "{\"type\": \"Strip\", \"content\": \"_\", \"start\": 1, \"stop\": 1}]}}";
    static const char text[] = "ab xa<s>_ab\xc3\xa9";
    struct mp_rng rng;
    mp_rng_init(&rng, 3, 0);
    int loaded = 0;
    enum { ROUNDS = 3000 };
    for (int round = 0; round < ROUNDS; round++) {
        char copy[sizeof good];
        memcpy(copy, good, sizeof good);
        for (int i = 0; i < round % 3; i++) {
            size_t at = mp_rng_next(&rng) % (sizeof good - 1);
            copy[at] = round % 2 == 0 ? (char)mp_rng_next(&rng)
                                      : good[mp_rng_next(&rng) % (sizeof good - 1)];
        }
        struct mp_tokenizer *t;
        struct mp_error err = {.code = MP_OK};
        if (load_text(copy, sizeof good - 1, &t, &err) != MP_OK) {
            assert_true(err.code == MP_ERR_FORMAT || err.code == MP_ERR_UNSUPPORTED);
            continue;
        }
        loaded++;
        struct mp_ids ids = {0};
        if (mp_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &err) == MP_OK) {
            check_stream(t, &ids, false);
        }
        mp_ids_free(&ids);
        mp_tokenizer_free(t);
    }
    assert_in_range(loaded, ROUNDS / 3, ROUNDS - 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpt2_byte_level),
        cmocka_unit_test(test_merge_order),
        cmocka_unit_test(test_unknown_characters),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_digits),
        cmocka_unit_test(test_metaspace),
        cmocka_unit_test(test_nfc),
        cmocka_unit_test(test_normalizer_sequence),
        cmocka_unit_test(test_added_token_flags),
        cmocka_unit_test(test_added_normalized),
        cmocka_unit_test(test_added_ids),
        cmocka_unit_test(test_added_longest),
        cmocka_unit_test(test_template),
        cmocka_unit_test(test_decoder_strip_after_fuse),
        cmocka_unit_test(test_decoder_byte_level),
        cmocka_unit_test(test_mutated_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
