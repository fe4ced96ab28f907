/* What the tables, CSV files and pages of both verbs share. */
#ifndef MP_PIPELINE_EVAL_PRINT_H
#define MP_PIPELINE_EVAL_PRINT_H

#include "pipeline/eval/run.h"

#include <stdio.h>

struct cJSON;

/* A blank and a number, right-aligned; "-" for NAN. */
void mp_print_number(FILE *out, int width, const char *format, double value);

/* Characters of the widest of their column: "[1] name" of each, and its head. */
int mp_print_name_width(const struct mp_settings *s);

/* A setting in that column, after two blanks. */
void mp_print_name(FILE *out, const struct mp_settings *s, size_t setting, int width);

/* A quoted field; a comma and a number, or nothing behind it for NAN. */
void mp_csv_text(FILE *out, const char *text);
void mp_csv_number(FILE *out, double value);

/* null for NAN. */
void mp_json_add_number(struct cJSON *to, const char *key, double value);

/* A page's data, as far as they are the same for every kind. The caller's. */
struct cJSON *mp_eval_page_data(const char *kind, const struct mp_eval *e);

#endif
