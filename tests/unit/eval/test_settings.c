/* Settings of eval: what their words mean, which of them wins, what they are called, and what is
 * refused. */
#include "settings_fixture.h"

/* ---- words ---- */

static const struct mp_config *config_of(const struct parsed *p, size_t setting)
{
    assert_true(setting < p->settings.count);
    return &p->settings.items[setting].config;
}

static const char *name_of(const struct parsed *p, size_t setting)
{
    assert_true(setting < p->settings.count);
    return p->settings.items[setting].name;
}

static void test_words(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--setting", "lsh-k=8 lsh-l=75", "--setting",
             "  attention=quest   attention-budget=0.25 page-size=4 ", "--setting", "");
    assert_int_equal(p.settings.count, 3);
    const struct mp_config *c = config_of(&p, 0);
    assert_true(c->lsh_K == 8 && c->lsh_L == 75 && c->attention_method == NULL);
    c = config_of(&p, 1);
    assert_string_equal(c->attention_method, "quest");
    assert_true(c->attention_budget == 0.25F && c->page_size == 4 && c->lsh_K == 10);
    c = config_of(&p, 2);
    assert_true(c->lsh_K == 10 && c->lsh_L == 150 && c->attention_method == NULL);
    free_parsed(&p);
}

/* Every flag of the attention can stand in a setting. */
static void test_every_flag(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--setting",
             "attention=magicpig cache-layers=1,2 lsh-k=4 lsh-l=5 device-budget=30 window-size=20 "
             "lsh-projection=shared lsh-layer-group=2 lsh-seed=3 center=0");
    const struct mp_config *c = config_of(&p, 0);
    assert_true(c->num_cache_layers == 2 && c->cache_layers[0] == 1 && c->cache_layers[1] == 2);
    assert_true(c->lsh_K == 4 && c->lsh_L == 5 && c->device_budget == 30 && c->window_size == 20);
    assert_true(c->lsh_projection == MP_LSH_SHARED && c->lsh_layer_group == 2 && c->lsh_seed == 3);
    assert_false(c->attention_center);
    free_parsed(&p);
    SETTINGS(&p, "--setting", "attention=pps attention-samples=9 code-bits=4");
    assert_true(config_of(&p, 0)->samples == 9 && config_of(&p, 0)->code_bits == 4);
    free_parsed(&p);
}

/* ---- files ---- */

/* The attention of a file, and nothing else of it. */
static void check_file(const char *path, const char *name)
{
    struct parsed p;
    struct mp_config file;
    struct mp_error err;
    mp_config_init(&file);
    ASSERT_OK(mp_config_load(&file, path, &err));
    SETTINGS(&p, "--setting", path);
    const struct mp_config *c = config_of(&p, 0);
    assert_string_equal(name_of(&p, 0), name);
    assert_true(c->lsh_K == file.lsh_K && c->lsh_L == file.lsh_L);
    assert_int_equal(c->num_cache_layers, file.num_cache_layers);
    assert_true(c->device_budget == file.device_budget && c->window_size == file.window_size);
    assert_true(c->attention_budget == file.attention_budget);
    assert_true(c->page_size == file.page_size && c->attention_center == file.attention_center);
    assert_int_equal(c->gen_len, 128);
    assert_string_equal(c->model_path, DEMO_MODEL);
    mp_config_free(&file);
    free_parsed(&p);
}

static void test_files(void **state)
{
    (void)state;
    check_file(CONFIGS "magicpig_config.json", "magicpig, (K, L) = (10, 150)");
    check_file(CONFIGS "quest_config.json", "quest, budget 1024 tokens, pages of 16; dense 0, 1");
    check_file(CONFIGS "pps_config.json", "pps, 512 samples, codes of 2 bits, int8 rows");
    check_file(CONFIGS "topk_config.json", "topk, budget 2 %; dense 0, 1");
    check_file(CONFIGS "oracle_config.json", "oracle, budget 2 %; dense 0, 1");
    check_file(CONFIGS "original/method0_K10_L150.json",
               "magicpig, (K, L) = (10, 150); dense 0, 1");
    check_file(CONFIGS "original/method0_K9_L120.json", "magicpig, (K, L) = (9, 120); dense 0, 1");
    check_file(CONFIGS "original/method0_K8_L75.json", "magicpig, (K, L) = (8, 75); dense 0, 1");
    check_file(CONFIGS "original/method1_K16_L64.json",
               "quest, budget 1024 tokens, pages of 16; dense 0, 1; sink 0, window 64; not "
               "centered");
    check_file(CONFIGS "original/method2_L0.02.json",
               "topk, budget 2 %; dense 0, 1; sink 0, window 0; not centered");
    check_file(CONFIGS "original/method3_L0.02.json",
               "oracle, budget 2 %; dense 0, 1; sink 0, window 0; not centered");
}

/* ---- what wins ---- */

