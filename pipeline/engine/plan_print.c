/* The memory plan for people, as a table, and why it does not fit; and for programs. */
#include "pipeline/engine/plan.h"

#include <cjson/cJSON.h>

static const char *const ROW_NAMES[MP_PLAN_ROWS] = {
    [MP_PLAN_WEIGHTS] = "weights",
    [MP_PLAN_STATIC_KV] = "static caches (sink, window, generated)",
    [MP_PLAN_DENSE_KV] = "dense layers' KV",
    [MP_PLAN_GROWING] = "copy of a cache while it grows",
    [MP_PLAN_OFFLOADED_KV] = "offloaded KV",
    [MP_PLAN_SELECTION] = "selected ids",
    [MP_PLAN_PREFIXES] = "KV of past prompts",
    [MP_PLAN_PROMPTS] = "KV of prompts, kept for several attentions",
    [MP_PLAN_PREFILL] = "prefill of one request",
    [MP_PLAN_STEP] = "decode step",
    [MP_PLAN_WORKSPACE] = "workspace of the kernels",
    [MP_PLAN_PROCESS] = "program, libraries, scratch",
};

/* Whether there is anything of it. */
static bool holds(const struct mp_plan *plan, enum mp_plan_row row)
{
    bool any = false;
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        any = any || plan->bytes[d][row] > 0;
    }
    return any;
}

/* NULL for what the engine or the method does not have. */
static const char *row_name(const struct mp_plan *plan, enum mp_plan_row row)
{
    switch (row) {
    case MP_PLAN_SHARED:
        return plan->variant ? "what layers share, of all attentions" : plan->shared_name;
    case MP_PLAN_INDEX:
        return plan->index_name;
    case MP_PLAN_PROMPTS:
        return plan->variant ? ROW_NAMES[row] : NULL;
    case MP_PLAN_GROWING:
    case MP_PLAN_PREFIXES:
        return holds(plan, row) ? ROW_NAMES[row] : NULL;
    default:
        return ROW_NAMES[row];
    }
}

/* MP_ERR_MEMORY unless what is planned for one device fits; `device` names it and its limit. */
static int check_device(const struct mp_plan *plan, enum mp_plan_device d, int64_t limit,
                        const char *device, struct mp_error *err)
{
    if (mp_plan_fits(plan->total[d], limit)) {
        return 0;
    }
    const int64_t *bytes = plan->bytes[d];
    int largest = 0;
    for (int i = 1; i < MP_PLAN_ROWS; i++) {
        largest = bytes[i] > bytes[largest] ? i : largest;
    }
    char total[MP_SIZE_TEXT];
    char most[MP_SIZE_TEXT];
    char room[MP_SIZE_TEXT];
    return mp_fail(err, MP_ERR_MEMORY,
                   "memory: the plan needs %s for %d x %lld tokens (%s of it %s), but %s %s",
                   mp_size_text(plan->total[d], total), plan->batch, (long long)plan->tokens,
                   mp_size_text(bytes[largest], most), row_name(plan, largest), device,
                   mp_size_text(limit, room));
}

int mp_plan_check(const struct mp_plan *plan, const struct mp_config *config, struct mp_error *err)
{
    int code = check_device(plan, MP_PLAN_CPU, mp_plan_limit(config),
                            config->memory_limit > 0 ? "memory_limit is" : "the system has", err);
    for (int g = 0; g < plan->gpus && code == 0; g++) {
        char has[32] = "the GPU has";
        if (plan->gpu_limit == config->gpu_memory) {
            snprintf(has, sizeof has, "gpu_memory is");
        } else if (plan->gpus > 1) {
            snprintf(has, sizeof has, "GPU %d has", g);
        }
        code = check_device(plan, MP_PLAN_GPU + g, plan->gpu_limit, has, err);
    }
    return code;
}

const char *mp_size_text(int64_t bytes, char out[MP_SIZE_TEXT])
{
    static const char *const units[] = {"KiB", "MiB", "GiB"};
    double size = (double)bytes / 1024.0;
    int unit = 0;
    while (unit < 2 && size >= 1024.0) {
        size /= 1024.0;
        unit++;
    }
    if (bytes < 1024) {
        snprintf(out, MP_SIZE_TEXT, "%d bytes", (int)bytes);
    } else {
        snprintf(out, MP_SIZE_TEXT, "%.2f %s", size, units[unit]);
    }
    return out;
}

static double mib(int64_t bytes)
{
    return (double)bytes / (double)(1 << 20);
}

