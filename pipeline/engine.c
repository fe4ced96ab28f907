/* The engine: a model in memory and the runtime it runs on. */
#include "pipeline/engine.h"

#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "core/cpu.h"
#include "core/memory.h"
#include "pipeline/internal.h"

#include <stdlib.h>

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

/* ---- weights ---- */

static int allocate_weights(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_shape *s = e->shape;
    struct mp_model_weights *w = &e->weights;
    size_t matrix = (size_t)s->vocab_size * (size_t)s->hidden_size * sizeof(uint16_t);

    w->layers = mp_xcalloc((size_t)s->num_hidden_layers, sizeof *w->layers);
    int code = mp_buffer_alloc(&w->embed, matrix, "embedding", err);
    if (code == 0 && !s->tied_embeddings) {
        code = mp_buffer_alloc(&w->lm_head, matrix, "LM head", err);
    }
    if (code == 0) {
        code = mp_buffer_alloc(&w->final_norm, (size_t)s->hidden_size * sizeof(float), "final norm",
                               err);
    }
    for (int l = 0; l < s->num_hidden_layers && code == 0; l++) {
        struct mp_layer_weights *layer = &w->layers[l];
        code = mp_buffer_alloc(&layer->projection, projection_weights_at(s, NULL, NULL),
                               "projection weights", err);
        if (code == 0) {
            code = mp_buffer_alloc(&layer->output, output_weights_at(s, NULL, NULL),
                                   "output weights", err);
        }
        if (code == 0) {
            code = mp_buffer_alloc(&layer->ffn, ffn_weights_at(s, NULL, NULL), "FFN weights", err);
        }
    }
    return code;
}

static int load_weights(struct mp_engine *e, struct mp_error *err)
{
    int code = allocate_weights(e, err);
    if (code != 0) {
        return code;
    }
    int layers = e->shape->num_hidden_layers;
    void *projection[layers];
    void *output[layers];
    void *ffn[layers];
    for (int l = 0; l < layers; l++) {
        projection[l] = e->weights.layers[l].projection.host;
        output[l] = e->weights.layers[l].output.host;
        ffn[l] = e->weights.layers[l].ffn.host;
    }
    struct mp_weight_blocks blocks = {
        .embed = e->weights.embed.host,
        .lm_head = e->weights.lm_head.host,
        .final_norm = e->weights.final_norm.host,
        .projection = projection,
        .output = output,
        .ffn = ffn,
    };
    return mp_model_load(e->model, &blocks, err);
}

static void release_weights(struct mp_engine *e)
{
    struct mp_model_weights *w = &e->weights;
    mp_buffer_release(&w->embed);
    mp_buffer_release(&w->lm_head);
    mp_buffer_release(&w->final_norm);
    for (int l = 0; w->layers != NULL && l < e->shape->num_hidden_layers; l++) {
        mp_buffer_release(&w->layers[l].projection);
        mp_buffer_release(&w->layers[l].output);
        mp_buffer_release(&w->layers[l].ffn);
    }
    free(w->layers);
}

/* ---- open, start and close ---- */

int mp_engine_open(const struct mp_config *config, const char *model_dir, struct mp_engine **out,
                   struct mp_error *err)
{
    struct mp_engine *e = mp_xcalloc(1, sizeof *e);
    e->config = config;
    int code = mp_isa_select(config->isa, err);
    if (code == 0) {
        code = mp_model_open(model_dir, &e->model, err);
    }
    if (code == 0) {
        e->shape = mp_model_shape(e->model);
        e->dtype = mp_isa_current() == MP_ISA_REF ? MP_F32 : MP_BF16;
        choose_eos(e);
        code = mark_sparse_layers(e, err);
    }
    if (code != 0) {
        mp_engine_close(e);
        return code;
    }
    e->graph = (struct mp_graph){
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
        },
        out);
}

int mp_engine_start(struct mp_engine *e, const struct mp_plan *plan, struct mp_error *err)
{
    int code = mp_plan_check(plan, e->config, err);
    if (code == 0) {
        struct mp_runtime_options options = {
            .scheduler = e->config->scheduler,
            .cpu_workers = e->config->cpu_workers,
            .threads = e->config->threads,
        };
        code = mp_runtime_start(&options, &e->runtime, err);
    }
    if (code == 0) {
        code = load_weights(e, err);
    }
    if (code == 0) {
        code = mp_lsh_create(e, err);
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
        release_weights(e);
        mp_runtime_stop(e->runtime);
    }
    mp_model_close(e->model);
    free(e->sparse);
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

void mp_engine_rope(const struct mp_engine *e, int64_t seq_len, struct mp_rope *out)
{
    mp_model_rope(e->model, seq_len, out->inv_freq, &out->scale);
    if (e->config->rope_inv_freq == MP_ROPE_BFLOAT16) {
        for (int i = 0; i < e->shape->head_dim / 2; i++) {
            out->inv_freq[i] = mp_bf16_to_f32(mp_f32_to_bf16(out->inv_freq[i]));
        }
    }
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
