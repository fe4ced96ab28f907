/* Settings of eval with a model: what it refuses, and the keys by which a file of answers tells
 * them apart. */
#include "settings_fixture.h"

#include <cjson/cJSON.h>
#include <sys/stat.h>

static int open_settings(struct parsed *p, const char *sparse_from, struct mp_error *err)
{
    struct mp_engine *base = open_command(&p->cli);
    int code = mp_settings_open(&p->settings, base, sparse_from, err);
    for (size_t i = 0; i < p->settings.count; i++) {
        mp_engine_close(p->settings.items[i].engine);
        p->settings.items[i].engine = NULL;
    }
    mp_engine_close(base);
    return code;
}

static void test_refused_twice(void **state)
{
    (void)state;
    static const char *const pairs[][3] = {
        {"lsh-k=9", "lsh-k=9", "found magicpig, (K, L) = (9, 150) twice"},
        {"", "lsh-k=10 lsh-l=150", "found magicpig, (K, L) = (10, 150) twice"},
        {"lsh-k=0", "attention=full device-budget=100", "found full twice"},
        {"attention=quest", "page-size=16 attention=quest", "found quest"},
        {"attention=magicpig", CONFIGS "magicpig_config.json", "found magicpig"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        struct parsed p;
        struct mp_error err;
        SETTINGS(&p, "--setting", "attention=streaming", "--setting", pairs[i][0], "--setting",
                 pairs[i][1]);
        ASSERT_FAILS(open_settings(&p, "answer", &err), MP_ERR_USAGE, pairs[i][2]);
        assert_contains(err.message, "--setting: found ");
        free_parsed(&p);
    }
}

/* The demo model has layers 0 to 7. */
static void test_refused_layer(void **state)
{
    (void)state;
    struct parsed p;
    struct mp_error err;
    SETTINGS(&p, "--setting", "cache-layers=0,7", "--setting", "attention=topk cache-layers=3,8");
    ASSERT_FAILS(open_settings(&p, "answer", &err), MP_ERR_USAGE, "8");
    assert_contains(err.message, "topk, budget 2 %; dense 3, 8: ");
    free_parsed(&p);
}

/* ---- keys ---- */

/* Keys of two settings, which the file of answers tells apart by them. */
static void check_keys(const char *const *arguments, const char *const *others, bool same)
{
    struct parsed a, b;
    struct mp_error err;
    parse_settings(&a, arguments);
    parse_settings(&b, others);
    ASSERT_OK(open_settings(&a, "answer", &err));
    ASSERT_OK(open_settings(&b, "answer", &err));
    if ((strcmp(a.settings.items[0].key, b.settings.items[0].key) == 0) != same) {
        fail_msg("expected %s keys: %s, %s", same ? "the same" : "two", a.settings.items[0].key,
                 b.settings.items[0].key);
    }
    free_parsed(&a);
    free_parsed(&b);
}

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* Whatever changes answers makes another key. */
static void test_keys_differ(void **state)
{
    (void)state;
    static const char *const changes[] = {
        "lsh-k=9",           "lsh-l=149",         "lsh-seed=1",
        "center=0",          "cache-layers=none", "cache-layers=1",
        "device-budget=69",  "window-size=63",    "lsh-projection=shared",
        "lsh-layer-group=2", "attention=full",    "attention=streaming"};
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        check_keys(WORDS("--setting", ""), WORDS("--setting", changes[i]), false);
    }
    static const char *const quest[] = {"attention=quest page-size=8", "attention=topk",
                                        "attention=quest attention-budget=0.03",
                                        "attention=quest center=0", "attention=pps"};
    for (size_t i = 0; i < sizeof quest / sizeof quest[0]; i++) {
        check_keys(WORDS("--setting", "attention=quest"), WORDS("--setting", quest[i]), false);
    }
    check_keys(WORDS("--setting", ""), WORDS("--setting", "", "--temperature", "0.5"), false);
    check_keys(WORDS("--setting", "", "--temperature", "0.5"),
               WORDS("--setting", "", "--temperature", "0.5", "--seed", "1"), false);
    check_keys(WORDS("--setting", ""), WORDS("--setting", "", "--eos", "none"), false);
    check_keys(WORDS("--setting", "", "--eos", "5"), WORDS("--setting", "", "--eos", "5,6"), false);
}

