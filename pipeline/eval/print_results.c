/* The results of an evaluation: as tables, as CSV, and as the data of its page. */
#include "core/base/file.h"
#include "pipeline/eval/print.h"
#include "pipeline/eval/results.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <string.h>

/* ---- tables ---- */

static void print_settings(const struct mp_results *r, size_t context, FILE *out)
{
    int width = mp_print_name_width(r->settings);
    fprintf(out, "%lld tokens, batch %d\n  %-*s %8s %14s %10s %10s %12s %10s\n",
            (long long)r->contexts[context], r->batch, width, "setting", "score %", "95 % interval",
            "rows read", "sampled %", "KiB a token", "ms a step");
    for (size_t s = 0; s < r->settings->count; s++) {
        const struct mp_result *x = mp_results_get(r, s, context, -1);
        char interval[32] = "-";
        if (!isnan(x->low)) {
            snprintf(interval, sizeof interval, "%.1f to %.1f", 100.0 * x->low, 100.0 * x->high);
        }
        mp_print_name(out, r->settings, s, width);
        mp_print_number(out, 8, "%.1f", 100.0 * x->score);
        fprintf(out, " %14s", interval);
        mp_print_number(out, 10, "%.1f", x->rows);
        mp_print_number(out, 10, "%.2f", 100.0 * x->sampled);
        mp_print_number(out, 12, "%.0f", x->bytes / 1024.0);
        mp_print_number(out, 10, "%.2f", x->ms);
        fputc('\n', out);
    }
}

static void print_tasks(const struct mp_results *r, size_t context, FILE *out)
{
    size_t width = strlen("score % by task");
    for (size_t t = 0; t < r->num_tasks; t++) {
        size_t own = strlen(r->tasks[t]);
        width = own > width ? own : width;
    }
    fprintf(out, "  %-*s %7s", (int)width, "score % by task", "prompts");
    for (size_t s = 0; s < r->settings->count; s++) {
        char head[24];
        snprintf(head, sizeof head, "[%zu]", s + 1);
        fprintf(out, " %6s", head);
    }
    fputc('\n', out);
    for (size_t t = 0; t < r->num_tasks; t++) {
        fprintf(out, "  %-*s %7zu", (int)width, r->tasks[t],
                mp_results_get(r, 0, context, (int)t)->prompts);
        for (size_t s = 0; s < r->settings->count; s++) {
            mp_print_number(out, 6, "%.1f", 100.0 * mp_results_get(r, s, context, (int)t)->score);
        }
        fputc('\n', out);
    }
}

void mp_results_print(const struct mp_results *r, FILE *out)
{
    for (size_t c = 0; c < r->num_contexts; c++) {
        if (c > 0) {
            fputc('\n', out);
        }
        print_settings(r, c, out);
        fputc('\n', out);
        print_tasks(r, c, out);
    }
}

/* ---- CSV ---- */

static void write_row(FILE *out, const struct mp_results *r, size_t setting, size_t context,
                      int task)
{
    const struct mp_result *x = mp_results_get(r, setting, context, task);
    mp_csv_text(out, r->settings->items[setting].name);
    fprintf(out, ",%lld,", (long long)r->contexts[context]);
    mp_csv_text(out, task < 0 ? "mean" : r->tasks[task]);
    fprintf(out, ",%zu", x->prompts);
    const double values[] = {x->score, x->low, x->high, x->sampled, x->rows, x->bytes, x->ms};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        mp_csv_number(out, values[i]);
    }
    fputc('\n', out);
}

int mp_results_write_csv(const struct mp_results *r, const char *path, struct mp_error *err)
{
    struct mp_new_file file;
    int code = mp_new_file_open(&file, path, err);
    if (code != 0) {
        return code;
    }
    FILE *out = file.out;
    fputs("setting,context,task,prompts,score,low,high,sampled,rows,bytes_a_token,ms_a_step\n",
          out);
    for (size_t s = 0; s < r->settings->count; s++) {
        for (size_t c = 0; c < r->num_contexts; c++) {
            for (int t = -1; t < (int)r->num_tasks; t++) {
                write_row(out, r, s, c, t);
            }
        }
    }
    return mp_new_file_close(&file, 0, err);
}

/* ---- the page ---- */

static cJSON *result_json(const struct mp_results *r, size_t setting, size_t context, int task)
{
    const struct mp_result *x = mp_results_get(r, setting, context, task);
    cJSON *json = cJSON_CreateObject();
    cJSON_AddNumberToObject(json, "setting", (double)setting);
    cJSON_AddNumberToObject(json, "length", (double)context);
    cJSON_AddNumberToObject(json, "task", task);
    cJSON_AddNumberToObject(json, "prompts", (double)x->prompts);
    mp_json_add_number(json, "score", 100.0 * x->score);
    mp_json_add_number(json, "low", 100.0 * x->low);
    mp_json_add_number(json, "high", 100.0 * x->high);
    mp_json_add_number(json, "rows", x->rows);
    mp_json_add_number(json, "sampled", x->sampled);
    mp_json_add_number(json, "bytes", x->bytes);
    mp_json_add_number(json, "ms", x->ms);
    return json;
}

cJSON *mp_results_json(const struct mp_results *r, const struct mp_eval *e)
{
    cJSON *json = mp_eval_page_data("scores", e);
    cJSON *settings = cJSON_AddArrayToObject(json, "settings");
    for (size_t s = 0; s < r->settings->count; s++) {
        cJSON *setting = cJSON_CreateObject();
        cJSON_AddStringToObject(setting, "name", r->settings->items[s].name);
        cJSON_AddItemToArray(settings, setting);
    }
    cJSON_AddItemToObject(
        json, "tasks", cJSON_CreateStringArray((const char *const *)r->tasks, (int)r->num_tasks));
    cJSON *lengths = cJSON_AddArrayToObject(json, "lengths");
    for (size_t c = 0; c < r->num_contexts; c++) {
        cJSON_AddItemToArray(lengths, cJSON_CreateNumber((double)r->contexts[c]));
    }
    cJSON *results = cJSON_AddArrayToObject(json, "results");
    for (size_t s = 0; s < r->settings->count; s++) {
        for (size_t c = 0; c < r->num_contexts; c++) {
            for (int t = -1; t < (int)r->num_tasks; t++) {
                cJSON_AddItemToArray(results, result_json(r, s, c, t));
            }
        }
    }
    return json;
}
