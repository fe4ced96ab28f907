/* The strict half of json.h: checks a value's text before cJSON sees it. Private to core/json. */
#ifndef MP_CORE_JSON_SCAN_H
#define MP_CORE_JSON_SCAN_H

#include "core/json/json.h"

/* Checks the value that starts at t (no white space before it) and moves t just past it. On
 * failure err is filled and t stays anywhere inside the text. */
int mp_json_scan(struct mp_json_text *t, struct mp_error *err);

/* A malloc'ed copy of checked JSON text[0..*length) with each escaped NUL as MP_JSON_NUL (without
 * a NUL at the end); *length gets its bytes. */
char *mp_json_replace_nul_escapes(const char *text, size_t *length);

#endif
