#include "pipeline/plan/prediction.h"

#include "core/base/memory.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- the network ---- */

/* A number and one of two units, the second of which is a thousand of the first; *text moves on. */
static bool read_quantity(const char **text, const char *small, const char *large, double *out)
{
    char *end;
    *out = strtod(*text, &end);
    bool thousand = strncmp(end, large, strlen(large)) == 0;
    const char *unit = thousand ? large : small;
    if (end == *text || !(*out > 0.0 && *out <= 1e6) || strncmp(end, unit, strlen(unit)) != 0) {
        return false;
    }
    *out *= thousand ? 1000.0 : 1.0;
    *text = end + strlen(unit);
    return true;
}

int mp_network_read(const char *text, struct mp_network *out, struct mp_error *err)
{
    const char *at = text;
    if (!read_quantity(&at, "Mbit", "Gbit", &out->speed) || *at++ != ',' ||
        !read_quantity(&at, "us", "ms", &out->latency) || *at != '\0') {
        return mp_fail(err, MP_ERR_USAGE,
                       "--network: found \"%s\", expected speed and latency such as 25Gbit,10us",
                       text);
    }
    out->speed *= 1e6 / 8.0;
    out->latency *= 1e-6;
    return 0;
}

/* Messages that a step waits for one after the other: a layer's exchange begins when its attention
 * is done, and the next layer waits for it; a step begins with what rank 0 has sampled. */
static double messages(const struct mp_plan *plan)
{
    return plan->kept_layers + 1.0;
}

double mp_network_seconds(const struct mp_network *n, const struct mp_plan *plan, double *latency)
{
    int64_t most = plan->sent > plan->received ? plan->sent : plan->received;
    double empty = messages(plan) * n->latency;
    if (latency != NULL) {
        *latency = empty;
    }
    return empty + (double)most / n->speed;
}

/* ---- the step ---- */

__attribute__((format(printf, 2, 3))) static void lack(struct mp_prediction *p, const char *format,
                                                       ...)
{
    va_list args;
    char text[128];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    p->unknown = mp_xrealloc(p->unknown, p->num_unknown + 1, sizeof *p->unknown);
    p->unknown[p->num_unknown++] = mp_xstrdup(text);
}

static bool selects(const struct mp_step_work *work, const struct mp_profile_op *op)
{
    for (size_t i = 0; i < work->selecting.num_ops; i++) {
        const struct mp_profile_op *s = &work->selecting.ops[i];
        if (s->kind == op->kind && strcmp(s->name, op->name) == 0) {
            return true;
        }
    }
    return false;
}

static void add_op(struct mp_prediction *p, const struct mp_step_work *work,
                   const struct mp_profile_op *op, const struct mp_step_rates *rates)
{
    enum mp_step_part part = selects(work, op)                            ? MP_STEP_SELECTING
                             : strcmp(op->name, "sampled_attention") == 0 ? MP_STEP_ROWS
                                                                          : MP_STEP_DENSE;
    double seconds = mp_rates_seconds(rates, op);
    if (isnan(seconds)) {
        lack(p, "%s on the %s", op->name, op->kind == MP_TRACK_GPU ? "GPU" : "CPU");
    } else {
        p->seconds[part] += seconds;
    }
    p->seconds[MP_STEP_HAND_OVER] += (double)op->calls * rates->hand_over;
}

static void add_messages(struct mp_prediction *p, const struct mp_plan *plan,
                         const struct mp_step_rates *rates, const struct mp_network *network)
{
    p->seconds[MP_STEP_EXCHANGE] = messages(plan) * rates->round_trip / 2.0;
    p->seconds[MP_STEP_NETWORK] = network == NULL ? NAN : mp_network_seconds(network, plan, NULL);
    if (isnan(rates->round_trip)) {
        lack(p, "what a message takes the processes, which a result of several ranks tells");
    }
    if (network == NULL) {
        lack(p, "the network");
    }
}

void mp_predict(const struct mp_step_work *work, const struct mp_plan *plan,
                const struct mp_step_rates *rates, const struct mp_network *network,
                struct mp_prediction *out)
{
    *out = (struct mp_prediction){0};
    for (size_t i = 0; i < work->all.num_ops; i++) {
        /* Messages are no work of a device. */
        if (strcmp(work->all.ops[i].name, "exchange") != 0) {
            add_op(out, work, &work->all.ops[i], rates);
        }
    }
    if (isnan(rates->hand_over)) {
        lack(out, "the hand-over between tasks, which a result of one process tells");
    }
    if (plan->ranks > 1) {
        add_messages(out, plan, rates, network);
    }
    for (int i = 0; i < MP_STEP_PARTS; i++) {
        out->total += isnan(out->seconds[i]) ? 0.0 : out->seconds[i];
    }
}

void mp_prediction_free(struct mp_prediction *p)
{
    for (size_t i = 0; i < p->num_unknown; i++) {
        free(p->unknown[i]);
    }
    free(p->unknown);
    *p = (struct mp_prediction){0};
}

/* ---- for people and for programs ---- */

static const struct {
    const char *name;
    const char *key;
    bool ranks; /* only several have it */
} PARTS[MP_STEP_PARTS] = {
    [MP_STEP_DENSE] = {"dense", "dense_seconds", false},
    [MP_STEP_SELECTING] = {"selecting", "selecting_seconds", false},
    [MP_STEP_ROWS] = {"rows", "rows_seconds", false},
    [MP_STEP_HAND_OVER] = {"hand-over", "hand_over_seconds", false},
    [MP_STEP_EXCHANGE] = {"exchange", "exchange_seconds", true},
    [MP_STEP_NETWORK] = {"network", "network_seconds", true},
};

void mp_prediction_print(const struct mp_prediction *p, const struct mp_plan *plan,
                         const struct mp_step_rates *rates, FILE *out)
{
    fprintf(out, "step: %s%.3f ms, %.2f tokens/s, by rates of %s, kernels %s\n",
            p->num_unknown > 0 ? "at least " : "", 1e3 * p->total, plan->batch / p->total,
            rates->machine, rates->kernels);
    for (int i = 0; i < MP_STEP_PARTS; i++) {
        if (!isnan(p->seconds[i]) && (!PARTS[i].ranks || plan->ranks > 1)) {
            fprintf(out, "  %-10s %12.3f ms\n", PARTS[i].name, 1e3 * p->seconds[i]);
        }
    }
    for (size_t i = 0; i < p->num_unknown; i++) {
        fprintf(out, "  not known: %s\n", p->unknown[i]);
    }
}

cJSON *mp_prediction_json(const struct mp_prediction *p)
{
    cJSON *o = cJSON_CreateObject();
    for (int i = 0; i < MP_STEP_PARTS; i++) {
        double s = p->seconds[i];
        cJSON_AddItemToObject(o, PARTS[i].key,
                              isnan(s) ? cJSON_CreateNull() : cJSON_CreateNumber(s));
    }
    cJSON_AddNumberToObject(o, "seconds", p->total);
    cJSON *unknown = cJSON_AddArrayToObject(o, "not_known");
    for (size_t i = 0; i < p->num_unknown; i++) {
        cJSON_AddItemToArray(unknown, cJSON_CreateString(p->unknown[i]));
    }
    return o;
}
