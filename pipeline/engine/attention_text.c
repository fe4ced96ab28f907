/* The attention that a configuration asks for, in words and as JSON. */
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"

#include <cjson/cJSON.h>

char *mp_attention_describe(const struct mp_config *config)
{
    return config->lsh_K == 0
               ? mp_xstrdup("full")
               : mp_xasprintf("magicpig, (K, L) = (%d, %d)", config->lsh_K, config->lsh_L);
}

struct cJSON *mp_attention_json(const struct mp_config *config)
{
    cJSON *json = cJSON_CreateObject();
    cJSON_AddStringToObject(json, "method", config->lsh_K == 0 ? "full" : "magicpig");
    if (config->lsh_K > 0) {
        cJSON_AddNumberToObject(json, "lsh_K", config->lsh_K);
        cJSON_AddNumberToObject(json, "lsh_L", config->lsh_L);
    }
    return json;
}
