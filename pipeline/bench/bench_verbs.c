/* The bench verbs: which measurements a command line asks for. */
#include "pipeline/bench/bench.h"

#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/machine/cpu.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_ROWS = 8 };

/* What is measured, one after the other. */
struct rows {
    struct mp_bench_result items[MAX_ROWS];
    size_t count;
};

typedef int measurement(const struct mp_bench_options *options, struct mp_bench_result *out,
                        struct mp_error *err);

int mp_bench_check_model(const struct mp_cli *cli, struct mp_error *err)
{
    const char *model = cli->config.model_path;
    if (cli->shape == NULL && model == NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "%s needs either --shape NAME or --model DIR (or model_path in --config)",
                       cli->verb);
    }
    if (cli->shape != NULL && model != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "found both --shape %s and the model %s, expected one",
                       cli->shape, model);
    }
    if (cli->layers > 0 && cli->shape == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "--layers needs --shape: a model has the layers it has");
    }
    return 0;
}

/* What a key names can only be written for one run that decodes. */
static int check_one_run(const struct mp_cli *cli, const char *key, const char *path,
                         struct mp_error *err)
{
    if (path == NULL || (!cli->compare && strcmp(cli->verb, "bench decode") == 0)) {
        return 0;
    }
    return mp_fail(err, MP_ERR_USAGE,
                   "%s: found %s with %s, expected one run that decodes: bench decode "
                   "without --compare",
                   key, path, cli->compare ? "--compare" : cli->verb);
}

static int fail_attention(const struct mp_cli *cli, const char *option, const char *expected,
                          struct mp_error *err)
{
    char *found = mp_attention_describe(&cli->config);
    int code =
        mp_fail(err, MP_ERR_USAGE, "%s: found attention %s, expected %s", option, found, expected);
    free(found);
    return code;
}

int mp_bench_check(const struct mp_cli *cli, struct mp_error *err)
{
    if (cli->context == 0) {
        return mp_fail(err, MP_ERR_USAGE, "%s needs --context N", cli->verb);
    }
    int code = mp_bench_check_model(cli, err);
    if (code != 0) {
        return code;
    }
    code = check_one_run(cli, "trace.report", cli->config.report_path, err);
    if (code == 0) {
        code = check_one_run(cli, "trace.fxt", cli->config.fxt_dir, err);
    }
    if (code != 0) {
        return code;
    }
    if (cli->kv != NULL && strcmp(cli->kv, "synthetic") != 0 && strcmp(cli->kv, "prompt") != 0) {
        return mp_fail(err, MP_ERR_USAGE, "--kv: found \"%s\", expected synthetic or prompt",
                       cli->kv);
    }
    if (strcmp(cli->verb, "bench prefill") == 0 && cli->question == 0 &&
        cli->config.kv_dir != NULL) {
        mp_log(MP_LOG_WARNING, "runtime.kv_dir has no effect without --question");
    }
    if (cli->question >= cli->context) {
        return mp_fail(err, MP_ERR_USAGE,
                       "--question: found %lld, expected less than --context %lld",
                       (long long)cli->question, (long long)cli->context);
    }
    if (cli->sampled > 0.0 && (cli->shape == NULL || mp_bench_reads_prompts(cli))) {
        return mp_fail(err, MP_ERR_USAGE,
                       "--sampled needs --shape and no --kv prompt: the queries and keys of a "
                       "model are its own");
    }
    if (cli->sampled > 0.0 && !mp_attention_has_chance(&cli->config) && !cli->compare) {
        return fail_attention(cli, "--sampled", "one that samples by direction", err);
    }
    return 0;
}

/* Measures a row. The configuration is a shallow copy of the command line's, changed for the row.
 */
