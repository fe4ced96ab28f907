/* JSON: strictness, positions, getters, big files. */
#include "core/json/json.h"

#include "core/base/clock.h"
#include "tests/unit/bad_files.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

static struct mp_json *parse(const char *text)
{
    struct mp_json *doc = NULL;
    struct mp_error err;
    if (mp_json_parse("test.json", text, strlen(text), &doc, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    return doc;
}

static int read_bad(const char *path, struct mp_error *err)
{
    struct mp_json *doc = NULL;
    int rc = mp_json_read_file(path, 1 << 20, &doc, err);
    mp_json_free(doc);
    return rc;
}

static void test_bad_files(void **state)
{
    (void)state;
    check_bad_files("json", read_bad);
}

/* Every proper prefix of a document is an error, never a crash or a read past its end. */
static void test_every_prefix_fails(void **state)
{
    (void)state;
    static const char text[] =
        "\xef\xbb\xbf{\"a\\u00e9\": [1.5e-3, -0, true, null, \"\\ud83d\\ude00"
        "\xe2\x82\xac\"], \"b\": {\"c\": false}}";
    for (size_t n = 0; n <= sizeof text - 1; n++) {
        char *exact = malloc(n == 0 ? 1 : n); /* no byte to spare: the sanitizer sees overruns */
        memcpy(exact, text, n);
        struct mp_json *doc = NULL;
        struct mp_error err;
        int rc = mp_json_parse("prefix", exact, n, &doc, &err);
        assert_int_equal(rc, n == sizeof text - 1 ? MP_OK : MP_ERR_FORMAT);
        mp_json_free(doc);
        free(exact);
    }
}

static void test_every_flipped_byte_is_survived(void **state)
{
    (void)state;
    static const char text[] =
        "{\"k\\u0041\": [12.5, \"\xe2\x82\xac\\n\", {\"x\": null}], \"l\": 1e5}";
    char copy[sizeof text];
    for (size_t i = 0; i < sizeof text - 1; i++) {
        for (int value = 0; value < 256; value++) {
            memcpy(copy, text, sizeof text);
            copy[i] = (char)value;
            struct mp_json *doc = NULL;
            struct mp_error err = {.code = MP_OK};
            int rc = mp_json_parse("flipped", copy, sizeof text - 1, &doc, &err);
            assert_true(rc == MP_OK ? doc != NULL : err.code == MP_ERR_FORMAT);
            mp_json_free(doc);
        }
    }
}

static void test_values_and_order(void **state)
{
    (void)state;
    struct mp_json *doc =
        parse(" {\"s\": \"\\u20ac\\ud83d\\ude00\\n\", \"n\": [1, 2.5], \"e\": {}} ");
    const struct cJSON *root = mp_json_root(doc);
    assert_int_equal(mp_json_kind(root), MP_JSON_OBJECT);
    assert_int_equal(mp_json_count(root), 3);
    const struct cJSON *s = mp_json_first(root);
    assert_string_equal(mp_json_key(s), "s");
    const char *text;
    assert_int_equal(mp_json_as_string(doc, s, &text, NULL), MP_OK);
    assert_string_equal(text, "\xe2\x82\xac\xf0\x9f\x98\x80\n");
    const struct cJSON *n = mp_json_after(s);
    assert_int_equal(mp_json_kind(n), MP_JSON_ARRAY);
    assert_null(mp_json_key(mp_json_first(n)));
    assert_null(mp_json_after(mp_json_after(n)));
    assert_int_equal(mp_json_count(mp_json_find(root, "e")), 0);
    assert_null(mp_json_find(root, "S"));
    assert_null(mp_json_find(n, "s"));
    assert_null(mp_json_find(NULL, "s"));
    mp_json_free(doc);
}

static void test_the_same_key_in_two_objects(void **state)
{
    (void)state;
    mp_json_free(parse("[{\"a\": {\"a\": 1}}, {\"a\": 2}, {\"\": 1, \" \": 2}]"));
}

static void test_integers(void **state)
{
    (void)state;
    struct mp_json *doc = parse("{\"a\": 8, \"b\": 8.0, \"c\": 8e0, \"d\": -9007199254740992,"
                                " \"e\": 9007199254740994, \"f\": 8.25, \"g\": \"8\"}");
    const struct cJSON *root = mp_json_root(doc);
    struct mp_error err;
    int64_t v;
    for (const char *key = "a\0b\0c\0"; *key != '\0'; key += 2) {
        v = 0;
        assert_int_equal(mp_json_get_int(doc, root, key, 8, 8, &v, &err), MP_OK);
        assert_int_equal(v, 8);
    }
    assert_int_equal(mp_json_get_int(doc, root, "d", INT64_MIN, 0, &v, &err), MP_OK);
    assert_true(v == -MP_JSON_MAX_INT);
    assert_int_equal(mp_json_get_int(doc, root, "e", 0, INT64_MAX, &v, &err), MP_ERR_FORMAT);
    assert_int_equal(mp_json_get_int(doc, root, "f", 0, 10, &v, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: f: expected an integer from 0 to 10, found 8.25");
    assert_int_equal(mp_json_get_int(doc, root, "g", 0, 10, &v, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: g: expected an integer from 0 to 10, found \"8\"");
    mp_json_free(doc);
}

static void test_numbers(void **state)
{
    (void)state;
    struct mp_json *doc = parse("[1.7976931348623157e308, 5e-324, 1e-9999, -0.5]");
    const struct cJSON *item = mp_json_first(mp_json_root(doc));
    struct mp_error err;
    double v;
    assert_int_equal(mp_json_as_number(doc, item, -INFINITY, INFINITY, &v, &err), MP_OK);
    assert_true(v == DBL_MAX);
    item = mp_json_after(item);
    assert_int_equal(mp_json_as_number(doc, item, 0.0, 1.0, &v, &err), MP_OK);
    assert_true(v > 0.0);
    item = mp_json_after(item);
    assert_int_equal(mp_json_as_number(doc, item, 0.0, 1.0, &v, &err), MP_OK);
    assert_true(v == 0.0);
    item = mp_json_after(item);
    assert_int_equal(mp_json_as_number(doc, item, 0.0, 1.0, &v, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: [3]: expected a number from 0 to 1, found -0.5");
    mp_json_free(doc);
}

static void test_key_paths(void **state)
{
    (void)state;
    struct mp_json *doc = parse("{\"a\": [{}, {\"b\": {\"c\": null}}]}");
    const struct cJSON *second = mp_json_after(mp_json_first(mp_json_find(mp_json_root(doc), "a")));
    const struct cJSON *b;
    struct mp_error err;
    bool flag;
    assert_int_equal(mp_json_get_object(doc, second, "b", &b, &err), MP_OK);
    assert_int_equal(mp_json_get_bool(doc, b, "c", &flag, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: a[1].b.c: expected true or false, found null");
    assert_int_equal(mp_json_get_string(doc, b, "d", &(const char *){NULL}, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: a[1].b: key \"d\" is missing");
    assert_int_equal(mp_json_get_array(doc, second, "b", &b, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: a[1].b: expected an array, found an object");
    assert_int_equal(mp_json_get_array(doc, mp_json_root(doc), "z", &b, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "test.json: key \"z\" is missing");
    mp_json_free(doc);
}

static void test_optional_members(void **state)
{
    (void)state;
    struct mp_json *doc = parse("{\"null\": null, \"i\": 3, \"x\": 0.5, \"t\": true, \"s\": \"v\","
                                " \"a\": [], \"o\": {}}");
    const struct cJSON *root = mp_json_root(doc);
    struct mp_error err;
    int64_t i = 7;
    assert_int_equal(mp_json_opt_int(doc, root, "none", 0, 9, &i, &err), MP_OK);
    assert_int_equal(mp_json_opt_int(doc, root, "null", 0, 9, &i, &err), MP_OK);
    assert_int_equal(i, 7);
    assert_int_equal(mp_json_opt_int(doc, root, "i", 0, 9, &i, &err), MP_OK);
    assert_int_equal(i, 3);
    assert_int_equal(mp_json_opt_int(doc, root, "x", 0, 9, &i, &err), MP_ERR_FORMAT);
    double x = 0.0;
    assert_int_equal(mp_json_opt_number(doc, root, "x", 0, 9, &x, &err), MP_OK);
    assert_true(x == 0.5);
    bool t = false;
    assert_int_equal(mp_json_opt_bool(doc, root, "t", &t, &err), MP_OK);
    assert_true(t);
    const char *s = NULL;
    assert_int_equal(mp_json_opt_string(doc, root, "null", &s, &err), MP_OK);
    assert_null(s);
    assert_int_equal(mp_json_opt_string(doc, root, "s", &s, &err), MP_OK);
    assert_string_equal(s, "v");
    const struct cJSON *c = NULL;
    assert_int_equal(mp_json_opt_array(doc, root, "a", &c, &err), MP_OK);
    assert_ptr_equal(c, mp_json_find(root, "a"));
    assert_int_equal(mp_json_opt_object(doc, root, "a", &c, &err), MP_ERR_FORMAT);
    assert_int_equal(mp_json_opt_object(doc, root, "o", &c, &err), MP_OK);
    assert_ptr_equal(c, mp_json_find(root, "o"));
    mp_json_free(doc);
}

static void test_several_values(void **state)
{
    (void)state;
    static const char text[] = "{\"a\": 1}\n\n[2]\n{\"a\": }\n";
    struct mp_json_text t;
    mp_json_text_init(&t, "lines", text, sizeof text - 1);
    struct mp_json *doc;
    struct mp_error err;
    assert_int_equal(mp_json_next(&t, &doc, &err), MP_OK);
    assert_int_equal(t.at, 8);
    mp_json_free(doc);
    assert_int_equal(mp_json_next(&t, &doc, &err), MP_OK);
    assert_int_equal(t.line, 3);
    mp_json_fail(doc, mp_json_first(mp_json_root(doc)), &err, "no");
    assert_string_equal(err.message, "lines:3: [0]: no");
    mp_json_free(doc);
    size_t before = t.at;
    assert_int_equal(mp_json_next(&t, &doc, &err), MP_ERR_FORMAT);
    assert_string_equal(err.message, "lines:4:7: expected a value, found '}'");
    assert_int_equal(t.at, before);
}

static void test_file_errors(void **state)
{
    (void)state;
    struct mp_json *doc;
    struct mp_error err;
    assert_int_equal(mp_json_read_file("/nowhere/x.json", 100, &doc, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "/nowhere/x.json: cannot open"));
    assert_int_equal(mp_json_read_file(MP_TEST_DATA, 100, &doc, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "cannot read"));
    const char *small = MP_TEST_DATA "/bad/json/expected.json";
    assert_int_equal(mp_json_read_file(small, 100, &doc, &err), MP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "more than 100 bytes"));
}

/* A vocabulary of 128K entries and as many merges, about the size of a real tokenizer.json. */
static void test_big_file(void **state)
{
    (void)state;
    enum { ENTRIES = 128 * 1024 };
    char path[] = MP_SCRATCH_DIR "/big.json";
    FILE *file = fopen(path, "w");
    fputs("{\"vocab\": {", file);
    for (int i = 0; i < ENTRIES; i++) {
        fprintf(file, "%s\n  \"\\u0120token \xc4\xa0%d\": %d", i == 0 ? "" : ",", i, i);
    }
    fputs("}, \"merges\": [", file);
    for (int i = 0; i < ENTRIES; i++) {
        fprintf(file, "%s\n  [\"\xc4\xa0left%d\", \"right%d\"]", i == 0 ? "" : ",", i, i);
    }
    fputs("]}", file);
    assert_int_equal(fclose(file), 0);

    struct mp_json *doc;
    struct mp_error err;
    double start = mp_clock_seconds();
    assert_int_equal(mp_json_read_file(path, 1 << 28, &doc, &err), MP_OK);
    const struct cJSON *vocab = mp_json_find(mp_json_root(doc), "vocab");
    int count = 0;
    for (const struct cJSON *v = mp_json_first(vocab); v != NULL; v = mp_json_after(v)) {
        char key[64];
        snprintf(key, sizeof key, "\xc4\xa0token \xc4\xa0%d", count);
        assert_string_equal(mp_json_key(v), key);
        int64_t id = -1;
        assert_int_equal(mp_json_as_int(doc, v, 0, ENTRIES, &id, &err), MP_OK);
        assert_int_equal(id, count++);
    }
    assert_int_equal(count, ENTRIES);
    double seconds = mp_clock_seconds() - start;
    printf("parsed and walked in %.3f s\n", seconds);
    assert_true(seconds < 20.0); /* linear searches would take minutes */
    mp_json_free(doc);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_every_prefix_fails),
        cmocka_unit_test(test_every_flipped_byte_is_survived),
        cmocka_unit_test(test_values_and_order),
        cmocka_unit_test(test_the_same_key_in_two_objects),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_key_paths),
        cmocka_unit_test(test_optional_members),
        cmocka_unit_test(test_several_values),
        cmocka_unit_test(test_file_errors),
        cmocka_unit_test(test_big_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
