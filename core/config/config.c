#include "core/config/config.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/config/config_key.h"
#include "core/machine/device.h"

#include <cjson/cJSON.h>
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_CONFIG_BYTES = 1 << 20,
    MAX_NAME = 64, /* longest flag or key that is compared with the known ones */
    MAX_LAYER = 9999,
    MAX_TOKENS = 1 << 30,
};

#define FIELD(name) .offset = offsetof(struct mp_config, name)
#define COUNT(name) .count_offset = offsetof(struct mp_config, name)
#define RANGE(low, high) .min = (low), .max = (high)

/* Verbs that keys act for. A benchmark generates a given number of tokens, whichever they are: what
 * chooses and ends them acts for generate alone. */
enum {
    /* Read prompts and decode. */
    RUNS = MP_VERB_GENERATE | MP_VERB_EVAL | MP_VERB_EVAL_ATTENTION | MP_VERB_BENCH | MP_VERB_TUNE |
           MP_VERB_SERVE,
    /* Of these, those that decode several requests together. */
    BATCHES = RUNS & ~MP_VERB_EVAL_ATTENTION,
    /* Those that generate texts. */
    WRITERS = MP_VERB_GENERATE | MP_VERB_EVAL | MP_VERB_SERVE,
    /* Of these, those whose texts are drawn by the configuration: requests to serve say how. */
    DRAWERS = WRITERS & ~MP_VERB_SERVE,
    /* Read prompts; logits has full attention. */
    READERS = RUNS | MP_VERB_LOGITS,
    /* What is written is of one run: tuning has many, and none may leave rates for the next. */
    ONCE = DRAWERS | MP_VERB_EVAL_ATTENTION | MP_VERB_BENCH | MP_VERB_LOGITS,
    /* One run that decodes. */
    DECODERS = MP_VERB_GENERATE | MP_VERB_BENCH_DECODE,
    SHARERS = MP_VERB_GENERATE | MP_VERB_SERVE | MP_VERB_BENCH_PREFILL,
};

