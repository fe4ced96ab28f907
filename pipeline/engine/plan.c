/* The memory plan. Every term mirrors an allocation: see kv.c, prefill.c, step_buffers.c. */
#include "pipeline/engine/plan.h"

#include "codelets/common/attention/kv.h"
#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/micro_batches.h"
#include "tasks/workspace.h"

#include <inttypes.h>
#include <string.h>

/* Code, StarPU, oneDNN with its generated kernels, the tokenizer and the kernels' scratch: resident
 * memory of a short run less everything else in its plan. cuBLAS is read in whether or not there is
 * a GPU. */
#if MAGICPIG_CUDA
static const int64_t PROCESS_BYTES = INT64_C(184) << 20;
#else
static const int64_t PROCESS_BYTES = INT64_C(48) << 20;
#endif

/* The CUDA context, cuBLAS with its workspace, and what rounding up each block of GPU memory costs:
 * an estimate. */
static const int64_t GPU_PROCESS_BYTES = INT64_C(800) << 20;

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
    [MP_PLAN_WORKSPACE] = "workspace of the kernels",
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

/* Weights for the GPU are read into CPU memory block by block. */
static int64_t largest_weight_block(const struct mp_shape *s)
{
    int64_t matrix = (int64_t)s->vocab_size * s->hidden_size * 2;
    int64_t ffn = (int64_t)ffn_weights_at(s, NULL, NULL);
    return matrix > ffn ? matrix : ffn;
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

/* What a run holds, before it is known where. */
struct sizes {
    int64_t kv_token;  /* bytes of K and V of a token in a layer */
    int64_t fixed;     /* tokens of a prompt in the static cache */
    int64_t offloaded; /* the others, if a layer samples */
    int64_t room;      /* generated tokens that a cache has room for */
};

static struct sizes sizes_of(const struct mp_plan_run *run)
{
    const struct mp_config *c = run->config;
    const struct mp_shape *s = run->shape;
    int64_t fixed = min64(run->tokens, c->device_budget);
    bool samples = run->new_tokens > 0 && run->sparse_layers > 0;
    return (struct sizes){
        .kv_token = 2 * (int64_t)mp_dtype_size(run->dtype) * s->num_key_value_heads * s->head_dim,
        .fixed = fixed,
        .offloaded = samples ? run->tokens - fixed : 0,
        /* Caches grow by the budget once it is used up. */
        .room =
            c->generation_budget + (run->new_tokens > c->generation_budget ? run->new_tokens : 0),
    };
}

static void plan_prefill(const struct mp_plan_run *run, const struct sizes *z, struct mp_plan *out)
{
    const struct mp_config *c = run->config;
    const struct mp_shape *s = run->shape;
    int dense = run->gpu ? MP_PLAN_GPU : MP_PLAN_CPU;
    int tables = out->gpu_kv_layers < out->sparse_layers ? MP_PLAN_CPU : dense;
    int64_t residual = run->tokens * (s->hidden_size + 1) * 4;
    int64_t q_and_o = 4 * min64(run->tokens, c->chunk_size) * mp_shape_q_width(s) * 4;
    int64_t staging = 2 * run->tokens * z->kv_token;
    int64_t codes = z->offloaded * s->num_key_value_heads * c->lsh_L * 2;
    out->bytes[dense][MP_PLAN_PREFILL] += residual + q_and_o + staging;
    out->bytes[tables][MP_PLAN_PREFILL] += codes;
}

/* Rows that the activations of all micro-batches have room for. */
static int64_t step_rows(const struct mp_config *c, bool turns)
{
    int count = mp_most_micro_batches(c, turns);
    int64_t rows = 0;
    for (int m = 0; m < count; m++) {
        rows += mp_micro_batch_rows(c->batch, m);
    }
    return rows;
}

/* Dense activations, what lookup and sampled attention use, and what the program itself reads. */
static void plan_step(const struct mp_plan_run *run, struct mp_plan *out)
{
    const struct mp_shape *s = run->shape;
    bool turns = run->gpu && out->gpu_kv_layers < out->sparse_layers;
    int dense = run->gpu ? MP_PLAN_GPU : MP_PLAN_CPU;
    int shared = turns ? MP_PLAN_CPU : dense; /* with queries of their own on the CPU */
    int64_t rows = step_rows(run->config, turns);
    int64_t heads = s->num_attention_heads;
    int64_t width = 4 * (int64_t)mp_shape_q_width(s);
    int64_t ids_and_logits = 4 * (1 + (int64_t)s->vocab_size);
    int64_t nnz = 4 * heads * s->num_hidden_layers;
    out->bytes[dense][MP_PLAN_STEP] += rows * (4 * s->hidden_size + 2 * width + 4 * heads);
    out->bytes[shared][MP_PLAN_STEP] +=
        rows * ((turns ? 2 : 1) * width + heads * (2 * run->config->lsh_L + 4));
    out->bytes[MP_PLAN_CPU][MP_PLAN_STEP] += rows * (ids_and_logits + nnz);
}

/* Offloaded KV, tables and selection of the layers that keep theirs on one device. */
static void plan_sampled(const struct mp_plan_run *run, const struct sizes *z, int layers,
                         int64_t bytes[MP_PLAN_ROWS])
{
    const struct mp_config *c = run->config;
    const struct mp_shape *s = run->shape;
    int64_t buckets = ((int64_t)1 << c->lsh_K) + 1;
    int64_t tables = (int64_t)s->num_key_value_heads * c->lsh_L;
    int64_t n = (int64_t)c->batch * layers;
    if (layers == 0) {
        return;
    }
    bytes[MP_PLAN_OFFLOADED_KV] = n * z->offloaded * z->kv_token;
    bytes[MP_PLAN_TABLES] =
        n * tables * (z->offloaded * 2 + lsh_num_blocks(z->offloaded) * buckets * 4);
    bytes[MP_PLAN_SELECTION] = c->batch * z->offloaded * s->num_attention_heads * 4;
}

/* What the requests keep from their prefill to their last token. */
static void plan_kv(const struct mp_plan_run *run, const struct sizes *z, struct mp_plan *out)
{
    const struct mp_config *c = run->config;
    int64_t *dense = out->bytes[run->gpu ? MP_PLAN_GPU : MP_PLAN_CPU];
    int64_t sparse = run->sparse_layers;
    dense[MP_PLAN_STATIC_KV] = c->batch * sparse * (z->fixed + z->room) * z->kv_token;
    dense[MP_PLAN_DENSE_KV] =
        c->batch * (run->shape->num_hidden_layers - sparse) * (run->tokens + z->room) * z->kv_token;
    plan_step(run, out);
    plan_sampled(run, z, run->sparse_layers - out->gpu_kv_layers, out->bytes[MP_PLAN_CPU]);
    plan_sampled(run, z, out->gpu_kv_layers, out->bytes[MP_PLAN_GPU]);
}

static size_t workspace_bytes(const struct mp_plan_run *run)
{
    const struct mp_config *c = run->config;
    return mp_workspace_bytes(&(struct mp_workspace_run){
        .shape = run->shape,
        .prefill_rows = min64(run->tokens, c->chunk_size),
        .decode_rows = c->batch,
        .K = run->sparse_layers > 0 ? c->lsh_K : 0,
        .L = c->lsh_L,
        .shared = c->lsh_projection == MP_LSH_SHARED,
    });
}

static void make(const struct mp_plan_run *run, int gpu_kv_layers, struct mp_plan *out)
{
    struct sizes z = sizes_of(run);
    *out = (struct mp_plan){
        .tokens = run->tokens,
        .batch = run->config->batch,
        .gpu = run->gpu,
        .sparse_layers = run->sparse_layers,
        .gpu_kv_layers = gpu_kv_layers,
        .gpu_limit = run->gpu_limit,
    };
    int64_t *dense = out->bytes[run->gpu ? MP_PLAN_GPU : MP_PLAN_CPU];
    dense[MP_PLAN_WEIGHTS] = weight_bytes(run->shape);
    out->bytes[MP_PLAN_CPU][MP_PLAN_PROCESS] = PROCESS_BYTES;
    if (run->gpu) {
        out->bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS] = largest_weight_block(run->shape);
        dense[MP_PLAN_WORKSPACE] = (int64_t)workspace_bytes(run);
        dense[MP_PLAN_PROCESS] = GPU_PROCESS_BYTES;
    }
    if (run->sparse_layers > 0) {
        dense[MP_PLAN_HASH_FUNCTIONS] = hash_function_bytes(run->config, run->shape);
    }
    plan_prefill(run, &z, out);
    if (run->new_tokens > 0) {
        plan_kv(run, &z, out);
    } else {
        out->bytes[MP_PLAN_CPU][MP_PLAN_STEP] =
            (int64_t)MP_LOGITS_ROWS * run->shape->vocab_size * 4;
    }
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        for (int i = 0; i < MP_PLAN_ROWS; i++) {
            out->total[d] += out->bytes[d][i];
        }
    }
}

