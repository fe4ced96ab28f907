/* Files replaced as a whole, and the folder of a path. */
#include "core/base/file.h"
#include "core/base/memory.h"

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
    assert_non_null(strstr(err.message, FOLDER "/absent/file: cannot create: No such file"));
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

/* Until all is written, and if it never is, the old content is there. */
static void test_new_file(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_new_file f;
    struct stat st;
    assert_int_equal(mp_file_replace(FOLDER "/file", "first", &err), MP_OK);
    assert_int_equal(chmod(FOLDER "/file", 0640), 0);
    assert_int_equal(mp_new_file_open(&f, FOLDER "/file", &err), MP_OK);
    assert_true(fputs("half", f.out) >= 0 && fflush(f.out) == 0);
    assert_content(FOLDER "/file", "first\n");
    assert_int_equal(mp_new_file_close(&f, MP_ERR_INTERRUPTED, &err), MP_ERR_INTERRUPTED);
    assert_content(FOLDER "/file", "first\n");

    assert_int_equal(mp_new_file_open(&f, FOLDER "/file", &err), MP_OK);
    fputs("whole", f.out);
    assert_int_equal(mp_new_file_close(&f, MP_OK, &err), MP_OK);
    assert_content(FOLDER "/file", "whole");
    assert_int_equal(stat(FOLDER "/file", &st), 0);
    assert_int_equal(st.st_mode & 07777, 0640);
    assert_int_equal(unlink(FOLDER "/file"), 0);

    assert_int_equal(mp_new_file_open(&f, FOLDER "/file", &err), MP_OK);
    assert_int_equal(mp_new_file_close(&f, MP_ERR_IO, &err), MP_ERR_IO);

    /* Two at a time, of one process: each writes its own, and the last one stays. */
    struct mp_new_file other;
    assert_int_equal(mp_new_file_open(&f, FOLDER "/file", &err), MP_OK);
    assert_int_equal(mp_new_file_open(&other, FOLDER "/file", &err), MP_OK);
    fputs("one", f.out);
    fputs("other", other.out);
    assert_int_equal(mp_new_file_close(&other, MP_OK, &err), MP_OK);
    assert_content(FOLDER "/file", "other");
    assert_int_equal(mp_new_file_close(&f, MP_OK, &err), MP_OK);
    assert_content(FOLDER "/file", "one");
    assert_int_equal(unlink(FOLDER "/file"), 0);
    assert_int_equal(rmdir(FOLDER), 0); /* nothing is left */
}

/* A device stays what it is, and a link that leads nowhere is followed. */
static void test_replace_in_place(void **state)
{
    (void)state;
    struct mp_error err;
    struct stat st;
    assert_int_equal(symlink("later", FOLDER "/link"), 0);
    assert_int_equal(mp_file_replace(FOLDER "/link", "text", &err), MP_OK);
    assert_content(FOLDER "/later", "text\n");
    assert_int_equal(lstat(FOLDER "/link", &st), 0);
    assert_true(S_ISLNK(st.st_mode));
    assert_int_equal(mp_file_replace("/dev/full", "text", &err), MP_ERR_IO);
    assert_string_equal(err.message, "/dev/full: cannot write: No space left on device");
    assert_int_equal(unlink(FOLDER "/link"), 0);
    assert_int_equal(unlink(FOLDER "/later"), 0);
    assert_int_equal(rmdir(FOLDER), 0);
}

static void test_same(void **state)
{
    (void)state;
    struct mp_error err;
    assert_int_equal(mp_file_make_folders(FOLDER "/a//b/", &err), MP_OK);
    assert_int_equal(mp_file_make_folders(FOLDER "/a/b", &err), MP_OK); /* again */
    assert_true(mp_file_same(FOLDER "/a", FOLDER "/a/b/.."));
    assert_true(mp_file_same(FOLDER "/a/x", FOLDER "/a/b/../x")); /* not there yet */
    assert_false(mp_file_same(FOLDER "/a/x", FOLDER "/a/y"));
    assert_false(mp_file_same(FOLDER "/a/x", FOLDER "/a/b/x"));
    assert_false(mp_file_same(FOLDER "/absent/x", FOLDER "/absent/x"));
    assert_int_equal(mp_file_replace(FOLDER "/a/x", "", &err), MP_OK);
    assert_int_equal(symlink("a/x", FOLDER "/link"), 0);
    assert_true(mp_file_same(FOLDER "/link", FOLDER "/a/x"));
    assert_false(mp_file_same(FOLDER "/a/x", FOLDER "/a/y"));
    assert_false(mp_file_same("/dev/null", "/dev/null"));
    assert_int_equal(mp_file_make_folders(FOLDER "/a/x/y", &err), MP_ERR_IO);
    assert_string_equal(err.message, FOLDER "/a/x/y: cannot create: Not a directory");
    assert_int_equal(unlink(FOLDER "/link"), 0);
    assert_int_equal(unlink(FOLDER "/a/x"), 0);
    assert_int_equal(rmdir(FOLDER "/a/b"), 0);
    assert_int_equal(rmdir(FOLDER "/a"), 0);
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
        cmocka_unit_test_setup(test_new_file, make_scratch),
        cmocka_unit_test_setup(test_replace_in_place, make_scratch),
        cmocka_unit_test_setup(test_same, make_scratch),
        cmocka_unit_test(test_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