/* Everything there is to say about every key, in the order of the help. */
static const struct config_key keys[] = {
    {"model_path", "model", CONFIG_STRING, .verbs = MP_VERB_ALL, FIELD(model_path),
     .help = "Hugging Face directory, or a name in the local cache"},
    {"chunk_size", "chunk-size", CONFIG_INT64, .verbs = READERS | MP_VERB_PLAN, FIELD(chunk_size),
     RANGE(1, 1 << 20), .initial = "8192", .help = "prompt tokens read at a time"},
    {"cache_layers", "cache-layers", CONFIG_LIST, .attention = true, .verbs = RUNS | MP_VERB_PLAN,
     FIELD(cache_layers), COUNT(num_cache_layers), RANGE(0, MAX_LAYER), .initial = "0",
     .help = "layers that attend to their whole KV cache"},
    {"lsh_K", "lsh-k", CONFIG_INT, .attention = true, .verbs = RUNS | MP_VERB_PLAN, FIELD(lsh_K),
     RANGE(0, 16), .initial = "10", .help = "bits of a hash code; 0: full attention"},
    {"lsh_L", "lsh-l", CONFIG_INT, .attention = true, .verbs = RUNS | MP_VERB_PLAN, FIELD(lsh_L),
     RANGE(1, 1024), .initial = "150", .help = "hash tables"},
    {"mem_efficient", "mem-efficient", CONFIG_BOOL, .verbs = READERS | MP_VERB_PLAN,
     FIELD(mem_efficient), RANGE(0, 1), .initial = "1",
     .help = "1: flash prefill; 0: plain reference prefill"},
    {"device_budget", "device-budget", CONFIG_INT64, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(device_budget), RANGE(0, MAX_TOKENS), .initial = "68",
     .help = "tokens always attended to: first ones and local window"},
    {"window_size", "window-size", CONFIG_INT64, .attention = true, .verbs = RUNS | MP_VERB_PLAN,
     FIELD(window_size), RANGE(0, MAX_TOKENS), .initial = "64",
     .help = "local window, part of the device budget"},
    {"generation_budget", "generation-budget", CONFIG_INT64, .verbs = WRITERS | MP_VERB_PLAN,
     FIELD(generation_budget), RANGE(1, MAX_TOKENS), .initial = "256",
     .help = "generated tokens there is room for at first"},
    {"gen_len", "gen-len", CONFIG_INT64, .verbs = WRITERS | MP_VERB_PLAN, FIELD(gen_len),
     RANGE(1, MAX_TOKENS), .initial = "128", .help = "most tokens to generate for a request"},
    {"eos", "eos", CONFIG_LIST, .verbs = WRITERS, FIELD(eos), COUNT(num_eos), RANGE(0, INT32_MAX),
     .unset = "model", .initial = "model",
     .help = "tokens that end a text; model: the model's own"},
    {"attention.method", "attention", CONFIG_STRING, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(attention_method),
     .help = "attention method (below); not given: full if lsh_K is 0"},
    {"attention.lsh_projection", "lsh-projection", CONFIG_ENUM, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(lsh_projection), .choices = "per_head|shared",
     .initial = "per_head", .help = "projections: one a KV head, or one for all"},
    {"attention.lsh_layer_group", "lsh-layer-group", CONFIG_INT, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(lsh_layer_group), RANGE(1, MAX_LAYER), .initial = "16",
     .help = "layers that share a projection"},
    {"attention.seed", "lsh-seed", CONFIG_SEED, .attention = true, .verbs = RUNS, FIELD(lsh_seed),
     RANGE(0, 0x1p53), .initial = "0", .help = "seed of the projections, and of oracle's draws"},
    {"attention.budget", "attention-budget", CONFIG_FLOAT, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(attention_budget), RANGE(1e-6, MAX_TOKENS),
     .initial = "0.02", .help = "tokens a head selects: a share, or above 1 a number"},
    {"attention.page_size", "page-size", CONFIG_INT, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(page_size), RANGE(1, 65536), .initial = "16",
     .help = "tokens that are selected together"},
    {"attention.samples", "attention-samples", CONFIG_INT64, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(samples), RANGE(1, 1 << 20), .initial = "512",
     .help = "tokens that a KV head samples"},
    {"attention.epsilon", "epsilon", CONFIG_FLOAT, .attention = true, .verbs = RUNS | MP_VERB_PLAN,
     FIELD(epsilon), RANGE(0, 1), .initial = "0",
     .help = "error to draw samples for; 0: as many as samples says"},
    {"attention.code_bits", "code-bits", CONFIG_INT, .attention = true,
     .verbs = RUNS | MP_VERB_PLAN, FIELD(code_bits), RANGE(1, 4), .initial = "2",
     .help = "bits of a channel in the code of a key: 1, 2 or 4"},
    {"attention.center", "center", CONFIG_BOOL, .attention = true, .verbs = RUNS | MP_VERB_PLAN,
     FIELD(attention_center), RANGE(0, 1), .initial = "1",
     .help = "1: keys are stored less their mean; 0: as they are"},
    {"attention.kv_dtype", "kv-dtype", CONFIG_ENUM, .attention = true, .verbs = RUNS | MP_VERB_PLAN,
     FIELD(kv_dtype), .choices = "bf16|int8", .initial = "bf16",
     .help = "offloaded keys and values; int8: half the memory"},
    {"sampling.temperature", "temperature", CONFIG_FLOAT, .verbs = DRAWERS,
     FIELD(sampling.temperature), RANGE(0, 100), .initial = "0",
     .help = "0: always the likeliest token"},
    {"sampling.top_p", "top-p", CONFIG_FLOAT, .verbs = DRAWERS, FIELD(sampling.top_p),
     RANGE(1e-6, 1), .initial = "1",
     .help = "sample from the likeliest tokens of this probability"},
    {"sampling.top_k", "top-k", CONFIG_INT, .verbs = DRAWERS, FIELD(sampling.top_k),
     RANGE(0, INT_MAX), .initial = "0",
     .help = "sample from this many likeliest tokens; 0: from all"},
    {"sampling.seed", "seed", CONFIG_SEED, .verbs = DRAWERS, FIELD(sampling.seed), RANGE(0, 0x1p53),
     .initial = "0", .help = "seed of the sampling"},
    {"runtime.scheduler", "sched", CONFIG_STRING, .verbs = READERS, FIELD(scheduler),
     .initial = "prio", .help = "StarPU scheduling policy"},
    {"runtime.cpu_workers", "cpu-workers", CONFIG_INT, .verbs = READERS, FIELD(cpu_workers),
     RANGE(0, 1024), .initial = "0",
     .help = "CPU workers, each a team of threads; 0: one a NUMA node"},
    {"runtime.threads", "threads", CONFIG_INT, .verbs = READERS, FIELD(threads), RANGE(0, 65536),
     .initial = "0", .help = "threads of all CPU workers together; 0: one a free core"},
    {"runtime.binding", "binding", CONFIG_ENUM, .verbs = RUNS, FIELD(binding),
     .choices = "cores|none", .initial = "cores",
     .help = "bind every thread to a core, or none at all"},
    {"runtime.batch", "batch", CONFIG_INT, .verbs = BATCHES | MP_VERB_PLAN, FIELD(batch),
     RANGE(1, 256), .initial = "1", .help = "requests decoded together"},
    {"runtime.micro_batches", "micro-batches", CONFIG_INT, .verbs = BATCHES, FIELD(micro_batches),
     RANGE(0, 256), .initial = "0", .help = "groups of a decode step; 0: found while running"},
    {"runtime.prefill_share", "prefill-share", CONFIG_FLOAT, .verbs = BATCHES & ~MP_VERB_EVAL,
     FIELD(prefill_share), RANGE(0.01, 1), .initial = "0.5",
     .help = "time a new prompt may take from others; 1: all"},
    {"runtime.isa", "isa", CONFIG_CHOICE, .verbs = READERS | MP_VERB_PLAN, FIELD(isa),
     .choices = "auto|ref|avx2|avx512", .initial = "auto", .help = "kernel variant"},
    {"runtime.devices", "devices", CONFIG_CHOICE, .verbs = READERS | MP_VERB_PLAN, FIELD(devices),
     .choices = "auto|cpu|gpu|mock", .initial = "auto",
     .help = "auto: a GPU if there is one; mock: for tests"},
    {"runtime.gpus", "gpus", CONFIG_INT, .verbs = (READERS & ~MP_VERB_BENCH_OPS) | MP_VERB_PLAN,
     FIELD(gpus), RANGE(1, MP_MAX_GPUS), .initial = "1",
     .help = "GPUs between which the model is split"},
    {"runtime.parallel", "parallel", CONFIG_ENUM,
     .verbs = (READERS & ~MP_VERB_BENCH_OPS) | MP_VERB_PLAN, FIELD(parallel),
     .choices = "layers|tensor", .initial = "layers",
     .help = "what each GPU has: some layers, or a part of all"},
    {"runtime.activations", "activations", CONFIG_CHOICE, .verbs = READERS | MP_VERB_PLAN,
     FIELD(activations), .choices = "auto|bf16|bf16x2", .initial = "auto",
     .help = "a prompt's, in one bf16 part or two"},
    {"runtime.gpu_memory", "gpu-memory", CONFIG_BYTES, .verbs = READERS | MP_VERB_PLAN,
     FIELD(gpu_memory), RANGE(0, 0x1p53), .initial = "0",
     .help = "most GPU memory to use, e.g. 24GiB; 0: what is free"},
    {"runtime.gpu_kv_layers", "gpu-kv-layers", CONFIG_INT, .verbs = RUNS | MP_VERB_PLAN,
     FIELD(gpu_kv_layers), RANGE(-1, 65536), .initial = "-1",
     .help = "layers with KV and tables on the GPU; -1: all that fit"},
    {"runtime.prefix_cache", "prefix-cache", CONFIG_BYTES, .verbs = SHARERS | MP_VERB_PLAN,
     FIELD(prefix_cache), RANGE(-1, 0x1p53), .initial = "-1",
     .help = "memory for past prompts; -1: one's; 0: share none"},
    {"runtime.kv_dir", "kv-dir", CONFIG_STRING, .verbs = SHARERS, FIELD(kv_dir),
     .help = "folder where past prompts are kept for later runs"},
    {"runtime.kv_dir_size", "kv-dir-size", CONFIG_BYTES, .verbs = MP_VERB_GENERATE | MP_VERB_SERVE,
     FIELD(kv_dir_size), RANGE(0, 0x1p53), .initial = "64GiB",
     .help = "most that its files may take; 0: any size"},
    {"runtime.gather", "gather", CONFIG_ENUM, .verbs = RUNS | MP_VERB_PLAN, FIELD(gather),
     .choices = "auto|cpu|gpu", .initial = "auto",
     .help = "who attends to what is selected in CPU memory"},
    {"runtime.memory_limit", "memory-limit", CONFIG_BYTES, .verbs = READERS | MP_VERB_PLAN,
     FIELD(memory_limit), RANGE(0, 0x1p53), .initial = "0",
     .help = "most memory to use, e.g. 8GiB; 0: what is free"},
    {"runtime.calibration", "calibration", CONFIG_STRING, .verbs = ONCE | MP_VERB_SERVE,
     FIELD(calibration), .initial = "auto",
     .help = "rates for policies with models: file, auto or off"},
    {"trace.file", "trace", CONFIG_STRING, .verbs = ONCE, FIELD(trace_path),
     .help = "write Chrome trace events to this file"},
    {"trace.report", "report", CONFIG_STRING, .verbs = DECODERS, FIELD(report_path),
     .help = "write an HTML report to this file"},
    {"trace.fxt", "fxt", CONFIG_STRING, .verbs = DECODERS, FIELD(fxt_dir),
     .help = "write StarPU's own trace, FxT and Paje, to this folder"},
    {"trace.fxt_steps", "fxt-steps", CONFIG_INT, .verbs = DECODERS, FIELD(fxt_steps),
     RANGE(1, 1 << 20), .initial = "8",
     .help = "decode steps in StarPU's trace, after the first two"},
};

