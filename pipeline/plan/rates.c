#include "pipeline/plan/rates.h"

#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"
#include "pipeline/engine/hooks.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_FILE_BYTES = 64 << 20 };

static const double MOST = 1e24; /* of any number in it */

static const struct mp_op_rate *find_rate(const struct mp_step_rates *r, const char *op,
                                          enum mp_track_kind kind)
{
    for (size_t i = 0; i < r->num_ops; i++) {
        if (r->ops[i].kind == kind && strcmp(r->ops[i].op, op) == 0) {
            return &r->ops[i];
        }
    }
    return NULL;
}

double mp_rates_seconds(const struct mp_step_rates *r, const struct mp_profile_op *work)
{
    const struct mp_op_rate *rate = find_rate(r, work->name, work->kind);
    if (rate == NULL) {
        return NAN;
    }
    double bytes = rate->bytes > 0.0 ? work->bytes / rate->bytes : 0.0;
    double flops = rate->flops > 0.0 ? work->flops / rate->flops : 0.0;
    double more = fmax(bytes, flops);
    return rate->seconds * (more > 0.0 ? more : (double)work->calls / rate->calls);
}

/* ---- the file ---- */

/* Adds an op unless an earlier result has it; *all grows by its time and its calls. */
static int read_op(struct mp_step_rates *r, const cJSON *op, struct mp_op_rate *all,
                   struct mp_error *err)
{
    struct mp_op_rate rate = {0};
    const char *device = NULL;
    int code = mp_json_expect(r->doc, op, MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_string(r->doc, op, "op", &rate.op, err);
    }
    if (code == 0) {
        code = mp_json_get_string(r->doc, op, "device", &device, err);
    }
    if (code == 0 && strcmp(device, "CPU") != 0 && strcmp(device, "GPU") != 0) {
        code = mp_json_fail(r->doc, mp_json_find(op, "device"), err,
                            "expected CPU or GPU, found \"%s\"", device);
    }
    if (code == 0) {
        rate.kind = strcmp(device, "GPU") == 0 ? MP_TRACK_GPU : MP_TRACK_CPU;
        code = mp_json_get_number(r->doc, op, "calls", 1e-9, MOST, &rate.calls, err);
    }
    if (code == 0) {
        code = mp_json_get_number(r->doc, op, "seconds", 0.0, MOST, &rate.seconds, err);
    }
    if (code == 0) {
        code = mp_json_get_number(r->doc, op, "bytes", 0.0, MOST, &rate.bytes, err);
    }
    if (code == 0) {
        code = mp_json_get_number(r->doc, op, "flops", 0.0, MOST, &rate.flops, err);
    }
    if (code == 0 && find_rate(r, rate.op, rate.kind) == NULL) {
        r->ops = mp_xrealloc(r->ops, r->num_ops + 1, sizeof *r->ops);
        r->ops[r->num_ops++] = rate;
    }
    all->seconds += rate.seconds;
    all->calls += rate.calls;
    return code;
}

/* The ops of a result share its median step, less the time without any, as they do the mean one:
 * whatever overlaps there does so elsewhere, and steps that lost their cores do not count. */
static int read_ops(struct mp_step_rates *r, const cJSON *result, int64_t ranks,
                    struct mp_error *err)
{
    const size_t first = r->num_ops;
    const cJSON *ops = NULL;
    struct mp_op_rate all = {0};
    double step = 0.0;
    double idle = 0.0;
    int code = mp_json_get_array(r->doc, result, "ops", &ops, err);
    for (const cJSON *op = code == 0 ? mp_json_first(ops) : NULL; op != NULL && code == 0;
         op = mp_json_after(op)) {
        code = read_op(r, op, &all, err);
    }
    if (code == 0) {
        code = mp_json_get_number(r->doc, result, "recorded_seconds", 0.0, MOST, &step, err);
    }
    if (code == 0) {
        code = mp_json_get_number(r->doc, result, "idle_seconds", 0.0, step, &idle, err);
    }
    for (size_t i = first; i < r->num_ops && all.seconds > 0.0; i++) {
        r->ops[i].seconds *= (step - idle) / all.seconds;
    }
    /* Several ranks are idle while they wait for each other, too. */
    if (code == 0 && ranks == 1 && isnan(r->hand_over) && all.calls > 0.0) {
        r->hand_over = idle / all.calls;
    }
    return code;
}

