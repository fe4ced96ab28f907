/* The trace: valid Chrome trace events, one ordered track per thread, counters, losses counted. */
#include "core/base/clock.h"
#include "core/trace/profile.h"
#include "tests/unit/core/trace_test.h"

#include <pthread.h>
#include <stdlib.h>

static const struct mp_span_info ffn = {
    .op = "ffn", .layer = 3, .request = -1, .chunk = 0, .micro_batch = -1};
static const struct mp_span_info sampling = {
    .op = "sample", .layer = -1, .request = 7, .chunk = -1, .micro_batch = -1};

/* Of a span about nothing but its op. */
static struct mp_span_info plain(const char *op)
{
    return (struct mp_span_info){
        .op = op, .layer = -1, .request = -1, .chunk = -1, .micro_batch = -1};
}

static void record(const char *op, uint64_t begin_ns, uint64_t end_ns)
{
    struct mp_span_info info = plain(op);
    mp_trace_span(&info, begin_ns, end_ns);
}

static void test_off_by_default(void **state)
{
    (void)state;
    assert_false(mp_trace_enabled());
    mp_trace_span(&ffn, 1, 2);
    mp_trace_counter("unseen", 1.0);
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
    mp_trace_name_thread("main \"quoted\\\n\" thread", MP_TRACK_HOST);
    uint64_t now = mp_clock_ns();
    mp_trace_span(&ffn, now, now + 1234567);
    mp_trace_span(&sampling, now + 2000000, now + 2000005);
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

static void test_work_and_micro_batch(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    mp_trace_name_thread("work", MP_TRACK_CPU);
    struct mp_span_info info = plain("attend");
    info.micro_batch = 1;
    info.flops = 2.5e9f;
    info.bytes = 4e6f;
    uint64_t t = mp_clock_ns();
    mp_trace_span(&info, t, t + 1000);
    cJSON *root = write_and_parse();
    const cJSON *span = span_at(root, track_named(root, "work"), 0);
    const cJSON *args = cJSON_GetObjectItem(span, "args");
    assert_int_equal(cJSON_GetArraySize(args), 3);
    assert_int_equal(number_of(args, "micro_batch"), 1);
    assert_near(value_of(args, "gflop"), 2.5);
    assert_near(value_of(args, "mbytes"), 4.0);
    cJSON_Delete(root);
}

/* Spans are recorded when they end: an inner one comes before the one around it. */
static void test_order_of_begin(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    mp_trace_name_thread("nested", MP_TRACK_HOST);
    uint64_t t = mp_clock_ns();
    record("inner", t + 2000, t + 3000);
    record("same begin, shorter", t + 1000, t + 1500);
    record("outer", t + 1000, t + 9000);
    record("before the start", 0, t);
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
    mp_trace_name_thread("full", MP_TRACK_HOST);
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
    mp_trace_name_thread("again", MP_TRACK_HOST);
    mp_trace_span(&ffn, 1, 2);
    mp_trace_span(&ffn, 1, 2);
    mp_trace_span(&ffn, 1, 2);
    assert_int_equal(mp_trace_start(5, NULL), MP_OK);
    for (int i = 0; i < 5; i++) {
        mp_trace_span(&sampling, mp_clock_ns(), mp_clock_ns());
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
    mp_trace_name_thread(name, MP_TRACK_CPU);
    for (int i = 0; i < SPANS_EACH; i++) {
        uint64_t begin = mp_clock_ns();
        struct mp_span_info info = ffn;
        info.layer = i;
        info.request = worker;
        mp_trace_span(&info, begin, mp_clock_ns());
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

/* A thread of another kind, with two spans one after the other. */
struct worker {
    const char *name;
    enum mp_track_kind kind;
    uint64_t start_ns; /* its first span begins 10 us later */
    float bytes;       /* of each span */
    uint64_t submit_ns;
};

static void *work(void *argument)
{
    const struct worker *w = argument;
    mp_trace_name_thread(w->name, w->kind);
    struct mp_span_info info = plain(w->name);
    info.bytes = w->bytes;
    info.submit_ns = w->submit_ns;
    mp_trace_span(&info, w->start_ns + 10000, w->start_ns + 20000);
    mp_trace_span(&info, w->start_ns + 30000, w->start_ns + 40000);
    return NULL;
}

/* Runs `work` on a thread of its own. */
static void run_worker(const struct worker *w)
{
    struct worker copy = *w;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, work, &copy), 0);
    pthread_join(thread, NULL);
}

/* The GPU's tracks come first, then the CPU's, then the program's, whoever was first to record. */
static void test_kinds_order_the_tracks(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    uint64_t t = mp_clock_ns();
    run_worker(&(struct worker){"host", MP_TRACK_HOST, t, 0.0f, 0});
    run_worker(&(struct worker){"cpu a", MP_TRACK_CPU, t, 0.0f, 0});
    run_worker(&(struct worker){"gpu", MP_TRACK_GPU, t, 0.0f, 0});
    run_worker(&(struct worker){"cpu b", MP_TRACK_CPU, t, 0.0f, 0});
    cJSON *root = write_and_parse();
    static const char *const order[] = {"gpu", "cpu a", "cpu b", "host"};
    for (int i = 0; i < 3; i++) {
        int before = sort_index(root, track_named(root, order[i]));
        assert_true(before < sort_index(root, track_named(root, order[i + 1])));
    }
    cJSON_Delete(root);
}

/* Traffic by kind of device and the queue of tasks follow from the spans. */
static void test_derived_counters(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    uint64_t t = mp_clock_ns();
    /* 20 kB in 10 us are 2 GB/s; the second worker is 5 us later. */
    run_worker(&(struct worker){"one", MP_TRACK_CPU, t, 20e3f, t + 1000});
    run_worker(&(struct worker){"two", MP_TRACK_CPU, t + 5000, 30e3f, t + 2000});
    run_worker(&(struct worker){"card", MP_TRACK_GPU, t, 500e3f, 0});
    run_worker(&(struct worker){"submission", MP_TRACK_HOST, t, 1e3f, 0});
    cJSON *root = write_and_parse();
    double zero = value_of(span_at(root, track_named(root, "one"), 0), "ts") - 10.0;

    static const struct sample cpu[] = {
        {10, 2.0}, {15, 5.0}, {20, 3.0}, {25, 0.0}, {30, 2.0}, {35, 5.0}, {40, 3.0}, {45, 0.0},
    };
    static const struct sample gpu[] = {{10, 50.0}, {20, 0.0}, {30, 50.0}, {40, 0.0}};
    static const struct sample queued[] = {
        {1, 2.0}, {2, 4.0}, {20, 3.0}, {25, 2.0}, {40, 1.0}, {45, 0.0},
    };
    assert_counter(root, "CPU GB/s", zero, cpu, 8);
    assert_counter(root, "GPU GB/s", zero, gpu, 4);
    assert_counter(root, "tasks queued", zero, queued, 6);
    cJSON_Delete(root);
}

static void test_recorded_counters(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(3, NULL), MP_OK);
    for (int i = 0; i < 2; i++) {
        mp_trace_counter("tokens", 0.25 + i);
        mp_trace_counter("requests", 7.0); /* the second finds no room */
    }
    cJSON *root = write_and_parse();
    double last = 0.0;
    int found = 0;
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        if (strcmp(text_of(event, "ph"), "C") == 0) {
            static const char *const names[] = {"tokens", "requests", "tokens"};
            static const double values[] = {0.25, 7.0, 1.25};
            assert_true(found < 3);
            assert_string_equal(text_of(event, "name"), names[found]);
            double value = value_of(cJSON_GetObjectItem(event, "args"), "value");
            assert_true(value == values[found]);
            assert_true(value_of(event, "ts") >= last);
            last = value_of(event, "ts");
            found++;
        }
    }
    assert_int_equal(found, 3);
    assert_int_equal(number_of(cJSON_GetObjectItem(root, "otherData"), "lost_spans"), 1);
    cJSON_Delete(root);
}

