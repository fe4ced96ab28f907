/* The time of a step from its work and from measured rates: part by part, and what is not known. */
#include "core/json/json_print.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/plan/prediction.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char FILE_PATH[] = MP_SCRATCH_DIR "/test_prediction.json";

/* One result of bench decode with a batch of 1; @ stands for the default attention. */
#define RESULT(ranks, round_trip, step, idle, ops)                                                 \
    "{\"what\": \"decode\", \"runtime\": \"a machine\", \"kernels\": \"some\", \"batch\": 1, "     \
    "\"ranks\": " ranks ", \"round_trip_seconds\": " round_trip ", \"sampled\": 0.03, "            \
    "\"attention\": @, \"recorded_seconds\": " step ", \"idle_seconds\": " idle ", \"ops\": [" ops \
    "]}"
#define OP(op, calls, seconds, bytes)                                                              \
    "{\"op\": \"" op "\", \"device\": \"CPU\", \"calls\": " calls ", \"seconds\": " seconds        \
    ", \"bytes\": " bytes ", \"flops\": 0}"

static void write_file(const char *text, const struct mp_config *config)
{
    cJSON *json = mp_attention_json(config);
    char *attention = mp_json_key_text(json);
    FILE *file = fopen(FILE_PATH, "w");
    assert_non_null(file);
    for (; *text != '\0'; text++) {
        if (*text == '@') {
            fputs(attention, file);
        } else {
            fputc(*text, file);
        }
    }
    fclose(file);
    free(attention);
    cJSON_Delete(json);
}

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-9 * fabs(expected))) {
        fail_msg("found %.12g, expected %.12g", found, expected);
    }
}

static int read_rates(const char *text, int batch, struct mp_step_rates *out, struct mp_error *err)
{
    struct mp_config config;
    mp_config_init(&config);
    config.batch = batch;
    write_file(text, &config);
    int code = mp_rates_read(FILE_PATH, &config, out, err);
    mp_config_free(&config);
    return code;
}

static struct mp_step_rates rates_of(const char *text)
{
    struct mp_step_rates rates;
    struct mp_error err;
    if (read_rates(text, 1, &rates, &err) != 0) {
        fail_msg("%s", err.message);
    }
    return rates;
}

/* ---- rates ---- */

#define OPS OP("ffn", "8", "0.2", "1000") "," OP("sample", "2", "0.01", "0")
#define OTHERS OP("ffn", "8", "5", "1000") "," OP("output", "8", "3", "600")
static const char ONE[] = "[" RESULT("1", "null", "0.214", "0.004", OPS) "]";
static const char BOTH[] =
    "[" RESULT("1", "null", "0.214", "0.004", OPS) "," RESULT("2", "0.0001", "17", "9", OTHERS) "]";

static void test_rates_of_a_file(void **state)
{
    (void)state;
    struct mp_step_rates r = rates_of(BOTH);
    assert_string_equal(r.machine, "a machine");
    assert_string_equal(r.kernels, "some");
    assert_near(r.sampled, 0.03);
    assert_near(r.hand_over, 0.0004); /* of the 10 tasks of one process */
    assert_near(r.round_trip, 0.0001);
    /* By bytes, from the first result that has the op. */
    assert_near(mp_rates_seconds(&r, &(struct mp_profile_op){"ffn", MP_TRACK_CPU, 1, 0, 0, 3000}),
                0.6);
    assert_near(mp_rates_seconds(&r, &(struct mp_profile_op){"output", MP_TRACK_CPU, 1, 0, 0, 60}),
                0.3);
    /* By calls where no memory is moved. */
    assert_near(mp_rates_seconds(&r, &(struct mp_profile_op){"sample", MP_TRACK_CPU, 4, 0, 0, 0}),
                0.02);
    assert_true(
        isnan(mp_rates_seconds(&r, &(struct mp_profile_op){"ffn", MP_TRACK_GPU, 1, 0, 0, 3000})));
    assert_true(
        isnan(mp_rates_seconds(&r, &(struct mp_profile_op){"embed", MP_TRACK_CPU, 1, 0, 0, 3000})));
    mp_rates_free(&r);
}

