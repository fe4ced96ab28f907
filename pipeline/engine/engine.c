/* The engine: a model in memory and the runtime it runs on. */
#include "codelets/common/attention/support.h"
#include "codelets/common/linear/linear.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/machine/cpu.h"
#include "core/ranks/ranks.h"
#include "pipeline/engine/prefixes/kv_folder.h"

#include <stdlib.h>
#include <string.h>

/* ---- attention ---- */

int mp_engine_set_attention(struct mp_engine *e, const struct mp_config *c, struct mp_error *err)
{
    int layers = e->shape->num_hidden_layers;
    for (int i = 0; i < c->num_cache_layers; i++) {
        if (c->cache_layers[i] >= layers) {
            return mp_fail(err, MP_ERR_USAGE,
                           "cache_layers: found layer %d, but the model has layers 0 to %d",
                           c->cache_layers[i], layers - 1);
        }
    }
    e->config = c;
    e->attention = (struct mp_attention){
        .config = c, .shape = e->shape, .model_kv_heads = e->shape->num_key_value_heads};
    e->graph.attention = &e->attention;
    e->graph.sink = c->device_budget - c->window_size;
    e->graph.window = c->window_size;
    e->graph.center = c->attention_center;
    return mp_method_choose(c, &e->attention.method, err);
}

static int choose_eos(struct mp_engine *e, struct mp_error *err)
{
    if (e->config->num_eos < 0) {
        e->eos = mp_model_eos(e->model, &e->num_eos);
        return 0;
    }
    e->eos = e->config->eos;
    e->num_eos = e->config->num_eos;
    for (int i = 0; i < e->num_eos; i++) {
        if (e->eos[i] >= e->shape->vocab_size) {
            return mp_fail(err, MP_ERR_USAGE, "eos: found %d, but the model has tokens 0 to %d",
                           (int)e->eos[i], e->shape->vocab_size - 1);
        }
    }
    return 0;
}

/* ---- kernels and devices ---- */

/* With runtime.isa auto, the best vector kernels that take the model's heads. */
static int choose_kernels(struct mp_engine *e, struct mp_error *err)
{
    int head_dim = e->shape->head_dim;
    int code = mp_isa_select(e->config->isa, err);
    bool lower = code == 0 && strcmp(e->config->isa, "auto") == 0 &&
                 mp_isa_current() > MP_ISA_AVX2 &&
                 mp_kernels_check(mp_isa_current(), MP_BF16, head_dim, false, NULL) != 0 &&
                 mp_kernels_check(MP_ISA_AVX2, MP_BF16, head_dim, false, NULL) == 0;
    if (lower) {
        code = mp_isa_select(mp_isa_name(MP_ISA_AVX2), err);
    }
    e->dtype = mp_isa_current() == MP_ISA_REF ? MP_F32 : MP_BF16;
    linear_set_parts(strcmp(e->config->activations, "bf16x2") == 0 ? 2 : 1);
    return code;
}

/* Dense work is on so many of a kind: with parts, the engine itself is as if it were on the first.
 */
static void use_devices(struct mp_engine *e, enum mp_device_kind kind)
{
    struct mp_placements *p = &e->graph.placements;
    p->num_devices = e->config->parallel == MP_PARALLEL_TENSOR ? 1 : e->config->gpus;
    for (int i = 0; i < p->num_devices; i++) {
        p->devices[i] = (struct mp_device){kind, i};
    }
}

/* No GPU: MP_ERR_USAGE if anything asks for one. Mock ones are CPU workers. */
static int use_cpu(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_config *c = e->config;
    bool mock = strcmp(c->devices, "mock") == 0;
    if (c->gather == MP_GATHER_GPU) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.gather: found gpu, but devices is %s",
                       c->devices);
    }
    if (!mock && c->gpus > 1) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.gpus: found %d, but devices is cpu", c->gpus);
    }
    if (mock && c->gpu_memory > 0) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.gpu_memory: mock GPUs have no memory of their own");
    }
    if (mock && c->cpu_workers > 0 && c->cpu_workers < c->gpus) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.cpu_workers: found %d, expected at least %d, which stand for GPUs",
                       c->cpu_workers, c->gpus);
    }
    if (mock) {
        use_devices(e, MP_CPU);
    }
    return 0;
}

