#include "models/chat/chat.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name, *before, *after;
} TEMPLATES[] = {
    {"none", NULL, NULL},
    {"llama3", "<|start_header_id|>user<|end_header_id|>\n\n",
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"},
};

const char *mp_chat_names(void)
{
    return "none, llama3, model";
}

int mp_chat_find(const char *name, const char **before, const char **after, struct mp_error *err)
{
    for (size_t i = 0; i < sizeof TEMPLATES / sizeof TEMPLATES[0]; i++) {
        if (strcmp(TEMPLATES[i].name, name) == 0) {
            *before = TEMPLATES[i].before;
            *after = TEMPLATES[i].after;
            return 0;
        }
    }
    return mp_fail(err, MP_ERR_USAGE, "found template \"%s\", expected one of %s", name,
                   mp_chat_names());
}
