/* What is tuned: keys of the configuration and the values worth trying. A new one is a line of
 * AXES. */
#include "pipeline/tune/tune.h"

#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "pipeline/engine/hooks.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

/* Adds a value unless it is there. */
static void add(struct mp_tune_axis *axis, const char *value)
{
    for (size_t i = 0; i < axis->count; i++) {
        if (strcmp(axis->values[i], value) == 0) {
            return;
        }
    }
    axis->values = mp_xrealloc(axis->values, axis->count + 1, sizeof *axis->values);
    axis->values[axis->count++] = mp_xstrdup(value);
}

static void add_number(struct mp_tune_axis *axis, int value)
{
    char text[16];
    snprintf(text, sizeof text, "%d", value);
    add(axis, text);
}

/* All that fit, and quarters of them. */
static void add_gpu_kv_layers(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    int fit = m->gpu ? m->gpu_kv_layers : 0;
    if (fit > 0) {
        add_number(axis, -1);
    }
    for (int quarters = 3; quarters >= 0 && fit > 0; quarters--) {
        add_number(axis, fit * quarters / 4);
    }
}

/* Acts where the method keeps KV and not all of it fits the GPU. */
static void add_gathers(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    if (m->gpu && m->gpu_kv_layers > 0) {
        add(axis, "cpu");
        add(axis, "gpu");
    }
}

/* The program's own choice, and 1, 2, 3, 4, 6, 8, 12, 16, ... */
static void add_micro_batches(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    if (m->batch == 1) {
        return;
    }
    add_number(axis, 0);
    for (int n = 1; n <= m->batch; n *= 2) {
        add_number(axis, n);
        if (n > 1 && n + n / 2 <= m->batch) {
            add_number(axis, n + n / 2);
        }
    }
}

/* 0 is every core, or with a GPU all but the ones set aside for its driver and the submitting
 * thread: then one more is tried. */
static void add_threads(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    const int numbers[] = {m->cores - 1, m->cores / 2, m->cores / 4};
    add_number(axis, 0);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i] > 0) {
            add_number(axis, numbers[i]);
        }
    }
}

/* 0 is one a NUMA node. */
static void add_cpu_workers(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    add_number(axis, 0);
    for (int n = 1; n <= 2 && n <= m->cores; n++) {
        if (n != m->numa_nodes) {
            add_number(axis, n);
        }
    }
}

static void add_schedulers(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    (void)m;
    const char *name;
    for (int i = 0; (name = mp_hook_scheduler(i)) != NULL; i++) {
        add(axis, name);
    }
}

/* With one slot nobody decodes while a prompt is read. */
static void add_prefill_shares(struct mp_tune_axis *axis, const struct mp_tune_machine *m)
{
    static const char *const shares[] = {"0.25", "0.5", "0.75"};
    for (size_t i = 0; m->batch > 1 && i < sizeof shares / sizeof shares[0]; i++) {
        add(axis, shares[i]);
    }
}

/* What changes most comes first, what has most values last; then what acts while a prompt joins. */
static const struct {
    const char *path;
    const char *flag;
    void (*add_values)(struct mp_tune_axis *axis, const struct mp_tune_machine *m);
    bool joins;
} AXES[] = {
    {"runtime.gpu_kv_layers", "gpu-kv-layers", add_gpu_kv_layers, false},
    {"runtime.gather", "gather", add_gathers, false},
    {"runtime.micro_batches", "micro-batches", add_micro_batches, false},
    {"runtime.threads", "threads", add_threads, false},
    {"runtime.cpu_workers", "cpu-workers", add_cpu_workers, false},
    {"runtime.scheduler", "sched", add_schedulers, false},
    {"runtime.prefill_share", "prefill-share", add_prefill_shares, true},
};
enum { NUM_AXES = sizeof AXES / sizeof AXES[0] };
_Static_assert((int)NUM_AXES <= (int)MP_TUNE_MAX_AXES, "a point has room for all axes");

/* The value of a key as it would be typed. */
static void add_start(struct mp_tune_axis *axis, const cJSON *config)
{
    const cJSON *value = cJSON_GetObjectItemCaseSensitive(config, axis->path);
    if (cJSON_IsString(value)) {
        add(axis, value->valuestring);
    } else {
        char *text = mp_json_key_text(value);
        add(axis, text);
        free(text);
    }
}

static void free_axis(struct mp_tune_axis *axis)
{
    for (size_t i = 0; i < axis->count; i++) {
        free(axis->values[i]);
    }
    free(axis->values);
}

void mp_tune_axes_make(const struct mp_config *start, const struct mp_tune_machine *machine,
                       struct mp_tune_axes *out)
{
    cJSON *config = mp_config_json(start);
    *out = (struct mp_tune_axes){0};
    for (size_t i = 0; i < NUM_AXES; i++) {
        struct mp_tune_axis *axis = &out->items[out->count];
        *axis = (struct mp_tune_axis){
            .path = AXES[i].path, .flag = AXES[i].flag, .joins = AXES[i].joins};
        add_start(axis, config);
        AXES[i].add_values(axis, machine);
        if (axis->count > 1) {
            out->count++;
        } else {
            free_axis(axis);
        }
    }
    cJSON_Delete(config);
}

void mp_tune_axes_free(struct mp_tune_axes *axes)
{
    for (size_t i = 0; i < axes->count; i++) {
        free_axis(&axes->items[i]);
    }
    axes->count = 0;
}
