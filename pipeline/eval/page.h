/* The HTML page of an evaluation. */
#ifndef MP_PIPELINE_EVAL_PAGE_H
#define MP_PIPELINE_EVAL_PAGE_H

#include "core/base/error.h"

struct cJSON;

int mp_eval_page_write(const char *path, const struct cJSON *data, struct mp_error *err);

#endif
