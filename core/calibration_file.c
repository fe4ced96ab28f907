/* The rates in a file: {"setups": [{"cpu_workers": 1, "threads": 2, "kernels": "avx2", "gpu": "",
 * "CPU": {"ffn": {"flops_per_second": 1e11, "bytes_per_second": 1e10}, ...}, "GPU": {...}}, ...]}
 */
#include "core/calibration.h"

#include "core/file.h"
#include "core/json.h"
#include "core/memory.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_FILE_BYTES = 1 << 20 };

static const char *const KINDS[MP_TRACK_KINDS] = {
    [MP_TRACK_CPU] = "CPU",
    [MP_TRACK_GPU] = "GPU",
};

char *mp_calibration_default_path(void)
{
    static const char *const places[][2] = {{"XDG_CACHE_HOME", ""}, {"HOME", "/.cache"}};
    char host[HOST_NAME_MAX + 1] = "";
    gethostname(host, sizeof host - 1);
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        const char *base = getenv(places[i][0]);
        if (base != NULL && base[0] == '/') {
            return mp_xasprintf("%s%s/magicpig-pipe/calibration-%s.json", base, places[i][1], host);
        }
    }
    return NULL;
}

/* ---- reading ---- */

/* Whether an entry of the file is for this setup. */
static int matches(const struct mp_json *doc, const cJSON *entry, const struct mp_setup *setup,
                   bool *out, struct mp_error *err)
{
    int64_t workers = 0;
    int64_t threads = 0;
    const char *kernels = NULL;
    const char *gpu = NULL;
    int code = mp_json_expect(doc, entry, MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_int(doc, entry, "cpu_workers", 1, INT_MAX, &workers, err);
    }
    if (code == 0) {
        code = mp_json_get_int(doc, entry, "threads", 1, INT_MAX, &threads, err);
    }
    if (code == 0) {
        code = mp_json_get_string(doc, entry, "kernels", &kernels, err);
    }
    if (code == 0) {
        code = mp_json_get_string(doc, entry, "gpu", &gpu, err);
    }
    *out = code == 0 && workers == setup->cpu_workers && threads == setup->threads &&
           strcmp(kernels, setup->kernels) == 0 && strcmp(gpu, setup->gpu) == 0;
    return code;
}

/* The entry of this setup; NULL: there is none. All entries are checked. */
static int find_entry(const struct mp_json *doc, const struct mp_setup *setup, const cJSON **out,
                      struct mp_error *err)
{
    const cJSON *setups;
    int code = mp_json_get_array(doc, mp_json_root(doc), "setups", &setups, err);
    const cJSON *entry = code == 0 ? mp_json_first(setups) : NULL;
    *out = NULL;
    for (; entry != NULL && code == 0; entry = mp_json_after(entry)) {
        bool found;
        code = matches(doc, entry, setup, &found, err);
        *out = found ? entry : *out;
    }
    return code;
}

/* The ops of one kind of worker. */
static int read_ops(struct mp_calibration *c, const struct mp_json *doc, const cJSON *entry,
                    enum mp_track_kind kind, struct mp_error *err)
{
    const double least = 1e-6;
    const double most = 1e24;
    const cJSON *ops;
    int code = mp_json_get_object(doc, entry, KINDS[kind], &ops, err);
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
    const cJSON *entry;
    int code = find_entry(doc, &c->setup, &entry, err);
    if (code == 0 && entry != NULL) {
        code = read_ops(c, doc, entry, MP_TRACK_CPU, err);
    }
    if (code == 0 && entry != NULL) {
        code = read_ops(c, doc, entry, MP_TRACK_GPU, err);
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

/* The entries of other setups; none of a file that cannot be read. */
static cJSON *other_entries(const char *path, const struct mp_setup *setup)
{
    cJSON *others = cJSON_CreateArray();
    struct mp_json *doc;
    if (mp_json_read_file(path, MAX_FILE_BYTES, &doc, NULL) != 0) {
        return others;
    }
    const cJSON *setups;
    int code = mp_json_get_array(doc, mp_json_root(doc), "setups", &setups, NULL);
    const cJSON *entry = code == 0 ? mp_json_first(setups) : NULL;
    for (; entry != NULL; entry = mp_json_after(entry)) {
        bool own;
        if (matches(doc, entry, setup, &own, NULL) == 0 && !own) {
            cJSON_AddItemToArray(others, cJSON_Duplicate(entry, true));
        }
    }
    mp_json_free(doc);
    return others;
}

static void add_rate(cJSON *op, const char *key, double rate)
{
    if (rate > 0.0) {
        cJSON_AddNumberToObject(op, key, rate);
    }
}

static cJSON *make_entry(const struct mp_calibration *c)
{
    cJSON *entry = cJSON_CreateObject();
    cJSON_AddNumberToObject(entry, "cpu_workers", c->setup.cpu_workers);
    cJSON_AddNumberToObject(entry, "threads", c->setup.threads);
    cJSON_AddStringToObject(entry, "kernels", c->setup.kernels);
    cJSON_AddStringToObject(entry, "gpu", c->setup.gpu);
    cJSON *kinds[MP_TRACK_KINDS] = {
        [MP_TRACK_CPU] = cJSON_AddObjectToObject(entry, KINDS[MP_TRACK_CPU]),
        [MP_TRACK_GPU] = cJSON_AddObjectToObject(entry, KINDS[MP_TRACK_GPU]),
    };
    for (size_t i = 0; i < c->num_ops; i++) {
        cJSON *op = cJSON_AddObjectToObject(kinds[c->ops[i].kind], c->ops[i].name);
        add_rate(op, "flops_per_second", c->ops[i].rates.flops);
        add_rate(op, "bytes_per_second", c->ops[i].rates.bytes);
    }
    return entry;
}

int mp_calibration_write(const struct mp_calibration *c, const char *path, struct mp_error *err)
{
    cJSON *root = cJSON_CreateObject();
    cJSON *setups = other_entries(path, &c->setup);
    cJSON_AddItemToArray(setups, make_entry(c));
    cJSON_AddItemToObject(root, "setups", setups);
    char *text = cJSON_Print(root);
    int code = mp_file_replace(path, text, err);
    cJSON_free(text);
    cJSON_Delete(root);
    return code;
}
