/* Benchmark results for people and for programs. */
#include "pipeline/bench/bench.h"

#include "core/json/json_print.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

double mp_median(double *values, size_t n)
{
    qsort(values, n, sizeof *values, compare_doubles);
    return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2.0;
}

static const char *const DEVICES[MP_TRACK_KINDS] = {"host", "CPU", "GPU"};

/* The slower of the devices' busy times: no overlap makes a step shorter. */
static double longest_busy(const struct mp_overlap *o)
{
    return fmax(o->busy[MP_TRACK_CPU], o->busy[MP_TRACK_GPU]);
}

/* Sums of one kind of device. */
static struct mp_profile_op device_total(const struct mp_profile *p, enum mp_track_kind kind)
{
    struct mp_profile_op total = {.name = "all", .kind = kind};
    for (size_t i = 0; i < p->num_ops; i++) {
        if (p->ops[i].kind == kind) {
            total.calls += p->ops[i].calls;
            total.seconds += p->ops[i].seconds;
            total.flops += p->ops[i].flops;
            total.bytes += p->ops[i].bytes;
        }
    }
    return total;
}

/* ---- for people ---- */

static void print_op(const struct mp_bench_result *r, const struct mp_profile_op *op, FILE *out)
{
    double n = (double)r->profile.num_intervals;
    double bandwidth = r->bandwidth[op->kind];
    fprintf(out, "  %-4s %-18s %8.1f %10.3f %6.1f %%", DEVICES[op->kind], op->name,
            (double)op->calls / n, 1e3 * op->seconds / n, 100.0 * op->seconds / r->profile.seconds);
    if (op->bytes > 0.0) {
        fprintf(out, " %9.1f", op->bytes / op->seconds * 1e-9);
    } else {
        fprintf(out, " %9s", "-");
    }
    if (op->bytes > 0.0 && bandwidth > 0.0) {
        fprintf(out, " %8.2f", op->bytes / op->seconds / bandwidth);
    } else {
        fprintf(out, " %8s", "-");
    }
    if (op->flops > 0.0) {
        fprintf(out, " %10.1f\n", op->flops / op->seconds * 1e-9);
    } else {
        fprintf(out, " %10s\n", "-");
    }
}

void mp_bench_print_ops(const struct mp_bench_result *r, FILE *out)
{
    fprintf(out, "  %-4s %-18s %8s %10s %8s %9s %8s %10s\n", "", "op", "calls", "mean ms",
            "of time", "GB/s", "of read", "GFLOP/s");
    for (int kind = MP_TRACK_KINDS - 1; kind > MP_TRACK_HOST; kind--) {
        for (size_t i = 0; i < r->profile.num_ops; i++) {
            if ((int)r->profile.ops[i].kind == kind) {
                print_op(r, &r->profile.ops[i], out);
            }
        }
        struct mp_profile_op total = device_total(&r->profile, kind);
        if (total.calls > 0) {
            print_op(r, &total, out);
        }
    }
}

static bool is_decode(const struct mp_bench_result *r)
{
    return strcmp(r->what, "decode") == 0;
}

static void print_placement(const struct mp_bench_result *r, FILE *out)
{
    const struct mp_plan *plan = &r->plan;
    if (plan->sparse_layers == 0) {
        fprintf(out, "  attention     full, on the %s\n", plan->gpus > 0 ? "GPU" : "CPU");
        return;
    }
    fprintf(out, "  attention     sampled in %d of %d layers, %s", plan->sparse_layers,
            r->num_layers, r->attention);
    if (plan->gpus > 0 && plan->kept_layers > 0) {
        fprintf(out, "; KV and tables of %d of them on the GPU", plan->gpu_kv_layers);
    }
    fputc('\n', out);
}

/* What the search for the number of micro-batches has seen. */
static void print_tried(const struct mp_bench_result *r, FILE *out)
{
    if (r->tried[1] == 0.0) {
        return;
    }
    fprintf(out, "  micro-batches");
    for (int m = 1; m <= MP_MOST_MICRO_BATCHES; m++) {
        if (r->tried[m] > 0.0) {
            fprintf(out, " %d: %.3f ms%s", m, 1e3 * r->tried[m],
                    m == r->micro_batches ? " (in use)" : "");
        }
    }
    fprintf(out, ", shortest steps\n");
}

