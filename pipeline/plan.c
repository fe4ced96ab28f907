/* The memory plan. Every term mirrors an allocation: see kv.c, prefill.c, step_buffers.c. */
#include "pipeline/plan.h"

#include "codelets/common/kv.h"
#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"

#include <inttypes.h>
#include <string.h>

/* Code, StarPU, oneDNN with its generated kernels, the tokenizer and the kernels' scratch: resident
 * memory of a short run less everything else in its plan. */
static const int64_t PROCESS_BYTES = INT64_C(48) << 20;

static const char *const ROW_NAMES[MP_PLAN_ROWS] = {
    [MP_PLAN_WEIGHTS] = "weights",
    [MP_PLAN_HASH_FUNCTIONS] = "hash functions",
    [MP_PLAN_STATIC_KV] = "static caches (sink, window, generated)",
    [MP_PLAN_DENSE_KV] = "dense layers' KV",
    [MP_PLAN_OFFLOADED_KV] = "offloaded KV",
    [MP_PLAN_TABLES] = "hash tables",
    [MP_PLAN_SELECTION] = "selected ids",
    [MP_PLAN_PREFILL] = "prefill of one request",
    [MP_PLAN_STEP] = "decode step",
    [MP_PLAN_PROCESS] = "program, libraries, scratch",
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t weight_bytes(const struct mp_shape *s)
{
    int64_t matrix = (int64_t)s->vocab_size * s->hidden_size * 2;
    int64_t layer = (int64_t)(projection_weights_at(s, NULL, NULL) +
                              output_weights_at(s, NULL, NULL) + ffn_weights_at(s, NULL, NULL));
    return matrix * (s->tied_embeddings ? 1 : 2) + (int64_t)s->hidden_size * 4 +
           layer * s->num_hidden_layers;
}

static int64_t hash_function_bytes(const struct mp_config *c, const struct mp_shape *s)
{
    int64_t one = (int64_t)s->head_dim * c->lsh_K * c->lsh_L * 4;
    if (c->lsh_projection == MP_LSH_SHARED) {
        return one;
    }
    int groups = (s->num_hidden_layers + c->lsh_layer_group - 1) / c->lsh_layer_group;
    return one * groups * s->num_key_value_heads;
}

static int64_t prefill_bytes(const struct mp_config *c, const struct mp_shape *s, int64_t tokens,
                             int64_t offloaded, int64_t kv_token)
{
    int64_t chunk = min64(tokens, c->chunk_size);
    int64_t residual = tokens * (s->hidden_size + 1) * 4;
    int64_t q_and_o = 4 * chunk * mp_shape_q_width(s) * 4;
    int64_t staging = 2 * tokens * kv_token;
    int64_t codes = offloaded * s->num_key_value_heads * c->lsh_L * 2;
    return residual + q_and_o + staging + codes;
}

static int64_t step_bytes(const struct mp_config *c, const struct mp_shape *s)
{
    int64_t heads = s->num_attention_heads;
    int64_t row = 4 * (int64_t)(s->hidden_size + 3 * mp_shape_q_width(s) + s->vocab_size) +
                  heads * (c->lsh_L * 2 + 8 + 4 * (int64_t)s->num_hidden_layers);
    return row * c->batch;
}

/* What the requests keep from their prefill to their last token. */
static void plan_kv(const struct mp_plan_run *run, int64_t offloaded, int64_t kv_token,
                    int64_t bytes[MP_PLAN_ROWS])
{
    const struct mp_config *c = run->config;
    const struct mp_shape *s = run->shape;
    int64_t batch = c->batch;
    int64_t sparse = run->sparse_layers;
    int64_t dense = s->num_hidden_layers - sparse;
    int64_t fixed = min64(run->tokens, c->device_budget);
    int64_t room = run->new_tokens > c->generation_budget ? run->new_tokens : c->generation_budget;
    int64_t buckets = ((int64_t)1 << c->lsh_K) + 1;
    int64_t tables = (int64_t)s->num_key_value_heads * c->lsh_L;

    bytes[MP_PLAN_STATIC_KV] = batch * sparse * (fixed + room) * kv_token;
    bytes[MP_PLAN_DENSE_KV] = batch * dense * (run->tokens + room) * kv_token;
    bytes[MP_PLAN_OFFLOADED_KV] = batch * sparse * offloaded * kv_token;
    bytes[MP_PLAN_TABLES] =
        batch * sparse * tables * (offloaded * 2 + lsh_num_blocks(offloaded) * buckets * 4);
    bytes[MP_PLAN_SELECTION] = batch * offloaded * s->num_attention_heads * 4;
    bytes[MP_PLAN_STEP] = step_bytes(c, s);
}

void mp_plan_make(const struct mp_plan_run *run, struct mp_plan *out)
{
    const struct mp_config *c = run->config;
    const struct mp_shape *s = run->shape;
    int64_t kv_token =
        2 * (int64_t)mp_dtype_size(run->dtype) * s->num_key_value_heads * s->head_dim;
    int64_t fixed = min64(run->tokens, c->device_budget);
    int64_t offloaded = run->new_tokens > 0 && run->sparse_layers > 0 ? run->tokens - fixed : 0;

    *out = (struct mp_plan){.tokens = run->tokens, .batch = c->batch};
    int64_t *b = out->bytes;
    b[MP_PLAN_WEIGHTS] = weight_bytes(s);
    b[MP_PLAN_PROCESS] = PROCESS_BYTES;
    b[MP_PLAN_PREFILL] = prefill_bytes(c, s, run->tokens, offloaded, kv_token);
    if (run->sparse_layers > 0) {
        b[MP_PLAN_HASH_FUNCTIONS] = hash_function_bytes(c, s);
    }
    if (run->new_tokens > 0) {
        plan_kv(run, offloaded, kv_token, b);
    }
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        out->total += b[i];
    }
}

