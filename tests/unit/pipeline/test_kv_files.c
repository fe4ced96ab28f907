/* Prompts in files: what a run has written a later one believes if it is whole and its own, and
 * nothing else. */
#define FOLDER MP_SCRATCH_DIR "/kv_files"

#include "kv_files_test.h"

#include "core/safetensors/safetensors.h"

#include <cjson/cJSON.h>
#include <signal.h>
#include <sys/wait.h>

/* The next run reads what the first one has written, with any number of workers, and gives the same
 * answer; the file is one that other programs can read. */
static void test_next_run(void **state)
{
    (void)state;
    int32_t alone[NEW_TOKENS]; /* with full attention, as others that select every token */
    empty_folder();
    assert_int_equal(run(METHODS[0], NULL, 0, 1, alone), 0);
    for (int m = 0; m < NUM_METHODS; m++) {
        int32_t first[NEW_TOKENS];
        int32_t second[NEW_TOKENS];
        char path[512];
        struct mp_error err;
        struct mp_tensors *tensors;
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

static void test_damaged(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    char *good;
    size_t length;
    const char *path = FOLDER "/damaged.kv";
    open_fixture(&f);
    ASSERT_OK(write_segment(&f, path, &err));
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

/* A file that has other tokens, by the time it is loaded, than it was found for. */
static void test_other_tokens(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    struct kv_file file;
    const char *path = FOLDER "/other.kv";
    open_fixture(&f);
    ASSERT_OK(write_segment(&f, path, &err));
    ASSERT_OK(kv_file_open(f.engine, path, &file, &err));
    file.ids[5] ^= 1;
    struct kv_file found = file;
    found.ids = malloc((size_t)file.tokens * sizeof *file.ids);
    memcpy(found.ids, file.ids, (size_t)file.tokens * sizeof *file.ids);
    cpu_set_t cpus;
    sched_getaffinity(0, sizeof cpus, &cpus);
    assert_int_equal(kv_file_load(f.engine, &file, f.segment->layers, &cpus, &err), MP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "its tokens are others"));
    assert_memory_equal(found.ids, file.ids, (size_t)file.tokens * sizeof *file.ids);
    file.ids[5] ^= 1;
    ASSERT_OK(kv_file_load(f.engine, &file, f.segment->layers, &cpus, &err));
    free(found.ids);
    kv_file_free(&file);
    unlink(path);
    close_fixture(&f);
}

/* A file whose data are bad is found out when it is wanted: the prompt is read, and written anew.
 */
static void test_read_anew(void **state)
{
    (void)state;
    int32_t tokens[NEW_TOKENS];
    write_file(5, true);
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
                if (write_segment(&f, path, &err) != 0) {
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

/* A header of many more tokens than the file has bytes asks for no memory for them. */
static void test_huge_numbers(void **state)
{
    (void)state;
    struct fixture f;
    struct mp_error err;
    struct kv_file file;
    char bytes[4096] = {0};
    const char *path = FOLDER "/huge.kv";
    open_fixture(&f);
    const struct mp_prefix_cache *own = f.engine->prefixes;
    char *settings =
        cJSON_PrintUnformatted(&(cJSON){.type = cJSON_String, .valuestring = own->settings});
    int length = snprintf(bytes + 8, sizeof bytes - 24,
                          "{\"__metadata__\":{\"format\":\"%s\",\"model\":\"%s\",\"settings\":%s,"
                          "\"tokens\":\"2147483647\"},"
                          "\"ids\":{\"data_offsets\":[0,8589934588]},"
                          "\"checksums\":{\"data_offsets\":[0,16]}}",
                          MP_KV_FORMAT, own->model, settings);
    memcpy(bytes, &(uint64_t){(uint64_t)length}, 8);
    write_bytes(path, bytes, (size_t)length + 24);
    assert_int_equal(kv_file_open(f.engine, path, &file, &err), MP_ERR_FORMAT);
    assert_non_null(strstr(err.message, "huge.kv: found"));
    free(settings);
    close_fixture(&f);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_next_run),     cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_huge_numbers), cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_read_anew),    cmocka_unit_test(test_killed),
        cmocka_unit_test(test_other_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