static int add_row(struct rows *rows, measurement *measure, const struct mp_cli *cli,
                   const struct mp_config *config, const char *title, struct mp_error *err)
{
    struct mp_bench_result *r = &rows->items[rows->count];
    r->title = title != NULL ? mp_xstrdup(title) : NULL;
    int code = measure(&(struct mp_bench_options){.cli = cli, .config = config}, r, err);
    if (code == 0) {
        rows->count++;
    } else {
        mp_bench_result_free(r);
    }
    return code;
}

/* A row of several: what has no room here is said and left out. */
static int add_row_if_it_fits(struct rows *rows, measurement *measure, const struct mp_cli *cli,
                              const struct mp_config *config, const char *title,
                              struct mp_error *err)
{
    int code = add_row(rows, measure, cli, config, title, err);
    if (code == MP_ERR_MEMORY) {
        mp_log(MP_LOG_WARNING, "%s: %s", title, err->message);
        code = 0;
    }
    return code;
}

static void free_rows(struct rows *rows)
{
    for (size_t i = 0; i < rows->count; i++) {
        mp_bench_result_free(&rows->items[i]);
    }
}

struct mp_config mp_bench_config(const struct mp_cli *cli)
{
    struct mp_config config = cli->config;
    config.eos = NULL;
    config.num_eos = 0;
    if (cli->question == 0) {
        /* Nothing is to be known of a prompt before it is read. */
        config.prefix_cache = 0;
        config.kv_dir = NULL;
    }
    return config;
}

/* ---- decode and prefill ---- */

static bool uses_gpu(const struct mp_config *c)
{
    bool may = strcmp(c->devices, "auto") == 0 || strcmp(c->devices, "gpu") == 0;
    return may && mp_hook_find_gpu(NULL, 0, NULL) == 0;
}

/* A row of --compare: a method, by its name, and how many layers keep their KV on the GPU. */
static int add_placement(struct rows *rows, const struct mp_cli *cli, const char *method,
                         int gpu_kv_layers, const char *what, struct mp_error *err)
{
    struct mp_config config = mp_bench_config(cli);
    config.gpu_kv_layers = gpu_kv_layers;
    config.attention_method = (char *)method; /* only read */
    char *title = mp_xasprintf("%s, %s", method, what);
    int code = add_row_if_it_fits(rows, mp_bench_decode, cli, &config, title, err);
    free(title);
    return code;
}

/* One row for each placement: KV in CPU memory, on the GPU; then, beside another one, the default
 * method with KV in CPU memory; and full attention. */
static int measure_placements(struct rows *rows, const struct mp_cli *cli, struct mp_error *err)
{
    const struct mp_config *c = &cli->config;
    bool gpu = uses_gpu(c);
    const char *usual, *summary;
    mp_attention_method(0, &usual, &summary);
    const char *method = c->attention_method != NULL ? c->attention_method : usual;
    int code = add_placement(rows, cli, method, 0, "KV in CPU memory", err);
    if (code == 0 && gpu) {
        code = add_placement(rows, cli, method, INT_MAX, "KV on the GPU", err);
    }
    if (code == 0 && strcmp(method, usual) != 0) {
        code = add_placement(rows, cli, usual, 0, "KV in CPU memory", err);
    }
    if (code == 0) {
        code = add_placement(rows, cli, mp_attention_exact(), 0,
                             gpu ? "all on the GPU" : "all on the CPU", err);
    }
    if (code == 0 && rows->count == 0) {
        code = mp_fail(err, MP_ERR_MEMORY, "--compare: no placement has the memory it needs");
    }
    return code;
}

static int show_json(const struct rows *rows, const struct mp_cli *cli, int code,
                     struct mp_error *err)
{
    int json_code = 0;
    if (rows->count > 0 && cli->json_output) {
        json_code = mp_bench_print_json(rows->items, rows->count, stdout, code == 0 ? err : NULL);
    }
    return code == 0 ? json_code : code;
}