static void print_memory(const struct mp_bench_result *r, FILE *out)
{
    char used[MP_SIZE_TEXT];
    char planned[MP_SIZE_TEXT];
    char most[MP_SIZE_TEXT];
    fprintf(out, "  memory        CPU: peak %s, planned %s", mp_size_text(r->cpu_bytes, used),
            mp_size_text(r->plan.total[MP_PLAN_CPU], planned));
    if (r->plan.gpus > 0) {
        fprintf(out, "; GPU: %s taken, planned %s, at most %s", mp_size_text(r->gpu_bytes, used),
                mp_size_text(mp_plan_gpu_total(&r->plan), planned),
                mp_size_text(r->plan.gpu_limit, most));
    }
    fputc('\n', out);
}

static void print_overlap(const struct mp_bench_result *r, FILE *out)
{
    struct mp_overlap o = mp_profile_typical(&r->profile);
    fprintf(out, "  devices       of %.3f ms (the median of %zu), CPU busy %.3f ms",
            1e3 * o.seconds, r->profile.num_intervals, 1e3 * o.busy[MP_TRACK_CPU]);
    if (r->plan.gpus > 0) {
        fprintf(out, ", GPU busy %.3f ms, both %.3f ms", 1e3 * o.busy[MP_TRACK_GPU], 1e3 * o.both);
    }
    fprintf(out, ", %s %.3f ms (%.1f us a layer); %.2f x the %s\n",
            r->plan.gpus > 0 ? "neither" : "idle", 1e3 * o.idle, 1e6 * o.idle / r->num_layers,
            o.seconds / longest_busy(&o), r->plan.gpus > 0 ? "busier device's time" : "busy time");
}

void mp_bench_print_subject(const struct mp_bench_result *r, FILE *out)
{
    fprintf(out, "%s%s%s: %s\n", r->what, r->title != NULL ? ", " : "",
            r->title != NULL ? r->title : "", r->model);
    fprintf(out, "  machine       %s; kernels: %s\n", r->runtime, r->kernels);
    fprintf(out, "  memory reads  CPU %.1f GB/s", r->bandwidth[MP_TRACK_CPU] * 1e-9);
    if (r->bandwidth[MP_TRACK_GPU] > 0.0) {
        fprintf(out, ", GPU %.0f GB/s", r->bandwidth[MP_TRACK_GPU] * 1e-9);
    }
    fprintf(out, "\n  context       %lld tokens", (long long)r->context);
    if (is_decode(r)) {
        fprintf(out, ", batch %d, %d micro-batch%s", r->batch, r->micro_batches,
                r->micro_batches == 1 ? "" : "es");
    }
    fputc('\n', out);
    if (r->ranks > 1) {
        fprintf(out, "  ranks         %d; a message and its answer take %.0f us\n", r->ranks,
                1e6 * r->round_trip);
    }
    print_placement(r, out);
}

static void print_times(const struct mp_bench_result *r, FILE *out)
{
    double median = mp_median(r->seconds, r->count);
    double least = r->seconds[0];
    double most = r->seconds[r->count - 1];
    if (is_decode(r)) {
        fprintf(out, "  step          %.3f ms (median of %zu; %.3f to %.3f), %.1f tokens/s\n",
                1e3 * median, r->count, 1e3 * least, 1e3 * most, r->batch / median);
    } else {
        fprintf(out, "  prompt        %.3f s (median of %zu; %.3f to %.3f)", median, r->count,
                least, most);
        if (r->question > 0) {
            fprintf(out, ", a question of %lld tokens\n", (long long)r->question);
        } else {
            fprintf(out, ", %.0f tokens/s\n", (double)r->context / median);
        }
    }
}

void mp_bench_print(const struct mp_bench_result *r, FILE *out)
{
    mp_bench_print_subject(r, out);
    print_tried(r, out);
    print_times(r, out);
    if (!isnan(r->sampled)) {
        fprintf(out, "  sampled       %.2f %% of the offloaded tokens\n", 100.0 * r->sampled);
    }
    if (!isnan(r->error)) {
        fprintf(out, "  error         %.2f %% of the attention's output, estimated\n",
                100.0 * r->error);
    }
    print_overlap(r, out);
    print_memory(r, out);
    mp_bench_print_ops(r, out);
}

void mp_bench_print_rows(const struct mp_bench_result *rows, size_t count, FILE *out)
{
    fprintf(out, "\n%-44s %10s %10s %10s %10s %10s %9s\n", "", "ms/step", "tokens/s", "GPU ms",
            "CPU ms", "idle ms", "sampled");
    for (size_t i = 0; i < count; i++) {
        const struct mp_bench_result *r = &rows[i];
        struct mp_overlap o = mp_profile_typical(&r->profile);
        double median = mp_median(r->seconds, r->count);
        fprintf(out, "%-44s %10.3f %10.1f %10.3f %10.3f %10.3f", r->title, 1e3 * median,
                r->batch / median, 1e3 * o.busy[MP_TRACK_GPU], 1e3 * o.busy[MP_TRACK_CPU],
                1e3 * o.idle);
        if (isnan(r->sampled)) {
            fprintf(out, " %9s\n", "all");
        } else {
            fprintf(out, " %7.2f %%\n", 100.0 * r->sampled);
        }
    }
}