/* A flag of a setting over the command line's, which stays where the setting says nothing. */
static void test_over_command_line(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--lsh-k", "6", "--window-size", "32", "--gen-len", "7", "--setting", "lsh-l=20",
             "--setting", "lsh-k=5 window-size=8");
    const struct mp_config *c = config_of(&p, 0);
    assert_true(c->lsh_K == 6 && c->lsh_L == 20 && c->window_size == 32 && c->gen_len == 7);
    c = config_of(&p, 1);
    assert_true(c->lsh_K == 5 && c->lsh_L == 150 && c->window_size == 8 && c->gen_len == 7);
    free_parsed(&p);
}

/* Words one over the other, from left to right; a file says all of the attention. */
static void test_order_of_words(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--lsh-k", "6", "--device-budget", "100", "--setting",
             CONFIGS "original/method0_K8_L75.json", "--setting",
             CONFIGS "original/method0_K8_L75.json lsh-l=20", "--setting",
             "lsh-l=20 " CONFIGS "original/method0_K8_L75.json", "--setting", "lsh-k=3 lsh-k=4",
             "--setting", CONFIGS "quest_config.json " CONFIGS "magicpig_config.json");
    const struct mp_config *c = config_of(&p, 0);
    assert_true(c->lsh_K == 8 && c->lsh_L == 75 && c->device_budget == 68);
    assert_true(config_of(&p, 1)->lsh_K == 8 && config_of(&p, 1)->lsh_L == 20);
    assert_true(config_of(&p, 2)->lsh_K == 8 && config_of(&p, 2)->lsh_L == 75);
    assert_true(config_of(&p, 3)->lsh_K == 4 && config_of(&p, 3)->device_budget == 100);
    c = config_of(&p, 4);
    assert_true(c->attention_method == NULL && c->lsh_K == 10 && c->num_cache_layers == 1);
    free_parsed(&p);
}

/* Of the command line's file and flags. */
static void test_over_config_file(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--config", CONFIGS "quest_config.json", "--setting", "attention-budget=0.5",
             "--setting", CONFIGS "magicpig_config.json");
    const struct mp_config *c = config_of(&p, 0);
    assert_string_equal(c->attention_method, "quest");
    assert_true(c->attention_budget == 0.5F && c->num_cache_layers == 2 && c->gen_len == 32);
    assert_string_equal(name_of(&p, 0), "quest, budget 50 %, pages of 16");
    /* As the command line says it, layers 0 and 1 are dense: this one differs. */
    assert_string_equal(name_of(&p, 1), "magicpig, (K, L) = (10, 150); dense 0");
    free_parsed(&p);
}

/* ---- without settings ---- */

static void test_defaults(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--lsh-k", "9");
    assert_int_equal(p.settings.count, 2);
    assert_string_equal(name_of(&p, 0), "full");
    assert_string_equal(name_of(&p, 1), "magicpig, (K, L) = (9, 150)");
    free_parsed(&p);
    SETTINGS(&p, "--config", CONFIGS "topk_config.json");
    assert_int_equal(p.settings.count, 2);
    assert_string_equal(name_of(&p, 0), "full");
    assert_string_equal(name_of(&p, 1), "topk, budget 2 %");
    free_parsed(&p);
}

/* Full attention need not be measured twice. */
static void test_defaults_when_full(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--attention", "full");
    assert_int_equal(p.settings.count, 1);
    assert_string_equal(name_of(&p, 0), "full");
    free_parsed(&p);
    SETTINGS(&p, "--lsh-k", "0");
    assert_int_equal(p.settings.count, 1);
    assert_string_equal(name_of(&p, 0), "full");
    free_parsed(&p);
}

/* ---- names ---- */

/* They say what is not as on the command line. */
static void test_names(void **state)
{
    (void)state;
    static const char *const names[][2] = {
        {"cache-layers=0,3,5", "magicpig, (K, L) = (10, 150); dense 0, 3, 5"},
        {"cache-layers=none", "magicpig, (K, L) = (10, 150); none dense"},
        {"cache-layers=0", "magicpig, (K, L) = (10, 150)"},
        {"device-budget=100", "magicpig, (K, L) = (10, 150); sink 36, window 64"},
        {"window-size=60", "magicpig, (K, L) = (10, 150); sink 8, window 60"},
        {"device-budget=68 window-size=64 center=1", "magicpig, (K, L) = (10, 150)"},
        {"center=0", "magicpig, (K, L) = (10, 150); not centered"},
        {"attention=streaming window-size=10", "streaming; sink 58, window 10"},
        {"attention=topk attention-budget=100", "topk, budget 100 tokens"},
        {"attention=full cache-layers=1 device-budget=70", "full"},
        {"lsh-seed=7", "magicpig, (K, L) = (10, 150); seed 7"},
        {"attention=oracle lsh-seed=9007199254740992", "oracle, budget 2 %; seed 9007199254740992"},
        {"attention=pps attention-samples=64 code-bits=1 center=0",
         "pps, 64 samples, codes of 1 bit; not centered"},
        {"cache-layers=2 device-budget=70 center=0",
         "magicpig, (K, L) = (10, 150); dense 2; sink 6, window 64; not centered"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct parsed p;
        SETTINGS(&p, "--setting", names[i][0]);
        assert_string_equal(name_of(&p, 0), names[i][1]);
        free_parsed(&p);
    }
}

static void test_names_against_command_line(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--center", "0", "--cache-layers", "none", "--device-budget", "20",
             "--window-size", "20", "--setting", "", "--setting", "center=1 cache-layers=0",
             "--setting", "window-size=8");
    assert_string_equal(name_of(&p, 0), "magicpig, (K, L) = (10, 150)");
    assert_string_equal(name_of(&p, 1), "magicpig, (K, L) = (10, 150); dense 0; centered");
    assert_string_equal(name_of(&p, 2), "magicpig, (K, L) = (10, 150); sink 12, window 8");
    free_parsed(&p);
}