/* More operations for the same memory take longer too. */
static void test_the_slower_of_memory_and_arithmetic(void **state)
{
    (void)state;
    struct mp_step_rates r = rates_of(
        "[" RESULT("1", "null", "0.5", "0",
                   "{\"op\": \"ffn\", \"device\": \"GPU\", \"calls\": 1, \"seconds\": 0.5, "
                   "\"bytes\": 100, \"flops\": 400}") "]");
    const struct mp_profile_op both = {"ffn", MP_TRACK_GPU, 1, 0, 800, 200};
    const struct mp_profile_op flops = {"ffn", MP_TRACK_GPU, 1, 0, 1600, 200};
    const struct mp_profile_op bytes = {"ffn", MP_TRACK_GPU, 1, 0, 100, 300};
    assert_near(mp_rates_seconds(&r, &both), 1.0);
    assert_near(mp_rates_seconds(&r, &flops), 2.0);
    assert_near(mp_rates_seconds(&r, &bytes), 1.5);
    mp_rates_free(&r);
}

/* Ops that overlap, and steps that were disturbed: what they take of a median step. */
static void test_parts_of_a_median_step(void **state)
{
    (void)state;
    struct mp_step_rates r =
        rates_of("[" RESULT("1", "null", "0.3", "0.1",
                            OP("ffn", "1", "0.6", "10") "," OP("output", "1", "0.2", "10")) "]");
    const struct mp_profile_op ffn = {"ffn", MP_TRACK_CPU, 1, 0, 0, 10};
    const struct mp_profile_op output = {"output", MP_TRACK_CPU, 1, 0, 0, 10};
    assert_near(mp_rates_seconds(&r, &ffn), 0.15);
    assert_near(mp_rates_seconds(&r, &output), 0.05);
    assert_near(r.hand_over, 0.05);
    mp_rates_free(&r);
}

static void test_files_that_do_not_fit(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int batch;
        int code;
        const char *message;
    } cases[] = {
        {ONE, 2, MP_ERR_USAGE, "found no result of bench decode with attention magicpig"},
        {"[]", 1, MP_ERR_USAGE, "found no result of bench decode"},
        {"[{\"what\": \"prefill\"}]", 1, MP_ERR_USAGE, "found no result of bench decode"},
        {"{}", 1, MP_ERR_FORMAT, "expected an array, found an object"},
        {"[5]", 1, MP_ERR_FORMAT, "[0]: expected an object, found 5"},
        {"[{\"what\": \"decode\"}]", 1, MP_ERR_FORMAT, "batch"},
        {"[" RESULT("0", "null", "1", "0", "") "]", 1, MP_ERR_FORMAT, "ranks"},
        {"[" RESULT("1", "-1", "1", "0", "") "]", 1, MP_ERR_FORMAT, "round_trip_seconds"},
        {"[" RESULT("1", "null", "1", "0", "{\"op\": \"ffn\", \"device\": \"host\"}") "]", 1,
         MP_ERR_FORMAT, "[0].ops[0].device: expected CPU or GPU, found \"host\""},
        {"[" RESULT("1", "null", "1", "0", OP("ffn", "0", "1", "1")) "]", 1, MP_ERR_FORMAT,
         "calls"},
        {"[" RESULT("1", "null", "1", "2", OP("ffn", "1", "1", "1")) "]", 1, MP_ERR_FORMAT,
         "idle_seconds"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_step_rates r;
        struct mp_error err;
        assert_int_equal(read_rates(cases[i].text, cases[i].batch, &r, &err), cases[i].code);
        if (strstr(err.message, cases[i].message) == NULL ||
            strstr(err.message, FILE_PATH) == NULL) {
            fail_msg("found \"%s\", expected \"%s\"", err.message, cases[i].message);
        }
    }
}

/* ---- the step ---- */

static struct mp_step_work make_work(void)
{
    struct mp_step_work work = {0};
    for (int i = 0; i < 8; i++) {
        mp_profile_count(&work.all, "ffn", MP_TRACK_CPU, 0.0, 500.0);
        mp_profile_count(&work.all, "output", MP_TRACK_CPU, 0.0, 75.0);
    }
    for (int i = 0; i < 3; i++) {
        mp_profile_count(&work.all, "sampled_attention", MP_TRACK_CPU, 0.0, 10.0);
        mp_profile_count(&work.all, "table_lookup", MP_TRACK_CPU, 0.0, 20.0);
        mp_profile_count(&work.selecting, "table_lookup", MP_TRACK_CPU, 0.0, 20.0);
        mp_profile_count(&work.all, "exchange", MP_TRACK_CPU, 0.0, 1e12);
    }
    return work;
}

