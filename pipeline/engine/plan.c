/* The memory plan: every allocation of a run is made by the function that will make it, with an
 * allocator that only counts. */
#include "pipeline/engine/plan.h"

#include "core/base/memory.h"
#include "core/machine/control_group.h"
#include "pipeline/engine/prefixes/segment.h"
#include "pipeline/engine/session/micro_batches.h"
#include "tasks/workspace.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

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
    [MP_PLAN_STATIC_KV] = "static caches (sink, window, generated)",
    [MP_PLAN_DENSE_KV] = "dense layers' KV",
    [MP_PLAN_OFFLOADED_KV] = "offloaded KV",
    [MP_PLAN_SELECTION] = "selected ids",
    [MP_PLAN_PREFIXES] = "KV of past prompts",
    [MP_PLAN_PROMPTS] = "KV of prompts, kept for several attentions",
    [MP_PLAN_PREFILL] = "prefill of one request",
    [MP_PLAN_STEP] = "decode step",
    [MP_PLAN_WORKSPACE] = "workspace of the kernels",
    [MP_PLAN_PROCESS] = "program, libraries, scratch",
};

/* NULL for what the engine or the method does not have. */
static const char *row_name(const struct mp_plan *plan, enum mp_plan_row row)
{
    switch (row) {
    case MP_PLAN_SHARED:
        return plan->variant ? "what layers share, of all attentions" : plan->shared_name;
    case MP_PLAN_INDEX:
        return plan->index_name;
    case MP_PLAN_PROMPTS:
        return plan->variant ? ROW_NAMES[row] : NULL;
    case MP_PLAN_PREFIXES:
        return plan->bytes[MP_PLAN_CPU][row] + plan->bytes[MP_PLAN_GPU][row] > 0 ? ROW_NAMES[row]
                                                                                 : NULL;
    default:
        return ROW_NAMES[row];
    }
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* INT64_MAX is more than can be counted. */
static bool fits(int64_t bytes, int64_t limit)
{
    return bytes < INT64_MAX && bytes <= limit;
}

/* ---- counting ---- */

struct planner {
    struct mp_engine *e; /* a copy that holds nothing, placed as the plan wants it */
    struct mp_plan *plan;
    int64_t counted[MP_MEMORIES];
    struct mp_allocator counter;
};

void mp_plan_by_device(const int64_t counted[MP_MEMORIES], int64_t out[MP_PLAN_DEVICES])
{
    out[MP_PLAN_CPU] = mp_bytes_add(counted[MP_MEMORY_HOST], counted[MP_MEMORY_PINNED]);
    out[MP_PLAN_GPU] = counted[MP_MEMORY_GPU];
}

/* Books what was counted since the last call, `times` as much of it, under a row. */
static void book(struct planner *p, enum mp_plan_row row, int64_t times)
{
    int64_t counted[MP_PLAN_DEVICES];
    mp_plan_by_device(p->counted, counted);
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        int64_t *bytes = &p->plan->bytes[d][row];
        *bytes = mp_bytes_add(*bytes, mp_bytes_mul(times, counted[d]));
    }
    memset(p->counted, 0, sizeof p->counted);
}

static void plan_shared(struct planner *p, const struct mp_engine *e)
{
    struct mp_attention attention = e->attention;
    const struct mp_method *method = attention.method;
    attention.shared = NULL;
    if (mp_engine_kept_layers(e) > 0 && method->create_shared != NULL) {
        method->create_shared(&attention, &p->counter, mp_memory_of(mp_dense(e)));
        method->destroy_shared(&attention);
        book(p, MP_PLAN_SHARED, 1);
    }
}

static void plan_model(struct planner *p)
{
    const struct mp_engine *base = p->e->base;
    mp_weights_create(p->e, &p->counter);
    mp_weights_destroy(p->e);
    book(p, MP_PLAN_WEIGHTS, 1);
    /* All variants of an engine have theirs at the same time. */
    for (int i = 0; base != NULL && i < base->num_variants; i++) {
        plan_shared(p, base->variants[i]);
    }
    if (base == NULL) {
        plan_shared(p, p->e);
    }
}

