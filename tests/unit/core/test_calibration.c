/* Rates of ops: estimates from them, measurements from spans, and the file that keeps them. */
#include "core/base/memory.h"
#include "core/trace/calibration.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define ASSERT_OK(call)                                                                            \
    do {                                                                                           \
        if ((call) != 0) {                                                                         \
            fail_msg("%s", err.message);                                                           \
        }                                                                                          \
    } while (0)

static const char FILE_PATH[] = MP_SCRATCH_DIR "/test_calibration.json";

/* Nominal rates of this setup: 160e9 flops/s and 16e9 bytes/s on the CPU. */
static const struct mp_setup SETUP = {
    .cpu_workers = 2, .threads = 4, .kernels = "avx2", .gpu = "a card"};
static const double FLOPS = 160e9;
static const double BYTES = 16e9;

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-6 * fabs(expected))) {
        fail_msg("found %.12g, expected %.12g", found, expected);
    }
}

static void write_file(const char *text)
{
    FILE *file = fopen(FILE_PATH, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

/* ---- spans ---- */

struct piece {
    const char *op;
    enum mp_track_kind kind;
    double begin, end; /* seconds */
    float flops, bytes;
};

static void *record(void *argument)
{
    const struct piece *p = argument;
    mp_trace_name_thread("test", p->kind);
    mp_trace_span(&(struct mp_span_info){.op = p->op, .flops = p->flops, .bytes = p->bytes},
                  (uint64_t)(1e9 * p->begin), (uint64_t)(1e9 * p->end));
    return NULL;
}

/* Records spans up to the first without an op, each on a thread of its own. */
static void record_spans(struct piece *pieces)
{
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    for (struct piece *p = pieces; p->op != NULL; p++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, record, p), 0);
        pthread_join(thread, NULL);
    }
}

/* Adds those that begin at `since` seconds or later. */
static void measure(struct mp_calibration *c, double since, struct piece *pieces)
{
    record_spans(pieces);
    mp_calibration_measure(c, (uint64_t)(1e9 * since));
}

static void assert_rates(const struct mp_calibration *c, const char *op, enum mp_track_kind kind,
                         double flops, double bytes)
{
    for (size_t i = 0; i < c->num_ops; i++) {
        if (c->ops[i].kind == kind && strcmp(c->ops[i].name, op) == 0) {
            assert_near(c->ops[i].rates.flops, flops);
            assert_near(c->ops[i].rates.bytes, bytes);
            return;
        }
    }
    fail_msg("no rates of %s", op);
}

static void test_nominal_estimates(void **state)
{
    (void)state;
    struct mp_calibration c;
    mp_calibration_init(&c, &SETUP);
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_CPU, 2 * FLOPS, BYTES), 2.0);
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_CPU, FLOPS, 3 * BYTES), 3.0);
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_GPU, 400e12, 0.0), 1.0);
    assert_true(mp_calibration_estimate(&c, "ffn", MP_TRACK_CPU, 0.0, 0.0) == 0.0);
    assert_false(mp_calibration_update(&c));
    mp_calibration_free(&c);
}

/* At nominal rates 10 flops a byte is the border. A span of 100 a byte tells flops/s, one of 1 a
 * byte bytes/s, and only of its op on its kind of worker. */