/* What of a result is about no op. */
static int read_subject(struct mp_step_rates *r, const cJSON *result, struct mp_error *err)
{
    int code = 0;
    if (isnan(r->sampled)) {
        code = mp_json_opt_number(r->doc, result, "sampled", 0.0, 1.0, &r->sampled, err);
    }
    if (code == 0 && r->machine == NULL) {
        code = mp_json_get_string(r->doc, result, "runtime", &r->machine, err);
    }
    if (code == 0 && r->kernels == NULL) {
        code = mp_json_get_string(r->doc, result, "kernels", &r->kernels, err);
    }
    return code;
}

/* What its rates depend on beside the machine. */
static bool fits(const cJSON *attention, int64_t batch, const struct mp_config *config)
{
    cJSON *own = mp_attention_json(config);
    char *found = mp_json_key_text(attention);
    char *expected = mp_json_key_text(own);
    bool same = batch == config->batch && strcmp(found, expected) == 0;
    free(found);
    free(expected);
    cJSON_Delete(own);
    return same;
}

static int read_result(struct mp_step_rates *r, const cJSON *result, const struct mp_config *config,
                       struct mp_error *err)
{
    const char *what = NULL;
    const cJSON *attention = NULL;
    int64_t batch = 0;
    int64_t ranks = 0;
    int code = mp_json_expect(r->doc, result, MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_string(r->doc, result, "what", &what, err);
    }
    if (code != 0 || strcmp(what, "decode") != 0) {
        return code;
    }
    code = mp_json_get_int(r->doc, result, "batch", 1, INT_MAX, &batch, err);
    if (code == 0) {
        code = mp_json_get_int(r->doc, result, "ranks", 1, INT_MAX, &ranks, err);
    }
    if (code == 0) {
        code = mp_json_get_object(r->doc, result, "attention", &attention, err);
    }
    if (code == 0 && isnan(r->round_trip)) {
        code = mp_json_opt_number(r->doc, result, "round_trip_seconds", 0.0, MOST, &r->round_trip,
                                  err);
    }
    if (code != 0 || !fits(attention, batch, config)) {
        return code;
    }
    code = read_subject(r, result, err);
    return code == 0 ? read_ops(r, result, ranks, err) : code;
}

int mp_rates_read(const char *path, const struct mp_config *config, struct mp_step_rates *out,
                  struct mp_error *err)
{
    *out = (struct mp_step_rates){.sampled = NAN, .hand_over = NAN, .round_trip = NAN};
    int code = mp_json_read_file(path, MAX_FILE_BYTES, &out->doc, err);
    if (code != 0) {
        return code;
    }
    const cJSON *root = mp_json_root(out->doc);
    code = mp_json_expect(out->doc, root, MP_JSON_ARRAY, err);
    for (const cJSON *v = code == 0 ? mp_json_first(root) : NULL; v != NULL && code == 0;
         v = mp_json_after(v)) {
        code = read_result(out, v, config, err);
    }
    if (code == 0 && out->num_ops == 0) {
        char *attention = mp_attention_describe(config);
        code = mp_fail(err, MP_ERR_USAGE,
                       "%s: found no result of bench decode with attention %s and batch %d, "
                       "expected one",
                       path, attention, config->batch);
        free(attention);
    }
    if (code != 0) {
        mp_rates_free(out);
    }
    return code;
}

void mp_rates_free(struct mp_step_rates *r)
{
    mp_json_free(r->doc);
    free(r->ops);
    *r = (struct mp_step_rates){0};
}