enum { NUM_KEYS = sizeof keys / sizeof keys[0] };

void mp_config_init(struct mp_config *c)
{
    *c = (struct mp_config){0};
    for (size_t i = 0; i < NUM_KEYS; i++) {
        struct mp_error err;
        if (keys[i].initial != NULL &&
            config_key_set_text(&keys[i], c, keys[i].initial, &err) != MP_OK) {
            mp_panic("default of the configuration: %s", err.message);
        }
    }
}

void mp_config_copy(struct mp_config *to, const struct mp_config *from)
{
    mp_config_init(to);
    for (size_t i = 0; i < NUM_KEYS; i++) {
        config_key_copy(&keys[i], to, from);
    }
    to->folder = from->folder == NULL ? NULL : mp_xstrdup(from->folder);
}

void mp_config_copy_attention(struct mp_config *to, const struct mp_config *from)
{
    for (size_t i = 0; i < NUM_KEYS; i++) {
        if (keys[i].attention) {
            config_key_copy(&keys[i], to, from);
        }
    }
}

struct mp_config *mp_config_create(void)
{
    struct mp_config *c = mp_xmalloc(sizeof *c);
    mp_config_init(c);
    return c;
}

void mp_config_destroy(struct mp_config *c)
{
    if (c != NULL) {
        mp_config_free(c);
        free(c);
    }
}

