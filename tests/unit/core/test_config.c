/* Configuration: files, flags, defaults, suggestions, checks and the search for the model. */
#include "core/config/config.h"

#include "core/base/memory.h"
#include "tests/unit/bad_files.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <sys/stat.h>

static void load_good(struct mp_config *c, const char *name)
{
    mp_config_init(c);
    char *path = mp_xasprintf("%s/config/%s", MP_TEST_DATA, name);
    struct mp_error err;
    if (mp_config_load(c, path, &err) != MP_OK || mp_config_check(c, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    free(path);
}

static void check_defaults(const struct mp_config *c)
{
    assert_null(c->model_path);
    assert_int_equal(c->chunk_size, 8192);
    assert_int_equal(c->num_cache_layers, 1);
    assert_int_equal(c->cache_layers[0], 0);
    assert_int_equal(c->lsh_K, 10);
    assert_int_equal(c->lsh_L, 150);
    assert_true(c->mem_efficient);
    assert_int_equal(c->device_budget, 68);
    assert_int_equal(c->window_size, 64);
    assert_int_equal(c->generation_budget, 256);
    assert_int_equal(c->gen_len, 128);
    assert_int_equal(c->num_eos, -1);
    assert_int_equal(c->lsh_projection, MP_LSH_PER_HEAD);
    assert_int_equal(c->lsh_layer_group, 16);
    assert_true(c->lsh_seed == 0);
    assert_true(c->attention_budget == 0.02F && c->page_size == 16);
    assert_true(c->sampling.temperature == 0.0F && c->sampling.top_p == 1.0F);
    assert_true(c->sampling.top_k == 0 && c->sampling.seed == 0);
    assert_string_equal(c->scheduler, "prio");
    assert_true(c->cpu_workers == 0 && c->threads == 0 && c->binding == MP_BIND_CORES);
    assert_true(c->batch == 1 && c->micro_batches == 0);
    assert_string_equal(c->isa, "auto");
    assert_int_equal(c->memory_limit, 0);
    assert_string_equal(c->calibration, "auto");
    assert_true(c->prefill_share == 0.5F);
    assert_null(c->trace_path);
    assert_null(c->report_path);
    assert_null(c->fxt_dir);
    assert_int_equal(c->fxt_steps, 8);
}

static void test_defaults(void **state)
{
    (void)state;
    struct mp_config c;
    struct mp_error err;
    mp_config_init(&c);
    check_defaults(&c);
    assert_int_equal(mp_config_check(&c, &err), MP_OK);
    mp_config_free(&c);
}

static void test_original_keys(void **state)
{
    (void)state;
    struct mp_config c;
    load_good(&c, "original_keys.json");
    assert_string_equal(c.model_path, "meta-llama/Meta-Llama-3.1-8B-Instruct");
    assert_int_equal(c.chunk_size, 2048);
    assert_int_equal(c.num_cache_layers, 2);
    assert_int_equal(c.cache_layers[1], 12);
    assert_int_equal(c.lsh_K, 9);
    assert_int_equal(c.lsh_L, 120);
    assert_false(c.mem_efficient);
    assert_int_equal(c.device_budget, 132);
    assert_int_equal(c.window_size, 128);
    assert_int_equal(c.generation_budget, 512);
    assert_int_equal(c.gen_len, 48);
    assert_int_equal(c.num_eos, 2);
    assert_int_equal(c.eos[0], 128001);
    assert_int_equal(c.eos[1], 128009);
    mp_config_free(&c);
}

static void check_every_key(const struct mp_config *c)
{
    assert_string_equal(c->model_path, "../models/small");
    assert_int_equal(c->chunk_size, 4096);
    assert_int_equal(c->num_cache_layers, 0);
    assert_int_equal(c->lsh_K, 8);
    assert_int_equal(c->lsh_L, 75);
    assert_false(c->mem_efficient);
    assert_int_equal(c->device_budget, 36);
    assert_int_equal(c->window_size, 32);
    assert_int_equal(c->generation_budget, 64);
    assert_int_equal(c->gen_len, 16);
    assert_int_equal(c->num_eos, 1);
    assert_int_equal(c->eos[0], 2);
    assert_int_equal(c->lsh_projection, MP_LSH_SHARED);
    assert_int_equal(c->lsh_layer_group, 4);
    assert_true(c->lsh_seed == UINT64_C(9007199254740992));
    assert_true(c->attention_budget == 0.125F && c->page_size == 32);
    assert_true(c->sampling.temperature == 0.75F && c->sampling.top_p == 0.5F);
    assert_true(c->sampling.top_k == 40 && c->sampling.seed == 7);
    assert_string_equal(c->scheduler, "dmdas");
    assert_true(c->cpu_workers == 2 && c->threads == 12 && c->binding == MP_BIND_NONE);
    assert_true(c->batch == 4 && c->micro_batches == 2 && c->prefill_share == 0.25F);
    assert_string_equal(c->isa, "avx2");
    assert_true(c->memory_limit == INT64_C(15) << 29);
    assert_string_equal(c->calibration, "rates.json");
    assert_string_equal(c->trace_path, "trace.json");
    assert_string_equal(c->report_path, "report.html");
    assert_string_equal(c->fxt_dir, "fxt");
    assert_int_equal(c->fxt_steps, 3);
}

static void test_every_key_from_a_file(void **state)
{
    (void)state;
    struct mp_config c;
    load_good(&c, "every_key.json");
    check_every_key(&c);
    mp_config_free(&c);
}

static void set_all(struct mp_config *c, const char *const (*flags)[2], size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct mp_error err;
        assert_true(mp_config_has_flag(flags[i][0], MP_VERB_ALL));
        if (mp_config_set_flag(c, flags[i][0], flags[i][1], &err) != MP_OK) {
            fail_msg("%s", err.message);
        }
    }
}

static void test_every_flag(void **state)
{
    (void)state;
    static const char *const flags[][2] = {
        {"model", "../models/small"},
        {"chunk-size", "4096"},
        {"cache-layers", "none"},
        {"lsh-k", "8"},
        {"lsh-l", "75"},
        {"mem-efficient", "0"},
        {"device-budget", "36"},
        {"window-size", "32"},
        {"generation-budget", "64"},
        {"gen-len", "16"},
        {"eos", "2"},
        {"lsh-projection", "shared"},
        {"lsh-layer-group", "4"},
        {"temperature", "0.75"},
        {"lsh-seed", "9007199254740992"},
        {"attention-budget", "0.125"},
        {"page-size", "32"},
        {"attention-samples", "1024"},
        {"code-bits", "4"},
        {"center", "0"},
        {"activations", "bf16x2"},
        {"top-p", "0.5"},
        {"top-k", "40"},
        {"seed", "7"},
        {"sched", "dmdas"},
        {"cpu-workers", "2"},
        {"threads", "12"},
        {"binding", "none"},
        {"batch", "4"},
        {"micro-batches", "2"},
        {"prefill-share", "0.25"},
        {"isa", "avx2"},
        {"trace", "trace.json"},
        {"report", "report.html"},
        {"fxt", "fxt"},
        {"fxt-steps", "3"},
        {"memory-limit", "7.5GiB"},
        {"calibration", "rates.json"},
    };
    struct mp_config c;
    mp_config_init(&c);
    set_all(&c, flags, sizeof flags / sizeof flags[0]);
    check_every_key(&c);

    /* Flags override a file; the last one wins. */
    static const char *const more[][2] = {{"cache-layers", "3"},      {"cache-layers", "0,16,31"},
                                          {"eos", "128001,2"},        {"mem-efficient", "true"},
                                          {"memory-limit", "512MiB"}, {"eos", "none"}};
    set_all(&c, more, sizeof more / sizeof more[0]);
    assert_int_equal(c.num_cache_layers, 3);
    assert_int_equal(c.cache_layers[2], 31);
    assert_int_equal(c.num_eos, 0);
    assert_true(c.mem_efficient);
    assert_true(c.memory_limit == INT64_C(512) << 20);
    mp_config_free(&c);
}

static void assert_json(const cJSON *json, const char *key, const char *text)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(json, key);
    assert_non_null(value);
    char *found = cJSON_PrintUnformatted(value);
    assert_string_equal(found, text);
    cJSON_free(found);
}

