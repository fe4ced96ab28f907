/* Chat templates of real models, and templates of one construct each: the texts that Jinja2 makes
 * of them as transformers sets it up (scripts/make-chat-golden.mjs). */
#include "core/jinja/jinja.h"

#include "core/base/file.h"
#include "core/base/hash.h"
#include "core/base/memory.h"
#include "core/json/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define DATA MP_TEST_DATA "/jinja"

enum { MAX_VARIABLES = 16, NOW = 1722470400 };

static struct mp_json *golden;

static int read_golden(void **state)
{
    (void)state;
    struct mp_error err;
    setenv("TZ", "UTC", 1);
    tzset();
    if (mp_json_read_file(DATA "/golden.json", 16 << 20, &golden, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return 0;
}

static int free_golden(void **state)
{
    (void)state;
    mp_json_free(golden);
    return 0;
}

static const struct cJSON *member(const struct cJSON *object, const char *key)
{
    const struct cJSON *value = mp_json_find(object, key);
    assert_non_null(value);
    return value;
}

/* NULL for null. */
static const char *string_of(const struct cJSON *value)
{
    const char *text = NULL;
    return mp_json_as_string(golden, value, &text, NULL) == 0 ? text : NULL;
}

/* variables: an object of JSON texts. The text, the caller's; NULL: it is refused. */
static char *render(const char *template, size_t length, const struct cJSON *variables,
                    struct mp_error *err)
{
    struct mp_jinja_variable all[MAX_VARIABLES];
    size_t count = 0;
    for (const struct cJSON *v = mp_json_first(variables); v != NULL; v = mp_json_after(v)) {
        const char *json = string_of(v);
        all[count++] = (struct mp_jinja_variable){.name = mp_json_key(v),
                                                  .json = json,
                                                  .length = strlen(json),
                                                  .content = true,
                                                  .plain_key = "role"};
    }
    struct mp_jinja *t;
    if (mp_jinja_compile("template", template, length, &t, err) != 0) {
        return NULL;
    }
    struct mp_jinja_text text = {0};
    int code = mp_jinja_render(t, all, count, NOW, &text, err);
    mp_jinja_free(t);
    free(text.content);
    return code == 0 ? text.data : NULL;
}

/* expected: NULL: refused; hash: of the text instead. */
static int compare(const char *what, const char *found, const char *expected, const char *hash,
                   const struct mp_error *err)
{
    char found_hash[17] = "";
    if (found != NULL) {
        snprintf(found_hash, sizeof found_hash, "%016llx",
                 (unsigned long long)mp_hash_bytes(MP_HASH_START, found, strlen(found)));
    }
    const char *other = hash != NULL ? found_hash : found;
    const char *wanted = hash != NULL ? hash : expected;
    bool same = found == NULL || wanted == NULL ? found == wanted : strcmp(other, wanted) == 0;
    if (!same) {
        print_error("%s:\n  found %s\n  expected %s\n", what, found != NULL ? found : err->message,
                    wanted != NULL ? wanted : "an error");
    }
    return !same;
}

static void test_models(void **state)
{
    (void)state;
    const struct cJSON *root = mp_json_root(golden);
    const struct cJSON *models = member(root, "templates");
    assert_true(mp_json_count(models) >= 30);
    assert_int_equal(mp_json_count(member(root, "conversations")), 40);
    int wrong = 0;
    for (const struct cJSON *m = mp_json_first(models); m != NULL; m = mp_json_after(m)) {
        char *path = mp_xasprintf(DATA "/templates/%s.jinja", mp_json_key(m));
        char *text;
        size_t length;
        struct mp_error err;
        assert_int_equal(mp_file_read(path, 1 << 20, &text, &length, &err), 0);
        const struct cJSON *hash = mp_json_first(member(m, "hashes"));
        int i = 0;
        for (const struct cJSON *c = mp_json_first(member(root, "conversations")); c != NULL;
             c = mp_json_after(c), hash = mp_json_after(hash), i++) {
            char *what = mp_xasprintf("%s, conversation %d", mp_json_key(m), i);
            char *found = render(text, length, c, &err);
            wrong += compare(what, found, NULL, string_of(hash), &err);
            if (i == 6 && found != NULL) {
                wrong += compare(what, found, string_of(member(m, "whole")), NULL, &err);
            }
            free(found);
            free(what);
        }
        free(text);
        free(path);
    }
    assert_int_equal(wrong, 0);
}

static void test_snippets(void **state)
{
    (void)state;
    const struct cJSON *root = mp_json_root(golden);
    int wrong = 0;
    for (const struct cJSON *s = mp_json_first(member(root, "snippets")); s != NULL;
         s = mp_json_after(s)) {
        struct mp_error err;
        const char *template = string_of(member(s, "template"));
        char *found = render(template, strlen(template), member(root, "snippet_variables"), &err);
        wrong += compare(template, found, string_of(member(s, "text")), NULL, &err);
        free(found);
    }
    assert_int_equal(wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_models),
        cmocka_unit_test(test_snippets),
    };
    return cmocka_run_group_tests(tests, read_golden, free_golden);
}
