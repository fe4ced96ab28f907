/* The engine: a model in memory and the runtime it runs on. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/machine/cpu.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- which layers are sparse ---- */

static int mark_sparse_layers(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_config *c = e->config;
    int layers = e->shape->num_hidden_layers;
    e->sparse = mp_xcalloc((size_t)layers, sizeof *e->sparse);
    for (int l = 0; l < layers; l++) {
        e->sparse[l] = c->lsh_K > 0;
    }
    for (int i = 0; i < c->num_cache_layers; i++) {
        int l = c->cache_layers[i];
        if (l >= layers) {
            return mp_fail(err, MP_ERR_USAGE,
                           "cache_layers: found layer %d, but the model has layers 0 to %d", l,
                           layers - 1);
        }
        e->sparse[l] = false;
    }
    for (int l = 0; l < layers; l++) {
        e->num_sparse_layers += e->sparse[l];
    }
    return 0;
}

static void choose_eos(struct mp_engine *e)
{
    if (e->config->num_eos >= 0) {
        e->eos = e->config->eos;
        e->num_eos = e->config->num_eos;
    } else {
        e->eos = mp_model_eos(e->model, &e->num_eos);
    }
}

/* ---- devices ---- */

/* Whether to use a GPU: MP_ERR_USAGE if one is asked for and there is none, or something that it
 * does not do. */
static int choose_devices(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_config *c = e->config;
    bool wanted = strcmp(c->devices, "gpu") == 0;
    struct mp_gpu gpu = {0};
    struct mp_error why;
    int code;
    e->sampled_place = mp_xcalloc((size_t)e->shape->num_hidden_layers, sizeof *e->sampled_place);
    if (strcmp(c->devices, "cpu") == 0) {
        return 0;
    }
    if (mp_isa_current() == MP_ISA_REF || !c->mem_efficient) {
        code = mp_fail(&why, MP_ERR_USAGE, "%s runs on the CPU alone",
                       c->mem_efficient ? "runtime.isa ref" : "mem_efficient 0");
    } else {
        code = mp_runtime_find_gpu(&gpu, &why);
    }
    if (code != 0 && wanted) {
        return mp_fail(err, MP_ERR_USAGE, "runtime.devices: found gpu, but %s", why.message);
    }
    if (code == 0) {
        e->dense_place = MP_PLACE_GPU;
        e->gpu_free = e->gpu_limit = gpu.free_bytes;
        if (c->gpu_memory > 0 && c->gpu_memory < gpu.free_bytes) {
            e->gpu_limit = c->gpu_memory;
        }
    }
    return 0;
}

/* The KV and tables of the first sparse layers are on the GPU, of as many as the plan says. */
static void place_layers(struct mp_engine *e, int gpu_kv_layers)
{
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        bool on_gpu = e->sparse[l] && gpu_kv_layers > 0;
        gpu_kv_layers -= on_gpu;
        e->sampled_place[l] = on_gpu ? MP_PLACE_GPU : MP_PLACE_HOST;
    }
}

enum mp_place mp_shared_place(const struct mp_engine *e)
{
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        if (e->sparse[l] && e->sampled_place[l] != MP_PLACE_GPU) {
            return MP_PLACE_PINNED;
        }
    }
    return e->dense_place;
}

/* ---- open, start and close ---- */

