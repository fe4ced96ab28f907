/* The table of attention methods, and what chooses one. */
#include "tasks/methods/method.h"

#include <cjson/cJSON.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Sets flags given as "name", "value" pairs ending in NULL, and chooses. */
static int choose(const char *const *flags, const struct mp_method **out, struct mp_error *err)
{
    struct mp_config c;
    mp_config_init(&c);
    for (int i = 0; flags[i] != NULL; i += 2) {
        assert_int_equal(mp_config_set_flag(&c, flags[i], flags[i + 1], err), 0);
    }
    int code = mp_method_choose(&c, out, err);
    mp_config_free(&c);
    return code;
}

static void assert_chosen(const char *const *flags, const char *name)
{
    struct mp_error err;
    const struct mp_method *method;
    assert_int_equal(choose(flags, &method, &err), 0);
    assert_string_equal(method->name, name);
}

/* By name, or as the original's configurations say it: K = 0 is full attention. */
static void test_choice(void **state)
{
    (void)state;
    assert_chosen((const char *const[]){NULL}, "magicpig");
    assert_chosen((const char *const[]){"lsh-k", "8", NULL}, "magicpig");
    assert_chosen((const char *const[]){"lsh-k", "0", NULL}, "full");
    assert_chosen((const char *const[]){"lsh-k", "0", "lsh-l", "1", NULL}, "full");
    for (int i = 0; mp_method_at(i) != NULL; i++) {
        const char *name = mp_method_at(i)->name;
        assert_chosen((const char *const[]){"attention", name, NULL}, name);
    }
}

static void test_refused(void **state)
{
    (void)state;
    static const struct {
        const char *flags[7];
        const char *message;
    } cases[] = {
        {{"attention", "magicpug", NULL}, "found \"magicpug\", expected one of magicpig, full"},
        {{"attention", "magicpig", "lsh-k", "0", NULL}, "magicpig expects at least 1, found 0"},
        {{"lsh-k", "10", "lsh-l", "1", NULL}, "lsh_L: expected at least 2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_error err;
        const struct mp_method *method;
        assert_int_equal(choose(cases[i].flags, &method, &err), MP_ERR_USAGE);
        if (strstr(err.message, cases[i].message) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", err.message, cases[i].message);
        }
    }
}

/* Every method has a name of its own, a line of help, and keys that the configuration knows; what
 * it needs for what it declares is there. */
static void test_table(void **state)
{
    (void)state;
    struct mp_config c;
    mp_config_init(&c);
    cJSON *keys = mp_config_json(&c);
    for (int i = 0; mp_method_at(i) != NULL; i++) {
        const struct mp_method *m = mp_method_at(i);
        for (int j = 0; j < i; j++) {
            assert_string_not_equal(m->name, mp_method_at(j)->name);
        }
        assert_true(strlen(m->summary) > 0 && strlen(m->summary) <= 85);
        for (int j = 0; m->keys[j] != NULL; j++) {
            assert_non_null(cJSON_GetObjectItemCaseSensitive(keys, m->keys[j]));
        }
        assert_true(m->sparse || !m->keeps);
        assert_int_equal(m->keeps, m->select != NULL);
        assert_int_equal(m->index_name != NULL, m->create_index != NULL);
        assert_int_equal(m->create_index != NULL, m->destroy_index != NULL);
        assert_int_equal(m->create_index != NULL, m->build != NULL);
        assert_int_equal(m->shared_name != NULL, m->create_shared != NULL);
        assert_int_equal(m->create_shared != NULL, m->destroy_shared != NULL);
        assert_false(m->log_weights && m->weight != NULL);
    }
    assert_false(mp_method_exact()->sparse);
    cJSON_Delete(keys);
    mp_config_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_table),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
