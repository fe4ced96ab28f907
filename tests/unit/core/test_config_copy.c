/* Copies of a configuration: of every key, of the attention's keys alone, each with memory of its
 * own. */
#include "core/config/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>
#include <cmocka.h>

enum { OTHER, ATTENTION }; /* whose key */

/* Every key, with a value that is not its default. */
static const struct {
    const char *path, *value;
    int of;
} KEYS[] = {
    {"model_path", "some/model", OTHER},
    {"chunk_size", "512", OTHER},
    {"cache_layers", "3,5,7", ATTENTION},
    {"lsh_K", "6", ATTENTION},
    {"lsh_L", "33", ATTENTION},
    {"mem_efficient", "0", OTHER},
    {"device_budget", "40", ATTENTION},
    {"window_size", "30", ATTENTION},
    {"generation_budget", "77", OTHER},
    {"gen_len", "9", OTHER},
    {"eos", "1,2", OTHER},
    {"attention.method", "quest", ATTENTION},
    {"attention.lsh_projection", "shared", ATTENTION},
    {"attention.lsh_layer_group", "3", ATTENTION},
    {"attention.seed", "9007199254740992", ATTENTION},
    {"attention.budget", "0.375", ATTENTION},
    {"attention.page_size", "8", ATTENTION},
    {"attention.samples", "99", ATTENTION},
    {"attention.epsilon", "0.25", ATTENTION},
    {"attention.code_bits", "4", ATTENTION},
    {"attention.center", "0", ATTENTION},
    {"attention.kv_dtype", "int8", ATTENTION},
    {"runtime.gather", "gpu", OTHER},
    {"sampling.temperature", "0.5", OTHER},
    {"sampling.top_p", "0.25", OTHER},
    {"sampling.top_k", "5", OTHER},
    {"sampling.seed", "9007199254740991", OTHER},
    {"runtime.scheduler", "eager", OTHER},
    {"runtime.cpu_workers", "2", OTHER},
    {"runtime.threads", "3", OTHER},
    {"runtime.binding", "none", OTHER},
    {"runtime.batch", "4", OTHER},
    {"runtime.micro_batches", "2", OTHER},
    {"runtime.prefill_share", "0.25", OTHER},
    {"runtime.isa", "avx2", OTHER},
    {"runtime.activations", "bf16x2", OTHER},
    {"runtime.devices", "cpu", OTHER},
    {"runtime.gpus", "2", OTHER},
    {"runtime.parallel", "tensor", OTHER},
    {"runtime.gpu_memory", "4GiB", OTHER},
    {"runtime.gpu_kv_layers", "1", OTHER},
    {"runtime.memory_limit", "8GiB", OTHER},
    {"runtime.prefix_cache", "16GiB", OTHER},
    {"runtime.kv_dir", "kv", OTHER},
    {"runtime.kv_dir_size", "1GiB", OTHER},
    {"runtime.calibration", "rates.json", OTHER},
    {"trace.file", "trace.json", OTHER},
    {"trace.report", "report.html", OTHER},
    {"trace.fxt", "fxt", OTHER},
    {"trace.fxt_steps", "3", OTHER},
};
enum { NUM_KEYS = sizeof KEYS / sizeof KEYS[0] };

static void set_every_key(struct mp_config *c)
{
    mp_config_init(c);
    for (int i = 0; i < NUM_KEYS; i++) {
        struct mp_error err;
        if (mp_config_set(c, KEYS[i].path, KEYS[i].value, &err) != MP_OK) {
            fail_msg("%s", err.message);
        }
    }
}

/* The configuration as text. The caller's: cJSON_free. */
static char *text_of(const struct mp_config *c)
{
    cJSON *json = mp_config_json(c);
    char *text = cJSON_PrintUnformatted(json);
    cJSON_Delete(json);
    return text;
}

static bool same_value(const cJSON *a, const cJSON *b, const char *path)
{
    char *x = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(a, path));
    char *y = cJSON_PrintUnformatted(cJSON_GetObjectItemCaseSensitive(b, path));
    bool same = x != NULL && y != NULL && strcmp(x, y) == 0;
    cJSON_free(x);
    cJSON_free(y);
    return same;
}

/* The list above misses no key, and no value in it is a default. */
static void test_list_of_keys(void **state)
{
    (void)state;
    struct mp_config usual, other;
    mp_config_init(&usual);
    set_every_key(&other);
    cJSON *a = mp_config_json(&usual);
    cJSON *b = mp_config_json(&other);
    assert_int_equal(cJSON_GetArraySize(a), NUM_KEYS);
    for (int i = 0; i < NUM_KEYS; i++) {
        if (same_value(a, b, KEYS[i].path)) {
            fail_msg("%s: found its default", KEYS[i].path);
        }
    }
    cJSON_Delete(a);
    cJSON_Delete(b);
    mp_config_free(&usual);
    mp_config_free(&other);
}

