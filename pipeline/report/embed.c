#include "pipeline/report/embed.h"

#include "core/json/json_print.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        return mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
    }
    fwrite(page, 1, (size_t)(data - page), out);
    put_data(out, arg);
    fputs(data + strlen(marker), out);

    struct stat st;
    bool is_file = fstat(fileno(out), &st) == 0 && S_ISREG(st.st_mode);
    bool failed = fflush(out) != 0 || ferror(out) != 0;
    int error = errno;
    if (fclose(out) != 0 && !failed) {
        failed = true;
        error = errno;
    }
    if (!failed) {
        return MP_OK;
    }
    /* Half a page shows nothing; devices and pipes stay. */
    if (is_file) {
        unlink(path);
    }
    return mp_fail(err, MP_ERR_IO, "%s: cannot write: %s", path, strerror(error));
}
