/* What the errors of heads come to: layers, the mean, and which layers are better dense; and how
 * that is written. */
#include "eval_fixture.h"

#include "pipeline/eval/attention/attention.h"

#include <cjson/cJSON.h>

enum { MOST_LAYERS = 32, HEADS = 2 };

/* The result of layers whose two heads have 0.75 and 1.25 of these errors. free_result. */
static struct mp_attention_result conclude(const double *errors, int layers)
{
    struct mp_attention_result r = {.head_error =
                                        mp_xcalloc((size_t)(layers * HEADS), sizeof(double))};
    for (int l = 0; l < layers; l++) {
        r.head_error[l * HEADS] = 0.75 * errors[l];
        r.head_error[l * HEADS + 1] = 1.25 * errors[l];
    }
    mp_attention_conclude(&r, layers, HEADS);
    return r;
}

static void free_result(struct mp_attention_result *r)
{
    free(r->head_error);
    free(r->layer_error);
    free(r->keep_dense);
}

static void assert_near(double found, double wanted)
{
    if (isnan(wanted) ? !isnan(found) : !(fabs(found - wanted) < 1e-12)) {
        fail_msg("found %.17g, expected %.17g", found, wanted);
    }
}

/* These layers are better dense; their list ends with -1. */
static void check(const double *errors, int layers, const int *kept, double error, double if_dense)
{
    struct mp_attention_result r = conclude(errors, layers);
    int count = 0;
    for (int l = 0; l < layers; l++) {
        assert_near(r.layer_error[l], errors[l]);
    }
    for (; kept[count] >= 0; count++) {
        if (count >= r.num_keep_dense || r.keep_dense[count] != kept[count]) {
            fail_msg("layer %d is not better dense", kept[count]);
        }
    }
    assert_int_equal(r.num_keep_dense, count);
    assert_near(r.error, error);
    assert_near(r.error_if_dense, if_dense);
    free_result(&r);
}

#define KEPT(...) ((const int[]){__VA_ARGS__})

/* More than 1.5 times the median of the sparse layers. */
static void test_median(void **state)
{
    (void)state;
    static const double odd[] = {NAN, 0.125, 0.125, 0.5, 0.125, 0.125, 0.1875, 0.125};
    check(odd, 8, KEPT(3, -1), 1.3125 / 7.0, 0.8125 / 7.0); /* 0.1875 is just that */
    /* The median of an even number is between two, 0.25. */
    static const double even[] = {0.125, 0.125, 0.125, 0.125, 0.375, 0.375, 0.4375, 0.375};
    check(even, 8, KEPT(6, -1), 2.0625 / 8.0, 1.625 / 8.0);
}

/* The worst of them, ascending. */
static void test_at_most_a_quarter(void **state)
{
    (void)state;
    static const double three[] = {NAN, 0.4, 0.1, 0.1, 0.5, 0.1, 0.3, 0.1};
    check(three, 8, KEPT(1, 4, -1), 1.6 / 7.0, 0.7 / 7.0);
    static const double few[] = {0.1, 0.1, 0.9};
    check(few, 3, KEPT(-1), 1.1 / 3.0, 1.1 / 3.0);
    static const double four[] = {0.1, 0.1, 0.1, 0.9};
    check(four, 4, KEPT(3, -1), 0.3, 0.3 / 4.0);
    double many[MOST_LAYERS];
    for (int l = 0; l < MOST_LAYERS; l++) {
        many[l] = l < 12 ? 1.0 + l : 0.1;
    }
    check(many, MOST_LAYERS, KEPT(4, 5, 6, 7, 8, 9, 10, 11, -1), 80.0 / 32.0, 12.0 / 32.0);
}