/* ---- for programs ---- */

static void add_number(cJSON *object, const char *key, double value)
{
    cJSON_AddItemToObject(object, key,
                          isnan(value) ? cJSON_CreateNull() : cJSON_CreateNumber(value));
}

static cJSON *op_json(const struct mp_bench_result *r, const struct mp_profile_op *op)
{
    double n = (double)r->profile.num_intervals;
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "op", op->name);
    cJSON_AddStringToObject(o, "device", DEVICES[op->kind]);
    add_number(o, "calls", (double)op->calls / n);
    add_number(o, "seconds", op->seconds / n);
    add_number(o, "bytes", op->bytes / n);
    add_number(o, "flops", op->flops / n);
    return o;
}

static void add_profile(cJSON *o, const struct mp_bench_result *r)
{
    const struct mp_profile *p = &r->profile;
    struct mp_overlap typical = mp_profile_typical(p);
    add_number(o, "recorded_seconds", typical.seconds);
    add_number(o, "cpu_busy_seconds", typical.busy[MP_TRACK_CPU]);
    add_number(o, "gpu_busy_seconds", typical.busy[MP_TRACK_GPU]);
    add_number(o, "both_busy_seconds", typical.both);
    add_number(o, "idle_seconds", typical.idle);
    add_number(o, "idle_seconds_per_layer", typical.idle / r->num_layers);
    add_number(o, "over_busier", typical.seconds / longest_busy(&typical));
    cJSON *ops = cJSON_AddArrayToObject(o, "ops");
    for (size_t i = 0; i < p->num_ops; i++) {
        cJSON_AddItemToArray(ops, op_json(r, &p->ops[i]));
    }
}

static cJSON *result_json(const struct mp_bench_result *r)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "what", r->what);
    if (r->title != NULL) {
        cJSON_AddStringToObject(o, "title", r->title);
    }
    cJSON_AddStringToObject(o, "model", r->model);
    cJSON_AddStringToObject(o, "runtime", r->runtime);
    cJSON_AddStringToObject(o, "kernels", r->kernels);
    add_number(o, "context", (double)r->context);
    if (r->question > 0) {
        add_number(o, "question", (double)r->question);
    }
    if (is_decode(r)) {
        add_number(o, "batch", r->batch);
        add_number(o, "micro_batches", r->micro_batches);
        add_number(o, "ranks", r->ranks);
        add_number(o, "round_trip_seconds", r->round_trip);
    }
    cJSON_AddItemToObject(o, "attention", cJSON_Duplicate(r->attention_settings, true));
    add_number(o, "sparse_layers", r->plan.sparse_layers);
    add_number(o, "gpu_kv_layers", r->plan.gpu_kv_layers);
    add_number(o, "cpu_bytes_per_second", r->bandwidth[MP_TRACK_CPU]);
    add_number(o, "gpu_bytes_per_second", r->bandwidth[MP_TRACK_GPU]);
    add_number(o, "cpu_memory_bytes", (double)r->cpu_bytes);
    add_number(o, "gpu_memory_bytes", (double)r->gpu_bytes);
    add_number(o, "cpu_planned_bytes", (double)r->plan.total[MP_PLAN_CPU]);
    add_number(o, "gpu_planned_bytes", (double)mp_plan_gpu_total(&r->plan));
    cJSON_AddItemToObject(o, "seconds", cJSON_CreateDoubleArray(r->seconds, (int)r->count));
    add_number(o, "median_seconds", mp_median(r->seconds, r->count));
    add_number(o, "sampled", r->sampled);
    add_number(o, "attention_error", r->error);
    add_profile(o, r);
    return o;
}

int mp_bench_print_json(const struct mp_bench_result *rows, size_t count, FILE *out,
                        struct mp_error *err)
{
    cJSON *array = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        cJSON_AddItemToArray(array, result_json(&rows[i]));
    }
    char *text = mp_json_print(array, MP_JSON_INDENTED, "--json", err);
    cJSON_Delete(array);
    if (text == NULL) {
        return MP_ERR_MEMORY;
    }
    fprintf(out, "%s\n", text);
    free(text);
    return 0;
}