/* Every kind of key, as a file would give it. */
static void test_json(void **state)
{
    (void)state;
    struct mp_config c;
    struct mp_error err;
    load_good(&c, "every_key.json");
    assert_int_equal(mp_config_set_flag(&c, "top-p", "0.9", &err), MP_OK);
    cJSON *json = mp_config_json(&c);
    assert_json(json, "model_path", "\"../models/small\"");
    assert_json(json, "chunk_size", "4096");
    assert_json(json, "cache_layers", "[]");
    assert_json(json, "lsh_K", "8");
    assert_json(json, "mem_efficient", "0");
    assert_json(json, "eos", "[2]");
    assert_json(json, "attention.lsh_projection", "\"shared\"");
    assert_json(json, "attention.seed", "9007199254740992");
    assert_json(json, "sampling.temperature", "0.75");
    assert_json(json, "sampling.top_p", "0.9");
    assert_json(json, "runtime.isa", "\"avx2\"");
    assert_json(json, "runtime.memory_limit", "8053063680");
    cJSON_Delete(json);
    mp_config_free(&c);

    mp_config_init(&c);
    json = mp_config_json(&c);
    assert_json(json, "model_path", "null");
    assert_json(json, "eos", "null");
    assert_json(json, "attention.lsh_projection", "\"per_head\"");
    cJSON_Delete(json);
    mp_config_free(&c);
}