static void free_work(struct mp_step_work *work)
{
    mp_profile_free(&work->all);
    mp_profile_free(&work->selecting);
}

#define PARTS_OPS                                                                                  \
    OP("ffn", "8", "0.2", "1000")                                                                  \
    "," OP("output", "8", "0.1", "100") "," OP("sampled_attention", "2", "0.001",                  \
                                               "10") "," OP("table_lookup", "2", "0.002", "10")

static void test_parts(void **state)
{
    (void)state;
    struct mp_step_rates r = rates_of("[" RESULT(
        "1", "null", "0.307", "0.004", PARTS_OPS) "," RESULT("4", "0.0001", "1", "0", "") "]");
    struct mp_step_work work = make_work();
    const struct mp_plan plan = {
        .batch = 1, .ranks = 4, .kept_layers = 3, .sent = 1000, .received = 3000};
    struct mp_network network;
    assert_int_equal(mp_network_read("8Mbit,2ms", &network, NULL), 0);
    struct mp_prediction p;
    mp_predict(&work, &plan, &r, &network, &p);
    assert_int_equal(p.num_unknown, 0);
    assert_near(p.seconds[MP_STEP_DENSE], 0.8 + 0.6);
    assert_near(p.seconds[MP_STEP_SELECTING], 0.012);
    assert_near(p.seconds[MP_STEP_ROWS], 0.003);
    assert_near(p.seconds[MP_STEP_HAND_OVER], 22 * 0.0002); /* exchange is on no worker */
    assert_near(p.seconds[MP_STEP_EXCHANGE], 4 * 0.00005);
    assert_near(p.seconds[MP_STEP_NETWORK], 4 * 0.002 + 3000 / 1e6);
    double sum = 0.0;
    for (int i = 0; i < MP_STEP_PARTS; i++) {
        sum += p.seconds[i];
    }
    assert_near(p.total, sum);
    mp_prediction_free(&p);

    /* One rank sends nothing. */
    mp_predict(&work, &(struct mp_plan){.batch = 1, .ranks = 1, .kept_layers = 3}, &r, NULL, &p);
    assert_int_equal(p.num_unknown, 0);
    assert_true(p.seconds[MP_STEP_EXCHANGE] == 0.0 && p.seconds[MP_STEP_NETWORK] == 0.0);
    mp_prediction_free(&p);
    mp_rates_free(&r);
    free_work(&work);
}

/* Nothing is guessed: what a file does not tell is named, and in no sum. */
static void test_what_is_not_known(void **state)
{
    (void)state;
    struct mp_step_rates r =
        rates_of("[" RESULT("2", "null", "0.204", "0.004", OP("ffn", "8", "0.2", "1000")) "]");
    struct mp_step_work work = make_work();
    struct mp_prediction p;
    mp_predict(&work, &(struct mp_plan){.batch = 1, .ranks = 2, .kept_layers = 3}, &r, NULL, &p);
    static const char *const unknown[] = {
        "output on the CPU",
        "sampled_attention on the CPU",
        "table_lookup on the CPU",
        "the hand-over between tasks, which a result of one process tells",
        "what a message takes the processes, which a result of several ranks tells",
        "the network",
    };
    assert_int_equal(p.num_unknown, sizeof unknown / sizeof unknown[0]);
    cJSON *json = mp_prediction_json(&p);
    for (size_t i = 0; i < p.num_unknown; i++) {
        assert_string_equal(p.unknown[i], unknown[i]);
        assert_string_equal(cJSON_GetStringValue(
                                cJSON_GetArrayItem(cJSON_GetObjectItem(json, "not_known"), (int)i)),
                            unknown[i]);
    }
    assert_near(p.total, 0.8);
    assert_true(cJSON_IsNull(cJSON_GetObjectItem(json, "exchange_seconds")));
    assert_near(cJSON_GetObjectItem(json, "seconds")->valuedouble, 0.8);
    cJSON_Delete(json);
    mp_prediction_free(&p);
    mp_rates_free(&r);
    free_work(&work);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates_of_a_file),
        cmocka_unit_test(test_the_slower_of_memory_and_arithmetic),
        cmocka_unit_test(test_parts_of_a_median_step),
        cmocka_unit_test(test_files_that_do_not_fit),
        cmocka_unit_test(test_parts),
        cmocka_unit_test(test_what_is_not_known),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