/* bytes [MP_PLAN_DEVICES] */
static void print_row(FILE *out, const char *name, const struct mp_plan *plan, const int64_t *bytes,
                      const char *note)
{
    fprintf(out, "  %-40s", name);
    for (int d = 0; d < MP_PLAN_GPU + plan->gpus; d++) {
        fprintf(out, " %10.1f MiB", mib(bytes[d]));
    }
    fprintf(out, "%s\n", note);
}

static void print_row_of_plan(FILE *out, const char *name, const struct mp_plan *plan,
                              enum mp_plan_row row)
{
    int64_t bytes[MP_PLAN_DEVICES];
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        bytes[d] = plan->bytes[d][row];
    }
    print_row(out, name, plan, bytes, "");
}

static void print_gpus(FILE *out, const struct mp_plan *plan)
{
    if (plan->gpus > 0) {
        fprintf(out, "  KV and index of %d of %d sparse layers on the GPU%s\n", plan->gpu_kv_layers,
                plan->kept_layers, plan->gpus > 1 ? "s" : "");
    }
    if (plan->parts > 1) {
        fprintf(out, "  heads and FFN of every layer on %d GPUs, 1/%d on each\n", plan->parts,
                plan->parts);
    }
    for (int d = 0; d < plan->devices && plan->devices > 1; d++) {
        fprintf(out, "%s %d to %d on GPU %d%s", d == 0 ? "  layers" : ",", plan->stages.first[d],
                plan->stages.first[d + 1] - 1, d, d == plan->devices - 1 ? "\n" : "");
    }
    if (plan->gpus == 1) {
        fprintf(out, "  %-40s %14s %14s\n", "", "CPU", "GPU");
    } else if (plan->gpus > 1) {
        fprintf(out, "  %-40s %14s", "", "CPU");
        for (int g = 0; g < plan->gpus; g++) {
            fprintf(out, "%13s %d", "GPU", g);
        }
        fputc('\n', out);
    }
}

void mp_plan_print(const struct mp_plan *plan, const struct mp_config *config, FILE *out)
{
    fprintf(out, "memory plan: %d request%s of %lld tokens\n", plan->batch,
            plan->batch == 1 ? "" : "s", (long long)plan->tokens);
    print_gpus(out, plan);
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        const char *name = row_name(plan, i);
        if (name != NULL && (i != MP_PLAN_WORKSPACE || plan->gpus > 0)) {
            print_row_of_plan(out, name, plan, i);
        }
    }
    int64_t limits[MP_PLAN_DEVICES];
    bool all = true;
    for (int d = 0; d < MP_PLAN_GPU + plan->gpus; d++) {
        limits[d] = d == MP_PLAN_CPU ? mp_plan_limit(config) : plan->gpu_limit;
        all = all && mp_plan_fits(plan->total[d], limits[d]);
    }
    print_row(out, "total", plan, plan->total, "");
    print_row(out, config->memory_limit > 0 ? "memory_limit" : "available", plan, limits,
              all ? " (fits)" : " (does not fit)");
}

/* ---- for programs ---- */

static cJSON *device_json(const struct mp_plan *plan, enum mp_plan_device d, int64_t limit)
{
    cJSON *device = cJSON_CreateObject();
    cJSON *rows = cJSON_AddObjectToObject(device, "rows");
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        if (plan->bytes[d][i] > 0) {
            cJSON_AddNumberToObject(rows, row_name(plan, i), (double)plan->bytes[d][i]);
        }
    }
    cJSON_AddNumberToObject(device, "bytes", (double)plan->total[d]);
    cJSON_AddNumberToObject(device, "limit_bytes", (double)limit);
    return device;
}

cJSON *mp_plan_json(const struct mp_plan *plan, const struct mp_config *config)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddNumberToObject(o, "tokens", (double)plan->tokens);
    cJSON_AddNumberToObject(o, "batch", plan->batch);
    cJSON_AddNumberToObject(o, "sparse_layers", plan->sparse_layers);
    cJSON_AddNumberToObject(o, "gpu_kv_layers", plan->gpu_kv_layers);
    cJSON_AddNumberToObject(o, "ranks", plan->ranks);
    cJSON_AddNumberToObject(o, "sent_bytes_per_step", (double)plan->sent);
    cJSON_AddNumberToObject(o, "received_bytes_per_step", (double)plan->received);
    cJSON_AddItemToObject(o, "cpu_memory", device_json(plan, MP_PLAN_CPU, mp_plan_limit(config)));
    cJSON *gpus = cJSON_AddArrayToObject(o, "gpu_memory");
    for (int g = 0; g < plan->gpus; g++) {
        cJSON_AddItemToArray(gpus, device_json(plan, MP_PLAN_GPU + g, plan->gpu_limit));
    }
    return o;
}
