/* The verb tune: the search with real measurements, its files, and what it says in the end. */
#include "pipeline/tune/tune.h"

#include "core/base/memory.h"
#include "pipeline/bench/bench.h"
#include "pipeline/cli/interrupt.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>

struct tuning {
    const struct mp_cli *cli;
    struct mp_tune_machine machine;
    struct mp_tune_axes axes;
    struct mp_tune_state *state;
};

/* ---- the command line ---- */

static int check(const struct mp_cli *cli, struct mp_error *err)
{
    struct stat there;
    int code = mp_bench_check(cli, err);
    if (code != 0) {
        return code;
    }
    if (cli->output == NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "tune needs --output FILE for the configuration it finds");
    }
    const char *trace = cli->config.trace_path;
    const char *report = cli->config.report_path;
    if (trace != NULL || report != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "trace.%s: found %s, expected none: tune runs many times",
                       trace != NULL ? "file" : "report", trace != NULL ? trace : report);
    }
    if (!cli->resume && stat(cli->output, &there) == 0 && there.st_size > 0) {
        return mp_fail(err, MP_ERR_USAGE,
                       "%s: exists and is not empty; add --resume to continue it, or remove it",
                       cli->output);
    }
    return 0;
}

/* Everything the measurements depend on. */
static cJSON *describe_subject(const struct tuning *t)
{
    const struct mp_cli *cli = t->cli;
    cJSON *subject = mp_config_json(&cli->config);
    cJSON_AddStringToObject(subject, "version", MAGICPIG_VERSION);
    cJSON_AddStringToObject(subject, "model", t->machine.model);
    cJSON_AddStringToObject(subject, "machine", t->machine.description);
    cJSON_AddStringToObject(subject, "shape", cli->shape != NULL ? cli->shape : "");
    cJSON_AddNumberToObject(subject, "layers", (double)cli->layers);
    cJSON_AddNumberToObject(subject, "context", (double)cli->context);
    cJSON_AddNumberToObject(subject, "steps", (double)cli->steps);
    cJSON_AddNumberToObject(subject, "sampled", cli->sampled);
    return subject;
}

static int open_state(struct tuning *t, struct mp_error *err)
{
    char *path = mp_xasprintf("%s.state", t->cli->output);
    cJSON *subject = describe_subject(t);
    int code = mp_tune_state_open(path, subject, t->cli->resume, &t->state, err);
    cJSON_Delete(subject);
    free(path);
    return code;
}

/* ---- what the search calls ---- */

/* One measurement under way is finished, and kept, before an interrupt ends the search. */
static int measure_now(void *arg, const struct mp_tune_request *request, struct mp_tune_sample *out,
                       struct mp_error *err)
{
    const struct tuning *t = arg;
    if (mp_interrupted()) {
        return mp_fail(err, MP_ERR_INTERRUPTED,
                       "interrupted: %s has the best so far; --resume goes on from here",
                       t->cli->output);
    }
    return mp_tune_measure_point(t->cli, &t->axes, request, out, err);
}

static int measure(void *arg, const struct mp_tune_request *request, struct mp_tune_sample *out,
                   struct mp_error *err)
{
    struct tuning *t = arg;
    return mp_tune_state_measure(t->state, &t->axes, request, measure_now, t, out, err);
}

static int accept(void *arg, const struct mp_tune_point *point, struct mp_error *err)
{
    struct tuning *t = arg;
    return mp_tune_write_config(t->cli, &t->axes, point, err);
}

/* ---- the end ---- */

static void conclude(const struct tuning *t, const struct mp_tune_result *r)
{
    if (!r->improved) {
        printf("\nNo decode step was shorter than with the configuration as given.\n");
    } else if (isinf(r->start_step)) {
        printf("\nBest: %.3f ms a step, %.1f tokens/s; as given it could not be measured again\n",
               1e3 * r->best_step, t->machine.batch / r->best_step);
    } else {
        printf("\nBest: %.3f ms a step, %.1f tokens/s; as given %.3f ms, %.1f tokens/s: %.1f %% "
               "more tokens/s\n",
               1e3 * r->best_step, t->machine.batch / r->best_step, 1e3 * r->start_step,
               t->machine.batch / r->start_step, 100.0 * (r->start_step / r->best_step - 1.0));
    }
    for (size_t a = 0; a < t->axes.count; a++) {
        const struct mp_tune_axis *axis = &t->axes.items[a];
        size_t value = r->best.at[a];
        printf("  %-22s %s%s%s%s\n", axis->path, axis->values[value], value != 0 ? " (was " : "",
               value != 0 ? axis->values[0] : "", value != 0 ? ")" : "");
    }
    printf("Written to %s\n", t->cli->output);
}

static int search(struct tuning *t, struct mp_error *err)
{
    const struct mp_tune_machine *m = &t->machine;
    printf("%s\n%s\ncontext %lld tokens, batch %d\n\n", m->model, m->description,
           (long long)t->cli->context, m->batch);
    struct mp_tune_table *table = mp_tune_table_new(stdout, m);
    struct mp_tune_search s = {
        .axes = &t->axes, .measure = measure, .accept = accept, .arg = t, .table = table};
    struct mp_tune_result result;
    int code = mp_tune_search(&s, &result, err);
    mp_tune_table_free(table);
    if (code == 0) {
        conclude(t, &result);
    }
    return code;
}

int mp_verb_tune(const struct mp_cli *cli, struct mp_error *err)
{
    struct tuning t = {.cli = cli};
    const struct mp_tune_point start = {0};
    int code = check(cli, err);
    if (code == 0) {
        code = mp_tune_probe(cli, &t.machine, err);
    }
    if (code == 0) {
        mp_tune_axes_make(&cli->config, &t.machine, &t.axes);
        mp_interrupt_defer();
        code = open_state(&t, err);
    }
    if (code == 0) {
        /* From here on there is a configuration to load, whenever it ends. */
        code = mp_tune_write_config(cli, &t.axes, &start, err);
    }
    if (code == 0) {
        code = search(&t, err);
    }
    mp_tune_state_close(t.state);
    mp_tune_axes_free(&t.axes);
    return code;
}
