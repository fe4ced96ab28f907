/* What answers come to: means, intervals, and how they are written. */
#include "predictions_fixture.h"

#include "pipeline/eval/results.h"

#include <cjson/cJSON.h>

/* An evaluation without an engine, whose answers go to no file. */
static void open_eval(struct mp_eval *e, struct mp_item *items, size_t num_items,
                      struct mp_setting *settings, size_t num_settings)
{
    struct mp_error err;
    size_t left;
    *e = (struct mp_eval){.items = {items, num_items}, .settings = {settings, num_settings}};
    ASSERT_OK(mp_predictions_open(NULL, &e->items, &e->settings, &e->predictions, &left, &err));
}

static void close_eval(struct mp_eval *e)
{
    struct mp_error err;
    ASSERT_OK(mp_predictions_close(e->predictions, &err));
}

static void add_figures(struct mp_eval *e, size_t setting, size_t item,
                        struct mp_prediction prediction)
{
    struct mp_error err;
    ASSERT_OK(add_text(e->predictions, setting, item, "x", 1, &prediction, &err));
}

static void assert_near(double found, double wanted)
{
    if (!(fabs(found - wanted) < 1e-12)) {
        fail_msg("found %.17g, expected %.17g", found, wanted);
    }
}

/* ---- a small evaluation ---- */

/* At 1024 tokens two prompts of vt and one of qa; at 4096 one of vt; one that cannot be asked. */
static struct mp_item small_items[] = {ITEM("0", "vt", 0), ITEM("1", "qa", 1), ITEM("2", "vt", 2),
                                       ITEM("3", "vt", 3), ITEM("4", "fwe", 4)};
static struct mp_setting small_settings[] = {SETTING("full", "f"), SETTING("a \"b\", c", "b"),
                                             SETTING("none", "n")};

/* The second setting has answered the first two prompts alone, the third one none. */
static void open_small(struct mp_eval *e)
{
    small_items[3].context = 4096;
    small_items[4].context = 77;
    small_items[4].error = "too long";
    open_eval(e, small_items, 5, small_settings, 3);
    add_figures(e, 0, 0, figures(1.0, 0.5, 10, 1000, 1, 0.5));
    add_figures(e, 0, 1, figures(0.0, 0.25, 20, 5000, 3, 0.25));
    add_figures(e, 0, 2, figures(0.5, NAN, NAN, NAN, 0, 0.0));
    add_figures(e, 0, 3, figures(0.25, 0.125, 30, 64, 2, 1.0));
    add_figures(e, 1, 0, figures(0.0, NAN, NAN, NAN, 0, 0.0));
    add_figures(e, 1, 1, figures(1.0, 0.0, 0, 2000, 4, 0.125));
}

static void test_tasks_and_lengths(void **state)
{
    (void)state;
    struct mp_eval e;
    struct mp_results r;
    open_small(&e);
    mp_results_make(&e, &r);
    assert_true(r.num_tasks == 2 && r.num_contexts == 2);
    assert_string_equal(r.tasks[0], "vt");
    assert_string_equal(r.tasks[1], "qa");
    assert_true(r.contexts[0] == 1024 && r.contexts[1] == 4096);
    mp_results_free(&r);
    /* Ascending, whatever the order of the prompts. */
    small_items[3].context = 512;
    mp_results_make(&e, &r);
    assert_true(r.contexts[0] == 512 && r.contexts[1] == 1024);
    assert_near(mp_results_get(&r, 0, 0, 0)->score, 0.25);
    mp_results_free(&r);
    close_eval(&e);
}

static void test_means(void **state)
{
    (void)state;
    struct mp_eval e;
    struct mp_results r;
    open_small(&e);
    mp_results_make(&e, &r);
    const struct mp_result *x = mp_results_get(&r, 0, 0, 0);
    assert_int_equal(x->prompts, 2);
    assert_near(x->score, 0.75);
    assert_near(x->sampled, 0.5); /* of those that have any */
    assert_near(x->rows, 10.0);
    assert_near(x->bytes, 1000.0);
    assert_near(x->ms, 500.0);
    /* Over all: of the tasks' scores; of the prompts' shares; of the steps' bytes and times. */
    x = mp_results_get(&r, 0, 0, -1);
    assert_int_equal(x->prompts, 3);
    assert_near(x->score, (0.75 + 0.0) / 2.0);
    assert_near(x->sampled, (0.5 + 0.25) / 2.0);
    assert_near(x->rows, 15.0);
    assert_near(x->bytes, (1.0 * 1000.0 + 3.0 * 5000.0) / 4.0);
    assert_near(x->ms, 1e3 * (0.5 + 0.25) / 4.0);
    x = mp_results_get(&r, 0, 1, -1);
    assert_true(x->prompts == 1 && x->score == 0.25 && x->ms == 500.0);
    mp_results_free(&r);
    close_eval(&e);
}

