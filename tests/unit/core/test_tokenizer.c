/* Tokenizer: the golden texts of two kinds of tokenizer, streaming, bad text and bad files. */
#include "core/base/rng.h"
#include "core/json/json.h"
#include "tokenizer_test.h"

static const char *const golden_names[] = {"tokenizer-llama3-style", "tokenizer-llama2-style",
                                           "tokenizer-nfc-style"};
enum { LLAMA3, LLAMA2, NFC, GOLDEN_COUNT };

static struct mp_tokenizer *load_golden(int which)
{
    char path[512];
    snprintf(path, sizeof path, MP_TEST_DATA "/golden/%s/tokenizer.json", golden_names[which]);
    return load_tokenizer(path);
}

/* ---- golden texts ---- */

static void check_ids(const struct mp_json *doc, const struct cJSON *golden, const char *key,
                      const struct mp_ids *ids)
{
    const struct cJSON *expected;
    struct mp_error err;
    assert_int_equal(mp_json_get_array(doc, golden, key, &expected, &err), MP_OK);
    assert_int_equal(mp_json_count(expected), ids->count);
    size_t i = 0;
    for (const struct cJSON *v = mp_json_first(expected); v != NULL; v = mp_json_after(v), i++) {
        int64_t id;
        assert_int_equal(mp_json_as_int(doc, v, 0, INT32_MAX, &id, &err), MP_OK);
        assert_int_equal(ids->data[i], id);
    }
}

static char *member_bytes(const struct mp_json *doc, const struct cJSON *object, const char *key,
                          size_t *length)
{
    const char *string;
    struct mp_error err;
    assert_int_equal(mp_json_get_string(doc, object, key, &string, &err), MP_OK);
    return mp_json_string_bytes(string, length);
}

static void check_decoded(const struct mp_tokenizer *t, const struct mp_ids *ids,
                          const struct mp_json *doc, const struct cJSON *golden)
{
    size_t expected_length;
    size_t length;
    char *expected = member_bytes(doc, golden, "decoded", &expected_length);
    char *text = decode(t, ids, false, &length);
    assert_int_equal(length, expected_length);
    assert_memory_equal(text, expected, expected_length + 1);
    free(text);
    free(expected);
}

/* decodes_special: what is decoded are the ids with the special ones. */
static void check_golden_text(const struct mp_tokenizer *t, const struct mp_json *doc,
                              const struct cJSON *golden, bool decodes_special)
{
    size_t length;
    char *text = member_bytes(doc, golden, "text", &length);
    struct mp_ids ids = encode(t, text, length, true);
    check_ids(doc, golden, "ids", &ids);
    check_stream(t, &ids, true);
    check_stream(t, &ids, false);

    struct mp_ids plain = encode(t, text, length, false);
    check_ids(doc, golden, "ids_no_special", &plain);
    check_decoded(t, decodes_special ? &ids : &plain, doc, golden);
    mp_ids_free(&plain);
    mp_ids_free(&ids);
    free(text);
}

static void check_golden_file(int which, const char *file, int count, bool decodes_special)
{
    struct mp_tokenizer *t = load_golden(which);
    char path[512];
    snprintf(path, sizeof path, MP_TEST_DATA "/golden/%s/%s", golden_names[which], file);
    struct mp_json *doc;
    struct mp_error err;
    assert_int_equal(mp_json_read_file_with_nul(path, 1 << 20, &doc, &err), MP_OK);
    assert_int_equal(mp_json_count(mp_json_root(doc)), count);
    const struct cJSON *v = mp_json_first(mp_json_root(doc));
    for (; v != NULL; v = mp_json_after(v)) {
        check_golden_text(t, doc, v, decodes_special);
    }
    mp_json_free(doc);
    mp_tokenizer_free(t);
}

static void test_golden_texts(void **state)
{
    (void)state;
    check_golden_file(LLAMA3, "golden_tokens.json", 180, false);
    check_golden_file(LLAMA2, "golden_tokens.json", 180, false);
}

/* Scripts, marks and white space, characters newer than the libraries' tables, forms that differ
 * between versions of Unicode. */
static void test_golden_unicode(void **state)
{
    (void)state;
    check_golden_file(LLAMA3, "golden_unicode.json", 1018, true);
    check_golden_file(NFC, "golden_unicode.json", 1018, true);
}

/* ---- any ids ---- */

