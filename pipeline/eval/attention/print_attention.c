/* The errors of attention: as tables, as CSV, and as the data of their page. */
#include "core/base/file.h"
#include "core/base/memory.h"
#include "pipeline/eval/attention/attention.h"
#include "pipeline/eval/print.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Whether any setting estimates its error. */
static bool estimates(const struct mp_attention_results *r)
{
    bool any = false;
    for (size_t s = 0; s < r->settings->count; s++) {
        any = any || !isnan(r->items[s].estimate);
    }
    return any;
}

static void print_settings(const struct mp_attention_results *r, FILE *out)
{
    int width = mp_print_name_width(r->settings);
    bool estimated = estimates(r);
    fprintf(out, "%lld token%s of %lld prompt%s\n  %-*s %8s", (long long)r->tokens,
            r->tokens == 1 ? "" : "s", (long long)r->prompts, r->prompts == 1 ? "" : "s", width,
            "setting", "error %");
    if (estimated) {
        fprintf(out, " %8s %10s %8s", "rms %", "estimate %", "right %");
    }
    fprintf(out, " %10s %10s %12s\n", "rows read", "sampled %", "KiB a token");
    for (size_t s = 0; s < r->settings->count; s++) {
        const struct mp_attention_result *x = &r->items[s];
        mp_print_name(out, r->settings, s, width);
        mp_print_number(out, 8, "%.2f", 100.0 * x->error);
        if (estimated) {
            mp_print_number(out, 8, "%.2f", 100.0 * x->rms);
            mp_print_number(out, 10, "%.2f", 100.0 * x->estimate);
            mp_print_number(out, 8, "%.0f", 100.0 * x->calibrated);
        }
        mp_print_number(out, 10, "%.1f", x->rows);
        mp_print_number(out, 10, "%.2f", 100.0 * x->sampled);
        mp_print_number(out, 12, "%.0f", x->bytes / 1024.0);
        fputc('\n', out);
    }
}

static void print_layers(const struct mp_attention_results *r, FILE *out)
{
    fprintf(out, "\n  %-16s", "error % by layer");
    for (size_t s = 0; s < r->settings->count; s++) {
        char head[24];
        snprintf(head, sizeof head, "[%zu]", s + 1);
        fprintf(out, " %7s", head);
    }
    fputc('\n', out);
    for (int l = 0; l < r->layers; l++) {
        fprintf(out, "  %16d", l);
        for (size_t s = 0; s < r->settings->count; s++) {
            mp_print_number(out, 7, "%.2f", 100.0 * r->items[s].layer_error[l]);
        }
        fputc('\n', out);
    }
}

static void print_recommendation(const struct mp_attention_results *r, size_t setting, FILE *out)
{
    const struct mp_attention_result *x = &r->items[setting];
    fprintf(out, "  [%zu] layer%s", setting + 1, x->num_keep_dense == 1 ? "" : "s");
    for (int i = 0; i < x->num_keep_dense; i++) {
        fprintf(out, "%s %d", i > 0 ? "," : "", x->keep_dense[i]);
    }
    fprintf(out, " kept dense as well would lower the mean error from %.2f to %.2f %%\n",
            100.0 * x->error, 100.0 * x->error_if_dense);
}

void mp_attention_print(const struct mp_attention_results *r, FILE *out)
{
    print_settings(r, out);
    print_layers(r, out);
    bool any = false;
    for (size_t s = 0; s < r->settings->count; s++) {
        if (r->items[s].num_keep_dense > 0) {
            fputs(any ? "" : "\n", out);
            print_recommendation(r, s, out);
            any = true;
        }
    }
}

int mp_attention_write_csv(const struct mp_attention_results *r, const char *path,
                           struct mp_error *err)
{
    struct mp_new_file file;
    int code = mp_new_file_open(&file, path, err);
    if (code != 0) {
        return code;
    }
    FILE *out = file.out;
    fputs("setting,layer,head,error\n", out);
    for (size_t s = 0; s < r->settings->count; s++) {
        for (int i = 0; i < r->layers * r->heads; i++) {
            mp_csv_text(out, r->settings->items[s].name);
            fprintf(out, ",%d,%d", i / r->heads, i % r->heads);
            mp_csv_number(out, r->items[s].head_error[i]);
            fputc('\n', out);
        }
    }
    return mp_new_file_close(&file, 0, err);
}

/* ---- the page ---- */

static cJSON *numbers_json(const double *values, int count)
{
    cJSON *list = cJSON_CreateArray();
    for (int i = 0; i < count; i++) {
        cJSON_AddItemToArray(list,
                             isnan(values[i]) ? cJSON_CreateNull() : cJSON_CreateNumber(values[i]));
    }
    return list;
}

static cJSON *setting_json(const struct mp_attention_results *r, size_t setting)
{
    const struct mp_attention_result *x = &r->items[setting];
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "name", r->settings->items[setting].name);
    mp_json_add_number(json, "error", x->error);
    mp_json_add_number(json, "rms", x->rms);
    mp_json_add_number(json, "estimate", x->estimate);
    mp_json_add_number(json, "calibrated", x->calibrated);
    mp_json_add_number(json, "rows", x->rows);
    mp_json_add_number(json, "sampled", x->sampled);
    mp_json_add_number(json, "bytes", x->bytes);
    mp_json_add_number(json, "error_if_dense", x->error_if_dense);
    cJSON_AddItemToObject(json, "keep_dense",
                          cJSON_CreateIntArray(x->keep_dense, x->num_keep_dense));
    cJSON_AddItemToObject(json, "layer_error", numbers_json(x->layer_error, r->layers));
    cJSON *heads = cJSON_AddArrayToObject(json, "head_error");
    for (int l = 0; l < r->layers; l++) {
        cJSON_AddItemToArray(heads, numbers_json(x->head_error + l * r->heads, r->heads));
    }
    return json;
}

cJSON *mp_attention_results_json(const struct mp_attention_results *r, const struct mp_eval *e)
{
    cJSON *json = mp_eval_page_data("attention", e);
    cJSON_AddNumberToObject(json, "prompts", (double)r->prompts);
    cJSON_AddNumberToObject(json, "tokens", (double)r->tokens);
    cJSON_AddNumberToObject(json, "layers", r->layers);
    cJSON_AddNumberToObject(json, "heads", r->heads);
    cJSON *settings = cJSON_AddArrayToObject(json, "settings");
    for (size_t s = 0; s < r->settings->count; s++) {
        cJSON_AddItemToArray(settings, setting_json(r, s));
    }
    return json;
}