/* A variant reads no prompts: it takes over those that its base keeps. */
static void plan_adoption(struct planner *p, int64_t tokens)
{
    const struct mp_engine *e = p->e;
    struct mp_engine base = *e->base;
    mp_engine_place(e->base, 0, &base.graph.placements);
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        struct mp_layer_kv kv = {0};
        mp_kv_create_static(&base, &p->counter, &kv, l, tokens, 0);
        mp_kv_destroy_layer(&base, &kv, l);
    }
    mp_placements_free(&base.graph.placements);
    book(p, MP_PLAN_PROMPTS, e->config->batch);
    int64_t offloaded = tokens - mp_static_tokens(&e->graph, tokens);
    mp_index_scratch_destroy(e, mp_index_scratch_create(e, &p->counter, offloaded));
    book(p, MP_PLAN_PREFILL, 1);
}

static void plan_prefill(struct planner *p, int64_t tokens, bool keeps)
{
    if (p->e->base != NULL) {
        plan_adoption(p, tokens);
        return;
    }
    struct mp_prefill prefill = {0};
    struct kv_cache staging[2];
    mp_prefill_create_buffers(p->e, &p->counter, &prefill, staging, tokens, keeps);
    mp_prefill_destroy_buffers(p->e, &prefill, staging);
    book(p, MP_PLAN_PREFILL, 1);
}

static void plan_layer(struct planner *p, int layer, int64_t tokens, int64_t new_tokens)
{
    const struct mp_config *c = p->e->config;
    bool sparse = p->e->graph.placements.layers[layer].sparse;
    int64_t growth = mp_kv_growth(p->e, tokens, new_tokens);
    struct mp_layer_kv kv = {0};
    mp_kv_count_static(p->e, &p->counter, layer, tokens, new_tokens);
    if (mp_prefix_is_on(p->e)) {
        /* One that shares a prefix has this beside the lender's KV, which is there as long. */
        mp_kv_count_borrower(p->e, &p->counter, layer, new_tokens);
    }
    book(p, sparse ? MP_PLAN_STATIC_KV : MP_PLAN_DENSE_KV, c->batch);
    mp_kv_create_offloaded(p->e, &p->counter, &kv, layer, tokens, growth);
    book(p, MP_PLAN_OFFLOADED_KV, c->batch);
    mp_kv_create_index(p->e, &p->counter, &kv, layer);
    book(p, MP_PLAN_INDEX, c->batch);
    mp_kv_destroy_layer(p->e, &kv, layer);
}

/* What the requests keep from their prefill to their last token. */
static void plan_requests(struct planner *p, int64_t tokens, int64_t new_tokens)
{
    const struct mp_engine *e = p->e;
    int64_t growth = mp_kv_growth(e, tokens, new_tokens);
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        plan_layer(p, l, tokens, new_tokens);
    }
    int64_t offloaded = tokens - mp_static_tokens(&e->graph, tokens);
    mp_selections_destroy(e, mp_selections_create(e, &p->counter, offloaded + growth));
    book(p, MP_PLAN_SELECTION, e->config->batch);
}

static void plan_steps(struct planner *p)
{
    const struct mp_engine *e = p->e;
    int count = mp_most_micro_batches(e->config, mp_searches_micro_batches(e));
    for (int m = 0; m < count; m++) {
        struct mp_step_buffers buffers;
        mp_step_buffers_create(e, &p->counter, mp_micro_batch_rows(e->config->batch, m), &buffers);
        mp_step_buffers_destroy(e, &buffers);
    }
    /* The session that has read a variant's prompts has its own as well. */
    book(p, MP_PLAN_STEP, e->base != NULL ? 2 : 1);
}

/* What is kept of past prompts, parted between the devices as the KV of one request is. As much as
 * one takes, unless the configuration says how much, is kept only if it fits beside the rest. */
static void plan_prefixes(const struct mp_engine *e, struct mp_plan *plan, int64_t new_tokens)
{
    int64_t one[MP_PLAN_DEVICES];
    int64_t wanted = e->config->prefix_cache;
    mp_kv_count(e, plan->tokens, new_tokens, one);
    int64_t all = mp_bytes_add(one[MP_PLAN_CPU], one[MP_PLAN_GPU]);
    int64_t kept = wanted < 0 ? all : wanted;
    double share = (double)one[MP_PLAN_GPU] / (double)all;
    int64_t gpu = share < 1.0 ? (int64_t)(share * (double)kept) : kept;
    const int64_t parts[MP_PLAN_DEVICES] = {[MP_PLAN_CPU] = kept - gpu, [MP_PLAN_GPU] = gpu};
    const int64_t limits[MP_PLAN_DEVICES] = {
        [MP_PLAN_CPU] = mp_plan_limit(e->config),
        [MP_PLAN_GPU] = plan->gpu ? plan->gpu_limit : INT64_MAX - 1,
    };
    bool room = true;
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        room = room && fits(mp_bytes_add(plan->total[d], parts[d]), limits[d]);
    }
    for (int d = 0; d < MP_PLAN_DEVICES && (room || wanted > 0); d++) {
        plan->bytes[d][MP_PLAN_PREFIXES] = parts[d];
        plan->total[d] = mp_bytes_add(plan->total[d], parts[d]);
    }
}