void mp_config_free(struct mp_config *c)
{
    free(c->folder);
    c->folder = NULL;
    for (size_t i = 0; i < NUM_KEYS; i++) {
        config_key_free(&keys[i], c);
    }
}

/* ---- suggestions ---- */

size_t mp_edit_distance(const char *a, const char *b)
{
    size_t n = strlen(b);
    if (strlen(a) > MAX_NAME || n > MAX_NAME) {
        return SIZE_MAX;
    }
    size_t row[MAX_NAME + 1];
    for (size_t j = 0; j <= n; j++) {
        row[j] = j;
    }
    for (size_t i = 0; a[i] != '\0'; i++) {
        size_t diagonal = row[0];
        row[0] = i + 1;
        for (size_t j = 0; j < n; j++) {
            size_t change = diagonal + (a[i] != b[j]);
            size_t remove_or_insert = 1 + (row[j] < row[j + 1] ? row[j] : row[j + 1]);
            diagonal = row[j + 1];
            row[j + 1] = change < remove_or_insert ? change : remove_or_insert;
        }
    }
    return row[n];
}

size_t mp_farthest_meant(const char *name)
{
    return strlen(name) / 2 + 1;
}

/* A key's name without its section. */
static const char *last_part(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot == NULL ? path : dot + 1;
}