static void test_clear_drops_and_goes_on(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(2, NULL), MP_OK);
    mp_trace_name_thread("cleared", MP_TRACK_CPU);
    uint64_t before = mp_clock_ns();
    for (int i = 0; i < 3; i++) {
        record("warm-up", before, before + 1);
        mp_trace_counter("tokens", 1.0);
    }
    mp_trace_clear();
    assert_true(mp_trace_enabled());
    uint64_t now = mp_clock_ns();
    record("measured", before, now + 1000); /* under way at the clear: cut there */
    mp_trace_counter("requests", 2.0);
    cJSON *root = write_and_parse();
    int tid = track_named(root, "cleared");
    assert_string_equal(text_of(span_at(root, tid, 0), "name"), "measured");
    assert_true(value_of(span_at(root, tid, 0), "ts") == 0.0);
    assert_true(value_of(span_at(root, tid, 0), "dur") <= (double)(now + 1000 - before) / 1e3);
    assert_null(span_at(root, tid, 1));
    assert_null(strstr(read_text(), "\"tokens\""));
    assert_non_null(strstr(read_text(), "\"requests\""));
    assert_int_equal(number_of(cJSON_GetObjectItem(root, "otherData"), "lost_spans"), 0);
    cJSON_Delete(root);
}

/* What mp_trace_each showed. */
struct visits {
    int count;
    char names[4][32];
    enum mp_track_kind kinds[4];
    int64_t spans[4];
};

static void visit(void *arg, const struct mp_track *track)
{
    struct visits *v = arg;
    assert_true(v->count < 4);
    snprintf(v->names[v->count], sizeof v->names[0], "%s", track->name);
    v->kinds[v->count] = track->kind;
    v->spans[v->count] = track->count;
    for (int64_t i = 1; i < track->count; i++) {
        assert_true(track->spans[i - 1].begin_ns <= track->spans[i].begin_ns);
    }
    v->count++;
}

static void *record_unnamed(void *argument)
{
    (void)argument;
    record("nested", 20, 30);
    record("around", 10, 40);
    return NULL;
}

