/* The engine: a model in memory and the runtime it runs on. */
#include "pipeline/engine.h"

#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "core/cpu.h"
#include "core/memory.h"
#include "pipeline/internal.h"

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

/* ---- weights ---- */

static int allocate_weights(struct mp_engine *e, struct mp_error *err)
{
    const struct mp_shape *s = e->shape;
    struct mp_model_weights *w = &e->weights;
    size_t matrix = (size_t)s->vocab_size * (size_t)s->hidden_size * sizeof(uint16_t);

    w->layers = mp_xcalloc((size_t)s->num_hidden_layers, sizeof *w->layers);
    int code = mp_buffer_alloc(&w->embed, e->dense_place, matrix, "embedding", err);
    if (code == 0 && !s->tied_embeddings) {
        code = mp_buffer_alloc(&w->lm_head, e->dense_place, matrix, "LM head", err);
    }
    if (code == 0) {
        code = mp_buffer_alloc(&w->final_norm, e->dense_place,
                               (size_t)s->hidden_size * sizeof(float), "final norm", err);
    }
    for (int l = 0; l < s->num_hidden_layers && code == 0; l++) {
        struct mp_layer_weights *layer = &w->layers[l];
        code = mp_buffer_alloc(&layer->projection, e->dense_place,
                               projection_weights_at(s, NULL, NULL), "projection weights", err);
        if (code == 0) {
            code = mp_buffer_alloc(&layer->output, e->dense_place, output_weights_at(s, NULL, NULL),
                                   "output weights", err);
        }
        if (code == 0) {
            code = mp_buffer_alloc(&layer->ffn, e->dense_place, ffn_weights_at(s, NULL, NULL),
                                   "FFN weights", err);
        }
    }
    return code;
}

/* Where the model reads a buffer's weights to: the buffer, or for one on the GPU new host memory.
 */
static int loading_memory(const struct mp_buffer *b, void **out, struct mp_error *err)
{
    *out = b->place == MP_PLACE_GPU ? mp_alloc(b->bytes, 1, "weights while loading", err) : b->data;
    return b->handle != NULL && *out == NULL ? MP_ERR_MEMORY : 0;
}

/* Moves weights to the GPU that were read for it. */
static int finish_loading(struct mp_buffer *b, void *from, struct mp_error *err)
{
    return b->place == MP_PLACE_GPU ? mp_buffer_fill(b, from, err) : 0;
}

/* Every buffer of weights: embed, lm_head, final_norm, then three of each layer. */
enum { SHARED_WEIGHTS = 3, LAYER_WEIGHTS = 3 };

static void list_weights(struct mp_engine *e, struct mp_buffer **list)
{
    struct mp_model_weights *w = &e->weights;
    list[0] = &w->embed;
    list[1] = &w->lm_head;
    list[2] = &w->final_norm;
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        struct mp_buffer **layer = list + SHARED_WEIGHTS + LAYER_WEIGHTS * l;
        layer[0] = &w->layers[l].projection;
        layer[1] = &w->layers[l].output;
        layer[2] = &w->layers[l].ffn;
    }
}

static int load_weights(struct mp_engine *e, struct mp_error *err)
{
    int code = allocate_weights(e, err);
    if (code != 0) {
        return code;
    }
    int layers = e->shape->num_hidden_layers;
    int count = SHARED_WEIGHTS + LAYER_WEIGHTS * layers;
    struct mp_buffer *buffers[count];
    void *memory[count];
    list_weights(e, buffers);
    memset(memory, 0, sizeof memory);
    for (int i = 0; i < count && code == 0; i++) {
        code = loading_memory(buffers[i], &memory[i], err);
    }
    void *blocks[LAYER_WEIGHTS][layers];
    for (int i = SHARED_WEIGHTS; i < count; i++) {
        blocks[(i - SHARED_WEIGHTS) % LAYER_WEIGHTS][(i - SHARED_WEIGHTS) / LAYER_WEIGHTS] =
            memory[i];
    }
    if (code == 0) {
        code = mp_model_load(e->model,
                             &(struct mp_weight_blocks){
                                 .embed = memory[0],
                                 .lm_head = memory[1],
                                 .final_norm = memory[2],
                                 .projection = blocks[0],
                                 .output = blocks[1],
                                 .ffn = blocks[2],
                             },
                             err);
    }
    for (int i = 0; i < count; i++) {
        if (code == 0) {
            code = finish_loading(buffers[i], memory[i], err);
        }
        if (buffers[i]->place == MP_PLACE_GPU) {
            mp_free(memory[i]);
        }
    }
    return code;
}

static void release_weights(struct mp_engine *e)
{
    if (e->weights.layers == NULL) {
        return;
    }
    int count = SHARED_WEIGHTS + LAYER_WEIGHTS * e->shape->num_hidden_layers;
    struct mp_buffer *buffers[count];
    list_weights(e, buffers);
    for (int i = 0; i < count; i++) {
        mp_buffer_release(buffers[i]);
    }
    free(e->weights.layers);
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
        e->gpu_limit = gpu.free_bytes;
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
    if (code == 0) {
        code = choose_devices(e, err);
    }
    if (code != 0) {
        mp_engine_close(e);
        return code;
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

int mp_engine_start(struct mp_engine *e, const struct mp_plan *plan, struct mp_error *err)
{
    int code = mp_plan_check(plan, e->config, err);
    place_layers(e, plan->gpu_kv_layers);
    if (code == 0) {
        const int64_t *gpu = plan->bytes[MP_PLAN_GPU];
        struct mp_runtime_options options = {
            .scheduler = e->config->scheduler,
            .cpu_workers = e->config->cpu_workers,
            .threads = e->config->threads,
            .gpu = e->graph.gpu,
            .gpu_workspace = (size_t)gpu[MP_PLAN_WORKSPACE],
            .gpu_memory = e->gpu_limit - gpu[MP_PLAN_WORKSPACE] - gpu[MP_PLAN_PROCESS],
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
    free(e->sampled_place);
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
