/* An imagined machine for tests of the search. */
#ifndef MP_TESTS_TUNE_FIXTURE_H
#define MP_TESTS_TUNE_FIXTURE_H

#include "engine_fixture.h"

#include "core/base/rng.h"
#include "pipeline/tune/tune.h"

#include <math.h>

static char *letters[] = {"a", "b", "c", "d", "e"};

static const struct mp_tune_axes AXES = {
    .items =
        {
            {.path = "runtime.first", .flag = "first", .values = letters, .count = 4},
            {.path = "runtime.second", .flag = "second", .values = letters, .count = 3},
            {.path = "runtime.third", .flag = "third", .values = letters, .count = 5},
        },
    .count = 3,
};

/* The same, and shares of the time for a prompt that joins. */
static const struct mp_tune_axes JOIN_AXES = {
    .items =
        {
            {.path = "runtime.first", .flag = "first", .values = letters, .count = 4},
            {.path = "runtime.second", .flag = "second", .values = letters, .count = 3},
            {.path = "runtime.third", .flag = "third", .values = letters, .count = 5},
            {.path = "runtime.share",
             .flag = "share",
             .joins = true,
             .values = letters,
             .count = 5},
        },
    .count = 4,
};
enum { JOIN_AXIS = 3 };
static const double SHARES[] = {0.5, 0.1, 0.25, 0.75, 1.0};

struct fake {
    const struct mp_tune_axes *axes;
    double (*step)(struct fake *f, const struct mp_tune_point *p); /* seconds */
    double beside; /* seconds of reading a prompt in a second of a step that do not lengthen it */
    size_t failing_shares; /* so many of SHARES, the first ones, cannot be measured */
    int joins;             /* calls in which one joined */
    double noise;          /* steps vary by up to this share */
    struct mp_rng rng;
    int calls;
    int lucky_calls;  /* of the point that `lucky` favours */
    int interrupt_at; /* the call that is interrupted; -1: none */
    int change_at;    /* for landscapes that change: from this call on; -1: never */
    double slow_step; /* seconds, of the last request */
    double limit;
    struct mp_tune_point accepted;
    int num_accepted;
    struct mp_tune_state *state;
};

static inline void fake_init(struct fake *f,
                             double (*step)(struct fake *, const struct mp_tune_point *))
{
    *f = (struct fake){.axes = &AXES, .step = step, .interrupt_at = -1, .change_at = -1};
    mp_rng_init(&f->rng, 11, 0);
}

/* A prompt that takes 5 s alone and may lengthen the steps by a share of the time. */
static inline void join(const struct fake *f, double share, struct mp_tune_sample *out)
{
    double step = out->step;
    out->step = share < 1.0 ? step / (1.0 - share) : 5.0;
    out->first_token = 5.0 * out->step / (out->step - (1.0 - f->beside) * step);
}

static inline int fake_measure(void *arg, const struct mp_tune_request *request,
                               struct mp_tune_sample *out, struct mp_error *err)
{
    struct fake *f = arg;
    if (f->calls == f->interrupt_at) {
        return mp_fail(err, MP_ERR_INTERRUPTED, "interrupted");
    }
    f->calls++;
    f->slow_step = request->slow_step;
    f->limit = request->limit;
    double uniform = (double)(mp_rng_next(&f->rng) >> 11) * 0x1p-53;
    *out = (struct mp_tune_sample){.cpu_busy = 0.5, .wall = 7.0};
    out->step = f->step(f, &request->point) * (1.0 + f->noise * (2.0 * uniform - 1.0));
    if (request->joins) {
        size_t share = request->point.at[JOIN_AXIS];
        f->joins++;
        assert_true(request->limit > 0.0); /* even with nothing to compare with, it may hang */
        join(f, SHARES[share], out);
        out->step = share < f->failing_shares ? INFINITY : out->step;
    } else {
        assert_int_equal(request->point.at[JOIN_AXIS], 0); /* its decode steps are the same */
    }
    if (isinf(out->step)) {
        snprintf(out->why, sizeof out->why, "no \"such\" policy");
    }
    return 0;
}

static inline int fake_measure_with_state(void *arg, const struct mp_tune_request *request,
                                          struct mp_tune_sample *out, struct mp_error *err)
{
    struct fake *f = arg;
    return mp_tune_state_measure(f->state, f->axes, request, fake_measure, f, out, err);
}

static inline int fake_accept(void *arg, const struct mp_tune_point *point, struct mp_error *err)
{
    (void)err;
    struct fake *f = arg;
    f->accepted = *point;
    f->num_accepted++;
    return 0;
}

static inline int search(struct fake *f, struct mp_tune_result *out, struct mp_error *err)
{
    const struct mp_tune_machine machine = {.batch = 1};
    FILE *null = fopen("/dev/null", "w");
    struct mp_tune_table *table = mp_tune_table_new(null, &machine);
    const struct mp_tune_search s = {
        .axes = f->axes,
        .measure = f->state != NULL ? fake_measure_with_state : fake_measure,
        .accept = fake_accept,
        .arg = f,
        .table = table,
    };
    int code = mp_tune_search(&s, out, err);
    mp_tune_table_free(table);
    fclose(null);
    return code;
}

/* ---- landscapes ---- */

/* Best at (2, 1, 4); value 3 of the first axis cannot run, and value 1 of the third is hopeless. */
static inline double separable(struct fake *f, const struct mp_tune_point *p)
{
    (void)f;
    static const double first[] = {1.0, 1.1, 0.8, INFINITY};
    static const double second[] = {1.0, 0.9, 0.95};
    static const double third[] = {1.0, 9.0, 1.2, 0.9, 0.7};
    return 0.01 * first[p->at[0]] * second[p->at[1]] * third[p->at[2]];
}

/* On that landscape, with prompts that join: `beside` as in struct fake. */
static inline void fake_init_joins(struct fake *f, double beside)
{
    fake_init(f, separable);
    f->axes = &JOIN_AXES;
    f->beside = beside;
}

static inline double flat(struct fake *f, const struct mp_tune_point *p)
{
    (void)f;
    (void)p;
    return 0.01;
}

#endif