/* Also where several are equally bad. */
static void test_equal_errors(void **state)
{
    (void)state;
    static const double equal[] = {0.1, 0.5, 0.1, 0.5, 0.1, 0.5, 0.1, 0.1};
    check(equal, 8, KEPT(1, 3, -1), 2.0 / 8.0, 1.0 / 8.0);
    static const double behind[] = {0.1, 0.5, 0.1, 0.5, 0.1, 0.1, 0.6, 0.1};
    check(behind, 8, KEPT(1, 6, -1), 2.1 / 8.0, 1.0 / 8.0);
}

static void test_nothing_to_gain(void **state)
{
    (void)state;
    static const double same[] = {0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2};
    check(same, 8, KEPT(-1), 0.2, 0.2);
    static const double exact[] = {0.0, 0.0, 0.0, 0.0};
    check(exact, 4, KEPT(-1), 0.0, 0.0);
}

static void test_all_dense(void **state)
{
    (void)state;
    static const double none[] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    check(none, 8, KEPT(-1), NAN, NAN);
    static const double one[] = {NAN, NAN, NAN, NAN, NAN, 0.3, NAN, NAN};
    check(one, 8, KEPT(-1), 0.3, 0.3);
}

/* ---- how it is written ---- */

/* Of two settings: five layers with two heads, and all dense. */
struct report {
    struct mp_setting of[2];
    struct mp_settings settings;
    struct mp_attention_result items[2];
    struct mp_attention_results results;
};

static void make_report(struct report *r)
{
    static const double errors[2][5] = {{NAN, 0.125, 0.125, 0.125, 0.625},
                                        {NAN, NAN, NAN, NAN, NAN}};
    *r = (struct report){.of = {{.name = "topk, \"2\" %"}, {.name = "full"}}};
    r->settings = (struct mp_settings){r->of, 2};
    for (int i = 0; i < 2; i++) {
        r->items[i] = conclude(errors[i], 5);
        r->items[i].rms = r->items[i].estimate = r->items[i].calibrated = NAN;
    }
    r->items[0].rms = 0.5;
    r->items[0].estimate = 0.375;
    r->items[0].calibrated = 1.0;
    r->items[0].sampled = 0.125;
    r->items[0].rows = 12.25;
    r->items[0].bytes = 10240.0;
    r->items[1].sampled = r->items[1].rows = NAN;
    r->items[1].bytes = 2048.0;
    r->results = (struct mp_attention_results){&r->settings, r->items, 5, HEADS, 1, 7};
}

static void free_report(struct report *r)
{
    free_result(&r->items[0]);
    free_result(&r->items[1]);
}

static void test_table(void **state)
{
    (void)state;
    struct report r;
    char *text;
    size_t length;
    FILE *out = open_memstream(&text, &length);
    make_report(&r);
    mp_attention_print(&r.results, out);
    fclose(out);
    assert_string_equal(
        text, "7 tokens of 1 prompt\n"
              "  setting          error %    rms % estimate %  right %  rows read  sampled %  "
              "KiB a token\n"
              "  [1] topk, \"2\" %    25.00    50.00      37.50      100       12.2      12.50  "
              "         10\n"
              "  [2] full               -        -          -        -          -          -  "
              "          2\n"
              "\n"
              "  error % by layer     [1]     [2]\n"
              "                 0       -       -\n"
              "                 1   12.50       -\n"
              "                 2   12.50       -\n"
              "                 3   12.50       -\n"
              "                 4   62.50       -\n"
              "\n"
              "  [1] layer 4 kept dense as well would lower the mean error from 25.00 to "
              "9.38 %\n");
    free(text);
    /* With nothing to recommend it ends with the layers. */
    r.items[0].num_keep_dense = 0;
    out = open_memstream(&text, &length);
    mp_attention_print(&r.results, out);
    fclose(out);
    const char *last = "                 4   62.50       -\n";
    assert_string_equal(text + length - strlen(last), last);
    free(text);
    free_report(&r);
}

