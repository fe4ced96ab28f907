/* Prompts in files: what a run has written a later one believes if it is whole and its own, and
 * nothing else. */
#include "core/base/rng.h"
#include "core/json/safetensors.h"
#include "engine_fixture.h"
#include "pipeline/engine/prefixes/kv_folder.h"

#include <dirent.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MODEL GOLDEN "llama3-rope"
#define FOLDER MP_SCRATCH_DIR "/kv_files"
enum { VOCAB = 640, DOCUMENT = 325, QUESTION = 21, NEW_TOKENS = 6 };

static const char *const BASE[] = {
    "device-budget", "20",  "window-size", "16",   "eos", "none", "generation-budget", "32",
    "isa",           "ref", "kv-dir",      FOLDER, NULL};

static const char *const METHODS[][7] = {
    {"attention", "full", NULL},
    {"attention", "topk", "attention-budget", "1", NULL},
    {"attention", "quest", "attention-budget", "1", NULL},
    {"attention", "pps", "attention-samples", "100000", NULL},
    {"lsh-k", "3", "lsh-l", "8", NULL},
    {"attention", "pps", "kv-dtype", "int8", "isa", "auto", NULL},
    {"attention", "pps", "kv-dtype", "int8", "cache-layers", "none", NULL},
};
enum { NUM_METHODS = sizeof METHODS / sizeof METHODS[0], NUM_EXACT = 4 };

/* Files of the folder that end so. */
static int count_files(const char *suffix, char *path, size_t size)
{
    int n = 0;
    DIR *dir = opendir(FOLDER);
    for (const struct dirent *d = dir == NULL ? NULL : readdir(dir); d != NULL; d = readdir(dir)) {
        size_t length = strlen(d->d_name);
        if (length >= strlen(suffix) && strcmp(d->d_name + length - strlen(suffix), suffix) == 0) {
            n++;
            if (path != NULL) {
                snprintf(path, size, "%s/%s", FOLDER, d->d_name);
            }
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return n;
}

static void empty_folder(void)
{
    char path[512];
    while (count_files(".kv", path, sizeof path) > 0) {
        assert_int_equal(unlink(path), 0);
    }
}

static struct mp_ids make_prompt(int document, int question, int64_t length)
{
    struct mp_ids ids = {0};
    struct mp_rng rng;
    mp_rng_init(&rng, 7, (uint64_t)document);
    for (int64_t i = 0; i < DOCUMENT; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    mp_rng_init(&rng, 8, (uint64_t)question);
    for (int64_t i = 0; i < length; i++) {
        mp_ids_push(&ids, (int32_t)(mp_rng_uniform(&rng) * VOCAB));
    }
    return ids;
}

/* A run of its own that answers one question. Returns how much of the prompt was known. */
static int64_t run(const char *const *method, const char *const *extra, int document, int question,
                   int32_t tokens[NEW_TOKENS])
{
    struct mp_config config;
    struct mp_error err;
    struct mp_session *session;
    mp_config_init(&config);
    set_flags(&config, BASE);
    set_flags(&config, method);
    set_flags(&config, extra);
    struct mp_engine *engine = open_engine(&config, MODEL, 400);
    ASSERT_OK(mp_session_open(engine, &session, &err));
    struct mp_ids prompt = make_prompt(document, question, QUESTION);
    int slot = generate(session, &prompt, NEW_TOKENS);
    const struct mp_request *r = mp_session_request(session, slot);
    int64_t cached = r->cached_tokens;
    memcpy(tokens, r->ids + r->prompt_tokens, NEW_TOKENS * sizeof *tokens);
    mp_session_close(session);
    mp_engine_close(engine);
    mp_ids_free(&prompt);
    mp_config_free(&config);
    return cached;
}

/* The next run reads what the first one has written, with any number of workers, and gives the same
 * answer; the file is one that other programs can read. */
static void test_next_run(void **state)
{
    (void)state;
    for (int m = 0; m < NUM_METHODS; m++) {
        int32_t first[NEW_TOKENS];
        int32_t second[NEW_TOKENS];
        int32_t alone[NEW_TOKENS];
        char path[512];
        struct mp_error err;
        struct mp_tensors *tensors;
        empty_folder();
        assert_int_equal(run(METHODS[m], NULL, 0, 1, alone), 0);
        empty_folder();
        assert_int_equal(run(METHODS[m], NULL, 0, 0, first), 0);
        assert_int_equal(count_files(".kv", path, sizeof path), 1);
        ASSERT_OK(mp_tensors_open_file(path, &tensors, &err));
        const struct mp_tensor *ids = mp_tensors_find(tensors, "ids");
        int64_t known = m == 0 ? DOCUMENT : 4 + (DOCUMENT - 4) / 64 * 64;
        assert_int_equal(ids->shape[0], DOCUMENT + QUESTION - (m == 0 ? 0 : 16));
        assert_non_null(mp_tensors_find(tensors, "checksums"));
        mp_tensors_close(tensors);

        static const char *const workers[][3] = {{NULL}, {"cpu-workers", "2", NULL}};
        for (int w = 0; w < 2; w++) {
            assert_int_equal(run(METHODS[m], workers[w], 0, 1, second), known);
            if (m < NUM_EXACT) {
                assert_memory_equal(second, alone, sizeof second);
            }
        }
    }
}

/* ---- files that are not to be believed ---- */

struct fixture {
    struct mp_config config;
    struct mp_engine *engine;
    struct mp_segment *segment;
    int64_t tokens; /* of its file */
};

/* An engine with a folder, and a segment that has been read. */
static void open_fixture(struct fixture *f)
{
    struct mp_error err;
    struct mp_session *session;
    empty_folder();
    mp_config_init(&f->config);
    set_flags(&f->config, BASE);
    set_flags(&f->config, METHODS[5]);
    f->engine = open_engine(&f->config, MODEL, 400);
    ASSERT_OK(mp_session_open(f->engine, &session, &err));
    struct mp_ids prompt = make_prompt(0, 0, QUESTION);
    mp_session_remove(session, generate(session, &prompt, 1));
    mp_session_close(session);
    f->segment = f->engine->prefixes->first;
    assert_non_null(f->segment);
    f->tokens = f->segment->tokens;
    mp_ids_free(&prompt);
}

static void close_fixture(struct fixture *f)
{
    mp_engine_close(f->engine);
    mp_config_free(&f->config);
}

/* 0: the file was read to its end and is believed. */
static int read_whole(const struct fixture *f, const char *path, struct mp_error *err)
{
    struct kv_file file;
    int code = kv_file_open(f->engine, path, &file, err);
    if (code != 0) {
        return code;
    }
    struct mp_segment *s = mp_segment_create(f->engine);
    for (int l = 0; l < mp_engine_num_layers(f->engine); l++) {
        assert_int_equal(mp_kv_create_layer(f->engine, &s->layers[l], l, file.tokens + 16, 0, err),
                         0);
    }
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    code = kv_file_load(f->engine, &file, s->layers, &cpus, err);
    mp_segment_unref(f->engine, s);
    kv_file_free(&file);
    return code;
}

static void write_bytes(const char *path, const char *bytes, size_t count)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, count, out), count);
    fclose(out);
}

