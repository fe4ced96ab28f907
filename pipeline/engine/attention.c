/* What the verbs ask of the attention methods. */
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"
#include "tasks/methods/method.h"

#include <cjson/cJSON.h>
#include <string.h>

/* The method of a configuration that an engine has accepted, or will. NULL: it will not. */
static const struct mp_method *method_of(const struct mp_config *config)
{
    const struct mp_method *method = NULL;
    return mp_method_choose(config, &method, NULL) == 0 ? method : NULL;
}

const char *mp_attention_name(const struct mp_config *config)
{
    const struct mp_method *method = method_of(config);
    return method == NULL ? "unknown" : method->name;
}

char *mp_attention_describe(const struct mp_config *config)
{
    const struct mp_method *method = method_of(config);
    char settings[64] = "";
    if (method == NULL) {
        return mp_xstrdup("unknown");
    }
    if (method->describe != NULL) {
        method->describe(config, settings, sizeof settings);
    }
    const char *rows = method->keeps && config->kv_dtype == MP_KV_INT8 ? ", int8 rows" : "";
    return mp_xasprintf("%s%s%s%s", method->name, settings[0] != '\0' ? ", " : "", settings, rows);
}

struct cJSON *mp_attention_json(const struct mp_config *config)
{
    const struct mp_method *method = method_of(config);
    cJSON *json = cJSON_CreateObject();
    cJSON *all = mp_config_json(config);
    cJSON_AddStringToObject(json, "method", method == NULL ? "unknown" : method->name);
    for (int i = 0; method != NULL && method->keys[i] != NULL; i++) {
        cJSON_AddItemToObject(json, method->keys[i],
                              cJSON_DetachItemFromObjectCaseSensitive(all, method->keys[i]));
    }
    cJSON_Delete(all);
    return json;
}

int mp_attention_check(const struct mp_config *config, struct mp_error *err)
{
    const struct mp_method *method;
    return mp_method_choose(config, &method, err);
}

static bool has_key(const struct mp_method *method, const char *path)
{
    for (int i = 0; method->keys[i] != NULL; i++) {
        if (strcmp(method->keys[i], path) == 0) {
            return true;
        }
    }
    return false;
}

bool mp_attention_takes(const struct mp_config *config, const char *path)
{
    const struct mp_method *method = method_of(config);
    bool special = false;
    for (int i = 0; mp_method_at(i) != NULL; i++) {
        special = special || has_key(mp_method_at(i), path);
    }
    /* A default that no name has chosen goes by the keys of the default method. */
    bool by_default = config->attention_method == NULL && has_key(mp_method_at(0), path);
    return !special || method == NULL || by_default || has_key(method, path);
}

bool mp_attention_selects(const struct mp_config *config)
{
    const struct mp_method *method = method_of(config);
    return method != NULL && method->keeps;
}

bool mp_attention_has_chance(const struct mp_config *config)
{
    const struct mp_method *method = method_of(config);
    return method != NULL && method->chance != NULL;
}

const char *mp_attention_exact(void)
{
    return mp_method_exact()->name;
}

bool mp_attention_method(int index, const char **name, const char **summary)
{
    const struct mp_method *method = mp_method_at(index);
    if (method != NULL) {
        *name = method->name;
        *summary = method->summary;
    }
    return method != NULL;
}