/* Ids in any order are incomplete and broken UTF-8 more often than not. */
static void test_random_ids_stream(void **state)
{
    (void)state;
    for (int which = 0; which < GOLDEN_COUNT; which++) {
        struct mp_tokenizer *t = load_golden(which);
        struct mp_rng rng;
        mp_rng_init(&rng, 7, (uint64_t)which);
        for (int round = 0; round < 200; round++) {
            struct mp_ids ids = {0};
            /* Small ids are mostly bytes. */
            uint64_t below = round % 2 == 0 ? 300 : (uint64_t)mp_tokenizer_size(t);
            for (int i = 0; i < 50; i++) {
                mp_ids_push(&ids, (int32_t)(mp_rng_next(&rng) % below));
            }
            check_stream(t, &ids, false);
            check_stream(t, &ids, true);
            size_t length;
            char *text = decode(t, &ids, false, &length);
            struct mp_ids again = encode(t, text, length, false); /* fails unless valid UTF-8 */
            mp_ids_free(&again);
            free(text);
            mp_ids_free(&ids);
        }
        mp_tokenizer_free(t);
    }
}

/* Models can have more ids than their tokenizer: those are no text, wherever they are. */
static void test_unknown_id(void **state)
{
    (void)state;
    struct mp_tokenizer *t = load_golden(LLAMA3);
    assert_int_equal(mp_tokenizer_size(t), 4096);
    const int32_t unknown[] = {4096, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
        const int32_t ids[] = {unknown[i], 32, unknown[i], 33, unknown[i]};
        char *text = mp_tokenizer_decode(t, ids, 5, false, NULL);
        assert_string_equal(text, "AB");
        free(text);
    }
    mp_tokenizer_free(t);
}

/* A character that comes in two ids is held back until it is complete. */
static void test_stream_holds_back(void **state)
{
    (void)state;
    struct mp_tokenizer *t = load_golden(LLAMA3);
    static const char text[] = "\xf0\x9f\x92\x9b!"; /* not a token: one id a byte */
    struct mp_ids ids = encode(t, text, sizeof text - 1, false);
    assert_true(ids.count > 2);
    struct mp_token_stream *s = mp_token_stream_new(t, true);
    for (size_t i = 0; i + 2 < ids.count; i++) {
        assert_string_equal(mp_token_stream_push(s, ids.data[i]), "");
    }
    assert_string_equal(mp_token_stream_push(s, ids.data[ids.count - 2]), "\xf0\x9f\x92\x9b");
    assert_string_equal(mp_token_stream_push(s, ids.data[0]), "");
    assert_string_equal(mp_token_stream_push(s, -5), "");
    assert_string_equal(mp_token_stream_finish(s), "\xef\xbf\xbd");
    mp_token_stream_free(s);
    mp_ids_free(&ids);
    mp_tokenizer_free(t);
}

/* The bytes of a text's tokens make the text, wherever they cut its characters: of the first kind
 * as they are, of the second behind the blank that its normalizer puts first. */
static void test_token_bytes(void **state)
{
    (void)state;
    static const char text[] = "Caf\xc3\xa9 \xf0\x9f\x92\x9b\n  two  words\xe2\x82\xac";
    for (int which = LLAMA3; which <= LLAMA2; which++) {
        struct mp_tokenizer *t = load_golden(which);
        struct mp_ids ids = encode(t, text, sizeof text - 1, false);
        char all[128] = "";
        size_t used = 0;
        for (size_t i = 0; i < ids.count; i++) {
            size_t length;
            char *bytes = mp_tokenizer_token_bytes(t, ids.data[i], &length);
            memcpy(all + used, bytes, length + 1);
            used += length;
            free(bytes);
        }
        assert_string_equal(all + (which == LLAMA2), text);
        mp_ids_free(&ids);
        size_t length = 1;
        char *none = mp_tokenizer_token_bytes(t, INT32_MAX, &length);
        assert_int_equal(length, 0);
        free(none);
        mp_tokenizer_free(t);
    }
}

/* ---- any text ---- */

static void test_invalid_utf8_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int offset;
    } cases[] = {
        {"\x80", 0},         {"ab\xff", 2},           {"a\xc0\x80", 1},
        {"\xc1\xbf", 0},     {"\xe0\x9f\xbf", 0},     {"x\xed\xa0\x80", 1},
        {"\xe2\x82", 0},     {"ok \xf0\x9f\x92", 3},  {"\xf4\x90\x80\x80", 0},
        {"\xf5\x80\x80", 0}, {"\xe2\x82\xac\xac", 3}, {"\xf0\x8f\xbf\xbf", 0},
        {"\xc3(", 0},        {"\xe2(\xa1", 0},
    };
    struct mp_tokenizer *t = load_golden(LLAMA2);
    struct mp_ids ids = {0};
    mp_ids_push(&ids, 42);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_error err;
        char expected[64];
        snprintf(expected, sizeof expected, "at byte offset %d (", cases[i].offset);
        assert_int_equal(
            mp_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), true, &ids, &err),
            MP_ERR_FORMAT);
        assert_non_null(strstr(err.message, expected));
        assert_int_equal(ids.count, 1);
    }
    mp_ids_free(&ids);
    mp_tokenizer_free(t);
}

