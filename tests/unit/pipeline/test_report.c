/* The report's page: its data parse and hold the figures, whatever the strings hold. With a folder
 * as argument the program only writes sample pages there: tests/scripts/test_report.sh opens them
 * in a browser. */
#include "page_data.h"
#include "report_sample.h"

#include "core/json/json.h"

#include <stdio.h>
#include <string.h>

static const char page_path[] = MP_SCRATCH_DIR "/test_report.html";

/* The data of the page at page_path; free with mp_json_free. */
static struct mp_json *read_data(void)
{
    char *text = page_data(page_path);
    struct mp_error err;
    struct mp_json *doc;
    if (mp_json_parse("data", text, strlen(text), &doc, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    free(text);
    return doc;
}

static struct mp_json *write_and_read(const struct mp_report *r)
{
    struct mp_error err;
    assert_int_equal(mp_report_write(page_path, r, &err), MP_OK);
    return read_data();
}

static double number_in(const struct mp_json *doc, const struct cJSON *object, const char *key)
{
    double value;
    assert_int_equal(mp_json_get_number(doc, object, key, -1e300, 1e300, &value, NULL), MP_OK);
    return value;
}

static const char *text_in(const struct mp_json *doc, const struct cJSON *object, const char *key)
{
    const char *value;
    assert_int_equal(mp_json_get_string(doc, object, key, &value, NULL), MP_OK);
    return value;
}

/* Number i of an array. */
static double number_at(const struct mp_json *doc, const struct cJSON *array, int i)
{
    const struct cJSON *value = mp_json_first(array);
    while (i-- > 0) {
        value = mp_json_after(value);
    }
    double number;
    assert_int_equal(mp_json_as_number(doc, value, -1e300, 1e300, &number, NULL), MP_OK);
    return number;
}

static void test_figures(void **state)
{
    (void)state;
    record_sample(true);
    struct mp_report r = sample_report(&with_gpu);
    struct mp_json *doc = write_and_read(&r);
    const struct cJSON *root = mp_json_root(doc);
    assert_true(number_in(doc, root, "context") == 98000.0);
    assert_string_equal(text_in(doc, root, "attention"), "magicpig, (K, L) = (10, 150)");
    assert_true(number_in(doc, mp_json_find(root, "attention_settings"), "lsh_K") == 10.0);
    assert_true(number_in(doc, root, "seconds") == 0.8);
    const struct cJSON *typical = mp_json_find(root, "typical");
    assert_true(number_in(doc, typical, "seconds") == 0.02);
    assert_true(number_in(doc, typical, "both") == 0.0068);
    assert_true(number_in(doc, typical, "idle") == 0.0008);
    const struct cJSON *busy = mp_json_find(typical, "busy");
    assert_true(number_in(doc, busy, "gpu") == 0.016 && number_in(doc, busy, "cpu") == 0.01);
    const struct cJSON *bandwidth = mp_json_find(root, "bandwidth");
    assert_true(number_in(doc, bandwidth, "gpu") == 3170e9);
    assert_true(number_in(doc, bandwidth, "host") == 0.0);

    const struct cJSON *ops = mp_json_find(root, "ops");
    assert_int_equal(mp_json_count(ops), SAMPLE_OPS);
    const struct cJSON *op = mp_json_first(ops);
    assert_string_equal(text_in(doc, op, "name"), "projection");
    assert_string_equal(text_in(doc, op, "kind"), "gpu");
    assert_true(number_in(doc, op, "calls") == 2560.0 && number_in(doc, op, "bytes") == 128e9);

    assert_int_equal(mp_json_count(mp_json_find(root, "step_seconds")), STEPS);
    assert_true(number_at(doc, mp_json_find(root, "step_seconds"), 1) == 0.019098);
    const struct cJSON *sampled = mp_json_find(root, "sampled");
    assert_int_equal(mp_json_count(sampled), LAYERS);
    assert_int_equal(mp_json_kind(mp_json_first(sampled)), MP_JSON_NULL);
    assert_true(fabs(number_at(doc, sampled, 5) - sample_fractions[5]) < 1e-9);
    const struct cJSON *errors = mp_json_find(root, "attention_error");
    assert_int_equal(mp_json_count(errors), LAYERS);
    assert_true(fabs(number_at(doc, errors, 5) - sample_errors[5]) < 1e-9);
    mp_json_free(doc);
}

static void test_strings_survive(void **state)
{
    (void)state;
    struct mp_report r = sample_report(&with_gpu);
    struct mp_json *doc = write_and_read(&r);
    const struct cJSON *root = mp_json_root(doc);
    assert_string_equal(text_in(doc, root, "model"), r.model);
    assert_string_equal(text_in(doc, root, "runtime"), r.runtime);
    assert_string_equal(text_in(doc, root, "kernels"), r.kernels);
    assert_string_equal(text_in(doc, root, "command"), r.command);
    mp_json_free(doc);
}

/* Records `count` spans of 600 ns each, one every microsecond from begin_ns on. */
static void record_row(const char *name, const char *op, uint64_t begin_ns, int64_t count)
{
    struct tape t = {.name = name, .kind = MP_TRACK_CPU, .free_ns = begin_ns};
    t.spans = mp_xmalloc(MAX_SPANS * sizeof *t.spans);
    for (int64_t i = 0; i < count; i++) {
        struct mp_span_info about = {op, (int32_t)i, -1, 3, 1, 5e9f, NAN, 0};
        play(&t, about, begin_ns + 1000 * (uint64_t)i, 0.6);
    }
    record(&t);
}

static void test_spans(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(MAX_SPANS, NULL), MP_OK);
    uint64_t now = mp_clock_ns();
    record_row("a \"quoted\" </script> track", "<b>", now + 100, 2);
    record_row("second", "ffn", now + 150, 1);
    struct mp_report r = sample_report(&nothing);
    /* The first step was over before anything was recorded, the second submitted. */
    r.num_steps = 2;
    set_sample_seconds();
    sample_begin_ns[0] = now - 80000000;
    sample_begin_ns[1] = now;
    struct mp_json *doc = write_and_read(&r);
    const struct cJSON *root = mp_json_root(doc);
    assert_true(number_in(doc, root, "recorded_spans") == 3.0);
    const struct cJSON *track = mp_json_first(mp_json_find(root, "tracks"));
    assert_string_equal(text_in(doc, track, "name"), "a \"quoted\" </script> track");
    assert_string_equal(text_in(doc, track, "kind"), "cpu");
    const struct cJSON *spans = mp_json_find(track, "spans");
    assert_int_equal(mp_json_count(spans), 2);
    /* op, begin, duration, layer, micro-batch, request, chunk, bytes (none: not a number), flops */
    static const double expected[] = {0.0, 1000.0, 600.0, 1.0, 1.0, -1.0, 3.0, NAN, 5e9};
    const struct cJSON *span = mp_json_after(mp_json_first(spans));
    assert_int_equal(mp_json_count(span), 9);
    for (int i = 0; i < 9; i++) {
        if (!isnan(expected[i])) {
            assert_true(number_at(doc, span, i) == expected[i]);
        }
    }
    span = mp_json_first(mp_json_find(mp_json_after(track), "spans"));
    assert_true(number_at(doc, span, 0) == 1.0 && number_at(doc, span, 1) == 50.0);
    assert_int_equal(mp_json_count(mp_json_find(root, "span_ops")), 2);

    const struct cJSON *steps = mp_json_find(root, "timeline_steps");
    assert_int_equal(mp_json_count(steps), 1);
    assert_true(number_at(doc, mp_json_first(steps), 0) == 1.0);
    assert_true(number_at(doc, mp_json_first(steps), 1) == -100.0);
    assert_true(number_at(doc, mp_json_first(steps), 2) == -100.0 + 19.098e6);
    mp_json_free(doc);
}

/* Of too many spans the page has the last ones, from the begin of a step on. */
static void test_only_the_end_of_a_long_run(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(MAX_SPANS, NULL), MP_OK);
    uint64_t now = mp_clock_ns();
    record_row("first", "ffn", now, 16100);
    record_row("second", "ffn", now + 500, 16100);
    struct mp_report r = sample_report(&nothing);
    for (int s = 0; s < STEPS; s++) {
        sample_begin_ns[s] = now + (uint64_t)s * 1000000; /* 2000 spans each */
        sample_seconds[s] = 0.001;
    }
    r.num_steps = 16;
    struct mp_json *doc = write_and_read(&r);
    const struct cJSON *root = mp_json_root(doc);
    assert_true(number_in(doc, root, "recorded_spans") == 32200.0);
    const struct cJSON *tracks = mp_json_find(root, "tracks");
    assert_int_equal(mp_json_count(mp_json_find(mp_json_first(tracks), "spans")), 9100);
    const struct cJSON *steps = mp_json_find(root, "timeline_steps");
    assert_int_equal(mp_json_count(steps), 9);
    assert_true(number_at(doc, mp_json_first(steps), 0) == 7.0);
    assert_true(number_at(doc, mp_json_first(steps), 1) == 0.0);
    mp_json_free(doc);