void mp_plan_make(const struct mp_plan_run *run, struct mp_plan *out)
{
    int wanted = run->config->gpu_kv_layers;
    int layers = wanted < 0 || wanted > run->sparse_layers ? run->sparse_layers : wanted;
    make(run, run->gpu ? layers : 0, out);
    while (wanted < 0 && out->gpu_kv_layers > 0 && out->total[MP_PLAN_GPU] > run->gpu_limit) {
        make(run, out->gpu_kv_layers - 1, out);
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

/* MP_ERR_MEMORY unless what is planned for one device fits; `device` names it and its limit. */
static int check_device(const struct mp_plan *plan, enum mp_plan_device d, int64_t limit,
                        const char *device, struct mp_error *err)
{
    if (plan->total[d] <= limit) {
        return 0;
    }
    const int64_t *bytes = plan->bytes[d];
    int largest = 0;
    for (int i = 1; i < MP_PLAN_ROWS; i++) {
        largest = bytes[i] > bytes[largest] ? i : largest;
    }
    return mp_fail(err, MP_ERR_MEMORY,
                   "memory: the plan needs %.2f GiB for %d x %lld tokens (%.2f GiB of it %s), but "
                   "%s %.2f GiB",
                   mp_gib(plan->total[d]), plan->batch, (long long)plan->tokens,
                   mp_gib(bytes[largest]), ROW_NAMES[largest], device, mp_gib(limit));
}

int mp_plan_check(const struct mp_plan *plan, const struct mp_config *config, struct mp_error *err)
{
    int code = check_device(plan, MP_PLAN_CPU, mp_plan_limit(config),
                            config->memory_limit > 0 ? "memory_limit is" : "the system has", err);
    if (code == 0 && plan->gpu) {
        code = check_device(plan, MP_PLAN_GPU, plan->gpu_limit,
                            plan->gpu_limit == config->gpu_memory ? "gpu_memory is" : "the GPU has",
                            err);
    }
    return code;
}

static void print_row(FILE *out, const char *name, const struct mp_plan *plan, int64_t cpu,
                      int64_t gpu, const char *note)
{
    fprintf(out, "  %-40s %10.1f MiB", name, mp_gib(cpu) * 1024.0);
    if (plan->gpu) {
        fprintf(out, " %10.1f MiB", mp_gib(gpu) * 1024.0);
    }
    fprintf(out, "%s\n", note);
}

void mp_plan_print(const struct mp_plan *plan, const struct mp_config *config, FILE *out)
{
    fprintf(out, "memory plan: %d request%s of %lld tokens\n", plan->batch,
            plan->batch == 1 ? "" : "s", (long long)plan->tokens);
    if (plan->gpu) {
        fprintf(out, "  KV and tables of %d of %d sparse layers on the GPU\n", plan->gpu_kv_layers,
                plan->sparse_layers);
        fprintf(out, "  %-40s %14s %14s\n", "", "CPU", "GPU");
    }
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        if (i != MP_PLAN_WORKSPACE || plan->gpu) {
            print_row(out, ROW_NAMES[i], plan, plan->bytes[MP_PLAN_CPU][i],
                      plan->bytes[MP_PLAN_GPU][i], "");
        }
    }
    const int64_t *total = plan->total;
    int64_t limit = mp_plan_limit(config);
    bool fits =
        total[MP_PLAN_CPU] <= limit && (!plan->gpu || total[MP_PLAN_GPU] <= plan->gpu_limit);
    print_row(out, "total", plan, total[MP_PLAN_CPU], total[MP_PLAN_GPU], "");
    print_row(out, config->memory_limit > 0 ? "memory_limit" : "available", plan, limit,
              plan->gpu_limit, fits ? " (fits)" : " (does not fit)");
}