/* A task without answers does not count; without any there is nothing. */
static void test_what_is_missing(void **state)
{
    (void)state;
    struct mp_eval e;
    struct mp_results r;
    open_small(&e);
    mp_results_make(&e, &r);
    const struct mp_result *x = mp_results_get(&r, 0, 1, 1);
    assert_true(x->prompts == 0 && isnan(x->score) && isnan(x->low) && isnan(x->high));
    x = mp_results_get(&r, 0, 1, -1);
    assert_true(x->score == 0.25 && x->low == 0.25 && x->high == 0.25);
    x = mp_results_get(&r, 1, 0, 0);
    assert_true(x->prompts == 1 && x->score == 0.0 && isnan(x->sampled) && isnan(x->rows));
    assert_true(isnan(x->bytes) && isnan(x->ms));
    assert_near(mp_results_get(&r, 1, 0, -1)->score, 0.5);
    for (int t = -1; t < 2; t++) {
        x = mp_results_get(&r, 2, 0, t);
        assert_true(x->prompts == 0 && isnan(x->score) && isnan(x->low) && isnan(x->high));
        assert_true(isnan(x->sampled) && isnan(x->rows) && isnan(x->bytes) && isnan(x->ms));
    }
    mp_results_free(&r);
    close_eval(&e);
}

/* A prompt that one setting had no memory for counts for none of them. */
static void test_what_has_failed(void **state)
{
    (void)state;
    struct mp_eval e;
    struct mp_results r;
    open_small(&e);
    small_items[0].error = "no memory";
    mp_results_make(&e, &r);
    const struct mp_result *x = mp_results_get(&r, 0, 0, -1);
    assert_int_equal(x->prompts, 2);
    assert_near(x->score, (0.0 + 0.5) / 2.0);
    assert_int_equal(mp_results_get(&r, 1, 0, -1)->prompts, 1);
    mp_results_free(&r);
    small_items[0].error = NULL;
    close_eval(&e);
}

/* ---- intervals ---- */

enum { MOST_PROMPTS = 400 };

/* Of so many prompts in each of two tasks, every period-th of the one and none of the other right.
 */
static struct mp_result interval_of(size_t prompts, size_t period)
{
    static struct mp_item items[2 * MOST_PROMPTS];
    struct mp_eval e;
    struct mp_results r;
    assert_true(prompts <= MOST_PROMPTS);
    for (size_t i = 0; i < 2 * prompts; i++) {
        items[i] = (struct mp_item)ITEM("x", i % 2 == 0 ? "vt" : "fwe", i);
    }
    open_eval(&e, items, 2 * prompts, small_settings, 1);
    for (size_t i = 0; i < 2 * prompts; i++) {
        add_answer(e.predictions, 0, i, i % (2 * period) == 0 ? 1.0 : 0.0);
    }
    mp_results_make(&e, &r);
    struct mp_result x = *mp_results_get(&r, 0, 0, -1);
    mp_results_free(&r);
    close_eval(&e);
    return x;
}

static void test_interval_contains_the_score(void **state)
{
    (void)state;
    for (size_t prompts = 1; prompts <= 40; prompts += 3) {
        for (size_t period = 1; period <= 4; period++) {
            struct mp_result x = interval_of(prompts, period);
            assert_true(x.low <= x.score && x.score <= x.high);
            assert_true(x.low >= 0.0 && x.high <= 0.5); /* one task has nothing right */
        }
    }
}

/* The same answers give the same bounds, to the last bit. */
static void test_interval_is_the_same_again(void **state)
{
    (void)state;
    struct mp_result a = interval_of(30, 3);
    struct mp_result b = interval_of(30, 3);
    assert_true(a.low == b.low && a.high == b.high && a.low < a.high);
}

/* Prompts are drawn task by task: tasks that differ do not make it wide. */
static void test_interval_without_width(void **state)
{
    (void)state;
    struct mp_result x = interval_of(20, 1);
    assert_true(x.score == 0.5 && x.low == 0.5 && x.high == 0.5);
    x = interval_of(1, 1);
    assert_true(x.score == 0.5 && x.low == 0.5 && x.high == 0.5);
}