    /* Without steps it begins where the limit says. */
    r.num_steps = 0;
    doc = write_and_read(&r);
    tracks = mp_json_find(mp_json_root(doc), "tracks");
    assert_int_equal(mp_json_count(mp_json_find(mp_json_first(tracks), "spans")), 10000);
    mp_json_free(doc);
}

static void test_nothing_measured(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    struct mp_report r = empty_report();
    struct mp_json *doc = write_and_read(&r);
    const struct cJSON *root = mp_json_root(doc);
    static const char *const empty[] = {"ops", "step_seconds", "tracks", "span_ops",
                                        "timeline_steps"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        const struct cJSON *array;
        assert_int_equal(mp_json_get_array(doc, root, empty[i], &array, NULL), MP_OK);
        assert_int_equal(mp_json_count(array), 0);
    }
    mp_json_free(doc);
}

static void test_unwritable_paths(void **state)
{
    (void)state;
    struct mp_report r = empty_report();
    static const char *const paths[] = {MP_SCRATCH_DIR "/no/such/folder/report.html", "/dev/full"};
    for (int i = 0; i < 2; i++) {
        struct mp_error err = {0};
        assert_int_equal(mp_report_write(paths[i], &r, &err), MP_ERR_IO);
        assert_non_null(strstr(err.message, paths[i]));
    }
}

static int write_sample(const char *folder, const char *name, const struct mp_report *r)
{
    char *path = mp_xasprintf("%s/%s", folder, name);
    struct mp_error err;
    int code = mp_report_write(path, r, &err);
    if (code != MP_OK) {
        fprintf(stderr, "%s\n", err.message);
    }
    free(path);
    return code;
}

static int write_samples(const char *folder)
{
    record_sample(true);
    struct mp_report r = sample_report(&with_gpu);
    int failed = write_sample(folder, "gpu.html", &r);
    record_sample(false);
    r = sample_report(&without_gpu);
    r.micro_batches = 1;
    failed |= write_sample(folder, "cpu.html", &r);
    r = empty_report();
    failed |= write_sample(folder, "no_steps.html", &r);
    mp_trace_clear();
    failed |= write_sample(folder, "empty.html", &r);
    return failed != 0;
}

int main(int argc, char **argv)
{
    if (argc == 2) {
        return write_samples(argv[1]);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_strings_survive),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_only_the_end_of_a_long_run),
        cmocka_unit_test(test_nothing_measured),
        cmocka_unit_test(test_unwritable_paths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
