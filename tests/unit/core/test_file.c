/* Files replaced as a whole, and the folder of a path. */
#include "core/file.h"
#include "core/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define FOLDER MP_SCRATCH_DIR "/file_test"

static void assert_content(const char *path, const char *expected)
{
    char *text;
    size_t length;
    assert_int_equal(mp_file_read(path, 100, &text, &length, NULL), MP_OK);
    assert_string_equal(text, expected);
    free(text);
}

static void test_replace(void **state)
{
    (void)state;
    struct mp_error err;
    assert_int_equal(mp_file_replace(FOLDER "/file", "first", &err), MP_OK);
    assert_content(FOLDER "/file", "first\n");
    assert_int_equal(mp_file_replace(FOLDER "/file", "second", &err), MP_OK);
    assert_content(FOLDER "/file", "second\n");
    assert_int_equal(mp_file_replace(FOLDER "/absent/file", "third", &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, FOLDER "/absent/file: cannot write through"));
    /* Nothing is left beside it. */
    assert_int_equal(unlink(FOLDER "/file"), 0);
    assert_int_equal(rmdir(FOLDER), 0);
}

/* The link stays, and the file that it leads to is replaced where that is. */
static void test_replace_follows_a_link(void **state)
{
    (void)state;
    struct mp_error err;
    struct stat st;
    assert_int_equal(mkdir(FOLDER "/real", 0700), 0);
    assert_int_equal(mp_file_replace(FOLDER "/real/file", "first", &err), MP_OK);
    assert_int_equal(symlink("real/file", FOLDER "/link"), 0);
    assert_int_equal(mp_file_replace(FOLDER "/link", "second", &err), MP_OK);
    assert_int_equal(lstat(FOLDER "/link", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_content(FOLDER "/real/file", "second\n");
    assert_int_equal(unlink(FOLDER "/link"), 0);
    assert_int_equal(unlink(FOLDER "/real/file"), 0);
    assert_int_equal(rmdir(FOLDER "/real"), 0);
    assert_int_equal(rmdir(FOLDER), 0);
}

static void test_folder(void **state)
{
    (void)state;
    static const char *const paths[][2] = {
        {"file", "."}, {"/file", "/"}, {"a/file", "a"}, {"/a/b/file", "/a/b"}, {"./file", "."},
    };
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        char *folder = mp_file_folder(paths[i][0]);
        assert_string_equal(folder, paths[i][1]);
        free(folder);
    }
}

static int make_scratch(void **state)
{
    (void)state;
    /* What a run that failed has left. */
    static const char *const files[] = {FOLDER "/file", FOLDER "/link", FOLDER "/real/file"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        unlink(files[i]);
    }
    rmdir(FOLDER "/real");
    rmdir(FOLDER);
    return mkdir(FOLDER, 0700);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_replace, make_scratch),
        cmocka_unit_test_setup(test_replace_follows_a_link, make_scratch),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
