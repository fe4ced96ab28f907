#include "core/json/json_print.h"

#include "core/base/memory.h"

#include <cjson/cJSON.h>
#include <stdlib.h>

/* Bytes that cJSON has asked for on this thread and not got since the last text; 0: it got all. */
static _Thread_local size_t lost;

static void *allocate(size_t bytes)
{
    void *p = malloc(bytes);
    if (p == NULL) {
        lost = bytes;
    }
    return p;
}

void mp_json_watch_memory(void)
{
    cJSON_InitHooks(&(cJSON_Hooks){.malloc_fn = allocate, .free_fn = free});
}

void mp_json_forget_lost_memory(void)
{
    lost = 0;
}

char *mp_json_print(const struct cJSON *value, enum mp_json_layout layout, const char *what,
                    struct mp_error *err)
{
    char *text = layout == MP_JSON_LINE ? cJSON_PrintUnformatted(value) : cJSON_Print(value);
    if (text == NULL || lost > 0) {
        mp_fail(err, MP_ERR_MEMORY, "%s: out of memory: %zu bytes asked for to write it as JSON",
                what, lost);
        free(text);
        text = NULL;
    }
    lost = 0;
    return text;
}

char *mp_json_key_text(const struct cJSON *value)
{
    struct mp_error err;
    char *text = mp_json_print(value, MP_JSON_LINE, "a setting", &err);
    if (text == NULL) {
        mp_give_up("%s", err.message);
    }
    return text;
}
