#include "pipeline/report/embed.h"

#include "core/base/file.h"
#include "core/json/json_print.h"

#include <stdlib.h>
#include <string.h>

static const char marker[] = "@DATA@";

/* '<' is escaped: inside a page, "</script>" would end the data and "<!--" change what ends it. */
void mp_embed_put_json(FILE *out, const char *json)
{
    for (const char *c = json; *c != '\0'; c++) {
        if (*c == '<') {
            fputs("\\u003c", out);
        } else {
            fputc(*c, out);
        }
    }
}

void mp_embed_put_value(FILE *out, const struct cJSON *value)
{
    char *json = mp_json_key_text(value);
    mp_embed_put_json(out, json);
    free(json);
}

int mp_embed_write(const char *path, const char *page, void (*put_data)(FILE *, const void *),
                   const void *arg, struct mp_error *err)
{
    const char *data = strstr(page, marker);
    if (data == NULL) {
        mp_panic("a page has no %s", marker);
    }
    struct mp_new_file file;
    int code = mp_new_file_open(&file, path, err);
    if (code != MP_OK) {
        return code;
    }
    fwrite(page, 1, (size_t)(data - page), file.out);
    put_data(file.out, arg);
    fputs(data + strlen(marker), file.out);
    return mp_new_file_close(&file, MP_OK, err);
}