static void test_damaged(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    char *good;
    size_t length;
    const char *path = FOLDER "/damaged.kv";
    open_fixture(&f);
    ASSERT_OK(kv_file_write(f.engine, f.segment, path, &err));
    ASSERT_OK(read_whole(&f, path, &err));
    ASSERT_OK(mp_file_read(path, 1 << 28, &good, &length, &err));

    /* Cut off anywhere, or longer than it was. */
    struct mp_rng rng;
    mp_rng_init(&rng, 3, 0);
    for (int i = 0; i < 40; i++) {
        size_t at = i < 20 ? (size_t)i : (size_t)(mp_rng_uniform(&rng) * (float)length);
        write_bytes(path, good, at);
        assert_int_equal(read_whole(&f, path, &err), MP_ERR_FORMAT);
        assert_non_null(strstr(err.message, path));
    }
    char *longer = calloc(length + 1, 1);
    memcpy(longer, good, length);
    write_bytes(path, longer, length + 1);
    assert_int_equal(read_whole(&f, path, &err), MP_ERR_FORMAT);

    /* One bit elsewhere. */
    for (int i = 0; i < 200; i++) {
        size_t at = i < 60 ? (size_t)i : (size_t)(mp_rng_uniform(&rng) * (float)length);
        at = at < length ? at : length - 1;
        good[at] ^= (char)(1 << i % 8);
        write_bytes(path, good, length);
        int code = read_whole(&f, path, &err);
        if (code != MP_ERR_FORMAT && code != MP_ERR_UNSUPPORTED) {
            fail_msg("bit %d of byte %zu: found code %d", i % 8, at, code);
        }
        good[at] ^= (char)(1 << i % 8);
    }
    write_bytes(path, good, length);
    ASSERT_OK(read_whole(&f, path, &err));
    free(longer);
    free(good);
    unlink(path);
    close_fixture(&f);
}

