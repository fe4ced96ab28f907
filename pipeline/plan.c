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

/* Share of the room for looked-up ids that a step writes to: pages never touched cost nothing. */
static const double SELECTED_SHARE = 0.1;

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

static int sparse_layers(const struct mp_config *c, const struct mp_shape *s)
{
    if (c->lsh_K == 0) {
        return 0;
    }
    int dense = 0;
    for (int l = 0; l < s->num_hidden_layers; l++) {
        for (int i = 0; i < c->num_cache_layers; i++) {
            if (c->cache_layers[i] == l) {
                dense++;
                break;
            }
        }
    }
    return s->num_hidden_layers - dense;
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

void mp_plan_make(const struct mp_config *config, const struct mp_shape *s, int64_t tokens,
                  struct mp_plan *out)
{
    int64_t dtype = strcmp(config->isa, "ref") == 0 ? 4 : 2;
    int64_t kv_token = 2 * dtype * s->num_key_value_heads * s->head_dim;
    int64_t sparse = sparse_layers(config, s);
    int64_t dense = s->num_hidden_layers - sparse;
    int64_t fixed = min64(tokens, config->device_budget);
    int64_t offloaded = sparse > 0 ? tokens - fixed : 0;
    int64_t buckets = ((int64_t)1 << config->lsh_K) + 1;
    int64_t tables = (int64_t)s->num_key_value_heads * config->lsh_L;

    *out = (struct mp_plan){.tokens = tokens, .batch = config->batch};
    int64_t *b = out->bytes;
    b[MP_PLAN_WEIGHTS] = weight_bytes(s);
    b[MP_PLAN_PROCESS] = PROCESS_BYTES;
    if (sparse > 0) {
        b[MP_PLAN_HASH_FUNCTIONS] = hash_function_bytes(config, s);
    }
    if (tokens > 0) {
        int64_t batch = config->batch;
        int64_t room = config->generation_budget;
        b[MP_PLAN_STATIC_KV] = batch * sparse * (fixed + room) * kv_token;
        b[MP_PLAN_DENSE_KV] = batch * dense * (tokens + room) * kv_token;
        b[MP_PLAN_OFFLOADED_KV] = batch * sparse * offloaded * kv_token;
        b[MP_PLAN_TABLES] =
            batch * sparse * tables *
            (offloaded * 2 + lsh_num_blocks(offloaded) * buckets * 4);
        b[MP_PLAN_SELECTION] =
            (int64_t)((double)(batch * offloaded * s->num_attention_heads * 4) * SELECTED_SHARE);
        b[MP_PLAN_PREFILL] = prefill_bytes(config, s, tokens, offloaded, kv_token);
        b[MP_PLAN_STEP] = step_bytes(config, s);
    }
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        out->total += b[i];
    }
}

/* MemAvailable of /proc/meminfo in bytes; INT64_MAX where there is none. */
static int64_t available_memory(void)
{
    FILE *f = fopen("/proc/meminfo", "r");
    if (f == NULL) {
        return INT64_MAX;
    }
    int64_t kib = -1;
    char line[256];
    while (kib < 0 && fgets(line, sizeof line, f) != NULL) {
        if (sscanf(line, "MemAvailable: %" SCNd64, &kib) != 1) {
            kib = -1;
        }
    }
    fclose(f);
    return kib < 0 ? INT64_MAX : kib * 1024;
}

int64_t mp_plan_limit(const struct mp_config *config)
{
    return config->memory_limit > 0 ? config->memory_limit : available_memory();
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
