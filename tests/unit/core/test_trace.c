/* The trace: valid Chrome trace events, one ordered track per thread, losses counted. */
#include "core/trace.h"

#include "core/clock.h"

#include <cjson/cJSON.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char path[] = MP_SCRATCH_DIR "/test_trace.json";

static const struct mp_span_info ffn = {"ffn", 3, -1, 0};
static const struct mp_span_info sample = {"sample", -1, 7, -1};

static char *read_text(void)
{
    static char text[1 << 20];
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t length = fread(text, 1, sizeof text - 1, in);
    text[length] = '\0';
    fclose(in);
    return text;
}

static cJSON *write_and_parse(void)
{
    struct mp_error err = {0};
    assert_int_equal(mp_trace_write(path, &err), MP_OK);
    cJSON *root = cJSON_Parse(read_text());
    assert_non_null(root);
    return root;
}

static const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    assert_non_null(text);
    return text;
}

static int number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valueint;
}

/* The tid of the track with this name; -1 if there is none. */
static int track_named(const cJSON *root, const char *name)
{
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        const cJSON *args = cJSON_GetObjectItem(event, "args");
        if (strcmp(text_of(event, "name"), "thread_name") == 0 &&
            strcmp(text_of(args, "name"), name) == 0) {
            return number_of(event, "tid");
        }
    }
    return -1;
}

/* Span i of a track; NULL behind the last. */
static const cJSON *span_at(const cJSON *root, int tid, int i)
{
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        if (strcmp(text_of(event, "ph"), "X") == 0 && number_of(event, "tid") == tid && i-- == 0) {
            return event;
        }
    }
    return NULL;
}

static void test_off_by_default(void **state)
{
    (void)state;
    assert_false(mp_trace_enabled());
    mp_trace_span(&ffn, 1, 2);
    assert_int_equal(mp_trace_start(0, NULL), MP_ERR_USAGE);
    assert_int_equal(mp_trace_start(-1, NULL), MP_ERR_USAGE);
    assert_int_equal(mp_trace_start(INT64_MAX, NULL), MP_ERR_USAGE);
    assert_false(mp_trace_enabled());
}

static void test_span_fields(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    assert_true(mp_trace_enabled());
    mp_trace_name_thread("main \"quoted\\\n\" thread");
    uint64_t now = mp_clock_ns();
    mp_trace_span(&ffn, now, now + 1234567);
    mp_trace_span(&sample, now + 2000000, now + 2000005);
    cJSON *root = write_and_parse();
    assert_false(mp_trace_enabled());

    int tid = track_named(root, "main \"quoted\\\n\" thread");
    const cJSON *first = span_at(root, tid, 0);
    const cJSON *second = span_at(root, tid, 1);
    assert_non_null(second);
    assert_null(span_at(root, tid, 2));
    assert_string_equal(text_of(first, "name"), "ffn");
    assert_string_equal(text_of(second, "name"), "sample");
    /* Arguments that do not apply are left out. */
    const cJSON *args = cJSON_GetObjectItem(first, "args");
    assert_int_equal(cJSON_GetArraySize(args), 2);
    assert_int_equal(number_of(args, "layer"), 3);
    assert_int_equal(number_of(args, "chunk"), 0);
    args = cJSON_GetObjectItem(second, "args");
    assert_int_equal(cJSON_GetArraySize(args), 1);
    assert_int_equal(number_of(args, "request"), 7);
    cJSON_Delete(root);

    /* Microseconds that keep every nanosecond. */
    assert_non_null(strstr(read_text(), "\"dur\":1234.567,"));
    assert_non_null(strstr(read_text(), "\"dur\":0.005,"));
}

/* Spans are recorded when they end: an inner one comes before the one around it. */
static void test_order_of_begin(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    mp_trace_name_thread("nested");
    uint64_t t = mp_clock_ns();
    mp_trace_span(&(struct mp_span_info){"inner", -1, -1, -1}, t + 2000, t + 3000);
    mp_trace_span(&(struct mp_span_info){"same begin, shorter", -1, -1, -1}, t + 1000, t + 1500);
    mp_trace_span(&(struct mp_span_info){"outer", -1, -1, -1}, t + 1000, t + 9000);
    mp_trace_span(&(struct mp_span_info){"before the start", -1, -1, -1}, 0, t);
    cJSON *root = write_and_parse();
    static const char *const names[] = {"before the start", "outer", "same begin, shorter",
                                        "inner"};
    int tid = track_named(root, "nested");
    double last = 0.0;
    for (int i = 0; i < 4; i++) {
        const cJSON *span = span_at(root, tid, i);
        assert_string_equal(text_of(span, "name"), names[i]);
        double begin = cJSON_GetObjectItem(span, "ts")->valuedouble;
        assert_true(begin >= last);
        last = begin;
    }
    assert_true(cJSON_GetObjectItem(span_at(root, tid, 0), "ts")->valuedouble == 0.0);
    cJSON_Delete(root);
}

