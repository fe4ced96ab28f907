/* Files that are given for answers: those of others stay as they are, one run at a time has one,
 * and pipes and devices are only written to. */
#include "answers_fixture.h"

#include <sys/stat.h>
#include <sys/wait.h>

/* ---- files of others ---- */

/* Refused, and untouched. */
static void check_foreign(const char *text, const char *part)
{
    struct mp_predictions *p;
    struct mp_error err;
    size_t left, length;
    write_file(path, text, strlen(text));
    ASSERT_FAILS(mp_predictions_open(path, &items, &settings, &p, &left, &err), MP_ERR_USAGE, part);
    assert_contains(err.message, path);
    assert_contains(err.message, "--output: ");
    char *found = read_file(path, &length);
    assert_string_equal(found, text);
    free(found);
}

static void test_foreign_lines(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"id\":\"a\"", "\"id\":1"},
        {"\"task\":\"vt\",", ""},
        {"{\"method\":\"full\"}", "\"full\""},
        {"\"prompt\":\"0000000000000001\"", "\"prompt\":1"},
        {"\"exact_tokens\":800", "\"exact_tokens\":0"},
        {"\"max_new_tokens\":20,", ""},
        {"\"pred\":\"x\"", "\"text\":\"x\""},
        {"\"outputs\":[\"y\"],", ""},
        {"[\"y\"]", "\"y\""},
        {"\"steps\":7", "\"steps\":-1"},
        {"\"steps\":7", "\"steps\":1.5"},
        {"\"score\":1", "\"score\":null"},
        {"\"score\":1", "\"score\":1.5"},
        {"\"score\":1,", ""},
        {"\"bytes\":null", "\"bytes\":nan"},
    };
    write_file(path, good_line, strlen(good_line));
    struct mp_predictions *p = open_with(&items, &settings, 0);
    assert_true(is_done(p, 0, 0));
    close_file(p);
    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        char *bad = replaced(changes[i][0], changes[i][1]);
        char *text = mp_xasprintf("%s%s%s", good_line, bad, good_line);
        check_foreign(text, ":2: found a line that eval does not write: ");
        free(text);
        free(bad);
    }
}

static void test_foreign_files(void **state)
{
    (void)state;
    check_foreign("one two\n", ":1: found a line that eval does not write");
    check_foreign("{\"id\":\"a\",\"text\":\"of generate\",\"token_ids\":[1]}\n",
                  ":1: found a line");
    check_foreign("[]\n", ":1: found a line");
    check_foreign("\n", ":1: found a line");
    /* Also where there is no whole line that could be judged. */
    check_foreign("notes without a newline", ":1: found a line that eval does not write");
    check_foreign("{\"input\": \"a prompt\"}", ":1: found a line");
    char *mixed = mp_xasprintf("%snotes", good_line);
    check_foreign(mixed, ":2: found a line");
    free(mixed);
}

static void test_paths_that_are_none(void **state)
{
    (void)state;
    struct mp_predictions *p;
    struct mp_error err;
    size_t left;
    ASSERT_FAILS(mp_predictions_open("/absent/x", &items, &settings, &p, &left, &err), MP_ERR_USAGE,
                 "--output: /absent/x: cannot open for writing: No such file");
    ASSERT_FAILS(mp_predictions_open("/tmp", &items, &settings, &p, &left, &err), MP_ERR_USAGE,
                 "--output: /tmp: cannot open for writing: Is a directory");
}

/* ---- others that write ---- */

/* Holds the file until told to end. */
static void hold(int ready, int end)
{
    struct mp_predictions *p;
    struct mp_error err;
    size_t left;
    char byte = mp_predictions_open(path, &items, &settings, &p, &left, &err) == 0 ? 'y' : 'n';
    if (write(ready, &byte, 1) != 1 || read(end, &byte, 1) != 0) {
        _exit(1);
    }
    _exit(0);
}

static void test_second_process(void **state)
{
    (void)state;
    int ready[2], end[2], status;
    struct mp_predictions *p;
    struct mp_error err;
    size_t left;
    char byte = 0;
    assert_true(pipe(ready) == 0 && pipe(end) == 0);
    pid_t child = fork();
    if (child == 0) {
        close(end[1]);
        hold(ready[1], end[0]);
    }
    assert_true(child > 0);
    assert_true(read(ready[0], &byte, 1) == 1 && byte == 'y');
    ASSERT_FAILS(mp_predictions_open(path, &items, &settings, &p, &left, &err), MP_ERR_USAGE,
                 "another run writes to it");
    close(end[1]);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    close_file(open_with(&items, &settings, 0)); /* however the other has ended */
    close(ready[0]);
    close(ready[1]);
    close(end[0]);
}

/* ---- what is no file ---- */

static void test_full_disk(void **state)
{
    (void)state;
    struct mp_predictions *p;
    struct mp_error err;
    size_t left;
    const struct mp_prediction one = figures(1, 0, 0, 0, 1, 0);
    ASSERT_OK(mp_predictions_open("/dev/full", &items, &settings, &p, &left, &err));
    assert_int_equal(left, 0);
    ASSERT_FAILS(add_text(p, 0, 0, "x", 1, &one, &err), MP_ERR_IO,
                 "/dev/full: cannot write: No space left on device");
    mp_predictions_close(p, &err);
    struct stat status;
    assert_true(stat("/dev/full", &status) == 0 && S_ISCHR(status.st_mode));
}

/* Nothing is read from it. */
static void test_pipe(void **state)
{
    (void)state;
    int ends[2];
    struct mp_predictions *p;
    struct mp_error err;
    size_t left;
    char byte;
    assert_int_equal(pipe(ends), 0);
    char *name = mp_xasprintf("/dev/fd/%d", ends[1]);
    ASSERT_OK(mp_predictions_open(name, &items, &settings, &p, &left, &err));
    add_answer(p, 0, 0, 1.0);
    close_file(p);
    assert_true(read(ends[0], &byte, 1) == 1 && byte == '{');
    close(ends[0]);
    close(ends[1]);
    free(name);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_foreign_lines),  TEST(test_foreign_files), TEST(test_paths_that_are_none),
        TEST(test_second_process), TEST(test_full_disk),     TEST(test_pipe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
