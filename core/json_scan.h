/* The strict half of json.h: checks a value's text before cJSON sees it. Private to core/json. */
#ifndef MP_CORE_JSON_SCAN_H
#define MP_CORE_JSON_SCAN_H

#include "core/json.h"

/* Checks the value that starts at t (no white space before it) and moves t just past it. On
 * failure err is filled and t stays anywhere inside the text. */
int mp_json_scan(struct mp_json_text *t, struct mp_error *err);

#endif
