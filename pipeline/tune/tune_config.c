/* Writing the tuned configuration. */
#include "pipeline/tune/tune.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_CONFIG_BYTES = 1 << 20 };

/* Puts a value, which it takes over, where the path says ("runtime.threads"); null: removes what is
 * there. */
static void put(cJSON *root, const char *path, cJSON *value)
{
    cJSON *object = root;
    const char *dot = strchr(path, '.');
    const char *key = dot != NULL ? dot + 1 : path;
    if (dot != NULL) {
        char *section = mp_xstrndup(path, (size_t)(dot - path));
        object = cJSON_GetObjectItemCaseSensitive(root, section);
        if (object == NULL) {
            object = cJSON_AddObjectToObject(root, section);
        }
        free(section);
    }
    cJSON_DeleteItemFromObjectCaseSensitive(object, key);
    if (cJSON_IsNull(value)) {
        cJSON_Delete(value);
    } else {
        cJSON_AddItemToObject(object, key, value);
    }
}

/* Puts the keys of `now` that `before` has otherwise. */
static void put_changes(cJSON *root, const cJSON *before, const cJSON *now)
{
    const cJSON *value;
    cJSON_ArrayForEach(value, now)
    {
        const cJSON *old = cJSON_GetObjectItemCaseSensitive(before, value->string);
        if (!cJSON_Compare(old, value, true)) {
            put(root, value->string, cJSON_Duplicate(value, true));
        }
    }
}

/* The --config file, or an empty object, with what flags have changed. */
static int read_base(const struct mp_cli *cli, cJSON **out, struct mp_error *err)
{
    struct mp_config file;
    struct mp_json *doc = NULL;
    mp_config_init(&file);
    int code = 0;
    if (cli->config_path != NULL) {
        code = mp_config_load(&file, cli->config_path, err);
        if (code == 0) {
            code = mp_json_read_file(cli->config_path, MAX_CONFIG_BYTES, &doc, err);
        }
    }
    if (code == 0) {
        cJSON *before = mp_config_json(&file);
        cJSON *now = mp_config_json(&cli->config);
        *out = doc != NULL ? cJSON_Duplicate(mp_json_root(doc), true) : cJSON_CreateObject();
        put_changes(*out, before, now);
        cJSON_Delete(before);
        cJSON_Delete(now);
    }
    mp_json_free(doc);
    mp_config_free(&file);
    return code;
}

static void put_point(cJSON *root, const struct mp_tune_axes *axes,
                      const struct mp_tune_point *point)
{
    struct mp_config config;
    mp_config_init(&config);
    for (size_t a = 0; a < axes->count; a++) {
        const struct mp_tune_axis *axis = &axes->items[a];
        struct mp_error err;
        if (mp_config_set_flag(&config, axis->flag, axis->values[point->at[a]], &err) != 0) {
            mp_panic("a value to tune: %s", err.message);
        }
    }
    cJSON *values = mp_config_json(&config);
    for (size_t a = 0; a < axes->count; a++) {
        put(root, axes->items[a].path,
            cJSON_DetachItemFromObjectCaseSensitive(values, axes->items[a].path));
    }
    cJSON_Delete(values);
    mp_config_free(&config);
}

/* Whether `name`, looked for from folder, is the file or folder `real`. */
static bool leads_to(const char *folder, const char *name, const char *real)
{
    char *path = name[0] == '/' ? mp_xstrdup(name) : mp_xasprintf("%s/%s", folder, name);
    char *there = realpath(path, NULL);
    bool leads = there != NULL && strcmp(there, real) == 0;
    free(there);
    free(path);
    return leads;
}

/* A model's folder is looked for relative to the configuration's, then to the working directory:
 * absolute in a file from where it would not be found, or only by chance. A name in the cache stays
 * one. */
static int put_model(cJSON *root, const struct mp_cli *cli, struct mp_error *err)
{
    const char *name = cli->config.model_path;
    if (name == NULL) {
        return 0;
    }
    char *found;
    int code = mp_cli_model_dir(cli, &found, err);
    if (code != 0) {
        return code;
    }
    char *real = realpath(found, NULL);
    char *from = mp_file_folder(cli->config_path != NULL ? cli->config_path : "");
    char *to = mp_file_folder(cli->output);
    bool is_path = real != NULL && (leads_to(from, name, real) || leads_to(".", name, real));
    if (is_path && !leads_to(to, name, real)) {
        put(root, "model_path", cJSON_CreateString(real));
    }
    free(to);
    free(from);
    free(real);
    free(found);
    return 0;
}

int mp_tune_write_config(const struct mp_cli *cli, const struct mp_tune_axes *axes,
                         const struct mp_tune_point *point, struct mp_error *err)
{
    cJSON *root = NULL;
    int code = read_base(cli, &root, err);
    if (code == 0) {
        code = put_model(root, cli, err);
    }
    if (code == 0) {
        put_point(root, axes, point);
        char *text = mp_json_print(root, MP_JSON_INDENTED, cli->output, err);
        code = text != NULL ? mp_file_replace(cli->output, text, err) : MP_ERR_MEMORY;
        free(text);
    }
    cJSON_Delete(root);
    return code;
}
