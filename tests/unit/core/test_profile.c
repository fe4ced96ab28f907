/* The profile of hand-made spans: unions of time, cuts at the borders, sums per op. */
#include "core/trace/profile.h"

#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* One span, in seconds; flops and bytes as they are recorded. */
struct piece {
    const char *op;
    double begin;
    double end;
    float flops;
    float bytes;
};

/* The spans of one thread, up to the first without an op. */
struct thread {
    enum mp_track_kind kind;
    struct piece pieces[8];
};

static uint64_t ns(double seconds)
{
    return (uint64_t)(1e9 * seconds);
}

static void *record(void *argument)
{
    const struct thread *t = argument;
    mp_trace_name_thread("test", t->kind);
    for (const struct piece *p = t->pieces; p->op != NULL; p++) {
        struct mp_span_info info = {.op = p->op, .flops = p->flops, .bytes = p->bytes};
        mp_trace_span(&info, ns(p->begin), ns(p->end));
    }
    return NULL;
}

/* Starts a recording and records each thread's spans on a thread of its own. */
static void record_threads(struct thread *threads, int count)
{
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    for (int i = 0; i < count; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, record, &threads[i]), 0);
        pthread_join(thread, NULL);
    }
}

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) < 1e-9 * (1.0 + expected))) {
        fail_msg("found %.12g, expected %.12g", found, expected);
    }
}

static void assert_overlap(const struct mp_overlap *o, double cpu, double gpu, double both,
                           double idle, double seconds)
{
    assert_near(o->busy[MP_TRACK_CPU], cpu);
    assert_near(o->busy[MP_TRACK_GPU], gpu);
    assert_near(o->both, both);
    assert_near(o->idle, idle);
    assert_near(o->seconds, seconds);
    assert_true(o->busy[MP_TRACK_HOST] == 0.0);
}

/* Of a profile of one interval. */
static void assert_times(const struct mp_profile *p, double cpu, double gpu, double both,
                         double idle, double seconds)
{
    assert_int_equal(p->num_intervals, 1);
    assert_overlap(&p->intervals[0], cpu, gpu, both, idle, seconds);
    assert_near(p->seconds, seconds);
}

static void assert_op(const struct mp_profile_op *op, const char *name, enum mp_track_kind kind,
                      int64_t calls, double seconds, double flops, double bytes)
{
    assert_string_equal(op->name, name);
    assert_int_equal(op->kind, kind);
    assert_int_equal(op->calls, calls);
    assert_near(op->seconds, seconds);
    assert_near(op->flops, flops);
    assert_near(op->bytes, bytes);
}

/* Two CPU workers that overlap, one with a gap, and a GPU that overlaps both:
 *   CPU   [1, 3) [2, 5)   [7, 8)     busy 5
 *   GPU        [2, 4) [4, 6)         busy 4, both on [2, 5)
 * Of [0, 10) that leaves [0, 1), [6, 7) and [8, 10). */
static void test_unions_of_tracks(void **state)
{
    (void)state;
    struct thread threads[] = {
        {MP_TRACK_CPU, {{"lookup", 1, 3, 10, 100}, {"attention", 7, 8, 20, 200}}},
        {MP_TRACK_CPU, {{"lookup", 2, 5, 30, 300}}},
        {MP_TRACK_GPU, {{"ffn", 2, 4, 1000, 1}, {"attention", 4, 6, 2000, 2}}},
        {MP_TRACK_HOST, {{"wait", 0, 10, 5, 5}}},
    };
    record_threads(threads, 4);
    struct mp_profile p = {0};
    mp_profile_add(&p, ns(0), ns(10));
    assert_times(&p, 5, 4, 3, 4, 10);
    assert_int_equal(p.num_ops, 4);
    assert_op(&p.ops[0], "lookup", MP_TRACK_CPU, 2, 5, 40, 400);
    assert_op(&p.ops[1], "attention", MP_TRACK_CPU, 1, 1, 20, 200);
    assert_op(&p.ops[2], "ffn", MP_TRACK_GPU, 1, 2, 1000, 1);
    assert_op(&p.ops[3], "attention", MP_TRACK_GPU, 1, 2, 2000, 2);
    mp_profile_free(&p);
    assert_int_equal(p.num_ops, 0);
    assert_null(p.ops);
}