/* Of another model, other settings, or no such file at all: left alone, and the prompt is read. */
static void test_foreign(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    static const char *const wider[] = {"attention", "pps", "window-size", "15", NULL};
    static const char *const bf16[] = {"attention", "pps", "isa", "auto", NULL};
    empty_folder();
    write_bytes(FOLDER "/text.kv", "not one", 7);
    assert_int_equal(mkdir(FOLDER "/folder.kv", 0777), 0);
    assert_int_equal(run(METHODS[5], NULL, 0, 0, tokens), 0);
    assert_int_equal(run(wider, NULL, 0, 1, tokens), 0);
    assert_int_equal(run(bf16, NULL, 0, 2, tokens), 0);
    assert_int_equal(run(METHODS[0], NULL, 0, 2, tokens), 0);
    assert_true(run(METHODS[5], NULL, 0, 3, tokens) > 0);
    assert_int_equal(rmdir(FOLDER "/folder.kv"), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 5);
    assert_int_equal(unlink(FOLDER "/text.kv"), 0);
}

/* A file whose data are bad is found out when it is wanted: the prompt is read, and written anew.
 */
static void test_read_anew(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char *bytes;
    size_t length;
    struct mp_error err;
    empty_folder();
    run(METHODS[5], NULL, 0, 0, tokens);
    count_files(".kv", path, sizeof path);
    ASSERT_OK(mp_file_read(path, 1 << 28, &bytes, &length, &err));
    bytes[length / 2] ^= 1;
    write_bytes(path, bytes, length);
    free(bytes);
    assert_int_equal(run(METHODS[5], NULL, 0, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 1);
    assert_true(run(METHODS[5], NULL, 0, 0, tokens) > 0);
}

/* Killed while it writes, 50 times: what has the file's name is whole. */
static void test_killed(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    const char *path = FOLDER "/killed.kv";
    open_fixture(&f);
    struct mp_rng rng;
    mp_rng_init(&rng, 5, 0);
    for (int i = 0; i < 50; i++) {
        fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            for (;;) { /* a file of one length, then of another */
                f.segment->tokens = f.tokens - 64 * (i % 2);
                if (kv_file_write(f.engine, f.segment, path, &err) != 0) {
                    _exit(1);
                }
                i++;
            }
        }
        usleep((useconds_t)(20000 * mp_rng_uniform(&rng)));
        kill(child, SIGKILL);
        int status = 0;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        int code = access(path, F_OK) == 0 ? read_whole(&f, path, &err) : 0;
        if (code != 0) {
            fail_msg("%s", err.message);
        }
    }
    /* What the killed ones have left is removed by the next run. */
    close_fixture(&f);
    unlink(path);
    int32_t tokens[NEW_TOKENS];
    run(METHODS[5], NULL, 0, 0, tokens);
    assert_int_equal(count_files(".new", NULL, 0), 0);
}

/* Files that were not used for the longest time make room. */
static void test_limit(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    char path[512];
    char size[32];
    struct stat st;
    empty_folder();
    run(METHODS[5], NULL, 0, 0, tokens);
    count_files(".kv", path, sizeof path);
    assert_int_equal(stat(path, &st), 0);
    snprintf(size, sizeof size, "%lld", (long long)(2 * st.st_size + st.st_size / 2));
    const char *const limit[] = {"kv-dir-size", size, NULL};
    assert_int_equal(run(METHODS[5], limit, 1, 0, tokens), 0);
    assert_true(run(METHODS[5], limit, 0, 1, tokens) > 0);
    assert_int_equal(run(METHODS[5], limit, 2, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 2);
    assert_true(run(METHODS[5], limit, 0, 2, tokens) > 0);
    assert_int_equal(run(METHODS[5], limit, 1, 1, tokens), 0);

    const char *const none[] = {"kv-dir-size", "1000", NULL};
    empty_folder();
    assert_int_equal(run(METHODS[5], none, 0, 0, tokens), 0);
    assert_int_equal(count_files(".kv", NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_run), cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_foreign),  cmocka_unit_test(test_read_anew),
        cmocka_unit_test(test_killed),   cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
