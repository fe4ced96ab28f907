/* Which files of StarPU's folder are dropped: all that are cut off anywhere, and none that are
 * whole. */
#include "tasks/starpu_files.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* As a StarPU for two GPUs and three memory nodes writes them. */
static const char CONFIG[] =
    "# Current configuration\n16 # Number of CPUs\n1 # Number of NUMA nodes\n"
    "2 # Number of CUDA devices\n0 # Number of OpenCL devices\n"
    "0 # Number of MIC devices\n0 # Number of MPI devices\n";
static const char AFFINITY[] = "# GPU\tNUMA0\t\n0\t0\t\n1\t0\t\n";
static const char LATENCY[] = "# to 0\t\tto 1\t\tto 2\t\t\n0.000000e+00\t1.5e+01\tnan\n"
                              "1.4e+01\t0.000000e+00\tnan\nnan\tnan\tnan\n";

enum { NUM_FILES = 4 };
static const char *const SUFFIXES[NUM_FILES] = {"config", "affinity", "latency", "bandwidth"};
static const char *const WHOLE[NUM_FILES] = {CONFIG, AFFINITY, LATENCY, LATENCY};
/* The lines of a configuration that nothing needs. */
static const size_t CONFIG_ENOUGH = sizeof "# Current configuration\n16 # Number of CPUs\n"
                                           "1 # Number of NUMA nodes\n2 # Number of CUDA devices\n"
                                           "0 # Number of OpenCL devices\n" -
                                    1;

static const char FOLDER[] = MP_SCRATCH_DIR "/starpu_files";

static char *path_of(int file)
{
    return mp_xasprintf("%s/bus/box.%s", FOLDER, SUFFIXES[file]);
}

static void write_bytes(int file, const char *bytes, size_t count)
{
    char *path = path_of(file);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, count, f), count);
    assert_int_equal(fclose(f), 0);
    free(path);
}

static void write_all(void)
{
    for (int i = 0; i < NUM_FILES; i++) {
        write_bytes(i, WHOLE[i], strlen(WHOLE[i]));
    }
}

static int count_files(void)
{
    int count = 0;
    for (int i = 0; i < NUM_FILES; i++) {
        char *path = path_of(i);
        count += access(path, F_OK) == 0;
        free(path);
    }
    return count;
}

static bool are_kept(void)
{
    bool missing;
    struct mp_error err;
    assert_int_equal(mp_starpu_files_check(FOLDER, &missing, &err), 0);
    assert_true(count_files() == 0 || !missing);
    return !missing;
}

static int setup(void **state)
{
    (void)state;
    struct mp_error err;
    setenv("STARPU_HOSTNAME", "box", 1);
    char *bus = mp_xasprintf("%s/bus", FOLDER);
    assert_int_equal(mp_file_make_folders(bus, &err), 0);
    free(bus);
    write_all();
    return 0;
}

static void test_whole_files_are_kept(void **state)
{
    (void)state;
    assert_true(are_kept());
    assert_int_equal(count_files(), NUM_FILES);
}

/* A StarPU that knows no devices writes no affinity. */
static void test_no_affinity_without_devices(void **state)
{
    (void)state;
    char *path = path_of(1);
    unlink(path);
    free(path);
    assert_false(are_kept());
    static const char none[] = "2 # CPUs\n1 # nodes\n0 # CUDA\n0 # OpenCL\n";
    write_all();
    write_bytes(0, none, strlen(none));
    path = path_of(1);
    unlink(path);
    free(path);
    assert_true(are_kept());
}

static void test_missing_files_drop_the_others(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_FILES; i++) {
        write_all();
        char *path = path_of(i);
        unlink(path);
        free(path);
        assert_false(are_kept());
        assert_int_equal(count_files(), 0);
    }
    assert_false(are_kept());
}

static void test_every_cut_is_found(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_FILES; i++) {
        for (size_t n = 0; n < strlen(WHOLE[i]); n++) {
            bool enough = i == 0 && n >= CONFIG_ENOUGH && WHOLE[i][n - 1] == '\n';
            write_all();
            write_bytes(i, WHOLE[i], n);
            assert_int_equal(are_kept(), enough);
        }
    }
}

/* What a file system may leave after a power cut, and what nobody writes. */
static void test_other_bytes_are_found(void **state)
{
    (void)state;
    static const char zeros[4096];
    static const char *const texts[] = {
        "\n", "#\n", "no numbers\n", "1\n2\n", "1 2\n3 4 x\n", "# GPU\tNUMA0\nx\n", "9e999\tnan\n"};
    for (int i = 0; i < NUM_FILES; i++) {
        write_all();
        write_bytes(i, zeros, sizeof zeros);
        assert_false(are_kept());
        for (size_t t = 0; t < sizeof texts / sizeof texts[0]; t++) {
            write_all();
            write_bytes(i, texts[t], strlen(texts[t]));
            assert_false(are_kept());
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_whole_files_are_kept, setup),
        cmocka_unit_test_setup(test_no_affinity_without_devices, setup),
        cmocka_unit_test_setup(test_missing_files_drop_the_others, setup),
        cmocka_unit_test_setup(test_every_cut_is_found, setup),
        cmocka_unit_test_setup(test_other_bytes_are_found, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
