#include "pipeline/generate/answer_key.h"

#include "core/base/hash.h"
#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "pipeline/engine/hooks.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

uint64_t mp_prompt_fingerprint(const int32_t *ids, size_t count)
{
    return mp_hash_bytes(MP_HASH_START, ids, count * sizeof *ids);
}

uint64_t mp_text_fingerprint(const char *text)
{
    return mp_hash_bytes(MP_HASH_START, text, strlen(text));
}

bool mp_answer_is_exact(const struct mp_config *c)
{
    char *name = mp_attention_describe(c);
    bool exact = strcmp(name, mp_attention_exact()) == 0;
    free(name);
    return exact;
}

char *mp_answer_model(const struct mp_engine *e)
{
    char *fingerprint = mp_engine_fingerprint(e);
    char *model = mp_xasprintf("%s, %s", mp_engine_model(e), fingerprint);
    free(fingerprint);
    return model;
}

/* The values of some keys of a configuration, by their paths. */
static void add_keys(cJSON *to, const struct mp_config *c, const char *const *paths)
{
    cJSON *all = mp_config_json(c);
    for (int i = 0; paths[i] != NULL; i++) {
        cJSON_AddItemToObject(to, paths[i], cJSON_DetachItemFromObjectCaseSensitive(all, paths[i]));
    }
    cJSON_Delete(all);
}

/* In one line, as it will be when a line with it has been read: whole numbers from 1e15 are then
 * written in another way. Frees json. */
static char *print_key(cJSON *json)
{
    char *text = mp_json_key_text(json);
    cJSON *again = cJSON_Parse(text);
    free(text);
    text = mp_json_key_text(again);
    cJSON_Delete(again);
    cJSON_Delete(json);
    return text;
}

char *mp_answer_key(const struct mp_config *c, const char *model, const char *sparse_from)
{
    static const char *const common[] = {"cache_layers", "device_budget", "window_size",
                                         "generation_budget", NULL};
    static const char *const drawn[] = {"sampling.temperature", "sampling.top_p", "sampling.top_k",
                                        "sampling.seed", NULL};
    static const char *const end[] = {"eos", NULL};
    cJSON *key = mp_attention_json(c);
    if (!mp_answer_is_exact(c)) {
        add_keys(key, c, common);
    }
    if (c->sampling.temperature > 0.0f) {
        add_keys(key, c, drawn);
    }
    if (c->num_eos >= 0) {
        add_keys(key, c, end);
    }
    cJSON_AddStringToObject(key, "sparse_from", sparse_from != NULL ? sparse_from : "answer");
    cJSON_AddStringToObject(key, "model", model);
    return print_key(key);
}
