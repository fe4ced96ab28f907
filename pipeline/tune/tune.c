/* The search: one axis after the other, the rest at the best values so far. */
#include "pipeline/tune/tune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROUNDS = 2, PAIRS = 3 };
_Static_assert(PAIRS % 2 == 1, "one of them is the median");

/* A gain below this is not worth a setting that differs from the default. */
static const double LEAST_GAIN = 0.02;
/* Candidates this much slower than the best are not measured to the end. */
static const double SLOW = 2.0;
/* A candidate that takes this much longer than the current value did, and this many seconds, hangs.
 */
static const double HANGS = 5.0;
static const double HANGS_SECONDS = 20.0;
/* So does one with a prompt that takes this many seconds, as long as none has come to an end. */
static const double JOIN_HANGS_SECONDS = 1800.0;

struct search {
    const struct mp_tune_search *s;
    struct mp_tune_point best;
    bool joins;       /* a prompt joins in the measurements */
    double best_cost; /* seconds, as measured last; INFINITY: it could not be */
    double limit;     /* seconds a measurement may take; 0: any number, for the start */
    int changes;      /* of the best */
};

double mp_tune_cost(const struct mp_tune_sample *sample)
{
    return sample->first_token > 0.0 ? sqrt(sample->step * sample->first_token) : sample->step;
}

static int measure(struct search *r, const struct mp_tune_point *point,
                   struct mp_tune_sample *sample, struct mp_error *err)
{
    struct mp_tune_request request = {
        .point = *point,
        .joins = r->joins,
        .slow_step = r->joins ? 0.0 : SLOW * r->best_cost,
        .limit = r->limit,
    };
    *sample = (struct mp_tune_sample){0};
    return r->s->measure(r->s->arg, &request, sample, err);
}

static void set_limit(struct search *r, const struct mp_tune_sample *sample)
{
    r->limit = fmax(HANGS * sample->wall, HANGS_SECONDS);
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
    r->best_cost = sample.step;
    set_limit(r, &sample);
    mp_tune_table_row(r->s->table, "start", "", &sample, 0.0);
    return 0;
}

static int compare_costs(const void *a, const void *b)
{
    double x = mp_tune_cost(a);
    double y = mp_tune_cost(b);
    return (x > y) - (x < y);
}

/* Two points measured in turns: what else the machine does hits both. */
struct pair {
    struct mp_tune_sample one; /* of PAIRS, the median */
    struct mp_tune_sample other;
    bool better; /* `one` was every time, so that one lucky run does not decide, and by LEAST_GAIN
                    in the median */
};

static int side_by_side(struct search *r, const struct mp_tune_point *one,
                        const struct mp_tune_point *other, struct pair *out, struct mp_error *err)
{
    struct mp_tune_sample ones[PAIRS];
    struct mp_tune_sample others[PAIRS];
    bool better = true;
    for (int i = 0; i < PAIRS; i++) {
        int code = measure(r, one, &ones[i], err);
        if (code == 0) {
            code = measure(r, other, &others[i], err);
        }
        if (code != 0) {
            return code;
        }
        better = better && mp_tune_cost(&ones[i]) < mp_tune_cost(&others[i]);
    }
    qsort(ones, PAIRS, sizeof ones[0], compare_costs);
    qsort(others, PAIRS, sizeof others[0], compare_costs);
    *out = (struct pair){.one = ones[PAIRS / 2], .other = others[PAIRS / 2]};
    out->better =
        better && mp_tune_cost(&out->one) < (1.0 - LEAST_GAIN) * mp_tune_cost(&out->other);
    return 0;
}

/* Measures every value of an axis, the current one too: the machine may be slower now than when it
 * was measured last. *challenger gets the best of the others. */