static void test_spans_tell_what_bounds_them(void **state)
{
    (void)state;
    struct mp_calibration c;
    mp_calibration_init(&c, &SETUP);
    measure(&c, 1.0,
            (struct piece[]){
                {"ffn", MP_TRACK_CPU, 1.0, 3.0, 100e9F, 1e9F}, /* 50e9 flops/s */
                {"ffn", MP_TRACK_CPU, 3.0, 3.5, 1e9F, 1e9F},   /* 2e9 bytes/s */
                {"ffn", MP_TRACK_GPU, 1.0, 1.5, 0.0F, 1e12F},  /* 2e12 bytes/s */
                {"ffn", MP_TRACK_HOST, 1.0, 2.0, 1e9F, 1e9F},  /* nobody's work */
                {"ffn", MP_TRACK_CPU, 0.5, 1.5, 1e9F, 1e9F},   /* before */
                {"ffn", MP_TRACK_CPU, 5.0, 5.0, 1e9F, 1e9F},   /* of no length */
                {"wait", MP_TRACK_CPU, 1.0, 2.0, 0.0F, 0.0F},  /* without work */
                {NULL, 0, 0, 0, 0, 0},
            });
    /* Not before the update. */
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_CPU, FLOPS, 0.0), 1.0);
    assert_true(mp_calibration_update(&c));
    assert_int_equal(c.num_ops, 2);
    assert_rates(&c, "ffn", MP_TRACK_CPU, 50e9, 2e9);
    assert_rates(&c, "ffn", MP_TRACK_GPU, 0.0, 2e12);
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_CPU, 100e9, 1e9), 2.0);
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_CPU, 1e9, 1e9), 0.5);
    assert_near(mp_calibration_estimate(&c, "ffn", MP_TRACK_GPU, 400e12, 1e12), 1.0);
    assert_near(mp_calibration_estimate(&c, "output", MP_TRACK_CPU, FLOPS, 0.0), 1.0);
    assert_false(mp_calibration_update(&c)); /* each span counts once */

    /* The border is where the rates in use have it: now at 25 flops a byte. */
    measure(&c, 0.0, (struct piece[]){{"ffn", MP_TRACK_CPU, 0.0, 1.0, 20e9F, 1e9F}, {.op = NULL}});
    assert_true(mp_calibration_update(&c));
    assert_near(c.ops[0].rates.flops, 50e9);
    /* As time per work, half and half: 1 / ((1/2e9 + 1/1e9) / 2). */
    assert_near(c.ops[0].rates.bytes, 4e9 / 3);
    mp_calibration_free(&c);
}

/* One span that lost its core for a second, and several of little work, do not count. */
static void test_the_usual_rate_counts(void **state)
{
    (void)state;
    struct mp_calibration c;
    mp_calibration_init(&c, &SETUP);
    measure(&c, 0.0,
            (struct piece[]){
                {"lookup", MP_TRACK_CPU, 0.0, 1.0, 0, 1e6F},
                {"lookup", MP_TRACK_CPU, 1.0, 2.0, 0, 1e6F},
                {"lookup", MP_TRACK_CPU, 2.0, 3.0, 0, 1e6F},
                {"lookup", MP_TRACK_CPU, 3.0, 4.0, 0, 1e6F},
                {"lookup", MP_TRACK_CPU, 4.0, 4.5, 0, 1e9F},
                {"lookup", MP_TRACK_CPU, 5.0, 5.5, 0, 1e9F},
                {"lookup", MP_TRACK_CPU, 6.0, 7.5, 0, 1e9F},
                {NULL, 0, 0, 0, 0, 0},
            });
    assert_true(mp_calibration_update(&c));
    assert_rates(&c, "lookup", MP_TRACK_CPU, 0.0, 2e9);
    mp_calibration_free(&c);
}

/* Of more spans than are kept the last ones count. */
static void test_many_spans(void **state)
{
    (void)state;
    struct mp_calibration c;
    mp_calibration_init(&c, &SETUP);
    record_spans((struct piece[]){{"sample", MP_TRACK_CPU, 1.0, 2.0, 0, 1e9F}, {.op = NULL}});
    for (int i = 0; i < MP_RATE_SAMPLES; i++) {
        mp_calibration_measure(&c, 0);
    }
    record_spans((struct piece[]){{"sample", MP_TRACK_CPU, 1.0, 1.5, 0, 1e9F}, {.op = NULL}});
    for (int i = 0; i < MP_RATE_SAMPLES / 2 + 1; i++) {
        mp_calibration_measure(&c, 0);
    }
    assert_true(mp_calibration_update(&c));
    assert_rates(&c, "sample", MP_TRACK_CPU, 0.0, 2e9);
    mp_calibration_free(&c);
}

/* ---- the file ---- */

static int read_setup(const struct mp_setup *setup, struct mp_calibration *c, struct mp_error *err)
{
    mp_calibration_init(c, setup);
    return mp_calibration_read(c, FILE_PATH, err);
}

