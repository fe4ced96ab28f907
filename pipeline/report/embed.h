/* Pages of HTML that are part of the program, with data in the place of a marker. */
#ifndef MP_PIPELINE_REPORT_EMBED_H
#define MP_PIPELINE_REPORT_EMBED_H

#include "core/base/error.h"

#include <stdio.h>

struct cJSON;

/* Writes `page`, NUL-terminated, to the file `path`; what put_data(out, arg) writes takes the place
 * of @DATA@ in it. MP_ERR_IO names the file, which then is as it was. */
int mp_embed_write(const char *path, const char *page, void (*put_data)(FILE *, const void *),
                   const void *arg, struct mp_error *err);

/* For put_data: JSON as it may stand within a page's <script>. */
void mp_embed_put_json(FILE *out, const char *json);
void mp_embed_put_value(FILE *out, const struct cJSON *value);

#endif