/* What only the keys tell apart. */
static void test_names_are_unique(void **state)
{
    (void)state;
    struct parsed p;
    SETTINGS(&p, "--setting", "lsh-layer-group=1", "--setting", "lsh-k=9", "--setting",
             "lsh-layer-group=2", "--setting", "lsh-projection=shared", "--setting",
             "lsh-k=9 lsh-projection=shared", "--setting", "lsh-seed=3");
    assert_string_equal(name_of(&p, 0), "magicpig, (K, L) = (10, 150)");
    assert_string_equal(name_of(&p, 1), "magicpig, (K, L) = (9, 150)");
    assert_string_equal(name_of(&p, 2), "magicpig, (K, L) = (10, 150); setting 3");
    assert_string_equal(name_of(&p, 3), "magicpig, (K, L) = (10, 150); setting 4");
    assert_string_equal(name_of(&p, 4), "magicpig, (K, L) = (9, 150); setting 5");
    assert_string_equal(name_of(&p, 5), "magicpig, (K, L) = (10, 150); seed 3");
    free_parsed(&p);
}

/* ---- refusals ---- */

/* The second of three settings is wrong; the message quotes it. */
static void check_refused(const char *text, const char *part)
{
    struct mp_cli cli;
    struct mp_settings settings;
    struct mp_error err;
    PARSE(&cli, "--setting", "lsh-k=4", "--setting", text, "--setting", "lsh-k=6");
    ASSERT_FAILS(mp_settings_parse(&cli, &settings, &err), MP_ERR_USAGE, part);
    char *start = mp_xasprintf("--setting \"%s\": ", text);
    if (strncmp(err.message, start, strlen(start)) != 0) {
        fail_msg("expected a message that starts with %s, found %s", start, err.message);
    }
    free(start);
    mp_settings_free(&settings);
    mp_cli_free(&cli);
}

static void test_refused_words(void **state)
{
    (void)state;
    check_refused("lsh-j=4", "lsh-k");
    check_refused("atention=quest", "attention");
    check_refused("lsh-k", "found \"lsh-k\", expected a .json file or flag=value");
    check_refused("lsh-k=4 quest", "found \"quest\", expected a .json");
    check_refused(".json", "found \".json\", expected a .json");
    check_refused("lsh-k=", "lsh-k");
    check_refused("lsh-k=many", "many");
    check_refused("lsh-k=17", "17");
    check_refused("=3", "");
    check_refused("--lsh-k=3", "lsh-k");
}

/* Flags that are the same for all settings. */
static void test_refused_other_flags(void **state)
{
    (void)state;
    check_refused("batch=2", "found batch=2, which is the same for all settings: give --batch");
    check_refused("temperature=1", "give --temperature");
    check_refused("lsh-k=4 model=x", "give --model");
    check_refused("gen-len=3", "give --gen-len");
}

/* What a method does not take, wherever the method is named; and what does not go together. */
static void test_refused_by_method(void **state)
{
    (void)state;
    check_refused("attention=quest lsh-k=4", "lsh-k does not act for attention quest");
    check_refused("lsh-k=4 attention=full", "lsh-k does not act for attention full");
    check_refused("page-size=4", "page-size does not act for attention magicpig");
    check_refused("attention=streaming center=0", "center does not act for attention streaming");
    check_refused(CONFIGS "topk_config.json page-size=4",
                  "page-size does not act for attention topk");
    check_refused("attention=quest attention-budget=1.5", "attention.budget");
    check_refused("attention=nothing", "nothing");
    check_refused("window-size=69", "window_size");
}

static void test_refused_files(void **state)
{
    (void)state;
    char *path = scratch_path("bad.json");
    static const char unknown[] = "{\"lsh_J\": 4}";
    static const char broken[] = "{\"lsh_K\": 4";
    write_file(path, unknown, strlen(unknown));
    check_refused(path, "unknown key, did you mean");
    write_file(path, broken, strlen(broken));
    check_refused(path, path);
    check_refused("/absent/x.json", "/absent/x.json");
    char *many = mp_xasprintf("lsh-k=4 %s", path);
    check_refused(many, path);
    free(many);
    remove_file(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_every_flag),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_over_command_line),
        cmocka_unit_test(test_order_of_words),
        cmocka_unit_test(test_over_config_file),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_defaults_when_full),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_names_against_command_line),
        cmocka_unit_test(test_names_are_unique),
        cmocka_unit_test(test_refused_words),
        cmocka_unit_test(test_refused_other_flags),
        cmocka_unit_test(test_refused_by_method),
        cmocka_unit_test(test_refused_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