static void test_csv(void **state)
{
    (void)state;
    struct report r;
    struct mp_error err;
    size_t length;
    char *path = scratch_path("attention.csv");
    make_report(&r);
    ASSERT_OK(mp_attention_write_csv(&r.results, path, &err));
    char *text = read_file(path, &length);
    assert_string_equal(
        text,
        "setting,layer,head,error\n"
        "\"topk, \"\"2\"\" %\",0,0,\n\"topk, \"\"2\"\" %\",0,1,\n"
        "\"topk, \"\"2\"\" %\",1,0,0.09375\n\"topk, \"\"2\"\" %\",1,1,0.15625\n"
        "\"topk, \"\"2\"\" %\",2,0,0.09375\n\"topk, \"\"2\"\" %\",2,1,0.15625\n"
        "\"topk, \"\"2\"\" %\",3,0,0.09375\n\"topk, \"\"2\"\" %\",3,1,0.15625\n"
        "\"topk, \"\"2\"\" %\",4,0,0.46875\n\"topk, \"\"2\"\" %\",4,1,0.78125\n"
        "\"full\",0,0,\n\"full\",0,1,\n\"full\",1,0,\n\"full\",1,1,\n\"full\",2,0,\n\"full\",2,1,\n"
        "\"full\",3,0,\n\"full\",3,1,\n\"full\",4,0,\n\"full\",4,1,\n");
    free(text);
    remove_file(path);
    ASSERT_FAILS(mp_attention_write_csv(&r.results, "/absent/x", &err), MP_ERR_IO,
                 "/absent/x: cannot create: No such file");
    ASSERT_FAILS(mp_attention_write_csv(&r.results, "/dev/full", &err), MP_ERR_IO,
                 "/dev/full: cannot write: No space left on device");
    free_report(&r);
}

static void test_page_data(void **state)
{
    (void)state;
    static const char wanted[] =
        "\"sparse_from\":\"answer\",\"prompts\":1,\"tokens\":7,\"layers\":5,\"heads\":2,"
        "\"settings\":[{\"name\":\"topk, \\\"2\\\" "
        "%\",\"error\":0.25,\"rms\":0.5,\"estimate\":0.375,\"calibrated\":1,\"rows\":12.25,"
        "\"sampled\":0.125,\"bytes\":10240,\"error_if_dense\":0.09375,\"keep_dense\":[4],"
        "\"layer_error\":[null,0.125,0.125,0.125,0.625],\"head_error\":[[null,null],"
        "[0.09375,0.15625],[0.09375,0.15625],[0.09375,0.15625],[0.46875,0.78125]]},"
        "{\"name\":\"full\",\"error\":null,\"rms\":null,\"estimate\":null,\"calibrated\":null,"
        "\"rows\":null,\"sampled\":null,\"bytes\":2048,"
        "\"error_if_dense\":null,\"keep_dense\":[],\"layer_error\":[null,null,null,null,null],"
        "\"head_error\":[[null,null],[null,null],[null,null],[null,null],[null,null]]}]}";
    struct mp_cli cli;
    struct report r;
    PARSE(&cli, "--input", "x");
    struct mp_eval e = {.cli = &cli, .engine = open_command(&cli)};
    make_report(&r);
    cJSON *json = mp_attention_results_json(&r.results, &e);
    char *text = cJSON_PrintUnformatted(json);
    assert_int_equal(strncmp(text, "{\"kind\":\"attention\",\"command\":", 30), 0);
    assert_contains(text, wanted);
    cJSON_free(text);
    cJSON_Delete(json);
    free_report(&r);
    mp_engine_close(e.engine);
    mp_cli_free(&cli);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_median),       cmocka_unit_test(test_at_most_a_quarter),
        cmocka_unit_test(test_equal_errors), cmocka_unit_test(test_nothing_to_gain),
        cmocka_unit_test(test_all_dense),    cmocka_unit_test(test_table),
        cmocka_unit_test(test_csv),          cmocka_unit_test(test_page_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