/* Whether to use GPUs: MP_ERR_USAGE if some are asked for and there are none, or fewer, or
 * something that they do not do. */
static int choose_devices(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_config *c = e->config;
    bool wanted = strcmp(c->devices, "gpu") == 0;
    struct mp_gpu gpu = {0};
    struct mp_error why;
    int code;
    if (c->parallel == MP_PARALLEL_LAYERS && c->gpus > e->shape->num_hidden_layers) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.gpus: found %d, but the model has %d layers",
                       c->gpus, e->shape->num_hidden_layers);
    }
    if (strcmp(c->devices, "cpu") == 0 || strcmp(c->devices, "mock") == 0) {
        return use_cpu(e, err);
    }
    if (mp_isa_current() == MP_ISA_REF || !c->mem_efficient) {
        code = mp_fail(&why, MP_ERR_USAGE, "%s runs on the CPU alone",
                       c->mem_efficient ? "runtime.isa ref" : "mem_efficient 0");
    } else {
        code = mp_runtime_find_gpus(c->gpus, &gpu, &why);
    }
    if (code != 0 && c->gpus > 1) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.gpus: found %d, but %s", c->gpus, why.message);
    }
    if (code != 0 && wanted) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.devices: found gpu, but %s", why.message);
    }
    if (code != 0 && c->gather == MP_GATHER_GPU) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.gather: found gpu, but %s", why.message);
    }
    if (code == 0) {
        use_devices(e, MP_GPU);
        e->gpu_free = e->gpu_limit = gpu.free_bytes;
        if (c->gpu_memory > 0 && c->gpu_memory < gpu.free_bytes) {
            e->gpu_limit = c->gpu_memory;
        }
    }
    return 0;
}

/* ---- open, start and close ---- */

int mp_engine_create(const struct mp_config *config, struct mp_model *model,
                     const struct mp_engine_host *host, struct mp_engine **out,
                     struct mp_error *err)
{
    struct mp_engine *e = mp_xcalloc(1, sizeof *e);
    e->host = mp_xmalloc(sizeof *e->host);
    *e->host = *host;
    e->config = config;
    e->model = model;
    e->shape = mp_model_shape(model);
    e->num_ranks = 1;
    e->prefixes = mp_xcalloc(1, sizeof *e->prefixes);
    e->graph = (struct mp_graph){
        .shape = e->shape,
        .weights = &e->weights,
        .placements = {.devices = {{MP_CPU, -1}}, .num_devices = 1},
    };
    int code = choose_eos(e, err);
    if (code == 0) {
        code = choose_kernels(e, err);
        e->graph.blocked_prefill = config->mem_efficient && mp_isa_current() != MP_ISA_REF;
    }
    if (code == 0) {
        code = mp_engine_set_attention(e, config, err);
    }
    if (code == 0) {
        code = choose_devices(e, err);
    }
    if (code == 0 && config->parallel == MP_PARALLEL_TENSOR) {
        code = mp_parts_create(e, err);
    }
    if (code == 0) {
        code = mp_kernels_check(mp_isa_current(), e->dtype, e->shape->head_dim,
                                mp_dense(e).kind == MP_GPU, err);
    }
    if (code != 0) {
        mp_engine_close(e);
        return code;
    }
    if (!mp_has_gpus(e) && (config->gpu_memory > 0 || config->gpu_kv_layers > 0)) {
        mp_log(MP_LOG_WARNING,
               "runtime.gpu_memory and runtime.gpu_kv_layers have no effect: no GPU is used");
    }
    if (config->gather != MP_GATHER_AUTO &&
        (mp_dense(e).kind != MP_GPU || mp_engine_kept_layers(e) == 0)) {
        mp_log(MP_LOG_WARNING, "runtime.gather has no effect: %s",
               mp_dense(e).kind != MP_GPU ? "no GPU is used" : "nothing is kept to select from");
    }
    bool keeps_prompts = config->prefix_cache > 0 || config->kv_dir != NULL;
    if (config->prefix_cache == 0 && config->kv_dir != NULL) {
        mp_log(MP_LOG_WARNING, "runtime.kv_dir has no effect: runtime.prefix_cache is 0");
    }
    if (keeps_prompts && e->attention.method->sparse && !e->attention.method->keeps) {
        mp_log(MP_LOG_WARNING,
               "runtime.prefix_cache and runtime.kv_dir have no effect: %s drops tokens of the "
               "prompt",
               e->attention.method->name);
    }
    *out = e;
    return 0;
}