/* Of [0, 4) only [1, 3) counts, and half of its work; what only touches the border does not. */
static void test_spans_are_cut(void **state)
{
    (void)state;
    struct thread threads[] = {
        {MP_TRACK_CPU, {{"ends before", 0, 1, 7, 7}, {"begins after", 3, 5, 7, 7}}},
        {MP_TRACK_CPU, {{"across", 0, 4, 10, 20}}},
    };
    record_threads(threads, 2);
    struct mp_profile p = {0};
    mp_profile_add(&p, ns(1), ns(3));
    assert_times(&p, 2, 0, 0, 0, 2);
    assert_int_equal(p.num_ops, 1);
    assert_op(&p.ops[0], "across", MP_TRACK_CPU, 1, 2, 5, 10);
    mp_profile_free(&p);
}

/* Ops add up over intervals, what lies between them is left out, and the recorder may be cleared
 * between two of them. */
static void test_intervals_add_up(void **state)
{
    (void)state;
    struct thread threads[] = {
        {MP_TRACK_CPU, {{"a", 1, 2, 1, 0}, {"b", 2, 6, 8, 0}}},
        {MP_TRACK_GPU, {{"a", 5, 9, 4, 0}}},
    };
    record_threads(threads, 2);
    struct mp_profile p = {0};
    mp_profile_add(&p, ns(0), ns(3)); /* CPU [1, 3) */
    mp_profile_add(&p, ns(5), ns(8)); /* CPU [5, 6), GPU [5, 8) */
    mp_trace_clear();
    mp_profile_add(&p, ns(8), ns(10)); /* nothing is left */
    assert_int_equal(p.num_intervals, 3);
    assert_overlap(&p.intervals[0], 2, 0, 0, 1, 3);
    assert_overlap(&p.intervals[1], 1, 3, 1, 0, 3);
    assert_overlap(&p.intervals[2], 0, 0, 0, 2, 2);
    assert_near(p.seconds, 8);
    assert_int_equal(p.num_ops, 3);
    assert_op(&p.ops[0], "a", MP_TRACK_CPU, 1, 1, 1, 0);
    assert_op(&p.ops[1], "b", MP_TRACK_CPU, 2, 2, 4, 0);
    assert_op(&p.ops[2], "a", MP_TRACK_GPU, 1, 3, 3, 0);
    mp_profile_free(&p);
}

/* The interval of median length speaks for all, whatever the longest one was like. */
static void test_typical_interval(void **state)
{
    (void)state;
    struct thread thread = {MP_TRACK_CPU,
                            {{"a", 0, 1, 0, 0}, {"a", 10, 12, 0, 0}, {"a", 20, 21, 0, 0}}};
    record_threads(&thread, 1);
    struct mp_profile p = {0};
    struct mp_overlap typical = mp_profile_typical(&p);
    assert_overlap(&typical, 0, 0, 0, 0, 0);
    mp_profile_add(&p, ns(20), ns(90)); /* 69 of them idle */
    mp_profile_add(&p, ns(0), ns(2));
    typical = mp_profile_typical(&p); /* of two the shorter */
    assert_overlap(&typical, 1, 0, 0, 1, 2);
    mp_profile_add(&p, ns(10), ns(13));
    typical = mp_profile_typical(&p);
    assert_overlap(&typical, 2, 0, 0, 1, 3);
    mp_profile_free(&p);
}

static void test_nothing_recorded(void **state)
{
    (void)state;
    assert_int_equal(mp_trace_start(16, NULL), MP_OK);
    struct mp_profile p = {0};
    mp_profile_add(&p, ns(3), ns(5));
    assert_times(&p, 0, 0, 0, 2, 2);
    assert_int_equal(p.num_ops, 0);
    mp_profile_free(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unions_of_tracks), cmocka_unit_test(test_spans_are_cut),
        cmocka_unit_test(test_intervals_add_up), cmocka_unit_test(test_typical_interval),
        cmocka_unit_test(test_nothing_recorded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