/* What does not act makes none, and how something is said neither. */
static void test_keys_are_the_same(void **state)
{
    (void)state;
    check_keys(WORDS("--setting", ""), WORDS("--setting", "lsh-k=10", "--batch", "4"), true);
    check_keys(WORDS("--lsh-k", "9"), WORDS("--setting", "attention=full"), true);
    check_keys(WORDS("--setting", "attention=full"),
               WORDS("--setting", "attention=full cache-layers=none window-size=0"), true);
    check_keys(WORDS("--setting", "attention=topk"),
               WORDS("--setting", "attention=topk", "--lsh-k", "3"), true);
    check_keys(WORDS("--setting", "", "--temperature", "0"),
               WORDS("--setting", "", "--temperature", "0", "--seed", "3"), true);
    check_keys(WORDS("--setting", ""), WORDS("--setting", "", "--eos", "model"), true);
}

/* The file of answers is read as JSON: a key is what comes back. */
static void test_keys_survive_reading(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "lsh-seed=1000000000000000",
        "lsh-seed=9007199254740992",
        "lsh-seed=123456789012345",
        "cache-layers=none device-budget=1000000",
        "attention=topk attention-budget=0.000001",
        "attention=topk attention-budget=0.1",
        "attention=topk attention-budget=0.333333333",
        "attention=topk attention-budget=1073741824",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct parsed p;
        struct mp_error err;
        SETTINGS(&p, "--temperature", "0.7", "--seed", "3000000000000000", "--setting", texts[i]);
        ASSERT_OK(open_settings(&p, "answer", &err));
        cJSON *json = cJSON_Parse(p.settings.items[0].key);
        char *again = cJSON_PrintUnformatted(json);
        assert_string_equal(again, p.settings.items[0].key);
        cJSON_free(again);
        cJSON_Delete(json);
        free_parsed(&p);
    }
}

/* The key of the first setting with a model of this directory. The caller's. */
static char *key_with_model(const char *dir)
{
    struct parsed p;
    struct mp_error err;
    SETTINGS(&p, "--model", dir, "--setting", "attention=full");
    ASSERT_OK(open_settings(&p, "answer", &err));
    char *key = mp_xstrdup(p.settings.items[0].key);
    free_parsed(&p);
    return key;
}

/* The demo model in another directory: links, but for the first of its weights. The caller's. */
static char *copy_model(char *links[4])
{
    static const char *const files[] = {"config.json", "model.safetensors.index.json",
                                        "model-00001-of-00002.safetensors",
                                        "model-00002-of-00002.safetensors"};
    char *dir = scratch_path("model");
    assert_int_equal(mkdir(dir, 0700), 0);
    for (int i = 0; i < 4; i++) {
        char *target = mp_xasprintf("%s/%s", DEMO_MODEL, files[i]);
        links[i] = mp_xasprintf("%s/%s", dir, files[i]);
        assert_int_equal(symlink(target, links[i]), 0);
        free(target);
    }
    return dir;
}

/* Changes the first weight of a file, which has been a link. */
static void change_weight(const char *path)
{
    uint64_t header;
    size_t length;
    char *data = read_file(path, &length);
    memcpy(&header, data, sizeof header);
    assert_true(sizeof header + header < length);
    data[sizeof header + header] ^= 1;
    unlink(path);
    write_file(path, data, length);
    free(data);
}

/* Models of the same shape are told apart by their weights, not by their directories. */
static void test_keys_name_the_model(void **state)
{
    (void)state;
    char *links[4];
    char *dir = copy_model(links);
    char *usual = key_with_model(DEMO_MODEL);
    char *copy = key_with_model(dir);
    change_weight(links[2]);
    char *other = key_with_model(dir);
    assert_contains(usual, "\"model\":\"llama, 8 layers");
    assert_string_equal(copy, usual);
    assert_string_not_equal(other, usual);
    free(usual);
    free(copy);
    free(other);
    for (int i = 0; i < 4; i++) {
        remove_file(links[i]);
    }
    rmdir(dir);
    free(dir);
}

static void test_key_says_what_is_sparse(void **state)
{
    (void)state;
    struct parsed p;
    struct mp_error err;
    SETTINGS(&p, "--setting", "attention=full");
    ASSERT_OK(open_settings(&p, "question", &err));
    assert_contains(p.settings.items[0].key, "\"sparse_from\":\"question\"");
    free_parsed(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_twice),
        cmocka_unit_test(test_refused_layer),
        cmocka_unit_test(test_keys_differ),
        cmocka_unit_test(test_keys_are_the_same),
        cmocka_unit_test(test_keys_survive_reading),
        cmocka_unit_test(test_keys_name_the_model),
        cmocka_unit_test(test_key_says_what_is_sparse),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