/* Random bytes: refused or, if by chance valid, encoded; never read past their end. */
static void test_random_bytes_are_survived(void **state)
{
    (void)state;
    for (int which = 0; which < GOLDEN_COUNT; which++) {
        struct mp_tokenizer *t = load_golden(which);
        struct mp_rng rng;
        mp_rng_init(&rng, 11, (uint64_t)which);
        int refused = 0;
        for (int round = 0; round < 500; round++) {
            size_t length = mp_rng_next(&rng) % 12;
            char *bytes = mp_xmalloc(length); /* no byte to spare: the sanitizer sees overruns */
            for (size_t i = 0; i < length; i++) {
                bytes[i] = (char)mp_rng_next(&rng);
            }
            struct mp_ids ids = {0};
            struct mp_error err = {.code = MP_OK};
            int rc = mp_tokenizer_encode(t, bytes, length, false, &ids, &err);
            if (rc == MP_OK) {
                check_stream(t, &ids, false);
            } else {
                assert_int_equal(err.code, MP_ERR_FORMAT);
                refused++;
            }
            mp_ids_free(&ids);
            free(bytes);
        }
        assert_true(refused > 300);
        mp_tokenizer_free(t);
    }
}

/* Words of a megabyte: encoded in O(n log n), or this test does not end. */
static void test_long_words(void **state)
{
    (void)state;
    static const char *const patterns[] = {"a", " ", "\n", "the", "\xe4\xb8\xad", "x1", "!?"};
    enum { LENGTH = 1000 * 1000 };
    char *text = mp_xmalloc(LENGTH);
    for (int which = 0; which < GOLDEN_COUNT; which++) {
        struct mp_tokenizer *t = load_golden(which);
        for (size_t p = 0; p < sizeof patterns / sizeof patterns[0]; p++) {
            size_t n = strlen(patterns[p]);
            size_t length = LENGTH / n * n;
            for (size_t i = 0; i < length; i++) {
                text[i] = patterns[p][i % n];
            }
            struct mp_ids ids = encode(t, text, length, false);
            size_t decoded_length;
            char *decoded = decode(t, &ids, false, &decoded_length);
            assert_int_equal(decoded_length, length);
            assert_memory_equal(decoded, text, length);
            free(decoded);
            mp_ids_free(&ids);
        }
        mp_tokenizer_free(t);
    }
    free(text);
}

/* ---- files ---- */

static int read_bad(const char *path, struct mp_error *err)
{
    struct mp_tokenizer *t = NULL;
    int rc = mp_tokenizer_load(path, &t, err);
    mp_tokenizer_free(t);
    return rc;
}

static void test_bad_files(void **state)
{
    (void)state;
    check_bad_files("tokenizer", read_bad);
}

static void test_error_codes(void **state)
{
    (void)state;
    struct mp_error err;
    assert_int_equal(read_bad(MP_TEST_DATA "/no_such_file.json", &err), MP_ERR_IO);
    const char *bad = MP_TEST_DATA "/bad/tokenizer/model_unigram.json";
    assert_int_equal(read_bad(bad, &err), MP_ERR_UNSUPPORTED);
    assert_int_equal(err.code, MP_ERR_UNSUPPORTED);
    assert_int_equal(read_bad(bad, NULL), MP_ERR_UNSUPPORTED);
    assert_int_equal(read_bad(MP_TEST_DATA "/bad/tokenizer/no_vocab.json", NULL), MP_ERR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_texts),
        cmocka_unit_test(test_golden_unicode),
        cmocka_unit_test(test_random_ids_stream),
        cmocka_unit_test(test_unknown_id),
        cmocka_unit_test(test_token_bytes),
        cmocka_unit_test(test_stream_holds_back),
        cmocka_unit_test(test_invalid_utf8_is_refused),
        cmocka_unit_test(test_random_bytes_are_survived),
        cmocka_unit_test(test_long_words),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_error_codes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
