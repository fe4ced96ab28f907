/* The rates in a file: {"cpu_workers": 1, "threads": 2, "kernels": "avx2", "gpu": "", "CPU":
 * {"ffn": {"flops_per_second": 1e11, "bytes_per_second": 1e10}, ...}, "GPU": {...}} */
#include "core/trace/calibration.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "core/json/json_print.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_FILE_BYTES = 1 << 20 };

static const char *const KINDS[MP_TRACK_KINDS] = {
    [MP_TRACK_CPU] = "CPU",
    [MP_TRACK_GPU] = "GPU",
};

/* ---- where it is ---- */

/* A variable that names a folder; NULL: it does not. */
static const char *folder_in(const char *variable)
{
    const char *value = getenv(variable);
    return value != NULL && value[0] == '/' ? value : NULL;
}

char *mp_calibration_default_path(void)
{
    const char *cache = folder_in("XDG_CACHE_HOME");
    const char *base = cache != NULL ? cache : folder_in("HOME");
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    return base == NULL ? NULL
                        : mp_xasprintf("%s%s/magicpig-pipe/calibration-%s.json", base,
                                       cache != NULL ? "" : "/.cache", host);
}

static int make_folder(const char *path, struct mp_error *err)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST
               ? MP_OK
               : mp_fail(err, MP_ERR_IO, "%s: cannot create: %s", path, strerror(errno));
}

int mp_calibration_make_folder(const char *default_path, struct mp_error *err)
{
    char *folder = mp_file_folder(default_path);
    char *cache = mp_file_folder(folder);
    int code = folder_in("XDG_CACHE_HOME") == NULL ? make_folder(cache, err) : MP_OK;
    if (code == 0) {
        code = make_folder(folder, err);
    }
    free(cache);
    free(folder);
    return code;
}

/* ---- reading ---- */

/* Whether the file is of this setup. */
static int matches(const struct mp_json *doc, const struct mp_setup *setup, bool *out,
                   struct mp_error *err)
{
    const cJSON *root = mp_json_root(doc);
    int64_t workers = 0;
    int64_t threads = 0;
    const char *kernels = NULL;
    const char *gpu = NULL;
    int code = mp_json_expect(doc, root, MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_int(doc, root, "cpu_workers", 1, INT_MAX, &workers, err);
    }
    if (code == 0) {
        code = mp_json_get_int(doc, root, "threads", 1, INT_MAX, &threads, err);
    }
    if (code == 0) {
        code = mp_json_get_string(doc, root, "kernels", &kernels, err);
    }
    if (code == 0) {
        code = mp_json_get_string(doc, root, "gpu", &gpu, err);
    }
    *out = code == 0 && workers == setup->cpu_workers && threads == setup->threads &&
           strcmp(kernels, setup->kernels) == 0 && strcmp(gpu, setup->gpu) == 0;
    return code;
}

/* The ops of one kind of worker. */
static int read_ops(struct mp_calibration *c, const struct mp_json *doc, enum mp_track_kind kind,
                    struct mp_error *err)
{
    const double least = 1e-6;
    const double most = 1e24;
    const cJSON *ops;
    int code = mp_json_get_object(doc, mp_json_root(doc), KINDS[kind], &ops, err);
    const cJSON *op = code == 0 ? mp_json_first(ops) : NULL;
    for (; op != NULL && code == 0; op = mp_json_after(op)) {
        struct mp_rates rates = {0};
        code = mp_json_expect(doc, op, MP_JSON_OBJECT, err);
        if (code == 0) {
            code = mp_json_opt_number(doc, op, "flops_per_second", least, most, &rates.flops, err);
        }
        if (code == 0) {
            code = mp_json_opt_number(doc, op, "bytes_per_second", least, most, &rates.bytes, err);
        }
        if (code == 0) {
            mp_calibration_op(c, mp_json_key(op), kind)->rates = rates;
        }
    }
    return code;
}

static int read_document(struct mp_calibration *c, const struct mp_json *doc, struct mp_error *err)
{
    bool own;
    int code = matches(doc, &c->setup, &own, err);
    if (code == 0 && own) {
        code = read_ops(c, doc, MP_TRACK_CPU, err);
    }
    if (code == 0 && own) {
        code = read_ops(c, doc, MP_TRACK_GPU, err);
    }
    return code;
}

int mp_calibration_read(struct mp_calibration *c, const char *path, struct mp_error *err)
{
    if (access(path, F_OK) != 0 && errno == ENOENT) {
        return MP_OK;
    }
    struct mp_json *doc;
    int code = mp_json_read_file(path, MAX_FILE_BYTES, &doc, err);
    if (code != 0) {
        return code;
    }
    code = read_document(c, doc, err);
    mp_json_free(doc);
    if (code != 0) {
        struct mp_setup setup = c->setup;
        mp_calibration_free(c);
        mp_calibration_init(c, &setup);
    }
    return code;
}

/* ---- writing ---- */

static void add_rate(cJSON *op, const char *key, double rate)
{
    if (rate > 0.0) {
        cJSON_AddNumberToObject(op, key, rate);
    }
}

static cJSON *make_document(const struct mp_calibration *c)
{
    cJSON *root = cJSON_CreateObject();
    cJSON_AddNumberToObject(root, "cpu_workers", c->setup.cpu_workers);
    cJSON_AddNumberToObject(root, "threads", c->setup.threads);
    cJSON_AddStringToObject(root, "kernels", c->setup.kernels);
    cJSON_AddStringToObject(root, "gpu", c->setup.gpu);
    cJSON *kinds[MP_TRACK_KINDS] = {
        [MP_TRACK_CPU] = cJSON_AddObjectToObject(root, KINDS[MP_TRACK_CPU]),
        [MP_TRACK_GPU] = cJSON_AddObjectToObject(root, KINDS[MP_TRACK_GPU]),
    };
    for (size_t i = 0; i < c->num_ops; i++) {
        cJSON *op = cJSON_AddObjectToObject(kinds[c->ops[i].kind], c->ops[i].name);
        add_rate(op, "flops_per_second", c->ops[i].rates.flops);
        add_rate(op, "bytes_per_second", c->ops[i].rates.bytes);
    }
    return root;
}

int mp_calibration_write(const struct mp_calibration *c, const char *path, struct mp_error *err)
{
    cJSON *root = make_document(c);
    char *text = mp_json_print(root, MP_JSON_INDENTED, path, err);
    int code = text != NULL ? mp_file_replace(path, text, err) : MP_ERR_MEMORY;
    free(text);
    cJSON_Delete(root);
    return code;
}
