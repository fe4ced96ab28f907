/* The memory plan: every allocation of a run is made by the function that will make it, with an
 * allocator that only counts. */
#include "pipeline/engine/plan.h"

#include "core/base/memory.h"
#include "core/machine/control_group.h"
#include "pipeline/engine/prefixes/segment.h"
#include "pipeline/engine/session/micro_batches.h"
#include "tasks/workspace.h"

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

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
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
    for (int g = 0; g < MP_MAX_GPUS; g++) {
        out[MP_PLAN_GPU + g] = counted[MP_MEMORY_GPU + g];
    }
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
    const struct mp_placements *at = &p->e->graph.placements;
    /* Each GPU reads it from its own memory: StarPU copies it there. */
    const int copies = mp_dense(e).kind == MP_GPU ? at->num_devices : 1;
    for (int d = 0; d < copies && mp_engine_kept_layers(e) > 0 && method->create_shared != NULL;
         d++) {
        method->create_shared(&attention, &p->counter, mp_memory_of(at->devices[d]));
        method->destroy_shared(&attention);
    }
    book(p, MP_PLAN_SHARED, 1);
}

static void plan_model(struct planner *p)
{
    const struct mp_engine *base = p->e->base;
    mp_weights_create(p->e, &p->counter);
    mp_weights_destroy(p->e);
    if (p->e->shape->tied_embeddings && p->plan->gpus > 1 && p->plan->parts == 1) {
        /* StarPU copies the embedding to where it serves as the LM head. */
        struct mp_place last = mp_memory_of(mp_last_device(&p->e->graph.placements));
        mp_allocate(&p->counter, last, (size_t)mp_weights_matrix_bytes(p->e), "LM head");
    }
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
    mp_engine_place(e->base, &p->plan->stages, 0, &base.graph.placements);
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

static void count_prefill(struct planner *p, const struct mp_prefill_room *room, int64_t tokens,
                          bool keeps)
{
    struct mp_prefill prefill = {0};
    mp_prefill_create_buffers(p->e, &p->counter, &prefill, room, tokens, keeps);
    mp_prefill_destroy_buffers(p->e, &prefill);
}

static void plan_prefill(struct planner *p, int64_t tokens, bool keeps)
{
    if (p->e->base != NULL) {
        plan_adoption(p, tokens);
        return;
    }
    int64_t rows = min64(tokens, p->e->config->chunk_size);
    struct mp_prefill_room room;
    mp_prefill_room_create(p->e, &p->counter, &room, tokens, rows);
    count_prefill(p, &room, tokens, keeps);
    if (keeps && p->e->config->batch > 1 && p->plan->devices == 1 && rows < tokens) {
        count_prefill(p, &room, rows, true); /* a short one that it lets in */
    }
    mp_prefill_room_destroy(p->e, &room);
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
    mp_kv_count_growing(e, &p->counter, tokens, new_tokens);
    book(p, MP_PLAN_GROWING, 1);
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
    int64_t all = 0;
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        all = mp_bytes_add(all, one[d]);
    }
    int64_t kept = wanted < 0 ? all : wanted;
    int64_t parts[MP_PLAN_DEVICES] = {[MP_PLAN_CPU] = kept};
    for (int d = MP_PLAN_GPU; d < MP_PLAN_DEVICES; d++) {
        double share = (double)one[d] / (double)all;
        parts[d] = share < 1.0 ? (int64_t)(share * (double)kept) : kept;
        parts[MP_PLAN_CPU] -= parts[d];
    }
    bool room = mp_plan_fits(mp_bytes_add(plan->total[MP_PLAN_CPU], parts[MP_PLAN_CPU]),
                             mp_plan_limit(e->config));
    for (int g = 0; g < plan->gpus; g++) {
        int d = MP_PLAN_GPU + g;
        room = room && mp_plan_fits(mp_bytes_add(plan->total[d], parts[d]), plan->gpu_limit);
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

void mp_plan_place(const struct mp_engine *e, const struct mp_stages *stages, int gpu_kv_layers,
                   struct mp_engine *out)
{
    *out = *e;
    out->weights = (struct mp_model_weights){0};
    out->attention.shared = NULL;
    out->graph.weights = &out->weights;
    out->graph.attention = &out->attention;
    mp_engine_place(e, stages, gpu_kv_layers, &out->graph.placements);
}

/* What a device has of all layers, or all devices of all. */
static void plan_part(struct planner *p, int64_t tokens, int64_t new_tokens)
{
    plan_model(p);
    plan_prefill(p, tokens, new_tokens > 0);
    if (new_tokens > 0) {
        plan_requests(p, tokens, new_tokens);
        plan_steps(p);
    }
}

/* What there is of it besides. */
static void plan_rest(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                      struct mp_plan *plan)
{
    const struct mp_engine *part = mp_part(e, 0);
    if (new_tokens == 0) {
        plan->bytes[MP_PLAN_CPU][MP_PLAN_STEP] = (int64_t)MP_LOGITS_ROWS * e->shape->vocab_size * 4;
    }
    plan->bytes[MP_PLAN_CPU][MP_PLAN_PROCESS] = PROCESS_BYTES;
    if (plan->gpus > 0) {
        /* A block on its way; a part of it, too, where there are parts. */
        plan->bytes[MP_PLAN_CPU][MP_PLAN_WEIGHTS] =
            (int64_t)mp_weights_largest_block(e) * (e->parts != NULL ? 2 : 1);
    }
    for (int d = MP_PLAN_GPU; d < MP_PLAN_GPU + plan->gpus; d++) {
        plan->bytes[d][MP_PLAN_WORKSPACE] =
            (int64_t)mp_workspace_bytes(&part->attention, min64(tokens, e->config->chunk_size),
                                        e->config->batch, plan->kept_layers > 0);
        plan->bytes[d][MP_PLAN_PROCESS] = GPU_PROCESS_BYTES;
    }
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        for (int i = 0; i < MP_PLAN_ROWS; i++) {
            plan->total[d] = mp_bytes_add(plan->total[d], plan->bytes[d][i]);
        }
    }
    if (new_tokens > 0) {
        plan_exchange(e, plan);
    }
    if (new_tokens > 0 && mp_prefix_is_on(e)) {
        plan_prefixes(e, plan, new_tokens);
    }
}

static void make(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                 const struct mp_stages *stages, int gpu_kv_layers, struct mp_plan *out)
{
    struct mp_engine placed;
    struct mp_engine own[MP_MAX_GPUS]; /* its parts */
    struct mp_engine *parts[MP_MAX_GPUS];
    mp_plan_place(e, stages, gpu_kv_layers, &placed);
    for (int i = 0; i < e->num_parts; i++) {
        mp_plan_place(e->parts[i], stages, gpu_kv_layers, &own[i]);
        parts[i] = &own[i];
    }
    placed.parts = e->parts != NULL ? parts : NULL;

    const int devices = placed.graph.placements.num_devices;
    const struct mp_method *method = e->attention.method;
    *out = (struct mp_plan){
        .tokens = tokens,
        .batch = e->config->batch,
        .gpus = mp_dense(e).kind == MP_GPU ? devices * mp_num_parts(e) : 0,
        .devices = devices,
        .parts = mp_num_parts(e),
        .stages = *stages,
        .sparse_layers = mp_sparse_layers(&placed.graph.placements),
        .kept_layers = mp_engine_kept_layers(e),
        .ranks = e->num_ranks,
        .gpu_kv_layers = gpu_kv_layers,
        .shared_name = method->shared_name,
        .index_name = method->index_name,
        .gpu_limit = e->gpu_limit,
        .variant = e->base != NULL,
    };
    for (int i = 0; i < mp_num_parts(e); i++) {
        struct planner p = {.e = e->parts != NULL ? &own[i] : &placed, .plan = out};
        p.counter.counted = p.counted;
        plan_part(&p, tokens, new_tokens);
    }
    plan_rest(&placed, tokens, new_tokens, out);
    for (int i = 0; i < e->num_parts; i++) {
        mp_placements_free(&own[i].graph.placements);
    }
    mp_placements_free(&placed.graph.placements);
}

void mp_plan_make(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                  struct mp_plan *out)
{
    int wanted = e->config->gpu_kv_layers;
    int kept = mp_engine_kept_layers(e);
    int layers = wanted < 0 || wanted > kept ? kept : wanted;
    struct mp_stages stages;
    mp_engine_split(e, tokens, new_tokens, &stages);
    make(e, tokens, new_tokens, &stages, mp_has_gpus(e) ? layers : 0, out);
    while (wanted < 0 && out->gpu_kv_layers > 0 && out->gpus > 0 &&
           !mp_plan_fits(mp_plan_gpu_total(out), out->gpu_limit)) {
        make(e, tokens, new_tokens, &stages, out->gpu_kv_layers - 1, out);
    }
}

int64_t mp_plan_gpu_total(const struct mp_plan *plan)
{
    int64_t most = 0;
    for (int d = MP_PLAN_GPU; d < MP_PLAN_DEVICES; d++) {
        most = plan->total[d] > most ? plan->total[d] : most;
    }
    return most;
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