/* The number after `key` (at the start of a line; "" for a file that is one number) in a file of
 * the kernel's; -1 if there is none. */
static int64_t read_number(const char *path, const char *key)
{
    FILE *f = fopen(path, "r");
    int64_t value = -1;
    char line[256];
    while (f != NULL && value < 0 && fgets(line, sizeof line, f) != NULL) {
        size_t n = strlen(key);
        if (strncmp(line, key, n) == 0 && sscanf(line + n, "%" SCNd64, &value) != 1) {
            value = -1;
        }
    }
    if (f != NULL) {
        fclose(f);
    }
    return value;
}

/* What the system has left, in bytes; INT64_MAX where it does not say. */
static int64_t available_memory(void)
{
    int64_t kib = read_number("/proc/meminfo", "MemAvailable:");
    return kib < 0 ? INT64_MAX : kib * 1024;
}

/* What a container's control group (version 2) leaves of its limit, in bytes; INT64_MAX where there
 * is none. Cached files count as used there, but make room when memory is asked for. */
static int64_t control_group_memory(void)
{
    int64_t limit = read_number("/sys/fs/cgroup/memory.max", "");
    int64_t used = read_number("/sys/fs/cgroup/memory.current", "");
    if (limit < 0 || used < 0) {
        return INT64_MAX;
    }
    int64_t inactive = read_number("/sys/fs/cgroup/memory.stat", "inactive_file ");
    int64_t active = read_number("/sys/fs/cgroup/memory.stat", "active_file ");
    used -= (inactive > 0 ? inactive : 0) + (active > 0 ? active : 0);
    return limit > used ? limit - used : 0;
}

int64_t mp_plan_limit(const struct mp_config *config)
{
    return config->memory_limit > 0 ? config->memory_limit
                                    : min64(available_memory(), control_group_memory());
}

static double gib(int64_t bytes)
{
    return (double)bytes / (double)(INT64_C(1) << 30);
}

int mp_plan_check(const struct mp_plan *plan, const struct mp_config *config, struct mp_error *err)
{
    int64_t limit = mp_plan_limit(config);
    if (plan->total <= limit) {
        return 0;
    }
    int largest = 0;
    for (int i = 1; i < MP_PLAN_ROWS; i++) {
        largest = plan->bytes[i] > plan->bytes[largest] ? i : largest;
    }
    return mp_fail(err, MP_ERR_MEMORY,
                   "memory: the plan needs %.2f GiB for %d x %lld tokens (%.2f GiB of it %s), but "
                   "%s %.2f GiB",
                   gib(plan->total), plan->batch, (long long)plan->tokens,
                   gib(plan->bytes[largest]), ROW_NAMES[largest],
                   config->memory_limit > 0 ? "memory_limit is" : "the system has", gib(limit));
}

void mp_plan_print(const struct mp_plan *plan, const struct mp_config *config, FILE *out)
{
    fprintf(out, "memory plan: %d request%s of %lld tokens\n", plan->batch,
            plan->batch == 1 ? "" : "s", (long long)plan->tokens);
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        fprintf(out, "  %-40s %10.1f MiB\n", ROW_NAMES[i], gib(plan->bytes[i]) * 1024.0);
    }
    int64_t limit = mp_plan_limit(config);
    fprintf(out, "  %-40s %10.1f MiB\n", "total", gib(plan->total) * 1024.0);
    fprintf(out, "  %-40s %10.1f MiB (%s)\n",
            config->memory_limit > 0 ? "memory_limit" : "available", gib(limit) * 1024.0,
            plan->total <= limit ? "fits" : "does not fit");
}
