#include "pipeline/eval/print.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <math.h>
#include <string.h>

void mp_print_number(FILE *out, int width, const char *format, double value)
{
    char text[32] = "-";
    if (!isnan(value)) {
        snprintf(text, sizeof text, format, value);
    }
    fprintf(out, " %*s", width, text);
}

static int width_of(const struct mp_settings *s, size_t setting)
{
    return snprintf(NULL, 0, "[%zu] %s", setting + 1, s->items[setting].name);
}

int mp_print_name_width(const struct mp_settings *s)
{
    int width = (int)strlen("[1] setting");
    for (size_t i = 0; i < s->count; i++) {
        int own = width_of(s, i);
        width = own > width ? own : width;
    }
    return width;
}

void mp_print_name(FILE *out, const struct mp_settings *s, size_t setting, int width)
{
    fprintf(out, "  [%zu] %s%*s", setting + 1, s->items[setting].name, width - width_of(s, setting),
            "");
}

void mp_csv_text(FILE *out, const char *text)
{
    fputc('"', out);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"') {
            fputc('"', out);
        }
        fputc(*c, out);
    }
    fputc('"', out);
}

void mp_csv_number(FILE *out, double value)
{
    fputc(',', out);
    if (!isnan(value)) {
        fprintf(out, "%.6g", value);
    }
}

void mp_json_add_number(cJSON *to, const char *key, double value)
{
    if (isnan(value)) {
        cJSON_AddNullToObject(to, key);
    } else {
        cJSON_AddNumberToObject(to, key, value);
    }
}

cJSON *mp_eval_page_data(const char *kind, const struct mp_eval *e)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "kind", kind);
    cJSON_AddStringToObject(json, "command", e->cli->command);
    cJSON_AddStringToObject(json, "version", mp_version());
    cJSON_AddStringToObject(json, "model", mp_engine_model(e->engine));
    cJSON_AddNumberToObject(json, "batch", e->config.batch);
    cJSON_AddStringToObject(json, "sparse_from",
                            e->cli->sparse_from != NULL ? e->cli->sparse_from : "answer");
    return json;
}