static void test_bad_flag_values(void **state)
{
    (void)state;
    static const char *const bad[][3] = {
        {"lsh-k", "17", "--lsh-k: expected an integer from 0 to 16, found \"17\""},
        {"lsh-k", "", "expected an integer"},
        {"lsh-k", " 8", "expected an integer"},
        {"lsh-k", "8x", "expected an integer"},
        {"lsh-k", "8.0", "expected an integer"},
        {"gen-len", "99999999999999999999", "--gen-len: expected an integer from 1 to 1073741824"},
        {"attention-budget", "0",
         "--attention-budget: expected a number from 1e-06 to 1.07374e+09"},
        {"page-size", "0", "--page-size: expected an integer from 1 to 65536, found \"0\""},
        {"lsh-seed", "-1", "--lsh-seed: expected an integer from 0 to 9007199254740992"},
        {"cache-layers", "0,", "--cache-layers: expected integers from 0 to 9999 with commas"},
        {"cache-layers", ",1", "--cache-layers: expected integers"},
        {"cache-layers", "model", "--cache-layers: expected integers"},
        {"eos", "two", "--eos: expected integers"},
        {"mem-efficient", "yes", "--mem-efficient: expected 0, 1, true or false, found \"yes\""},
        {"temperature", "nan", "--temperature: expected a number from 0 to 100"},
        {"top-p", "1.01", "--top-p: expected a number from 1e-06 to 1, found \"1.01\""},
        {"top-p", "0.5 ", "--top-p: expected a number"},
        {"isa", "AVX2", "--isa: expected one of auto|ref|avx2|avx512, found \"AVX2\""},
        {"isa", "", "--isa: expected one of"},
        {"lsh-projection", "per", "--lsh-projection: expected one of per_head|shared"},
        {"binding", "core", "--binding: expected one of cores|none, found \"core\""},
        {"memory-limit", "8GB", "--memory-limit: expected bytes, or a size such as 8GiB"},
        {"memory-limit", "-1", "--memory-limit: expected bytes"},
        {"memory-limit", "1.2.3", "--memory-limit: expected bytes"},
        {"memory-limit", "GiB", "--memory-limit: expected bytes"},
        {"memory-limit", "99999999TiB", "--memory-limit: expected bytes"},
        {"calibration", "", "--calibration: expected a string that is not empty"},
        {"model", "", "--model: expected a string that is not empty"},
        {"lsh-kk", "8", "unknown option --lsh-kk, did you mean --lsh-k?"},
        {"xyzzy-plugh", "8", "unknown option --xyzzy-plugh"},
    };
    struct mp_config c;
    mp_config_init(&c);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mp_error err;
        assert_int_equal(mp_config_set_flag(&c, bad[i][0], bad[i][1], &err), MP_ERR_USAGE);
        if (strstr(err.message, bad[i][2]) == NULL) {
            fail_msg("expected \"%s\", found \"%s\"", bad[i][2], err.message);
        }
    }
    check_defaults(&c); /* a refused value changes nothing */
    mp_config_free(&c);
}

