/* Reading a trace back: its tracks, spans and counters. */
#ifndef MP_TESTS_TRACE_TEST_H
#define MP_TESTS_TRACE_TEST_H

#include "core/trace/trace.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const char path[] = MP_SCRATCH_DIR "/test_trace.json";

static inline char *read_text(void)
{
    static char text[1 << 20];
    FILE *in = fopen(path, "r");
    assert_non_null(in);
    size_t length = fread(text, 1, sizeof text - 1, in);
    text[length] = '\0';
    fclose(in);
    return text;
}

static inline cJSON *write_and_parse(void)
{
    struct mp_error err = {0};
    assert_int_equal(mp_trace_write(path, &err), MP_OK);
    cJSON *root = cJSON_Parse(read_text());
    assert_non_null(root);
    return root;
}

static inline const char *text_of(const cJSON *object, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));
    assert_non_null(text);
    return text;
}

static inline int number_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valueint;
}

static inline double value_of(const cJSON *object, const char *key)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);
    assert_true(cJSON_IsNumber(item));
    return item->valuedouble;
}

static inline void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-6)) {
        fail_msg("found %.9g, expected %.9g", found, expected);
    }
}

/* The tid of the track with this name; -1 if there is none. */
static inline int track_named(const cJSON *root, const char *name)
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
static inline const cJSON *span_at(const cJSON *root, int tid, int i)
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

/* The place of a track among the tracks. */
static inline int sort_index(const cJSON *root, int tid)
{
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        if (strcmp(text_of(event, "name"), "thread_sort_index") == 0 &&
            number_of(event, "tid") == tid) {
            return number_of(cJSON_GetObjectItem(event, "args"), "sort_index");
        }
    }
    fail_msg("track %d has no place", tid);
    return -1;
}

/* A point of a counter. */
struct sample {
    double us;
    double value;
};

/* The counter's events are exactly those expected, in this order. zero: where in the file the
 * expected times count from, microseconds. */
static inline void assert_counter(const cJSON *root, const char *name, double zero,
                                  const struct sample *expected, int count)
{
    int found = 0;
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        if (strcmp(text_of(event, "ph"), "C") == 0 && strcmp(text_of(event, "name"), name) == 0) {
            assert_true(found < count);
            assert_near(value_of(event, "ts"), zero + expected[found].us);
            double value = value_of(cJSON_GetObjectItem(event, "args"), "value");
            assert_near(value, expected[found].value);
            found++;
        }
    }
    assert_int_equal(found, count);
}

#endif