static void test_lost_spans_are_counted(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(3, NULL), MP_OK);
    mp_trace_name_thread("full");
    for (int i = 0; i < 10; i++) {
        uint64_t now = mp_clock_ns();
        mp_trace_span(&ffn, now, now + 1);
    }
    cJSON *root = write_and_parse();
    int tid = track_named(root, "full");
    assert_non_null(span_at(root, tid, 2));
    assert_null(span_at(root, tid, 3));
    assert_int_equal(number_of(cJSON_GetObjectItem(root, "otherData"), "lost_spans"), 7);
    cJSON_Delete(root);
}

/* A second recording starts empty, and with its own capacity. */
static void test_restart_drops_old_spans(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(2, NULL), MP_OK);
    mp_trace_name_thread("again");
    mp_trace_span(&ffn, 1, 2);
    mp_trace_span(&ffn, 1, 2);
    mp_trace_span(&ffn, 1, 2);
    assert_int_equal(mp_trace_start(5, NULL), MP_OK);
    for (int i = 0; i < 5; i++) {
        mp_trace_span(&sample, mp_clock_ns(), mp_clock_ns());
    }
    cJSON *root = write_and_parse();
    int tid = track_named(root, "again");
    assert_string_equal(text_of(span_at(root, tid, 0), "name"), "sample");
    assert_non_null(span_at(root, tid, 4));
    assert_int_equal(number_of(cJSON_GetObjectItem(root, "otherData"), "lost_spans"), 0);
    cJSON_Delete(root);
}

enum { WORKERS = 4, SPANS_EACH = 500 };

static void *record_many(void *argument)
{
    int worker = *(int *)argument;
    char name[32];
    snprintf(name, sizeof name, "worker %d", worker);
    mp_trace_name_thread(name);
    for (int i = 0; i < SPANS_EACH; i++) {
        uint64_t begin = mp_clock_ns();
        mp_trace_span(&(struct mp_span_info){"ffn", i, worker, -1}, begin, mp_clock_ns());
    }
    return NULL;
}

static void test_threads_have_tracks_of_their_own(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(SPANS_EACH, NULL), MP_OK);
    pthread_t threads[WORKERS];
    int numbers[WORKERS];
    for (int w = 0; w < WORKERS; w++) {
        numbers[w] = w;
        assert_int_equal(pthread_create(&threads[w], NULL, record_many, &numbers[w]), 0);
    }
    for (int w = 0; w < WORKERS; w++) {
        pthread_join(threads[w], NULL);
    }
    cJSON *root = write_and_parse();
    const cJSON *event;
    int next[WORKERS] = {0}; /* layer numbers count up on each track */
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        if (strcmp(text_of(event, "ph"), "X") == 0) {
            const cJSON *args = cJSON_GetObjectItem(event, "args");
            int worker = number_of(args, "request");
            char name[32];
            snprintf(name, sizeof name, "worker %d", worker);
            assert_int_equal(number_of(event, "tid"), track_named(root, name));
            assert_int_equal(number_of(args, "layer"), next[worker]++);
        }
    }
    for (int w = 0; w < WORKERS; w++) {
        assert_int_equal(next[w], SPANS_EACH);
    }
    cJSON_Delete(root);
}

static void test_unwritable_files(void **state)
{
    (void)state;
    struct mp_error err = {0};
    assert_int_equal(mp_trace_start(2, NULL), MP_OK);
    assert_int_equal(mp_trace_write(MP_SCRATCH_DIR "/no/such/folder/t.json", &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "no/such/folder/t.json"));
    assert_false(mp_trace_enabled());
    assert_int_equal(mp_trace_start(2, NULL), MP_OK);
    assert_int_equal(mp_trace_write("/dev/full", &err), MP_ERR_IO);
    assert_non_null(strstr(err.message, "/dev/full"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_off_by_default),
        cmocka_unit_test(test_span_fields),
        cmocka_unit_test(test_order_of_begin),
        cmocka_unit_test(test_lost_spans_are_counted),
        cmocka_unit_test(test_restart_drops_old_spans),
        cmocka_unit_test(test_threads_have_tracks_of_their_own),
        cmocka_unit_test(test_unwritable_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