/* Writes rates of one op for a setup. */
static void write_rate(const struct mp_setup *setup, double bytes)
{
    struct mp_calibration c;
    struct mp_error err;
    mp_calibration_init(&c, setup);
    mp_calibration_op(&c, "ffn", MP_TRACK_CPU)->rates.bytes = bytes;
    ASSERT_OK(mp_calibration_write(&c, FILE_PATH, &err));
    mp_calibration_free(&c);
}

static void test_round_trip(void **state)
{
    (void)state;
    struct mp_calibration c;
    struct mp_calibration again;
    struct mp_error err;
    unlink(FILE_PATH);
    ASSERT_OK(read_setup(&SETUP, &again, &err)); /* no file: nothing known */
    assert_int_equal(again.num_ops, 0);
    mp_calibration_free(&again);

    mp_calibration_init(&c, &SETUP);
    mp_calibration_op(&c, "ffn", MP_TRACK_CPU)->rates = (struct mp_rates){1e11 / 3, 1e10 / 7};
    mp_calibration_op(&c, "ffn", MP_TRACK_GPU)->rates = (struct mp_rates){.flops = 3e14};
    mp_calibration_op(&c, "sample", MP_TRACK_CPU)->rates = (struct mp_rates){.bytes = 2e9};
    ASSERT_OK(mp_calibration_write(&c, FILE_PATH, &err));
    ASSERT_OK(read_setup(&SETUP, &again, &err));
    assert_int_equal(again.num_ops, 3);
    assert_rates(&again, "ffn", MP_TRACK_CPU, 1e11 / 3, 1e10 / 7);
    assert_rates(&again, "ffn", MP_TRACK_GPU, 3e14, 0.0);
    assert_rates(&again, "sample", MP_TRACK_CPU, 0.0, 2e9);
    assert_int_equal(mp_calibration_write(&again, MP_SCRATCH_DIR "/no/such/folder/c.json", &err),
                     MP_ERR_IO);
    assert_non_null(strstr(err.message, "/no/such/folder/c.json: cannot create"));
    mp_calibration_free(&again);
    mp_calibration_free(&c);
}

/* Rates hold for the setup they were measured with: those of another are not used, but replaced. */
static void test_other_setups(void **state)
{
    (void)state;
    struct mp_setup others[4] = {SETUP, SETUP, SETUP, SETUP};
    struct mp_calibration c;
    struct mp_error err;
    others[0].cpu_workers = 1;
    others[1].threads = 2;
    strcpy(others[2].kernels, "avx512");
    strcpy(others[3].gpu, "");
    for (int i = 0; i < 4; i++) {
        write_rate(&SETUP, 1e9);
        ASSERT_OK(read_setup(&others[i], &c, &err));
        assert_int_equal(c.num_ops, 0);
        mp_calibration_free(&c);
        write_rate(&others[i], 2e9);
        ASSERT_OK(read_setup(&others[i], &c, &err));
        assert_rates(&c, "ffn", MP_TRACK_CPU, 0.0, 2e9);
        mp_calibration_free(&c);
        ASSERT_OK(read_setup(&SETUP, &c, &err));
        assert_int_equal(c.num_ops, 0);
        mp_calibration_free(&c);
    }
}

#define DOCUMENT(threads, cpu)                                                                     \
    "{\"cpu_workers\": 2, \"threads\": " threads                                                   \
    ", \"kernels\": \"avx2\", \"gpu\": \"a card\", \"CPU\": " cpu ", \"GPU\": {}}"