/* What a step exchanges with other ranks: of every head a vector, a sum and a count. */
static void plan_exchange(const struct mp_engine *e, struct mp_plan *plan)
{
    const struct mp_shape *s = e->shape;
    int group = mp_shape_group(s);
    int own = mp_kv_heads_of_rank(s->num_key_value_heads, e->rank, e->num_ranks).count;
    int counts = e->attention.method->shared_rows ? 1 : group;
    int64_t head = (int64_t)sizeof(float) * (group * (s->head_dim + 1) + counts);
    int64_t all = (int64_t)plan->kept_layers * plan->batch * head;
    plan->sent = all * own * (e->num_ranks - 1);
    plan->received = all * (s->num_key_value_heads - own);
}

/* ---- the plan ---- */

static void make(const struct mp_engine *e, int64_t tokens, int64_t new_tokens, int gpu_kv_layers,
                 struct mp_plan *out)
{
    struct mp_engine placed = *e;
    placed.weights = (struct mp_model_weights){0};
    placed.attention.shared = NULL;
    placed.graph.weights = &placed.weights;
    placed.graph.attention = &placed.attention;
    mp_engine_place(e, gpu_kv_layers, &placed.graph.placements);
    struct planner p = {.e = &placed, .plan = out};
    p.counter.counted = p.counted;

    bool gpu = mp_dense(e).kind == MP_GPU;
    const struct mp_method *method = e->attention.method;
    *out = (struct mp_plan){
        .tokens = tokens,
        .batch = e->config->batch,
        .gpu = gpu,
        .sparse_layers = mp_sparse_layers(&placed.graph.placements),
        .kept_layers = mp_engine_kept_layers(e),
        .ranks = e->num_ranks,
        .gpu_kv_layers = gpu_kv_layers,
        .shared_name = method->shared_name,
        .index_name = method->index_name,
        .gpu_limit = e->gpu_limit,
        .variant = e->base != NULL,
    };
    plan_model(&p);
    plan_prefill(&p, tokens, new_tokens > 0);
    if (new_tokens > 0) {
        plan_requests(&p, tokens, new_tokens);
        plan_steps(&p);
    } else {
        out->bytes[MP_PLAN_CPU][MP_PLAN_STEP] = (int64_t)MP_LOGITS_ROWS * e->shape->vocab_size * 4;
    }
    out->bytes[MP_PLAN_CPU][MP_PLAN_PROCESS] = PROCESS_BYTES;
    if (gpu) {
        out->bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS] = (int64_t)mp_weights_largest_block(e);
        out->bytes[MP_PLAN_GPU][MP_PLAN_WORKSPACE] =
            (int64_t)mp_workspace_bytes(&placed.attention, min64(tokens, e->config->chunk_size),
                                        e->config->batch, out->kept_layers > 0);
        out->bytes[MP_PLAN_GPU][MP_PLAN_PROCESS] = GPU_PROCESS_BYTES;
    }
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        for (int i = 0; i < MP_PLAN_ROWS; i++) {
            out->total[d] = mp_bytes_add(out->total[d], out->bytes[d][i]);
        }
    }
    if (new_tokens > 0) {
        plan_exchange(e, out);
    }
    if (new_tokens > 0 && mp_prefix_is_on(&placed)) {
        plan_prefixes(&placed, out, new_tokens);
    }
    mp_placements_free(&placed.graph.placements);
}

void mp_plan_make(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                  struct mp_plan *out)
{
    int wanted = e->config->gpu_kv_layers;
    int kept = mp_engine_kept_layers(e);
    int layers = wanted < 0 || wanted > kept ? kept : wanted;
    make(e, tokens, new_tokens, mp_dense(e).kind == MP_GPU ? layers : 0, out);
    while (wanted < 0 && out->gpu_kv_layers > 0 && !fits(out->total[MP_PLAN_GPU], out->gpu_limit)) {
        make(e, tokens, new_tokens, out->gpu_kv_layers - 1, out);
    }
}

