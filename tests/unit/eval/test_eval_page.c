/* The page of eval: its data are those that were given, whatever the strings hold. With a folder as
 * argument the program only writes sample pages there: tests/scripts/test_eval_page.sh opens them
 * in a browser. */
#include "eval_page_sample.h"
#include "page_data.h"

#include "pipeline/eval/page/page.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static const char page_path[] = MP_SCRATCH_DIR "/test_eval_page.html";

/* The data of the page that shows `data`. */
static cJSON *write_and_read(const cJSON *data)
{
    struct mp_error err;
    assert_int_equal(mp_eval_page_write(page_path, data, &err), MP_OK);
    char *text = page_data(page_path);
    cJSON *shown = cJSON_Parse(text);
    assert_non_null(shown);
    free(text);
    return shown;
}

static void assert_shown(cJSON *data)
{
    cJSON *shown = write_and_read(data);
    assert_true(cJSON_Compare(shown, data, true));
    cJSON_Delete(shown);
    cJSON_Delete(data);
}

/* Names hold end tags, quotes and other languages; numbers are null here and there. */
static void test_data_survive(void **state)
{
    (void)state;
    assert_shown(sample_scores(MOST_SETTINGS, MOST_TASKS, MOST_LENGTHS));
    assert_shown(sample_attention(MOST_SETTINGS, 32, 32));
}

static void test_tags_are_escaped(void **state)
{
    (void)state;
    cJSON *data = sample_scores(MOST_SETTINGS, 1, 1);
    struct mp_error err;
    assert_int_equal(mp_eval_page_write(page_path, data, &err), MP_OK);
    cJSON_Delete(data);
    char *text = page_data(page_path);
    assert_null(strchr(text, '<'));
    assert_non_null(strstr(text, "\"name\":\"\\u003c/script>\\u003c!-- \\u003cscript>no()\""));
    free(text);
}

/* JSON has no NaN and no infinity. */
static void test_what_is_no_number(void **state)
{
    (void)state;
    cJSON *data = sample_scores(2, 1, 1);
    cJSON *result = cJSON_GetArrayItem(cJSON_GetObjectItem(data, "results"), 0);
    cJSON_SetNumberValue(cJSON_GetObjectItem(result, "ms"), NAN);
    cJSON_SetNumberValue(cJSON_GetObjectItem(result, "bytes"), INFINITY);
    cJSON *shown = write_and_read(data);
    result = cJSON_GetArrayItem(cJSON_GetObjectItem(shown, "results"), 0);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(result, "ms")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(result, "bytes")));
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(result, "rows")));
    cJSON_Delete(shown);
    cJSON_Delete(data);
}

static void test_unwritable_paths(void **state)
{
    (void)state;
    static const char *const paths[] = {MP_SCRATCH_DIR "/no/such/folder/page.html", "/dev/full"};
    static const int reasons[] = {ENOENT, ENOSPC};
    cJSON *data = sample_scores(2, 1, 1);
    for (int i = 0; i < 2; i++) {
        struct mp_error err = {0};
        assert_int_equal(mp_eval_page_write(paths[i], data, &err), MP_ERR_IO);
        assert_non_null(strstr(err.message, paths[i]));
        assert_non_null(strstr(err.message, strerror(reasons[i])));
    }
    assert_int_equal(access("/dev/full", F_OK), 0);
    cJSON_Delete(data);
}

/* Where the disk is full after a part of the page, the one of before stays. */
static void test_no_half_page(void **state)
{
    (void)state;
    cJSON *data = sample_scores(2, 1, 1);
    struct mp_error err = {0};
    struct stat old;
    struct stat now;
    assert_int_equal(mp_eval_page_write(page_path, data, &err), MP_OK);
    assert_int_equal(stat(page_path, &old), 0);
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    struct rlimit small = {.rlim_cur = 10000, .rlim_max = before.rlim_max};
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    int code = mp_eval_page_write(page_path, data, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(code, MP_ERR_IO);
    assert_non_null(strstr(err.message, page_path));
    assert_non_null(strstr(err.message, strerror(EFBIG)));
    assert_int_equal(stat(page_path, &now), 0);
    assert_true(now.st_ino == old.st_ino && now.st_size == old.st_size);
    cJSON_Delete(data);
}

static int write_sample(const char *folder, const char *name, cJSON *data)
{
    char *path = mp_xasprintf("%s/%s", folder, name);
    struct mp_error err;
    int code = mp_eval_page_write(path, data, &err);
    if (code != MP_OK) {
        fprintf(stderr, "%s\n", err.message);
    }
    free(path);
    cJSON_Delete(data);
    return code;
}

static int write_samples(const char *folder)
{
    int failed = write_sample(folder, "scores_2.html", sample_scores(2, 3, 1));
    failed |= write_sample(folder, "scores_12.html",
                           sample_scores(MOST_SETTINGS, MOST_TASKS, MOST_LENGTHS));
    failed |= write_sample(folder, "scores_none.html", sample_scores(0, 1, 1));
    failed |= write_sample(folder, "attention_2.html", sample_attention(2, 8, 8));
    failed |= write_sample(folder, "attention_12.html", sample_attention(MOST_SETTINGS, 32, 32));
    failed |= write_sample(folder, "attention_full.html", sample_attention(1, 8, 8));
    return failed != 0;
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return write_samples(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_data_survive),      cmocka_unit_test(test_tags_are_escaped),
        cmocka_unit_test(test_what_is_no_number), cmocka_unit_test(test_unwritable_paths),
        cmocka_unit_test(test_no_half_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
