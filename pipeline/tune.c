/* The search: one axis after the other, the rest at the best values so far. */
#include "pipeline/tune.h"

#include "pipeline/bench.h"

#include <math.h>
#include <string.h>

enum { MAX_ROUNDS = 2, PAIRS = 3 };

/* A gain below this is not worth a setting that differs from the default. */
static const double LEAST_GAIN = 0.02;
/* Candidates this much slower than the best are not measured to the end. */
static const double SLOW = 2.0;
/* A candidate that takes this much longer than the start did, and this many seconds, hangs. */
static const double HANGS = 5.0;
static const double HANGS_SECONDS = 20.0;

struct search {
    const struct mp_tune_search *s;
    struct mp_tune_point best;
    double best_step; /* seconds, as measured last */
    double limit;     /* seconds a measurement may take */
    int changes;      /* of the best */
};

static int measure(struct search *r, const struct mp_tune_point *point,
                   struct mp_tune_sample *sample, struct mp_error *err)
{
    struct mp_tune_request request = {
        .point = *point, .slow_step = SLOW * r->best_step, .limit = r->limit};
    *sample = (struct mp_tune_sample){0};
    return r->s->measure(r->s->arg, &request, sample, err);
}

static int measure_start(struct search *r, struct mp_error *err)
{
    struct mp_tune_sample sample;
    int code = measure(r, &r->best, &sample, err);
    if (code != 0) {
        return code;
    }
    if (isinf(sample.step)) {
        return mp_fail(err, MP_ERR_RUNTIME, "the configuration as given cannot be measured: %s",
                       sample.why);
    }
    r->best_step = sample.step;
    r->limit = fmax(HANGS * sample.wall, HANGS_SECONDS);
    mp_tune_table_row(r->s->table, "start", "", &sample, 0.0);
    return 0;
}

/* Steps of two points, measured in turns: what else the machine does hits both. *better: `point`
 * was faster every time, so that one lucky run does not decide, and by LEAST_GAIN in the median. */
static int side_by_side(struct search *r, const struct mp_tune_point *point,
                        const struct mp_tune_point *other, double *step, double *other_step,
                        bool *better, struct mp_error *err)
{
    double steps[PAIRS];
    double other_steps[PAIRS];
    *better = true;
    for (int i = 0; i < PAIRS; i++) {
        struct mp_tune_sample sample;
        int code = measure(r, point, &sample, err);
        steps[i] = sample.step;
        if (code == 0) {
            code = measure(r, other, &sample, err);
            other_steps[i] = sample.step;
        }
        if (code != 0) {
            return code;
        }
        *better = *better && steps[i] < other_steps[i];
    }
    *step = mp_median(steps, PAIRS);
    *other_step = mp_median(other_steps, PAIRS);
    *better = *better && *step < (1.0 - LEAST_GAIN) * *other_step;
    return 0;
}

/* Measures every value of an axis, the current one too: the machine may be slower now than when it
 * was measured last. *challenger gets the fastest of the others. */
static int sweep(struct search *r, size_t a, size_t *challenger, double *challenger_step,
                 struct mp_error *err)
{
    const struct mp_tune_axis *axis = &r->s->axes->items[a];
    size_t current = r->best.at[a];
    *challenger_step = INFINITY;
    for (size_t n = 0; n < axis->count; n++) {
        /* The current value first, since the others are compared with it. */
        size_t value = n == 0 ? current : n <= current ? n - 1 : n;
        struct mp_tune_point point = r->best;
        struct mp_tune_sample sample;
        point.at[a] = value;
        int code = measure(r, &point, &sample, err);
        if (code != 0) {
            return code;
        }
        if (value == current && isfinite(sample.step)) {
            r->best_step = sample.step;
        } else if (value != current && sample.step < *challenger_step) {
            *challenger = value;
            *challenger_step = sample.step;
        }
        mp_tune_table_row(r->s->table, axis->path, axis->values[value], &sample, r->best_step);
    }
    return 0;
}

static int try_axis(struct search *r, size_t a, struct mp_error *err)
{
    const struct mp_tune_axis *axis = &r->s->axes->items[a];
    size_t value = 0;
    double step;
    int code = sweep(r, a, &value, &step, err);
    if (code != 0 || !(step < (1.0 - LEAST_GAIN) * r->best_step)) {
        return code;
    }
    struct mp_tune_point point = r->best;
    double before;
    bool better;
    point.at[a] = value;
    code = side_by_side(r, &point, &r->best, &step, &before, &better, err);
    if (code != 0) {
        return code;
    }
    mp_tune_table_pair(r->s->table, axis->path, axis->values[value], step, before, PAIRS, better);
    if (!better) {
        return 0;
    }
    r->best = point;
    r->best_step = step;
    r->changes++;
    return r->s->accept(r->s->arg, &r->best, err);
}

/* The winner against the start. Small gains may have been none: then the start stays. */
static int finish(struct search *r, struct mp_tune_result *out, struct mp_error *err)
{
    const struct mp_tune_point start = {0};
    *out = (struct mp_tune_result){.best = r->best};
    if (r->changes == 0 || memcmp(&r->best, &start, sizeof start) == 0) {
        return 0;
    }
    bool better;
    int code = side_by_side(r, &r->best, &start, &out->best_step, &out->start_step, &better, err);
    if (code != 0) {
        return code;
    }
    out->improved = out->best_step < out->start_step;
    mp_tune_table_pair(r->s->table, "best", "", out->best_step, out->start_step, PAIRS,
                       out->improved);
    if (out->improved) {
        return 0;
    }
    out->best = start;
    return r->s->accept(r->s->arg, &start, err);
}

int mp_tune_search(const struct mp_tune_search *s, struct mp_tune_result *out, struct mp_error *err)
{
    struct search r = {.s = s};
    int swept_at[MP_TUNE_MAX_AXES]; /* changes so far when an axis was swept last */
    int code = measure_start(&r, err);
    for (int round = 0; round < MAX_ROUNDS; round++) {
        for (size_t a = 0; a < s->axes->count && code == 0; a++) {
            /* What was found stands unless another axis has changed since. */
            if (round == 0 || swept_at[a] != r.changes) {
                code = try_axis(&r, a, err);
                swept_at[a] = r.changes;
            }
        }
    }
    return code == 0 ? finish(&r, out, err) : code;
}