static void test_damaged_files(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"", "test_calibration.json"},
        {"{\"threads\": ", "test_calibration.json"},
        {"[]", "expected an object"},
        {"{}", "cpu_workers"},
        {DOCUMENT("0", "{}"), "threads"},
        {DOCUMENT("4", "[]"), "CPU: expected an object"},
        {DOCUMENT("4", "{\"a\": {\"flops_per_second\": 1e9}, \"ffn\": {\"flops_per_second\": 0}}"),
         "CPU.ffn.flops_per_second"},
        {DOCUMENT("4", "{\"ffn\": {\"bytes_per_second\": \"1e9\"}}"), "CPU.ffn.bytes_per_second"},
        {DOCUMENT("4", "{\"ffn\": 1e9}"), "CPU.ffn: expected an object"},
        {DOCUMENT("4", "{\"ffn\": {}, \"ffn\": {}}"), "ffn"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct mp_calibration c;
        struct mp_error err;
        write_file(bad[i][0]);
        assert_int_equal(read_setup(&SETUP, &c, &err), MP_ERR_FORMAT);
        if (strstr(err.message, FILE_PATH) == NULL || strstr(err.message, bad[i][1]) == NULL) {
            fail_msg("expected \"%s\", found \"%s\"", bad[i][1], err.message);
        }
        assert_int_equal(c.num_ops, 0);
        assert_near(mp_calibration_estimate(&c, "a", MP_TRACK_CPU, FLOPS, 0.0), 1.0);
        mp_calibration_free(&c);

        write_rate(&SETUP, 3e9); /* replaces it */
        ASSERT_OK(read_setup(&SETUP, &c, &err));
        assert_rates(&c, "ffn", MP_TRACK_CPU, 0.0, 3e9);
        mp_calibration_free(&c);
    }
    struct mp_calibration c;
    struct mp_error err;
    mp_calibration_init(&c, &SETUP);
    assert_int_equal(mp_calibration_read(&c, MP_SCRATCH_DIR, &err), MP_ERR_IO);
    assert_int_equal(mp_calibration_read(&c, "/dev/null/c.json", &err), MP_ERR_IO);
    mp_calibration_free(&c);
}

static void assert_default_path(const char *cache, const char *home, const char *folder)
{
    setenv("XDG_CACHE_HOME", cache, 1);
    setenv("HOME", home, 1);
    char *path = mp_calibration_default_path();
    char host[256] = "";
    gethostname(host, sizeof host - 1);
    char *expected = folder == NULL ? NULL : mp_xasprintf("%s/calibration-%s.json", folder, host);
    if (expected == NULL) {
        assert_null(path);
    } else {
        assert_string_equal(path, expected);
    }
    free(expected);
    free(path);
}

/* Only what is missing below a folder that the user's variables name, never that one itself. */
static void test_make_folder(void **state)
{
    (void)state;
    struct mp_error err;
    char home[] = MP_SCRATCH_DIR "/calibration.XXXXXX";
    assert_non_null(mkdtemp(home));
    char *cache = mp_xasprintf("%s/.cache", home);
    char *folder = mp_xasprintf("%s/magicpig-pipe", cache);
    setenv("HOME", home, 1);
    setenv("XDG_CACHE_HOME", "", 1);
    for (int i = 0; i < 2; i++) { /* all is missing, nothing is */
        char *path = mp_calibration_default_path();
        ASSERT_OK(mp_calibration_make_folder(path, &err));
        assert_int_equal(access(folder, W_OK), 0);
        free(path);
    }
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(rmdir(cache), 0);
    assert_int_equal(rmdir(home), 0);
    for (int i = 0; i < 2; i++) { /* no home, then no cache folder */
        char *path = mp_calibration_default_path();
        assert_int_equal(mp_calibration_make_folder(path, &err), MP_ERR_IO);
        assert_non_null(strstr(err.message, "cannot create: No such file or directory"));
        assert_int_equal(access(home, F_OK), -1);
        setenv("XDG_CACHE_HOME", home, 1);
        free(path);
    }
    free(folder);
    free(cache);
}

static void test_default_path(void **state)
{
    (void)state;
    assert_default_path("/cache", "/home/user", "/cache/magicpig-pipe");
    assert_default_path("", "/home/user", "/home/user/.cache/magicpig-pipe");
    assert_default_path("relative", "/home/user", "/home/user/.cache/magicpig-pipe");
    assert_default_path("", "", NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nominal_estimates),
        cmocka_unit_test(test_spans_tell_what_bounds_them),
        cmocka_unit_test(test_the_usual_rate_counts),
        cmocka_unit_test(test_many_spans),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_other_setups),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_default_path),
        cmocka_unit_test(test_make_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