static void test_interval_is_wider_with_fewer(void **state)
{
    (void)state;
    static const size_t prompts[] = {4, 16, 100, 400};
    double width = 1.0;
    for (int i = 0; i < 4; i++) {
        struct mp_result x = interval_of(prompts[i], 2);
        assert_near(x.score, 0.25);
        assert_true(x.high - x.low < 0.75 * width);
        width = x.high - x.low;
    }
    /* Half of 100 right in one task of two: 1.96 standard deviations of 0.05 / 2 each way. */
    struct mp_result x = interval_of(100, 2);
    assert_true(fabs(x.low - 0.201) < 0.01 && fabs(x.high - 0.299) < 0.01);
}

/* ---- CSV ---- */

static void test_csv(void **state)
{
    (void)state;
    static const char wanted[] =
        "setting,context,task,prompts,score,low,high,sampled,rows,bytes_a_token,ms_a_step\n"
        "\"full\",1024,\"mean\",3,0.375,0.25,0.5,0.375,15,4000,187.5\n"
        "\"full\",1024,\"vt\",2,0.75,0.5,1,0.5,10,1000,500\n"
        "\"full\",1024,\"qa\",1,0,0,0,0.25,20,5000,83.3333\n"
        "\"full\",4096,\"mean\",1,0.25,0.25,0.25,0.125,30,64,500\n"
        "\"full\",4096,\"vt\",1,0.25,0.25,0.25,0.125,30,64,500\n"
        "\"full\",4096,\"qa\",0,,,,,,,\n"
        "\"a \"\"b\"\", c\",1024,\"mean\",2,0.5,0.5,0.5,0,0,2000,31.25\n"
        "\"a \"\"b\"\", c\",1024,\"vt\",1,0,0,0,,,,\n"
        "\"a \"\"b\"\", c\",1024,\"qa\",1,1,1,1,0,0,2000,31.25\n"
        "\"a \"\"b\"\", c\",4096,\"mean\",0,,,,,,,\n"
        "\"a \"\"b\"\", c\",4096,\"vt\",0,,,,,,,\n"
        "\"a \"\"b\"\", c\",4096,\"qa\",0,,,,,,,\n"
        "\"none\",1024,\"mean\",0,,,,,,,\n"
        "\"none\",1024,\"vt\",0,,,,,,,\n"
        "\"none\",1024,\"qa\",0,,,,,,,\n"
        "\"none\",4096,\"mean\",0,,,,,,,\n"
        "\"none\",4096,\"vt\",0,,,,,,,\n"
        "\"none\",4096,\"qa\",0,,,,,,,\n";
    struct mp_eval e;
    struct mp_results r;
    struct mp_error err;
    size_t length;
    char *path = scratch_path("results.csv");
    open_small(&e);
    mp_results_make(&e, &r);
    ASSERT_OK(mp_results_write_csv(&r, path, &err));
    char *text = read_file(path, &length);
    assert_string_equal(text, wanted);
    free(text);
    remove_file(path);
    ASSERT_FAILS(mp_results_write_csv(&r, "/absent/x.csv", &err), MP_ERR_IO,
                 "/absent/x.csv: cannot create: No such file");
    ASSERT_FAILS(mp_results_write_csv(&r, "/dev/full", &err), MP_ERR_IO,
                 "/dev/full: cannot write: No space left on device");
    mp_results_free(&r);
    close_eval(&e);
}

/* ---- tables ---- */

static char *print_results(const struct mp_eval *e)
{
    struct mp_results r;
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    mp_results_make(e, &r);
    mp_results_print(&r, out);
    mp_results_free(&r);
    fclose(out);
    return text;
}

static void test_table(void **state)
{
    (void)state;
    struct mp_eval e;
    open_small(&e);
    char *text = print_results(&e);
    assert_string_equal(
        text,
        "1024 tokens, batch 0\n"
        "  setting       score %  95 % interval  rows read  sampled %  KiB a token  ms a step\n"
        "  [1] full         37.5   25.0 to 50.0       15.0      37.50            4     187.50\n"
        "  [2] a \"b\", c     50.0   50.0 to 50.0        0.0       0.00            2      31.25\n"
        "  [3] none            -              -          -          -            -          -\n"
        "\n"
        "  score % by task prompts    [1]    [2]    [3]\n"
        "  vt                    2   75.0    0.0      -\n"
        "  qa                    1    0.0  100.0      -\n"
        "\n"
        "4096 tokens, batch 0\n"
        "  setting       score %  95 % interval  rows read  sampled %  KiB a token  ms a step\n"
        "  [1] full         25.0   25.0 to 25.0       30.0      12.50            0     500.00\n"
        "  [2] a \"b\", c        -              -          -          -            -          -\n"
        "  [3] none            -              -          -          -            -          -\n"
        "\n"
        "  score % by task prompts    [1]    [2]    [3]\n"
        "  vt                    1   25.0      -      -\n"
        "  qa                    0      -      -      -\n");
    free(text);
    close_eval(&e);
}