void mp_engine_plan(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                    struct mp_plan *out)
{
    int64_t positions = mp_model_max_positions(e->model) - tokens + 1;
    mp_plan_make(e, tokens, new_tokens < positions ? new_tokens : positions, out);
}

static int start_runtime(struct mp_engine *e, const struct mp_plan *plan, struct mp_error *err)
{
    const int64_t *gpu = plan->bytes[MP_PLAN_GPU];
    const bool mock = mp_dense(e).kind != MP_GPU && mp_has_gpus(e);
    struct mp_runtime_options options = {
        .scheduler = e->config->scheduler,
        .cpu_workers =
            mock && e->config->cpu_workers == 0 ? e->config->gpus : e->config->cpu_workers,
        .threads = e->config->threads,
        .bind = e->config->binding == MP_BIND_CORES,
        .gpus = plan->gpus,
        .gpu_workspace = (size_t)gpu[MP_PLAN_WORKSPACE],
        .gpu_memory = e->gpu_limit - gpu[MP_PLAN_WORKSPACE] - gpu[MP_PLAN_PROCESS],
        .fxt_dir = e->config->fxt_dir,
        .fxt_steps = e->config->fxt_steps,
    };
    return mp_runtime_start(&options, &e->runtime, err);
}

static int load_weights(struct mp_engine *e, struct mp_error *err)
{
    struct mp_allocator a = {.err = err};
    mp_weights_create(e, &a);
    return a.code == 0 ? mp_weights_fill(e, err) : a.code;
}

int mp_engine_set_up_attention(struct mp_engine *e, const struct mp_plan *plan,
                               struct mp_error *err)
{
    struct mp_allocator a = {.err = err};
    mp_engine_place(e, &plan->stages, plan->gpu_kv_layers, &e->graph.placements);
    for (int i = 0; i < e->num_parts && a.code == 0; i++) {
        e->parts[i]->runtime = e->runtime;
        a.code = mp_engine_set_up_attention(e->parts[i], plan, err);
    }
    if (e->parts == NULL && mp_engine_kept_layers(e) > 0 &&
        e->attention.method->create_shared != NULL) {
        e->attention.method->create_shared(&e->attention, &a, mp_memory_of(mp_dense(e)));
    }
    return a.code;
}

int mp_engine_start(struct mp_engine *e, int64_t tokens, int64_t new_tokens, struct mp_error *err)
{
    if (e->base != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "a variant is started with its base");
    }
    if (e->runtime != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "the engine is started already");
    }
    if (new_tokens < 0) {
        return mp_fail(err, MP_ERR_USAGE, "new_tokens: found %lld, expected at least 0",
                       (long long)new_tokens);
    }
    int code = mp_engine_check_length(e, tokens, err);
    if (code != 0) {
        return code;
    }
    struct mp_plan plan;
    code = mp_variants_plan(e, tokens, new_tokens, &plan, err);
    if (code == 0) {
        code = start_runtime(e, &plan, err);
    }
    if (code == 0) {
        code = mp_engine_calibrate(e, err);
    }
    if (code == 0) {
        code = mp_engine_meet_ranks(e, tokens, new_tokens, plan.gpu_kv_layers, err);
    }
    if (code == 0) {
        code = mp_engine_set_up_attention(e, &plan, err);
    }
    if (code == 0) {
        code = load_weights(e, err);
    }
    for (int d = 0; d < MP_PLAN_DEVICES; d++) {
        e->prefixes->budget[d] = plan.bytes[d][MP_PLAN_PREFIXES];
    }
    e->prefixes->planned = tokens;
    if (code == 0 && e->config->kv_dir != NULL && new_tokens > 0 && mp_prefix_is_on(e)) {
        code = mp_kv_folder_open(e, &e->prefixes->folder, err);
    }
    if (code == 0) {
        code = mp_variants_start(e, tokens, new_tokens, err);
    }
    if (code == 0 && !e->lends && new_tokens > 0) {
        code = mp_kv_lock_pages(e, tokens, new_tokens, err);
    }
    if (code == 0) {
        /* Not before the weights are read, by loops over all cores. */
        code = mp_runtime_bind_submitter(e->runtime, err);
    }
    return code;
}