static void test_nearest_flag(void **state)
{
    (void)state;
    assert_string_equal(mp_config_nearest_flag("chunksize"), "chunk-size");
    assert_string_equal(mp_config_nearest_flag("micro-batch"), "micro-batches");
    assert_string_equal(mp_config_nearest_flag("lsh_l"), "lsh-l");
    assert_null(mp_config_nearest_flag(""));
    assert_null(mp_config_nearest_flag("q"));
    char longest[4096];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    assert_null(mp_config_nearest_flag(longest));
    assert_false(mp_config_has_flag("lsh_K", MP_VERB_ALL));
    assert_true(mp_config_has_flag("temperature", MP_VERB_GENERATE | MP_VERB_LOGITS));
    assert_false(mp_config_has_flag("temperature", MP_VERB_BENCH | MP_VERB_TUNE));
    assert_true(mp_config_has_flag("model", MP_VERB_TOKENIZE));
}

static int load_bad(const char *path, struct mp_error *err)
{
    struct mp_config c;
    mp_config_init(&c);
    int rc = mp_config_load(&c, path, err);
    mp_config_free(&c);
    return rc;
}

static void test_bad_files(void **state)
{
    (void)state;
    check_bad_files("config", load_bad);
    struct mp_error err;
    assert_int_equal(load_bad("/nowhere/config.json", &err), MP_ERR_IO);
}

static void test_checks_over_several_keys(void **state)
{
    (void)state;
    static const char *const cases[][5] = {
        {"window-size", "65", "device-budget", "64", "window_size: expected at most"},
        {"batch", "2", "micro-batches", "3", "runtime.micro_batches: expected at most"},
        {"threads", "2", "cpu-workers", "3", "runtime.cpu_workers: expected at most"},
        {"lsh-k", "10", "calibration", "-", "runtime.calibration: expected auto, off or a file"},
        {"lsh-k", "10", "cache-layers", "1,0,1", "cache_layers: layer 1 is listed twice"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_config c;
        struct mp_error err;
        mp_config_init(&c);
        assert_int_equal(mp_config_set_flag(&c, cases[i][0], cases[i][1], &err), MP_OK);
        assert_int_equal(mp_config_set_flag(&c, cases[i][2], cases[i][3], &err), MP_OK);
        assert_int_equal(mp_config_check(&c, &err), MP_ERR_USAGE);
        assert_non_null(strstr(err.message, cases[i][4]));
        mp_config_free(&c);
    }
    struct mp_config c;
    struct mp_error err;
    mp_config_init(&c);
    static const char *const fine[][2] = {
        {"lsh-k", "0"}, {"lsh-l", "1"}, {"window-size", "64"}, {"device-budget", "64"}};
    set_all(&c, fine, sizeof fine / sizeof fine[0]);
    assert_int_equal(mp_config_check(&c, &err), MP_OK);
    mp_config_free(&c);
}

static void test_help(void **state)
{
    (void)state;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    mp_config_print_flags(out, MP_VERB_ALL);
    fclose(out);
    assert_non_null(strstr(text, "--lsh-k N"));
    assert_non_null(strstr(text, "(default 150)\n"));
    assert_non_null(strstr(text, "--isa auto|ref|avx2|avx512"));
    for (const char *line = text; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        assert_true(length <= 100);
        line += length + 1;
    }
    free(text);
}

/* ---- the model's directory ---- */

static void make_dirs(const char *path)
{
    char *copy = mp_xstrdup(path);
    for (char *p = copy + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            mkdir(copy, 0700);
            *p = '/';
        }
    }
    mkdir(copy, 0700);
    free(copy);
}