/* The columns stay below their heads, however many settings there are. */
static void test_wide_tables(void **state)
{
    (void)state;
    static struct mp_item items[] = {ITEM("0", "vt", 0)};
    struct mp_setting settings[12];
    struct mp_eval e;
    for (size_t s = 0; s < 12; s++) {
        settings[s] = (struct mp_setting)SETTING("topk, budget 2 %", "k");
    }
    open_eval(&e, items, 1, settings, 12);
    char *text = print_results(&e);
    char *rest;
    char *line = strtok_r(text, "\n", &rest);
    line = strtok_r(NULL, "\n", &rest);
    size_t width = strlen(line);
    for (int s = 0; s < 12; s++) {
        line = strtok_r(NULL, "\n", &rest);
        assert_int_equal(strlen(line), width);
    }
    width = strlen(strtok_r(NULL, "\n", &rest));
    assert_int_equal(strlen(strtok_r(NULL, "\n", &rest)), width);
    free(text);
    close_eval(&e);
}

/* ---- the page ---- */

static double number_of(const cJSON *object, const char *key)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(value) || cJSON_IsNull(value));
    return cJSON_IsNull(value) ? NAN : value->valuedouble;
}

static void check_page_result(const cJSON *x, int setting, int length, int task,
                              const struct mp_result *wanted)
{
    assert_true(number_of(x, "setting") == setting && number_of(x, "length") == length);
    assert_true(number_of(x, "task") == task);
    assert_true(number_of(x, "prompts") == (double)wanted->prompts);
    assert_same_number(number_of(x, "score"), 100.0 * wanted->score);
    assert_same_number(number_of(x, "low"), 100.0 * wanted->low);
    assert_same_number(number_of(x, "high"), 100.0 * wanted->high);
    assert_same_number(number_of(x, "rows"), wanted->rows);
    assert_same_number(number_of(x, "sampled"), wanted->sampled);
    assert_same_number(number_of(x, "bytes"), wanted->bytes);
    assert_same_number(number_of(x, "ms"), wanted->ms);
}

static void check_page_data(const cJSON *json, const struct mp_results *r)
{
    static const char head[] =
        "{\"kind\":\"scores\",\"command\":\"magicpig-pipe eval --model " DEMO_MODEL
        " --devices cpu --sparse-from question\",\"version\":";
    static const char lists[] =
        "\"sparse_from\":\"question\",\"settings\":[{\"name\":\"full\"},{\"name\":\"a \\\"b\\\", "
        "c\"},{\"name\":\"none\"}],\"tasks\":[\"vt\",\"qa\"],\"lengths\":[1024,4096],";
    char *text = cJSON_PrintUnformatted(json);
    assert_int_equal(strncmp(text, head, strlen(head)), 0);
    assert_contains(text, lists);
    assert_contains(text, "\"model\":\"llama, 8 layers");
    cJSON_free(text);
    const cJSON *x = cJSON_GetObjectItemCaseSensitive(json, "results");
    assert_int_equal(cJSON_GetArraySize(x), 3 * 2 * 3);
    x = x->child;
    for (int s = 0; s < 3; s++) {
        for (int c = 0; c < 2; c++) {
            for (int t = -1; t < 2; t++, x = x->next) {
                check_page_result(x, s, c, t, mp_results_get(r, (size_t)s, (size_t)c, t));
            }
        }
    }
}

static void test_page_data(void **state)
{
    (void)state;
    struct mp_cli cli;
    struct mp_eval e;
    struct mp_results r;
    PARSE(&cli, "--sparse-from", "question");
    open_small(&e);
    e.cli = &cli;
    e.engine = open_command(&cli);
    mp_results_make(&e, &r);
    cJSON *json = mp_results_json(&r, &e);
    check_page_data(json, &r);
    cJSON_Delete(json);
    mp_results_free(&r);
    mp_engine_close(e.engine);
    close_eval(&e);
    mp_cli_free(&cli);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tasks_and_lengths),
        cmocka_unit_test(test_means),
        cmocka_unit_test(test_what_is_missing),
        cmocka_unit_test(test_what_has_failed),
        cmocka_unit_test(test_interval_contains_the_score),
        cmocka_unit_test(test_interval_is_the_same_again),
        cmocka_unit_test(test_interval_without_width),
        cmocka_unit_test(test_interval_is_wider_with_fewer),
        cmocka_unit_test(test_csv),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_wide_tables),
        cmocka_unit_test(test_page_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
