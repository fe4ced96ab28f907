#include "pipeline/eval/page/page.h"

#include "pipeline/report/embed.h"

/* eval_page.html with its parts, NUL-terminated. */
extern const char mp_eval_page[];

static void put_data(FILE *out, const void *data)
{
    mp_embed_put_value(out, data);
}

int mp_eval_page_write(const char *path, const struct cJSON *data, struct mp_error *err)
{
    return mp_embed_write(path, mp_eval_page, put_data, data, err);
}