static void write_file(const char *directory, const char *name, const char *text)
{
    make_dirs(directory);
    char *path = mp_xasprintf("%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
    free(path);
}

static void check_found(const char *model, const char *config_dir, const char *expected)
{
    char *found = NULL;
    struct mp_error err;
    if (mp_config_resolve_model(model, config_dir, &found, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    assert_string_equal(found, expected);
    free(found);
}

static void test_model_relative_to_the_config(void **state)
{
    (void)state;
    char *base = mp_xasprintf("%s/resolve", MP_SCRATCH_DIR);
    char *model = mp_xasprintf("%s/models/tiny", base);
    char *expected = mp_xasprintf("%s/models/tiny", base);
    write_file(model, "config.json", "{}");
    check_found("models/tiny", base, expected);
    check_found(model, "/elsewhere", model);
    check_found(model, NULL, model);

    char *old = getcwd(NULL, 0);
    assert_int_equal(chdir(base), 0);
    check_found("models/tiny", "/elsewhere", "models/tiny");
    assert_int_equal(chdir(old), 0);
    free(old);

    char *empty = mp_xasprintf("%s/models/empty", base);
    make_dirs(empty);
    char *found = NULL;
    struct mp_error err;
    assert_int_equal(mp_config_resolve_model(empty, NULL, &found, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, empty));
    free(empty);
    free(expected);
    free(model);
    free(base);
}

static void test_model_in_the_cache(void **state)
{
    (void)state;
    char *base = mp_xasprintf("%s/cache", MP_SCRATCH_DIR);
    const char *const hubs[] = {"hub-cache", "hf-home/hub", "xdg/huggingface/hub",
                                "home/.cache/huggingface/hub"};
    const char *const organizations[] = {"first", "second", "third", "fourth"};
    for (size_t i = 0; i < 4; i++) {
        char *repository =
            mp_xasprintf("%s/%s/models--%s--Tiny-1.0", base, hubs[i], organizations[i]);
        char *refs = mp_xasprintf("%s/refs", repository);
        char *snapshot = mp_xasprintf("%s/snapshots/0123abc", repository);
        write_file(refs, "main", "0123abc\n");
        write_file(snapshot, "config.json", "{}");
        free(snapshot);
        free(refs);
        free(repository);
    }
    char *hub_cache = mp_xasprintf("%s/hub-cache", base);
    char *hf_home = mp_xasprintf("%s/hf-home", base);
    char *xdg = mp_xasprintf("%s/xdg", base);
    char *home = mp_xasprintf("%s/home", base);
    setenv("XDG_CACHE_HOME", xdg, 1);
    setenv("HF_HUB_CACHE", hub_cache, 1);
    setenv("HF_HOME", hf_home, 1);
    setenv("HOME", home, 1);
    for (size_t i = 0; i < 4; i++) {
        char *name = mp_xasprintf("%s/Tiny-1.0", organizations[i]);
        char *expected = mp_xasprintf("%s/%s/models--%s--Tiny-1.0/snapshots/0123abc", base, hubs[i],
                                      organizations[i]);
        check_found(name, "/elsewhere", expected);
        free(expected);
        free(name);
    }

    char *found = NULL;
    struct mp_error err;
    assert_int_equal(mp_config_resolve_model("first/Other", "/elsewhere", &found, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "model \"first/Other\": no directory with a config.json"));
    assert_non_null(strstr(err.message, "/elsewhere/first/Other, first/Other, "));
    const char *at = err.message;
    for (size_t i = 0; i < 4; i++) {
        at = strstr(at, hubs[i]); /* in this order */
        assert_non_null(at);
    }

    /* A commit that would lead out of the cache is not followed. */
    char *refs = mp_xasprintf("%s/models--first--Tiny-1.0/refs", hub_cache);
    write_file(refs, "main", "../snapshots/0123abc");
    char *snapshots = mp_xasprintf("%s/models--first--Tiny-1.0/snapshots", hub_cache);
    char *second = mp_xasprintf("%s/4567def", snapshots);
    char *main_ref = mp_xasprintf("%s/main", refs);
    char *first = mp_xasprintf("%s/0123abc", snapshots);
    check_found("first/Tiny-1.0", NULL, first);
    /* Without one the only snapshot is meant, and none of several. */
    assert_int_equal(unlink(main_ref), 0);
    check_found("first/Tiny-1.0", NULL, first);
    write_file(second, "config.json", "{}");
    assert_int_equal(mp_config_resolve_model("first/Tiny-1.0", NULL, &found, &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "/snapshots/* (2, of which refs/main names none)"));
    char *config = mp_xasprintf("%s/config.json", second);
    assert_true(unlink(config) == 0 && rmdir(second) == 0); /* the test runs again */
    free(config);
    free(first);
    free(main_ref);
    free(second);
    free(snapshots);
    free(refs);
    free(home);
    free(xdg);
    free(hf_home);
    free(hub_cache);
    free(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_original_keys),
        cmocka_unit_test(test_every_key_from_a_file),
        cmocka_unit_test(test_every_flag),
        cmocka_unit_test(test_json),
        cmocka_unit_test(test_bad_flag_values),
        cmocka_unit_test(test_nearest_flag),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_checks_over_several_keys),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_model_relative_to_the_config),
        cmocka_unit_test(test_model_in_the_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
