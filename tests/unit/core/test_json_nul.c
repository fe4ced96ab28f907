/* JSON strings with NULs, for those who ask for them. */
#include "core/json/json.h"
#include "tests/unit/bad_files.h"

#include <stdlib.h>

/* Writes text to a file of its own and reads it. */
static int read_text(const char *text, struct mp_json **doc, struct mp_error *err)
{
    char path[] = MP_SCRATCH_DIR "/json_nul_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(close(fd), 0);
    int rc = mp_json_read_file_with_nul(path, 1 << 20, doc, err);
    unlink(path);
    return rc;
}

static void check_bytes(const char *string, const char *expected, size_t expected_length)
{
    size_t length;
    char *bytes = mp_json_string_bytes(string, &length);
    assert_int_equal(length, expected_length);
    assert_memory_equal(bytes, expected, expected_length + 1);
    free(bytes);
}

static void test_strings_and_keys(void **state)
{
    (void)state;
    struct mp_json *doc;
    struct mp_error err;
    if (read_text("{\"a\\u0000\": \"\\u0000b\\u0000\\u0000\", \"\": \"\\\\u0000\", \"z\": \"\"}",
                  &doc, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    const struct cJSON *v = mp_json_first(mp_json_root(doc));
    const char *s;
    check_bytes(mp_json_key(v), "a\0", 2);
    assert_int_equal(mp_json_as_string(doc, v, &s, &err), MP_OK);
    assert_string_equal(s, MP_JSON_NUL "b" MP_JSON_NUL MP_JSON_NUL);
    check_bytes(s, "\0b\0\0", 4);
    v = mp_json_after(v); /* an escaped backslash, and no escape after it */
    assert_int_equal(mp_json_as_string(doc, v, &s, &err), MP_OK);
    check_bytes(s, "\\u0000", 6);
    v = mp_json_after(v);
    assert_int_equal(mp_json_as_string(doc, v, &s, &err), MP_OK);
    check_bytes(s, "", 0);
    mp_json_free(doc);
}

static void test_still_strict(void **state)
{
    (void)state;
    static const char *const bad[] = {"\"\xc0\x80\"", "\"\\u000\"", "\"\\u0000",
                                      "{\"\\u0000\": 1, \"\\u0000\": 2}"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mp_json *doc;
        struct mp_error err;
        assert_int_equal(read_text(bad[i], &doc, &err), MP_ERR_FORMAT);
    }
}

static void test_quote(void **state)
{
    (void)state;
    static const char text[] = "a\"\\/\n\x01\0\xc3\xa9";
    char *quoted = mp_json_quote(text, sizeof text - 1);
    assert_string_equal(quoted, "\"a\\\"\\\\/\\n\\u0001\\u0000\xc3\xa9\"");
    free(quoted);
    quoted = mp_json_quote("", 0);
    assert_string_equal(quoted, "\"\"");
    free(quoted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_strings_and_keys),
        cmocka_unit_test(test_still_strict),
        cmocka_unit_test(test_quote),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