/* The known name nearest to name, if it is near enough to be meant: NULL otherwise. */
static const char *nearest(const char *name, bool among_flags)
{
    const char *best = NULL;
    size_t best_distance = mp_farthest_meant(name);
    for (size_t i = 0; i < NUM_KEYS; i++) {
        const char *known = among_flags ? keys[i].flag : keys[i].path;
        size_t whole = mp_edit_distance(name, known);
        /* The name may be right and its section wrong. */
        size_t part = mp_edit_distance(last_part(name), last_part(known));
        size_t distance = whole < part ? whole : part;
        if (distance < best_distance) {
            best_distance = distance;
            best = known;
        }
    }
    return best;
}

const char *mp_config_nearest_flag(const char *flag)
{
    return nearest(flag, true);
}

/* ---- JSON ---- */

static const struct config_key *find_path(const char *path)
{
    for (size_t i = 0; i < NUM_KEYS; i++) {
        if (strcmp(keys[i].path, path) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

static bool is_section(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < NUM_KEYS; i++) {
        if (strncmp(keys[i].path, name, n) == 0 && keys[i].path[n] == '.') {
            return true;
        }
    }
    return false;
}

static int load_member(struct mp_config *c, const struct mp_json *doc, const char *path,
                       const struct cJSON *value, struct mp_error *err)
{
    const struct config_key *key = find_path(path);
    if (key != NULL) {
        return config_key_set_json(key, c, doc, value, err);
    }
    const char *meant = nearest(path, false);
    return meant == NULL
               ? mp_json_fail(doc, value, err, "unknown key")
               : mp_json_fail(doc, value, err, "unknown key, did you mean \"%s\"?", meant);
}

static int load_section(struct mp_config *c, const struct mp_json *doc, const struct cJSON *section,
                        struct mp_error *err)
{
    int rc = mp_json_expect(doc, section, MP_JSON_OBJECT, err);
    if (rc != MP_OK) {
        return rc;
    }
    const struct cJSON *v = mp_json_first(section);
    for (; v != NULL && rc == MP_OK; v = mp_json_after(v)) {
        char *path = mp_xasprintf("%s.%s", mp_json_key(section), mp_json_key(v));
        rc = load_member(c, doc, path, v, err);
        free(path);
    }
    return rc;
}

int mp_config_load(struct mp_config *c, const char *path, struct mp_error *err)
{
    struct mp_json *doc;
    int rc = mp_json_read_file(path, MAX_CONFIG_BYTES, &doc, err);
    if (rc != MP_OK) {
        return rc;
    }
    const struct cJSON *root = mp_json_root(doc);
    rc = mp_json_expect(doc, root, MP_JSON_OBJECT, err);
    const struct cJSON *v = mp_json_first(root);
    for (; v != NULL && rc == MP_OK; v = mp_json_after(v)) {
        const char *key = mp_json_key(v);
        if (strchr(key, '.') != NULL) {
            rc = mp_json_fail(doc, v, err, "unknown key: sections are objects");
        } else {
            rc = is_section(key) ? load_section(c, doc, v, err) : load_member(c, doc, key, v, err);
        }
    }
    mp_json_free(doc);
    if (rc == MP_OK) {
        free(c->folder);
        c->folder = mp_file_folder(path);
    }
    return rc;
}

struct cJSON *mp_config_json(const struct mp_config *c)
{
    cJSON *json = cJSON_CreateObject();
    for (size_t i = 0; i < NUM_KEYS; i++) {
        cJSON_AddItemToObject(json, keys[i].path, config_key_json(&keys[i], c));
    }
    return json;
}

/* ---- command line ---- */

static const struct config_key *find_flag(const char *flag)
{
    for (size_t i = 0; i < NUM_KEYS; i++) {
        if (strcmp(keys[i].flag, flag) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

bool mp_config_is_attention(const char *flag)
{
    const struct config_key *key = find_flag(flag);
    return key != NULL && key->attention;
}

const char *mp_config_flag_path(const char *flag)
{
    const struct config_key *key = find_flag(flag);
    return key == NULL ? NULL : key->path;
}

bool mp_config_has_flag(const char *flag, unsigned verbs)
{
    const struct config_key *key = find_flag(flag);
    return key != NULL && (key->verbs & verbs) != 0;
}

int mp_config_set_flag(struct mp_config *c, const char *flag, const char *value,
                       struct mp_error *err)
{
    const struct config_key *key = find_flag(flag);
    if (key == NULL) {
        const char *meant = mp_config_nearest_flag(flag);
        return meant == NULL ? mp_fail(err, MP_ERR_USAGE, "unknown option --%s", flag)
                             : mp_fail(err, MP_ERR_USAGE, "unknown option --%s, did you mean --%s?",
                                       flag, meant);
    }
    int code = config_key_set_text(key, c, value, err);
    return code == 0 || err == NULL ? code : mp_fail_prefix(err, "--%s", flag);
}

int mp_config_set(struct mp_config *c, const char *path, const char *value, struct mp_error *err)
{
    const struct config_key *key = find_path(path);
    if (key == NULL) {
        const char *meant = nearest(path, false);
        return meant == NULL ? mp_fail(err, MP_ERR_USAGE, "%s: unknown key", path)
                             : mp_fail(err, MP_ERR_USAGE, "%s: unknown key, did you mean \"%s\"?",
                                       path, meant);
    }
    int code = config_key_set_text(key, c, value, err);
    return code == 0 || err == NULL ? code : mp_fail_prefix(err, "%s", path);
}

void mp_config_print_flags(FILE *out, unsigned verbs)
{
    static const char *const placeholders[] = {
        [CONFIG_INT] = "N",       [CONFIG_INT64] = "N",   [CONFIG_SEED] = "N",
        [CONFIG_FLOAT] = "X",     [CONFIG_BOOL] = "0|1",  [CONFIG_STRING] = "NAME",
        [CONFIG_LIST] = "N,N...", [CONFIG_BYTES] = "SIZE"};
    for (size_t i = 0; i < NUM_KEYS; i++) {
        if ((keys[i].verbs & verbs) == 0) {
            continue;
        }
        const char *value = keys[i].choices != NULL ? keys[i].choices : placeholders[keys[i].type];
        char option[64];
        snprintf(option, sizeof option, "--%s %s", keys[i].flag, value);
        fprintf(out, "  %-30s %s", option, keys[i].help);
        if (keys[i].initial != NULL) {
            fprintf(out, " (default %s)", keys[i].initial);
        }
        fputc('\n', out);
    }
}

/* ---- what spans several keys ---- */

int mp_config_check(const struct mp_config *c, struct mp_error *err)
{
    if (c->window_size > c->device_budget) {
        return mp_fail(err, MP_ERR_USAGE,
                       "window_size: expected at most device_budget = %lld, found %lld",
                       (long long)c->device_budget, (long long)c->window_size);
    }
    if (c->micro_batches > c->batch) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.micro_batches: expected at most runtime.batch = %d, found %d",
                       c->batch, c->micro_batches);
    }
    if (c->threads > 0 && c->cpu_workers > c->threads) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.cpu_workers: expected at most runtime.threads = %d, found %d",
                       c->threads, c->cpu_workers);
    }
    if (strcmp(c->calibration, "-") == 0) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.calibration: expected auto, off or a file's path, found -");
    }
    for (int i = 0; i < c->num_cache_layers; i++) {
        for (int j = 0; j < i; j++) {
            if (c->cache_layers[i] == c->cache_layers[j]) {
                return mp_fail(err, MP_ERR_USAGE, "cache_layers: layer %d is listed twice",
                               c->cache_layers[i]);
            }
        }
    }
    return MP_OK;
}