/* Prints the rows that are done, also when a later one has failed, and frees them. */
static int show(struct rows *rows, const struct mp_cli *cli, int code, struct mp_error *err)
{
    code = show_json(rows, cli, code, err);
    for (size_t i = 0; i < rows->count && !cli->json_output; i++) {
        mp_bench_print(&rows->items[i], stdout);
    }
    if (rows->count > 0 && cli->compare && !cli->json_output) {
        mp_bench_print_rows(rows->items, rows->count, stdout);
    }
    free_rows(rows);
    return code;
}

int mp_verb_bench_decode(const struct mp_cli *cli, struct mp_error *err)
{
    struct rows rows = {0};
    int code = mp_bench_check(cli, err);
    if (code == 0 && cli->compare) {
        if (!mp_attention_selects(&cli->config)) {
            code = fail_attention(cli, "--compare",
                                  "one that samples, to compare full attention with", err);
        } else {
            code = measure_placements(&rows, cli, err);
        }
    } else if (code == 0) {
        struct mp_config config = mp_bench_config(cli);
        code = add_row(&rows, mp_bench_decode, cli, &config, NULL, err);
    }
    return show(&rows, cli, code, err);
}

int mp_verb_bench_prefill(const struct mp_cli *cli, struct mp_error *err)
{
    struct rows rows = {0};
    struct mp_config config = mp_bench_config(cli);
    int code = mp_bench_check(cli, err);
    if (code == 0) {
        code = add_row(&rows, mp_bench_prefill, cli, &config, NULL, err);
    }
    return show(&rows, cli, code, err);
}

/* ---- ops ---- */

/* Prefill and decode on one device with one variant of the kernels, one task at a time. */
static int measure_variant(struct rows *rows, const struct mp_cli *cli,
                           const struct mp_config *config, const char *title, struct mp_error *err)
{
    mp_hook_one_task_at_a_time(true);
    int code = add_row(rows, mp_bench_prefill, cli, config, title, err);
    if (code == 0) {
        code = add_row(rows, mp_bench_decode, cli, config, title, err);
    }
    mp_hook_one_task_at_a_time(false);
    return code;
}

static int measure_variants(struct rows *rows, const struct mp_cli *cli, struct mp_error *err)
{
    static char *const variants[] = {"avx2", "avx512"};
    struct mp_config config = mp_bench_config(cli);
    bool any = strcmp(cli->config.isa, "auto") == 0;
    int code = 0;
    config.devices = "cpu";
    config.gpus = 1;
    config.parallel = MP_PARALLEL_LAYERS;
    if (!any) {
        code = measure_variant(rows, cli, &config, cli->config.isa, err);
    }
    for (size_t i = 0; any && i < sizeof variants / sizeof variants[0] && code == 0; i++) {
        config.isa = variants[i];
        if (mp_isa_select(config.isa, NULL) == 0) {
            code = measure_variant(rows, cli, &config, config.isa, err);
        }
    }
    if (code == 0 && uses_gpu(&cli->config)) {
        config.devices = "gpu";
        config.isa = "auto";
        config.gpu_kv_layers = INT_MAX;
        code = measure_variant(rows, cli, &config, "GPU", err);
    }
    return code;
}

int mp_verb_bench_ops(const struct mp_cli *cli, struct mp_error *err)
{
    struct rows rows = {0};
    struct mp_cli ops = *cli;
    if (ops.shape != NULL && ops.layers == 0) {
        ops.layers = 2; /* layer 0 attends to all, layer 1 samples: every op is there */
    }
    int code = mp_bench_check(cli, err);
    if (code == 0) {
        code = measure_variants(&rows, &ops, err);
    }
    code = show_json(&rows, cli, code, err);
    for (size_t i = 0; i < rows.count && !cli->json_output; i++) {
        fputs(i > 0 ? "\n" : "", stdout);
        mp_bench_print_subject(&rows.items[i], stdout);
        mp_bench_print_ops(&rows.items[i], stdout);
    }
    free_rows(&rows);
    return code;
}