int mp_engine_create(const struct mp_config *config, struct mp_model *model,
                     const struct mp_engine_host *host, struct mp_engine **out,
                     struct mp_error *err)
{
    struct mp_engine *e = mp_xcalloc(1, sizeof *e);
    e->host = *host;
    e->config = config;
    e->model = model;
    e->shape = mp_model_shape(model);
    choose_eos(e);
    int code = mp_isa_select(config->isa, err);
    if (code == 0) {
        e->dtype = mp_isa_current() == MP_ISA_REF ? MP_F32 : MP_BF16;
        code = mark_sparse_layers(e, err);
    }
    if (code == 0) {
        code = choose_devices(e, err);
    }
    if (code != 0) {
        mp_engine_close(e);
        return code;
    }
    if (e->dense_place != MP_PLACE_GPU && (config->gpu_memory > 0 || config->gpu_kv_layers > 0)) {
        mp_log(MP_LOG_WARNING,
               "runtime.gpu_memory and runtime.gpu_kv_layers have no effect: no GPU is used");
    }
    e->graph = (struct mp_graph){
        .gpu = e->dense_place == MP_PLACE_GPU,
        .shape = e->shape,
        .weights = &e->weights,
        .lsh = &e->lsh,
        .blocked_prefill = config->mem_efficient,
        .sink = config->device_budget - config->window_size,
        .window = config->window_size,
    };
    *out = e;
    return 0;
}

void mp_engine_plan(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                    struct mp_plan *out)
{
    int64_t positions = mp_model_max_positions(e->model) - tokens + 1;
    mp_plan_make(
        &(struct mp_plan_run){
            .config = e->config,
            .shape = e->shape,
            .sparse_layers = e->num_sparse_layers,
            .dtype = e->dtype,
            .tokens = tokens,
            .new_tokens = new_tokens < positions ? new_tokens : positions,
            .gpu = e->graph.gpu,
            .gpu_limit = e->gpu_limit,
        },
        out);
}

int mp_engine_start(struct mp_engine *e, int64_t tokens, int64_t new_tokens, struct mp_error *err)
{
    if (e->runtime != NULL) {
        return mp_fail(err, MP_ERR_USAGE, "the engine is started already");
    }
    struct mp_plan plan;
    mp_engine_plan(e, tokens, new_tokens, &plan);
    int code = mp_plan_check(&plan, e->config, err);
    place_layers(e, plan.gpu_kv_layers);
    if (code == 0) {
        const int64_t *gpu = plan.bytes[MP_PLAN_GPU];
        struct mp_runtime_options options = {
            .scheduler = e->config->scheduler,
            .cpu_workers = e->config->cpu_workers,
            .threads = e->config->threads,
            .bind = e->config->binding == MP_BIND_CORES,
            .gpu = e->graph.gpu,
            .gpu_workspace = (size_t)gpu[MP_PLAN_WORKSPACE],
            .gpu_memory = e->gpu_limit - gpu[MP_PLAN_WORKSPACE] - gpu[MP_PLAN_PROCESS],
            .fxt_dir = e->config->fxt_dir,
            .fxt_steps = e->config->fxt_steps,
        };
        code = mp_runtime_start(&options, &e->runtime, err);
    }
    if (code == 0) {
        int heads = e->shape->num_key_value_heads;
        mp_runtime_plan_shares(e->runtime, heads, &e->graph.shares[0]);
        mp_shares_plan(NULL, NULL, heads, &e->graph.shares[1]);
        code = mp_engine_calibrate(e, err);
    }
    if (code == 0) {
        code = mp_weights_create(e, err);
    }
    if (code == 0) {
        code = mp_lsh_create(e, err);
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
    if (e->runtime != NULL) {
        mp_lsh_destroy(e);
        mp_weights_destroy(e);
        for (int p = 0; p < 2; p++) {
            mp_shares_free(&e->graph.shares[p]);
        }
        mp_runtime_stop(e->runtime);
        mp_engine_keep_calibration(e);
    }
    mp_model_close(e->model);
    free(e->sparse);
    free(e->sampled_place);
    mp_engine_host_release(&e->host);
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

int mp_engine_num_layers(const struct mp_engine *e)
{
    return e->shape->num_hidden_layers;
}

int64_t mp_engine_gpu_used(const struct mp_engine *e)
{
    struct mp_gpu gpu;
    if (!e->graph.gpu || mp_runtime_find_gpu(&gpu, NULL) != 0) {
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
    return mp_prefill_run(e,
                          &(struct mp_prefill_job){
                              .ids = ids,
                              .count = count,
                              .rope = &rope,
                              .sink = sink,
                              .sink_arg = arg,
                          },
                          err);
}
