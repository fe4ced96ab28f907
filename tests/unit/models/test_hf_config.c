/* config.json: good files give the right shape, bad ones the right message. */
#include "models/hf_config.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct mp_hf_config read_good(const char *path)
{
    struct mp_hf_config c;
    struct mp_error err;
    char full[512];
    snprintf(full, sizeof full, "%s/%s", MP_TEST_DATA, path);
    if (mp_hf_config_read(full, &c, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return c;
}

static void test_golden_llama3(void **state)
{
    (void)state;
    struct mp_hf_config c = read_good("golden/llama3-rope/config.json");
    assert_string_equal(c.model_type, "llama");
    assert_int_equal(c.shape.hidden_size, 128);
    assert_int_equal(c.shape.num_hidden_layers, 3);
    assert_int_equal(c.shape.num_attention_heads, 8);
    assert_int_equal(c.shape.num_key_value_heads, 2);
    assert_int_equal(c.shape.head_dim, 64);
    assert_int_equal(c.shape.intermediate_size, 352);
    assert_int_equal(c.shape.vocab_size, 640);
    assert_float_equal(c.shape.rms_norm_eps, 1e-5F, 0.0F);
    assert_false(c.shape.qkv_bias || c.shape.output_bias || c.shape.mlp_bias || c.shape.qk_norm);
    assert_false(c.shape.tied_embeddings);
    assert_int_equal(c.max_positions, 2048);
    assert_int_equal(c.num_eos, 1);
    assert_int_equal(c.eos[0], 2);
    assert_int_equal(c.rope.type, MP_ROPE_LLAMA3);
    assert_int_equal(c.rope.head_dim, 64);
    assert_float_equal(c.rope.theta, 500000.0, 0.0);
    assert_float_equal(c.rope.factor, 8.0, 0.0);
    assert_float_equal(c.rope.low_freq_factor, 1.0, 0.0);
    assert_float_equal(c.rope.high_freq_factor, 4.0, 0.0);
    assert_int_equal(c.rope.original_max_positions, 64);
}

static void test_golden_others(void **state)
{
    (void)state;
    struct mp_hf_config c = read_good("golden/mistral/config.json");
    assert_string_equal(c.model_type, "mistral");
    assert_int_equal(c.shape.num_key_value_heads, 1);
    assert_int_equal(c.rope.type, MP_ROPE_DEFAULT);
    assert_float_equal(c.rope.theta, 7.5e7, 0.0);

    c = read_good("golden/qwen3/config.json");
    assert_string_equal(c.model_type, "qwen3");
    assert_true(c.shape.qk_norm);
    assert_true(c.shape.tied_embeddings);
    assert_false(c.shape.qkv_bias || c.shape.output_bias);
}

static void test_llama_old_rope(void **state)
{
    (void)state;
    struct mp_hf_config c = read_good("model_config/llama_old_rope.json");
    assert_int_equal(c.shape.num_key_value_heads, 8); /* null: as many as query heads */
    assert_int_equal(c.shape.head_dim, 8);            /* hidden / heads */
    assert_true(c.shape.qkv_bias && c.shape.output_bias && c.shape.mlp_bias);
    assert_int_equal(c.rope.type, MP_ROPE_LINEAR);
    assert_float_equal(c.rope.theta, 500000.0, 0.0);
    assert_float_equal(c.rope.factor, 2.0, 0.0);
}

static void test_llama_dynamic(void **state)
{
    (void)state;
    struct mp_hf_config c = read_good("model_config/llama_dynamic.json");
    assert_int_equal(c.shape.head_dim, 128);
    assert_int_equal(c.rope.type, MP_ROPE_DYNAMIC);
    assert_int_equal(c.rope.max_positions, 4096);
    assert_float_equal(c.rope.theta, 10000.0, 0.0); /* the default */
    assert_int_equal(c.num_eos, 0);
}

static void test_qwen(void **state)
{
    (void)state;
    struct mp_hf_config c = read_good("model_config/qwen2_yarn.json");
    assert_true(c.shape.qkv_bias);
    assert_false(c.shape.output_bias);
    assert_false(c.shape.qk_norm);
    assert_int_equal(c.rope.type, MP_ROPE_YARN);
    assert_float_equal(c.rope.factor, 4.0, 0.0);
    assert_float_equal(c.rope.beta_fast, 32.0, 0.0);
    assert_float_equal(c.rope.beta_slow, 1.0, 0.0);
    assert_true(c.rope.truncate);
    assert_float_equal(c.rope.attention_factor, 1.138629436, 1e-6);
    assert_int_equal(c.num_eos, 2);
    assert_int_equal(c.eos[1], 7);

    c = read_good("model_config/qwen3_bias.json");
    assert_true(c.shape.qkv_bias && c.shape.output_bias && c.shape.qk_norm);
}

static void test_mistral_yarn(void **state)
{
    (void)state;
    struct mp_hf_config c = read_good("model_config/mistral_yarn.json");
    assert_float_equal(c.rope.factor, 16.0, 0.0); /* null: 32768 / 2048 */
    assert_float_equal(c.rope.beta_fast, 8.0, 0.0);
    assert_float_equal(c.rope.attention_factor,
                       (0.0707 * log(16.0) + 1.0) / (0.1 * log(16.0) + 1.0), 1e-6);
}

/* ---- small files written here ---- */

/* A model of that type with 4096 positions and more keys, each behind a comma. */
static int parse(const char *type, const char *keys, struct mp_hf_config *c, struct mp_error *err)
{
    char text[1024];
    snprintf(text, sizeof text,
             "{\"model_type\": \"%s\", \"hidden_size\": 64, \"intermediate_size\": 128, "
             "\"num_hidden_layers\": 3, \"num_attention_heads\": 8, \"vocab_size\": 256, "
             "\"max_position_embeddings\": 4096%s}",
             type, keys);
    return mp_hf_config_parse("config.json", text, c, err);
}

static struct mp_hf_config parse_good(const char *type, const char *keys)
{
    struct mp_hf_config c;
    struct mp_error err;
    if (parse(type, keys, &c, &err) != 0) {
        fail_msg("%s: %s", keys, err.message);
    }
    return c;
}

static void check_positions(const char *keys, int64_t positions)
{
    struct mp_hf_config c = parse_good("llama", keys);
    if (c.max_positions != positions) {
        fail_msg("%s: expected %lld positions, found %lld", keys, (long long)positions,
                 (long long)c.max_positions);
    }
    assert_int_equal(c.rope.max_positions, 4096);
}

static void test_positions(void **state)
{
    (void)state;
    check_positions("", 4096);
    check_positions(", \"rope_scaling\": {\"type\": \"linear\", \"factor\": 2.5}", 10240);
    check_positions(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 4}", 16384);
    check_positions(", \"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 1e6}", INT32_MAX);
    check_positions(", \"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 4}", 16384);
    /* As Qwen2.5's cards say to enable it: the positions of the file are not stretched yet. */
    check_positions(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, "
                    "\"original_max_position_embeddings\": 4096}",
                    16384);
    /* And a file that counts the stretch already. */
    check_positions(", \"rope_scaling\": {\"type\": \"yarn\", \"factor\": 4.0, "
                    "\"original_max_position_embeddings\": 1024}",
                    4096);
    check_positions(", \"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": null, "
                    "\"original_max_position_embeddings\": 3000}",
                    4096);
    check_positions(", \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
                    "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                    "\"original_max_position_embeddings\": 512}",
                    4096);
}

static void check_theta(const char *keys, double theta)
{
    struct mp_hf_config c = parse_good("llama", keys);
    assert_int_equal(c.rope.type, MP_ROPE_DEFAULT);
    assert_float_equal(c.rope.theta, theta, 0.0);
}

static void test_rope_sections(void **state)
{
    (void)state;
    static const char parameters[] =
        ", \"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 5e5}";
    char keys[256];
    check_theta(parameters, 5e5);
    check_theta(", \"rope_theta\": 5e5, \"rope_scaling\": {}, \"rope_parameters\": {}", 5e5);
    check_theta(", \"rope_theta\": 5e5, \"rope_scaling\": {\"type\": \"default\"}", 5e5);
    /* An empty section, null and one that says the same hide nothing. */
    static const char *const beside[] = {"{}", "null",
                                         "{\"type\": \"default\", \"rope_theta\": 500000}"};
    for (size_t i = 0; i < sizeof beside / sizeof beside[0]; i++) {
        snprintf(keys, sizeof keys, "%s, \"rope_scaling\": %s", parameters, beside[i]);
        check_theta(keys, 5e5);
    }
    snprintf(keys, sizeof keys, "%s, \"rope_theta\": 500000", parameters);
    check_theta(keys, 5e5);
}

/* Windows that never apply. */
static void test_windows(void **state)
{
    (void)state;
    struct mp_hf_config c;
    struct mp_error err;
    static const char *const full[] = {
        ", \"sliding_window\": 64",
        ", \"sliding_window\": 64, \"use_sliding_window\": false",
        ", \"sliding_window\": null, \"use_sliding_window\": true",
        ", \"sliding_window\": 4096, \"use_sliding_window\": true, \"max_window_layers\": 0",
        ", \"sliding_window\": 64, \"use_sliding_window\": true, \"max_window_layers\": 3",
        ", \"sliding_window\": 64, \"use_sliding_window\": true",
        ", \"sliding_window\": 64, \"use_sliding_window\": true, \"max_window_layers\": 0, "
        "\"layer_types\": [\"full_attention\", \"full_attention\", \"full_attention\"]",
        ", \"sliding_window\": 4096, \"use_sliding_window\": true, "
        "\"layer_types\": [\"full_attention\", \"full_attention\", \"sliding_attention\"]",
    };
    for (size_t i = 0; i < sizeof full / sizeof full[0]; i++) {
        parse_good("qwen2", full[i]);
        parse_good("qwen3", full[i]);
    }
    parse_good("mistral", ", \"sliding_window\": 4096");
    /* The window is shorter than what the rope is stretched to. */
    assert_int_equal(parse("mistral",
                           ", \"sliding_window\": 4096, "
                           "\"rope_scaling\": {\"type\": \"linear\", \"factor\": 2}",
                           &c, &err),
                     MP_ERR_UNSUPPORTED);
    assert_non_null(strstr(err.message, "the model's 8192 positions"));
    /* Mistral has a window in every layer, whatever layer_types says. */
    assert_int_equal(parse("mistral",
                           ", \"sliding_window\": 64, \"layer_types\": [\"full_attention\", "
                           "\"full_attention\", \"full_attention\"]",
                           &c, &err),
                     MP_ERR_UNSUPPORTED);
}

static void test_generation_config(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_hf_config c = read_good("golden/llama3-rope/config.json");
    c.num_eos = 0;
    assert_int_equal(mp_hf_generation_config_read(
                         MP_TEST_DATA "/golden/mistral/generation_config.json", &c, &err),
                     0);
    assert_int_equal(c.num_eos, 1);
    assert_int_equal(c.eos[0], 2);

    assert_int_equal(mp_hf_generation_config_read(
                         MP_TEST_DATA "/bad/model_config/eos_text_in_list.json", &c, &err),
                     MP_ERR_FORMAT);
    assert_int_equal(mp_hf_generation_config_read(MP_TEST_DATA "/nowhere.json", &c, &err),
                     MP_ERR_IO);
    assert_non_null(strstr(err.message, "nowhere.json"));
}

/* One line of expected.txt: "file.json<TAB>format|unsupported<TAB>message after the path". */
static void check_bad(const char *line)
{
    char name[64];
    char code[16];
    char message[512];
    char path[512];
    if (sscanf(line, "%63[^\t]\t%15[^\t]\t%511[^\n]", name, code, message) != 3) {
        fail_msg("expected.txt: bad line \"%s\"", line);
    }
    snprintf(path, sizeof path, "%s/bad/model_config/%s", MP_TEST_DATA, name);
    struct mp_hf_config c;
    struct mp_error err;
    int rc = mp_hf_config_read(path, &c, &err);
    int expected = strcmp(code, "format") == 0 ? MP_ERR_FORMAT : MP_ERR_UNSUPPORTED;
    if (rc == 0) {
        fail_msg("%s was accepted", name);
    }
    if (rc != expected || strncmp(err.message, path, strlen(path)) != 0 ||
        strcmp(err.message + strlen(path), message) != 0) {
        fail_msg("%s\n  expected %s \"%s\"\n  found code %d \"%s\"", name, code, message, rc,
                 err.message);
    }
}

static void test_bad(void **state)
{
    (void)state;
    FILE *f = fopen(MP_TEST_DATA "/bad/model_config/expected.txt", "r");
    assert_non_null(f);
    char line[1024];
    int cases = 0;
    for (; fgets(line, sizeof line, f) != NULL; cases++) {
        check_bad(line);
    }
    fclose(f);
    assert_true(cases >= 56);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_llama3),
        cmocka_unit_test(test_golden_others),
        cmocka_unit_test(test_llama_old_rope),
        cmocka_unit_test(test_llama_dynamic),
        cmocka_unit_test(test_qwen),
        cmocka_unit_test(test_mistral_yarn),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_rope_sections),
        cmocka_unit_test(test_windows),
        cmocka_unit_test(test_generation_config),
        cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