static void test_copy(void **state)
{
    (void)state;
    struct mp_config from, to;
    struct mp_error err;
    set_every_key(&from);
    assert_int_equal(mp_config_load(&from, MP_TEST_DATA "/config/original_keys.json", &err), MP_OK);
    mp_config_copy(&to, &from);
    char *wanted = text_of(&from);
    char *found = text_of(&to);
    assert_string_equal(found, wanted);
    assert_string_equal(to.folder, from.folder);
    cJSON_free(wanted);
    cJSON_free(found);
    mp_config_free(&from);
    mp_config_free(&to);
}

/* Neither of the two sees what happens to the other. */
static void test_copy_is_independent(void **state)
{
    (void)state;
    struct mp_config from, to;
    struct mp_error err;
    set_every_key(&from);
    mp_config_copy(&to, &from);
    char *wanted = text_of(&from);
    memset(from.model_path, 'x', strlen(from.model_path));
    memset(from.attention_method, 'x', strlen(from.attention_method));
    from.cache_layers[0] = from.eos[0] = 77;
    mp_config_free(&from);
    char *found = text_of(&to);
    assert_string_equal(found, wanted);
    cJSON_free(found);
    cJSON_free(wanted);
    assert_int_equal(mp_config_set(&to, "cache_layers", "none", &err), MP_OK);
    assert_int_equal(mp_config_set(&to, "model_path", "a/longer/path/than/before", &err), MP_OK);
    mp_config_free(&to);
}

/* What is not given, and lists without numbers. */
static void test_copy_of_nothing(void **state)
{
    (void)state;
    struct mp_config from, to;
    struct mp_error err;
    mp_config_init(&from);
    assert_int_equal(mp_config_set(&from, "cache_layers", "none", &err), MP_OK);
    assert_int_equal(mp_config_set(&from, "eos", "none", &err), MP_OK);
    mp_config_copy(&to, &from);
    assert_null(to.model_path);
    assert_null(to.attention_method);
    assert_null(to.folder);
    assert_int_equal(to.num_cache_layers, 0);
    assert_int_equal(to.num_eos, 0);
    char *text = text_of(&to);
    assert_non_null(strstr(text, "\"cache_layers\":[]"));
    assert_non_null(strstr(text, "\"eos\":[]"));
    cJSON_free(text);
    assert_int_equal(mp_config_set(&from, "eos", "model", &err), MP_OK);
    mp_config_free(&to);
    mp_config_copy(&to, &from);
    assert_int_equal(to.num_eos, -1);
    mp_config_free(&from);
    mp_config_free(&to);
}

/* All keys of the attention, and only those, over what was set before. */
static void check_attention(const struct mp_config *to, const struct mp_config *from,
                            const struct mp_config *before)
{
    cJSON *found = mp_config_json(to);
    cJSON *taken = mp_config_json(from);
    cJSON *kept = mp_config_json(before);
    for (int i = 0; i < NUM_KEYS; i++) {
        bool is_attention = KEYS[i].of == ATTENTION;
        if (!same_value(found, is_attention ? taken : kept, KEYS[i].path)) {
            fail_msg("%s: expected %s value", KEYS[i].path, is_attention ? "the new" : "the old");
        }
    }
    cJSON_Delete(found);
    cJSON_Delete(taken);
    cJSON_Delete(kept);
}

static void test_copy_attention(void **state)
{
    (void)state;
    struct mp_config other, usual, to;
    set_every_key(&other);
    mp_config_init(&usual);
    mp_config_copy(&to, &usual);
    mp_config_copy_attention(&to, &other);
    check_attention(&to, &other, &usual);
    mp_config_free(&to);
    /* The other way round, where a name and a list become none. */
    mp_config_copy(&to, &other);
    mp_config_copy_attention(&to, &usual);
    check_attention(&to, &usual, &other);
    assert_null(to.attention_method);
    mp_config_free(&to);
    mp_config_free(&usual);
    mp_config_free(&other);
}

static void test_is_attention(void **state)
{
    (void)state;
    static const char *const flags[] = {"cache-layers",     "lsh-k",           "lsh-l",
                                        "device-budget",    "window-size",     "attention",
                                        "lsh-projection",   "lsh-layer-group", "lsh-seed",
                                        "attention-budget", "page-size",       "attention-samples",
                                        "code-bits",        "center",          "kv-dtype",
                                        "epsilon"};
    int count = 0;
    for (int i = 0; i < NUM_KEYS; i++) {
        count += KEYS[i].of == ATTENTION;
    }
    assert_int_equal(sizeof flags / sizeof flags[0], count);
    for (int i = 0; i < count; i++) {
        if (!mp_config_is_attention(flags[i])) {
            fail_msg("--%s is the attention's", flags[i]);
        }
    }
    static const char *const others[] = {"gen-len", "batch", "seed", "isa", "absent", ""};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        assert_false(mp_config_is_attention(others[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list_of_keys),        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_copy_is_independent), cmocka_unit_test(test_copy_of_nothing),
        cmocka_unit_test(test_copy_attention),      cmocka_unit_test(test_is_attention),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
