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
        {{"attention", "topk", "attention-budget", "1.5", NULL},
         "attention.budget: expected a share of the tokens, up to 1, or a whole number of them, "
         "found 1.5"},
        {{"attention", "oracle", "attention-budget", "99.25", NULL}, "found 99.25"},
        {{"attention", "quest", "attention-budget", "99.25", NULL}, "found 99.25"},
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
        assert_int_equal(m->create_index != NULL, m->index_parts != NULL);
        assert_int_equal(m->create_index != NULL, m->index_view.bytes > 0);
        assert_true(m->create_index == NULL || m->index_view.count < m->index_view.bytes);
        assert_int_equal(m->shared_name != NULL, m->create_shared != NULL);
        assert_int_equal(m->create_shared != NULL, m->destroy_shared != NULL);
        assert_false(m->log_weights && m->weight != NULL);
        assert_true(m->select != NULL || (m->room == NULL && m->selection_scratch == NULL));
    }
    assert_false(mp_method_exact()->sparse);
    cJSON_Delete(keys);
    mp_config_free(&c);
}

/* ---- budgets ---- */

/* Sets keys given as path, value pairs ending in NULL. */
static struct mp_attention configure(struct mp_config *c, const char *const *keys)
{
    static const struct mp_shape shape = {.head_dim = 64};
    struct mp_attention a = {.config = c, .shape = &shape};
    struct mp_error err;
    mp_config_init(c);
    for (int i = 0; keys[i] != NULL; i += 2) {
        assert_int_equal(mp_config_set(c, keys[i], keys[i + 1], &err), 0);
    }
    assert_int_equal(mp_method_choose(c, &a.method, &err), 0);
    return a;
}

/* Tokens that a head has room to select, of so many; and how many it is expected to. */
static void test_budgets(void **state)
{
    (void)state;
    static const struct {
        const char *method, *budget;
        int64_t tokens, room, expected;
        const char *description;
    } cases[] = {
        {"topk", "0.02", 10000, 200, 200, "budget 2 %"},
        {"topk", "0.02", 10024, 200, 200, "budget 2 %"},
        {"topk", "0.02", 10026, 201, 201, "budget 2 %"},
        {"topk", "0.02", 3, 1, 1, "budget 2 %"},
        {"topk", "0.02", 0, 0, 0, "budget 2 %"},
        {"topk", "1", 999, 999, 999, "budget 100 %"},
        {"oracle", "1024", 5000, 1024, 1024, "budget 1024 tokens"},
        {"oracle", "1024", 1000, 1000, 1000, "budget 1024 tokens"},
        {"quest", "0.05", 8000, 415, 400, "budget 5 %, pages of 16"},
        {"quest", "0.05", 8060, 415, 412, "budget 5 %, pages of 16"},
        {"quest", "0.05", 30, 30, 30, "budget 5 %, pages of 16"},
        {"quest", "0.05", 10, 10, 10, "budget 5 %, pages of 16"},
        {"quest", "2", 100, 31, 20, "budget 2 tokens, pages of 16"},
        {"quest", "1", 100, 100, 100, "budget 100 %, pages of 16"},
        {"quest", "99", 100, 100, 100, "budget 99 tokens, pages of 16"},
        {"quest", "64", 96, 79, 64, "budget 64 tokens, pages of 16"},
        {"quest", "100", 0, 0, 0, "budget 100 tokens, pages of 16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_config c;
        struct mp_attention a =
            configure(&c, (const char *const[]){"attention.method", cases[i].method,
                                                "attention.budget", cases[i].budget, NULL});
        struct mp_shard_size size = {.kv_heads = 1, .query_heads = 4, .tokens = cases[i].tokens};
        char text[64];
        assert_int_equal(a.method->room(&a, &size), cases[i].room);
        a.method->describe(&c, text, sizeof text);
        assert_string_equal(text, cases[i].description);
        if (size.tokens > 0) {
            double share = (double)cases[i].expected / (double)size.tokens;
            assert_float_equal(a.method->expected_share(&a, size.tokens), share, 1e-12);
        }
        mp_config_free(&c);
    }
}

/* The original's harness compares these methods; each preset loads and is what its name says. */
static void test_presets(void **state)
{
    (void)state;
    static const struct {
        const char *file, *method, *description;
        int64_t sink, window;
        int dense; /* layers, from 0 */
    } presets[] = {
        {"magicpig_config", "magicpig", "(K, L) = (10, 150)", 4, 64, 1},
        {"quest_config", "quest", "budget 1024 tokens, pages of 16", 4, 64, 2},
        {"topk_config", "topk", "budget 2 %", 4, 64, 2},
        {"oracle_config", "oracle", "budget 2 %", 4, 64, 2},
        {"original/method0_K10_L150", "magicpig", "(K, L) = (10, 150)", 4, 64, 2},
        {"original/method0_K9_L120", "magicpig", "(K, L) = (9, 120)", 4, 64, 2},
        {"original/method0_K8_L75", "magicpig", "(K, L) = (8, 75)", 4, 64, 2},
        {"original/method1_K16_L64", "quest", "budget 1024 tokens, pages of 16", 0, 64, 2},
        {"original/method2_L0.02", "topk", "budget 2 %", 0, 0, 2},
        {"original/method3_L0.02", "oracle", "budget 2 %", 0, 0, 2},
    };
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++) {
        struct mp_config c;
        struct mp_error err;
        const struct mp_method *method = NULL;
        char path[512], text[64];
        snprintf(path, sizeof path, "%s/configs/%s.json", MP_SOURCE_DIR, presets[i].file);
        mp_config_init(&c);
        if (mp_config_load(&c, path, &err) != 0 || mp_config_check(&c, &err) != 0 ||
            mp_method_choose(&c, &method, &err) != 0) {
            fail_msg("%s", err.message);
        }
        method->describe(&c, text, sizeof text);
        assert_string_equal(method->name, presets[i].method);
        assert_string_equal(text, presets[i].description);
        assert_int_equal(c.device_budget - c.window_size, presets[i].sink);
        assert_int_equal(c.window_size, presets[i].window);
        assert_int_equal(c.num_cache_layers, presets[i].dense);
        for (int l = 0; l < c.num_cache_layers; l++) {
            assert_int_equal(c.cache_layers[l], l);
        }
        mp_config_free(&c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),  cmocka_unit_test(test_refused),
        cmocka_unit_test(test_table),   cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_presets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