static int sweep(struct search *r, size_t a, size_t *challenger, double *challenger_cost,
                 struct mp_error *err)
{
    const struct mp_tune_axis *axis = &r->s->axes->items[a];
    size_t current = r->best.at[a];
    *challenger_cost = INFINITY;
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
        double cost = mp_tune_cost(&sample);
        if (isfinite(cost) && (value == current || isinf(r->best_cost))) {
            set_limit(r, &sample);
        }
        if (value == current && isfinite(cost)) {
            r->best_cost = cost;
        } else if (value != current && cost < *challenger_cost) {
            *challenger = value;
            *challenger_cost = cost;
        }
        mp_tune_table_row(r->s->table, axis->path, axis->values[value], &sample, r->best_cost);
    }
    return 0;
}

static int try_axis(struct search *r, size_t a, struct mp_error *err)
{
    const struct mp_tune_axis *axis = &r->s->axes->items[a];
    size_t value = 0;
    double cost;
    int code = sweep(r, a, &value, &cost, err);
    if (code != 0 || !(cost < (1.0 - LEAST_GAIN) * r->best_cost)) {
        return code;
    }
    struct mp_tune_point point = r->best;
    struct pair pair;
    point.at[a] = value;
    code = side_by_side(r, &point, &r->best, &pair, err);
    if (code != 0) {
        return code;
    }
    mp_tune_table_pair(r->s->table, axis->path, axis->values[value], &pair.one, &pair.other, PAIRS,
                       pair.better);
    if (!pair.better) {
        return 0;
    }
    r->best = point;
    r->best_cost = mp_tune_cost(&pair.one);
    r->changes++;
    return r->s->accept(r->s->arg, &r->best, err);
}

/* The winner against the start. Small gains may have been none: then the start stays. */
static int finish(struct search *r, struct mp_tune_result *out, struct mp_error *err)
{
    const struct mp_tune_point start = {0};
    if (r->changes == 0 || memcmp(&r->best, &start, sizeof start) == 0) {
        return 0;
    }
    struct pair pair;
    int code = side_by_side(r, &r->best, &start, &pair, err);
    if (code != 0) {
        return code;
    }
    out->best_step = pair.one.step;
    out->start_step = pair.other.step;
    out->improved = out->best_step < out->start_step;
    mp_tune_table_pair(r->s->table, "best", "", &pair.one, &pair.other, PAIRS, out->improved);
    if (out->improved) {
        return 0;
    }
    r->best = start;
    return r->s->accept(r->s->arg, &start, err);
}

/* The axes that decode steps depend on. */
static int search_steps(struct search *r, struct mp_tune_result *out, struct mp_error *err)
{
    const struct mp_tune_axes *axes = r->s->axes;
    int swept_at[MP_TUNE_MAX_AXES]; /* changes so far when an axis was swept last */
    int code = measure_start(r, err);
    for (int round = 0; round < MAX_ROUNDS; round++) {
        for (size_t a = 0; a < axes->count && code == 0; a++) {
            /* What was found stands unless another axis has changed since. */
            if (!axes->items[a].joins && (round == 0 || swept_at[a] != r->changes)) {
                code = try_axis(r, a, err);
                swept_at[a] = r->changes;
            }
        }
    }
    return code == 0 ? finish(r, out, err) : code;
}

/* The ones that act while a prompt joins, and change nothing of what was found before. */
static int search_joins(struct search *r, struct mp_error *err)
{
    const struct mp_tune_axes *axes = r->s->axes;
    int code = 0;
    r->joins = true;
    for (size_t a = 0; a < axes->count && code == 0; a++) {
        if (axes->items[a].joins) {
            /* Not measured yet. */
            r->best_cost = INFINITY;
            r->limit = JOIN_HANGS_SECONDS;
            mp_tune_table_join(r->s->table);
            code = try_axis(r, a, err);
        }
    }
    return code;
}

int mp_tune_search(const struct mp_tune_search *s, struct mp_tune_result *out, struct mp_error *err)
{
    struct search r = {.s = s};
    *out = (struct mp_tune_result){0};
    int code = search_steps(&r, out, err);
    if (code == 0) {
        code = search_joins(&r, err);
    }
    out->best = r.best;
    return code;
}
