#include "core/trace/calibration.h"

#include "core/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Of the order of one server core, and of a data-centre card. */
static const struct mp_rates NOMINAL_THREAD = {.flops = 80e9, .bytes = 8e9};
static const struct mp_rates NOMINAL_GPU = {.flops = 400e12, .bytes = 2.5e12};

void mp_calibration_init(struct mp_calibration *c, const struct mp_setup *setup)
{
    double threads = (double)setup->threads / setup->cpu_workers;
    *c = (struct mp_calibration){.setup = *setup};
    c->nominal[MP_TRACK_CPU] = (struct mp_rates){
        .flops = threads * NOMINAL_THREAD.flops,
        .bytes = threads * NOMINAL_THREAD.bytes,
    };
    c->nominal[MP_TRACK_GPU] = NOMINAL_GPU;
}

void mp_calibration_free(struct mp_calibration *c)
{
    for (size_t i = 0; i < c->num_ops; i++) {
        free(c->ops[i].name);
        free(c->ops[i].flops.last);
        free(c->ops[i].bytes.last);
    }
    free(c->ops);
    *c = (struct mp_calibration){0};
}

/* ---- estimates ---- */

static struct mp_calibrated_op *find_op(const struct mp_calibration *c, const char *name,
                                        enum mp_track_kind kind)
{
    for (size_t i = 0; i < c->num_ops; i++) {
        if (c->ops[i].kind == kind && strcmp(c->ops[i].name, name) == 0) {
            return &c->ops[i];
        }
    }
    return NULL;
}

static struct mp_rates rates_of(const struct mp_calibration *c, const char *op,
                                enum mp_track_kind kind)
{
    struct mp_rates rates = c->nominal[kind];
    const struct mp_calibrated_op *known = find_op(c, op, kind);
    if (known != NULL && known->rates.flops > 0.0) {
        rates.flops = known->rates.flops;
    }
    if (known != NULL && known->rates.bytes > 0.0) {
        rates.bytes = known->rates.bytes;
    }
    return rates;
}

double mp_calibration_estimate(const struct mp_calibration *c, const char *op,
                               enum mp_track_kind kind, double flops, double bytes)
{
    struct mp_rates rates = rates_of(c, op, kind);
    return fmax(flops / rates.flops, bytes / rates.bytes);
}

/* ---- measurements ---- */

struct mp_calibrated_op *mp_calibration_op(struct mp_calibration *c, const char *name,
                                           enum mp_track_kind kind)
{
    struct mp_calibrated_op *op = find_op(c, name, kind);
    if (op == NULL) {
        c->ops = mp_xrealloc(c->ops, c->num_ops + 1, sizeof *c->ops);
        op = &c->ops[c->num_ops++];
        *op = (struct mp_calibrated_op){.name = mp_xstrdup(name), .kind = kind};
    }
    return op;
}

static void add_sample(struct mp_rate_samples *s, double work, double seconds)
{
    if (s->last == NULL) {
        s->last = mp_xcalloc(MP_RATE_SAMPLES, sizeof *s->last);
    }
    s->last[s->count++ % MP_RATE_SAMPLES] = (struct mp_rate_sample){work / seconds, work};
}

/* A span tells the rate of what bounds it at the present rates, and nothing of the other. */
static void add_span(struct mp_calibration *c, enum mp_track_kind kind, const struct mp_span *s)
{
    double flops = (double)s->info.flops;
    double bytes = (double)s->info.bytes;
    if (s->end_ns <= s->begin_ns || (flops <= 0.0 && bytes <= 0.0)) {
        return;
    }
    struct mp_calibrated_op *op = mp_calibration_op(c, s->info.op, kind);
    struct mp_rates rates = rates_of(c, s->info.op, kind);
    bool arithmetic = flops / rates.flops > bytes / rates.bytes;
    add_sample(arithmetic ? &op->flops : &op->bytes, arithmetic ? flops : bytes,
               1e-9 * (double)(s->end_ns - s->begin_ns));
}

struct since {
    struct mp_calibration *calibration;
    uint64_t ns;
};

static void add_track(void *arg, const struct mp_track *track)
{
    const struct since *since = arg;
    if (track->kind == MP_TRACK_HOST || track->rank > 0) {
        return;
    }
    for (int64_t i = mp_track_first_span(track, since->ns); i < track->count; i++) {
        if (track->spans[i].begin_ns >= since->ns) {
            add_span(since->calibration, track->kind, &track->spans[i]);
        }
    }
}

void mp_calibration_measure(struct mp_calibration *c, uint64_t since_ns)
{
    mp_trace_each(add_track, &(struct since){c, since_ns});
}

static int compare_samples(const void *a, const void *b)
{
    const struct mp_rate_sample *x = a, *y = b;
    return (x->rate > y->rate) - (x->rate < y->rate);
}

/* Half of the work was done at this rate or a lower one: a few spans in which the worker lost its
 * core do not count, and short tasks count little. Reorders the samples. */
static double median_rate(struct mp_rate_samples *s)
{
    size_t count = s->count < MP_RATE_SAMPLES ? s->count : MP_RATE_SAMPLES;
    double all = 0.0;
    for (size_t i = 0; i < count; i++) {
        all += s->last[i].work;
    }
    qsort(s->last, count, sizeof *s->last, compare_samples);
    double sum = s->last[0].work;
    size_t i = 0;
    while (sum < 0.5 * all && i + 1 < count) {
        sum += s->last[++i].work;
    }
    return s->last[i].rate;
}

/* Half of what was known, half of what was found, as time per work: neither one slow run decides
 * nor what was long ago. */
static bool update_rate(double *rate, struct mp_rate_samples *s)
{
    if (s->count == 0) {
        return false;
    }
    double found = median_rate(s);
    *rate = *rate > 0.0 ? 2.0 / (1.0 / *rate + 1.0 / found) : found;
    s->count = 0;
    return true;
}

bool mp_calibration_update(struct mp_calibration *c)
{
    bool any = false;
    for (size_t i = 0; i < c->num_ops; i++) {
        struct mp_calibrated_op *op = &c->ops[i];
        any |= update_rate(&op->rates.flops, &op->flops);
        any |= update_rate(&op->rates.bytes, &op->bytes);
    }
    return any;
}