static void test_each_visits_who_recorded(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    run_worker(&(struct worker){"early", MP_TRACK_GPU, 0, 0.0f, 0});
    mp_trace_clear();
    struct visits none = {0};
    mp_trace_each(visit, &none);
    assert_int_equal(none.count, 0);

    run_worker(&(struct worker){"late", MP_TRACK_GPU, 0, 0.0f, 0});
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, record_unnamed, NULL), 0);
    pthread_join(thread, NULL);
    struct visits v = {0};
    mp_trace_each(visit, &v);
    assert_int_equal(v.count, 2);
    assert_string_equal(v.names[0], "late");
    assert_int_equal(v.kinds[0], MP_TRACK_GPU);
    assert_int_equal(v.spans[0], 2);
    assert_int_equal(strncmp(v.names[1], "thread ", 7), 0);
    assert_int_equal(v.kinds[1], MP_TRACK_HOST);
    assert_int_equal(v.spans[1], 2);
    cJSON_Delete(write_and_parse());
}

/* The name of a process; NULL: there is none. */
static const char *process_name(const cJSON *root, int pid)
{
    const cJSON *event;
    cJSON_ArrayForEach(event, cJSON_GetObjectItem(root, "traceEvents"))
    {
        if (strcmp(text_of(event, "name"), "process_name") == 0 && number_of(event, "pid") == pid) {
            return text_of(cJSON_GetObjectItem(event, "args"), "name");
        }
    }
    return NULL;
}

/* What another rank has recorded, on a clock that is 5 s behind, becomes a process of the trace on
 * this clock; its work is not this process's. */
static void test_recordings_of_ranks(void **state)
{
    (void)state;
    const struct mp_clock_offset clock = {.offset_ns = 5000000000, .round_trip_ns = 70500};
    uint64_t here = mp_clock_ns() + 1000000000;
    uint64_t there = here - 5000000000;
    assert_int_equal(mp_trace_start(2, NULL), MP_OK);
    run_worker(&(struct worker){"their worker", MP_TRACK_CPU, there, 20e3f, there + 1000});
    mp_trace_name_thread("their main", MP_TRACK_HOST);
    record("exchange", there + 4000, there + 6000);
    record("wait", there + 7000, there + 8000);
    record("too much", there + 9000, there + 9500);
    size_t bytes;
    char *packed = mp_trace_pack(&bytes);
    assert_false(mp_trace_enabled());

    assert_int_equal(mp_trace_start(8, NULL), MP_OK);
    mp_trace_name_thread("main", MP_TRACK_HOST);
    record("ours", here, here + 1000);
    mp_trace_add(1, &clock, packed);
    free(packed);
    struct mp_profile p = {0};
    mp_profile_add(&p, 0, here + 1000000);
    assert_int_equal(p.num_ops, 0);
    mp_profile_free(&p);

    cJSON *root = write_and_parse();
    int theirs = track_named(root, "their main");
    const cJSON *ours = span_at(root, track_named(root, "main"), 0);
    const cJSON *exchange = span_at(root, theirs, 0);
    const cJSON *work_done = span_at(root, track_named(root, "their worker"), 0);
    assert_int_equal(number_of(ours, "pid"), 1);
    assert_int_equal(number_of(exchange, "pid"), 2);
    assert_int_equal(number_of(work_done, "pid"), 2);
    assert_string_equal(process_name(root, 1), "magicpig-pipe");
    assert_string_equal(process_name(root, 2), "magicpig-pipe, rank 1");
    assert_null(process_name(root, 3));
    assert_string_equal(text_of(exchange, "name"), "exchange");
    assert_string_equal(text_of(span_at(root, theirs, 1), "name"), "wait");
    assert_null(span_at(root, theirs, 2));
    assert_near(value_of(exchange, "ts") - value_of(ours, "ts"), 4.0);
    assert_near(value_of(exchange, "dur"), 2.0);
    static const struct sample rate[] = {{10, 2.0}, {20, 0.0}, {30, 2.0}, {40, 0.0}};
    assert_counter(root, "CPU GB/s", value_of(ours, "ts"), rate, 4);
    const cJSON *other = cJSON_GetObjectItem(root, "otherData");
    assert_int_equal(number_of(other, "lost_spans"), 1);
    const cJSON *first = cJSON_GetArrayItem(cJSON_GetObjectItem(other, "clocks"), 0);
    assert_int_equal(number_of(first, "rank"), 1);
    assert_near(value_of(first, "offset_us"), 5e6);
    assert_near(value_of(first, "round_trip_us"), 70.5);
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
        cmocka_unit_test(test_work_and_micro_batch),
        cmocka_unit_test(test_order_of_begin),
        cmocka_unit_test(test_lost_spans_are_counted),
        cmocka_unit_test(test_restart_drops_old_spans),
        cmocka_unit_test(test_threads_have_tracks_of_their_own),
        cmocka_unit_test(test_kinds_order_the_tracks),
        cmocka_unit_test(test_derived_counters),
        cmocka_unit_test(test_recorded_counters),
        cmocka_unit_test(test_clear_drops_and_goes_on),
        cmocka_unit_test(test_each_visits_who_recorded),
        cmocka_unit_test(test_recordings_of_ranks),
        cmocka_unit_test(test_unwritable_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