/* ---- what there is ---- */

/* What the system has left, in bytes; INT64_MAX where it does not say. */
static int64_t available_memory(void)
{
    int64_t kib = mp_kernel_number("/proc/meminfo", "MemAvailable:");
    return kib < 0 ? INT64_MAX : kib * 1024;
}

/* What ulimit -v leaves, in bytes; INT64_MAX where there is no such limit. */
static int64_t address_space(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur > INT64_MAX) {
        return INT64_MAX;
    }
    int64_t used = mp_kernel_number("/proc/self/status", "VmSize:") * 1024;
    return (int64_t)limit.rlim_cur > used ? (int64_t)limit.rlim_cur - used : 0;
}

int64_t mp_plan_limit(const struct mp_config *config)
{
    return config->memory_limit > 0
               ? config->memory_limit
               : min64(min64(available_memory(), mp_control_group_memory("")), address_space());
}

/* MP_ERR_MEMORY unless what is planned for one device fits; `device` names it and its limit. */
static int check_device(const struct mp_plan *plan, enum mp_plan_device d, int64_t limit,
                        const char *device, struct mp_error *err)
{
    if (fits(plan->total[d], limit)) {
        return 0;
    }
    const int64_t *bytes = plan->bytes[d];
    int largest = 0;
    for (int i = 1; i < MP_PLAN_ROWS; i++) {
        largest = bytes[i] > bytes[largest] ? i : largest;
    }
    char total[MP_SIZE_TEXT];
    char most[MP_SIZE_TEXT];
    char room[MP_SIZE_TEXT];
    return mp_fail(err, MP_ERR_MEMORY,
                   "memory: the plan needs %s for %d x %lld tokens (%s of it %s), but %s %s",
                   mp_size_text(plan->total[d], total), plan->batch, (long long)plan->tokens,
                   mp_size_text(bytes[largest], most), row_name(plan, largest), device,
                   mp_size_text(limit, room));
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

const char *mp_size_text(int64_t bytes, char out[MP_SIZE_TEXT])
{
    static const char *const units[] = {"KiB", "MiB", "GiB"};
    double size = (double)bytes / 1024.0;
    int unit = 0;
    while (unit < 2 && size >= 1024.0) {
        size /= 1024.0;
        unit++;
    }
    if (bytes < 1024) {
        snprintf(out, MP_SIZE_TEXT, "%d bytes", (int)bytes);
    } else {
        snprintf(out, MP_SIZE_TEXT, "%.2f %s", size, units[unit]);
    }
    return out;
}

static double mib(int64_t bytes)
{
    return (double)bytes / (double)(1 << 20);
}

static void print_row(FILE *out, const char *name, const struct mp_plan *plan, int64_t cpu,
                      int64_t gpu, const char *note)
{
    fprintf(out, "  %-40s %10.1f MiB", name, mib(cpu));
    if (plan->gpu) {
        fprintf(out, " %10.1f MiB", mib(gpu));
    }
    fprintf(out, "%s\n", note);
}

void mp_plan_print(const struct mp_plan *plan, const struct mp_config *config, FILE *out)
{
    fprintf(out, "memory plan: %d request%s of %lld tokens\n", plan->batch,
            plan->batch == 1 ? "" : "s", (long long)plan->tokens);
    if (plan->gpu) {
        fprintf(out, "  KV and index of %d of %d sparse layers on the GPU\n", plan->gpu_kv_layers,
                plan->kept_layers);
        fprintf(out, "  %-40s %14s %14s\n", "", "CPU", "GPU");
    }
    for (int i = 0; i < MP_PLAN_ROWS; i++) {
        const char *name = row_name(plan, i);
        if (name != NULL && (i != MP_PLAN_WORKSPACE || plan->gpu)) {
            print_row(out, name, plan, plan->bytes[MP_PLAN_CPU][i], plan->bytes[MP_PLAN_GPU][i],
                      "");
        }
    }
    const int64_t *total = plan->total;
    int64_t limit = mp_plan_limit(config);
    bool all = fits(total[MP_PLAN_CPU], limit) &&
               (!plan->gpu || fits(total[MP_PLAN_GPU], plan->gpu_limit));
    print_row(out, "total", plan, total[MP_PLAN_CPU], total[MP_PLAN_GPU], "");
    print_row(out, config->memory_limit > 0 ? "memory_limit" : "available", plan, limit,
              plan->gpu_limit, all ? " (fits)" : " (does not fit)");
}