void mp_engine_close(struct mp_engine *e)
{
    if (e == NULL) {
        return;
    }
    if (e->base == NULL) {
        mp_prefix_clear(e);
        free(e->prefixes->model);
        free(e->prefixes->settings);
        free(e->prefixes);
    }
    if (e->attention.shared != NULL) {
        e->attention.method->destroy_shared(&e->attention);
    }
    if (e->base == NULL) {
        mp_weights_destroy(e);
    }
    mp_parts_destroy(e);
    mp_placements_free(&e->graph.placements);
    if (e->base != NULL) {
        mp_variants_remove(e->base, e);
    } else {
        if (e->runtime != NULL) {
            mp_runtime_stop(e->runtime);
            mp_engine_keep_calibration(e);
        }
        mp_model_close(e->model);
        mp_engine_host_release(e->host);
        free(e->host);
        free(e->variants);
        free(e->rank_shards);
    }
    free(e);
}

const char *mp_engine_model(const struct mp_engine *e)
{
    return mp_model_description(e->model);
}

const char *mp_engine_runtime(const struct mp_engine *e)
{
    return mp_runtime_description(e->runtime);
}

void mp_engine_log_workers(const struct mp_engine *e)
{
    mp_log(MP_LOG_INFO, "%s; kernels: %s", mp_engine_runtime(e), mp_engine_kernels(e));
    mp_log(MP_LOG_INFO, "%s", mp_runtime_map(e->runtime));
    if (e->num_ranks > 1) {
        mp_log(MP_LOG_INFO, "%d ranks; a message and its answer take %.0f us", e->num_ranks,
               1e6 * mp_ranks_round_trip(e->graph.ranks));
    }
}

const char *mp_engine_kernels(const struct mp_engine *e)
{
    (void)e; /* one choice for the process */
    bool amx = mp_isa_current() == MP_ISA_AVX512 && mp_cpu_has_amx_bf16();
    return amx ? "avx512 with AMX" : mp_isa_name(mp_isa_current());
}

int mp_engine_vocab_size(const struct mp_engine *e)
{
    return e->shape->vocab_size;
}

bool mp_engine_suggested_sampling(const struct mp_engine *e, struct mp_sampling *out)
{
    return mp_model_sampling(e->model, out);
}

int mp_engine_num_layers(const struct mp_engine *e)
{
    return e->shape->num_hidden_layers;
}

const struct mp_shape *mp_engine_shape(const struct mp_engine *e)
{
    return e->shape;
}

char *mp_engine_fingerprint(const struct mp_engine *e)
{
    const char *activations = e->dtype == MP_F32        ? "f32"
                              : linear_num_parts() == 2 ? "bf16x2"
                                                        : "bf16";
    return mp_xasprintf("%016llx-%s%s", (unsigned long long)mp_model_fingerprint(e->model),
                        activations, e->config->mem_efficient ? "" : "-plain");
}

int64_t mp_engine_gpu_used(const struct mp_engine *e)
{
    struct mp_gpu gpu;
    if (mp_dense(e).kind != MP_GPU || mp_runtime_find_gpus(e->config->gpus, &gpu, NULL) != 0) {
        return 0;
    }
    return e->gpu_free - gpu.free_bytes;
}

void mp_engine_rope(const struct mp_engine *e, int64_t seq_len, struct mp_rope *out)
{
    mp_model_rope(e->model, seq_len, out->inv_freq, &out->scale);
}

int mp_engine_logits(struct mp_engine *e, const int32_t *ids, int64_t count, mp_logits_sink *sink,
                     void *arg, struct mp_error *err)
{
    struct mp_rope rope;
    mp_engine_rope(e, count, &rope);
    struct mp_prefill_options options = {
        .ids = ids, .count = count, .rope = &rope, .sink = sink, .sink_arg = arg};
    struct mp_prefill_run *r;
    int code = mp_prefill_open(e, &options, &r, err);
    if (code != 0) {
        return code;
    }
    while (code == 0 && mp_prefill_units_left(r) > 0) {
        code = mp_prefill_submit_next(r, err);
    }
    if (code == 0) {
        code = mp_prefill_finish(r, err);
    }
    mp_prefill_close(r);
    return code;
}
