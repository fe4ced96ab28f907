/* Text of what cJSON has made: whole or an error, wherever memory is short. The program's malloc
 * fails when the test says so. */
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static long countdown = -1;  /* so many allocations until one fails; below 0: none does */
static size_t only_size = 0; /* those of other sizes do not count; 0: all do */

void *__real_malloc(size_t bytes);
void *__wrap_malloc(size_t bytes);

void *__wrap_malloc(size_t bytes)
{
    bool counts = countdown >= 0 && (only_size == 0 || only_size == bytes);
    return counts && countdown-- == 0 ? NULL : __real_malloc(bytes);
}

/* As results are made; what cJSON finds no memory for is left out. */
static cJSON *make_tree(void)
{
    const int ids[] = {1, 22, 333};
    cJSON *tree = cJSON_CreateObject();
    cJSON_AddStringToObject(tree, "id", "a");
    cJSON *list = cJSON_CreateIntArray(ids, 3);
    if (!cJSON_AddItemToObject(tree, "token_ids", list)) {
        cJSON_Delete(list);
    }
    cJSON_AddRawToObject(tree, "text", "\"so\"");
    cJSON_AddNumberToObject(tree, "seconds", 0.5);
    return tree;
}

static const char whole[] =
    "{\"id\":\"a\",\"token_ids\":[1,22,333],\"text\":\"so\",\"seconds\":0.5}";

static void test_every_allocation(void **state)
{
    (void)state;
    int failures = 0;
    for (long n = 0;; n++) {
        struct mp_error err;
        countdown = n;
        cJSON *tree = make_tree();
        char *text = mp_json_print(tree, MP_JSON_LINE, "file", &err);
        bool failed = countdown < 0;
        countdown = -1;
        cJSON_Delete(tree);
        if (!failed) {
            assert_string_equal(text, whole);
            free(text);
            break;
        }
        failures++;
        assert_null(text);
        assert_int_equal(err.code, MP_ERR_MEMORY);
        assert_non_null(strstr(err.message, "file: out of memory: "));
        assert_non_null(strstr(err.message, " bytes asked for to write it as JSON"));
        assert_null(strstr(err.message, " 0 bytes"));
    }
    assert_true(failures > 12);
}

/* A text that could not be read says so itself, and the next one that is written is whole. */
static void test_next_text(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_json *doc = NULL;
    only_size = sizeof(cJSON);
    for (long n = 0; n < 4; n++) {
        countdown = n;
        assert_int_equal(mp_json_parse("file", "[1, {\"a\": 2}]", 13, &doc, &err), MP_ERR_MEMORY);
        assert_string_equal(err.message, "file: out of memory while parsing 13 bytes of JSON");
        countdown = -1;
        cJSON *tree = make_tree();
        char *text = mp_json_print(tree, MP_JSON_LINE, "file", &err);
        assert_string_equal(text, whole);
        free(text);
        cJSON_Delete(tree);
    }
    only_size = 0;
}

static void test_layout(void **state)
{
    (void)state;
    cJSON *tree = cJSON_CreateObject();
    cJSON_AddNumberToObject(tree, "a", 1);
    char *text = mp_json_print(tree, MP_JSON_INDENTED, "file", NULL);
    assert_string_equal(text, "{\n\t\"a\":\t1\n}");
    free(text);
    text = mp_json_key_text(tree);
    assert_string_equal(text, "{\"a\":1}");
    free(text);
    cJSON_Delete(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_allocation),
        cmocka_unit_test(test_next_text),
        cmocka_unit_test(test_layout),
    };
    mp_json_watch_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
