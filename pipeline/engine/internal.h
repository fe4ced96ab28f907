/* What the pipeline's files share: the engine's and a session's insides. */
#ifndef MP_PIPELINE_INTERNAL_H
#define MP_PIPELINE_INTERNAL_H

#include "core/base/rng.h"
#include "core/trace/calibration.h"
#include "models/model.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/host.h"
#include "pipeline/engine/plan.h"
#include "tasks/layer.h"
#include "tasks/runtime.h"

struct mp_engine {
    struct mp_engine_host host; /* of the program that it runs in */
    const struct mp_config *config;
    struct mp_model *model;
    const struct mp_shape *shape;
    struct mp_runtime *runtime;
    enum mp_dtype dtype; /* of every cache: bf16, or f32 on the reference path */
    struct mp_model_weights weights;
    struct mp_lsh lsh;
    bool *sparse; /* [num_hidden_layers] */
    int num_sparse_layers;
    enum mp_place dense_place;    /* of weights, activations and static caches: GPU or host */
    enum mp_place *sampled_place; /* [num_hidden_layers] of offloaded KV and tables */
    int64_t gpu_free;             /* bytes free on the GPU when the engine was opened */
    int64_t gpu_limit;            /* bytes of them that may be used */
    struct mp_graph graph;
    const int32_t *eos; /* [num_eos] end tokens */
    int num_eos;
    struct mp_calibration calibration;
    char *calibration_path;    /* NULL: nothing is kept */
    char *calibration_trouble; /* what is wrong with the machine's own file; NULL: nothing */
};

/* An engine for an open model, which it takes over, as it does what *host holds; also after an
 * error. */
int mp_engine_create(const struct mp_config *config, struct mp_model *model,
                     const struct mp_engine_host *host, struct mp_engine **out,
                     struct mp_error *err);

/* RoPE of a request at seq_len tokens. */
void mp_engine_rope(const struct mp_engine *e, int64_t seq_len, struct mp_rope *out);

/* ---- calibrate.c ---- */

/* Estimates tasks from the rates that runtime.calibration names. The runtime is started, and no
 * task submitted yet. Fails for a path of the user's that cannot be read, or never written. */
int mp_engine_calibrate(struct mp_engine *e, struct mp_error *err);

/* If the policy asked for estimates: says where they came from, and keeps what the run has
 * measured; warns of trouble with either. The runtime has stopped. */
void mp_engine_keep_calibration(struct mp_engine *e);

/* ---- weights.c ---- */

/* Rotation pairs of each head that the queries of a model with random weights lie in. */
enum { MP_QUERY_PAIRS = 4 };

/* Allocates the weights and reads them from the model's files, or draws them if it has none. */
int mp_weights_create(struct mp_engine *e, struct mp_error *err);
void mp_weights_destroy(struct mp_engine *e);

/* ---- lsh.c ---- */

/* Draws the hash functions the configuration asks for. */
int mp_lsh_create(struct mp_engine *e, struct mp_error *err);
void mp_lsh_destroy(struct mp_engine *e);

/* ---- kv.c ---- */

/* Allocates one layer of the KV [num_hidden_layers], zeroed at first, of a request of `tokens`
 * prompt tokens. */
int mp_kv_create_layer(const struct mp_engine *e, struct mp_layer_kv *kv, int layer, int64_t tokens,
                       struct mp_error *err);
void mp_kv_destroy(const struct mp_engine *e, struct mp_layer_kv *kv);

/* Makes room for `tokens` tokens in a cache that holds `used`, keeping them. Only between tasks. */
int mp_kv_cache_reserve(struct kv_cache *cache, const struct mp_engine *e, int64_t used,
                        int64_t tokens, struct mp_error *err);

/* A cache of capacity tokens where the dense work is; centered: with key means, 0 at first. */
int mp_kv_cache_create(struct kv_cache *cache, const struct mp_engine *e, int64_t capacity,
                       bool centered, struct mp_error *err);
void mp_kv_cache_destroy(struct kv_cache *cache, const struct mp_engine *e);

/* Where q, codes and the sampled parts of a step live, and the codes of keys: in memory that both
 * see unless all sampled work is on the GPU. */
enum mp_place mp_shared_place(const struct mp_engine *e);

/* Where the offloaded KV of a layer is whose tables are at `place`: in CPU memory it is written by
 * the GPU, if there is one. */
static inline enum mp_place mp_offloaded_place(enum mp_place place)
{
    return place == MP_PLACE_HOST ? MP_PLACE_PINNED : place;
}

/* Tokens of a prompt that a sparse layer keeps in its static cache, and the rest. */
static inline int64_t mp_fixed_tokens(const struct mp_graph *g, int64_t tokens)
{
    return tokens < g->sink + g->window ? tokens : g->sink + g->window;
}

/* ---- prefill.c ---- */

struct mp_prefill_job {
    int request;        /* index, for traces */
    const int32_t *ids; /* [count] the prompt */
    int64_t count;
    struct mp_layer_kv *kv; /* filled; NULL: nothing is kept */
    const struct mp_rope *rope;
    const struct mp_buffer *last_logits; /* gets [1][vocab_size] of the last token, or NULL */
    mp_logits_sink *sink;                /* gets every row's logits, or NULL */
    void *sink_arg;
};

/* A prompt being read, in units of one chunk in one layer. */
struct mp_reader;

/* Allocates what it takes, the KV aside: that comes layer by layer with the units. *job is copied.
 */
int mp_reader_open(const struct mp_engine *e, const struct mp_prefill_job *job,
                   struct mp_reader **out, struct mp_error *err);

/* Units not yet submitted. */
int mp_reader_units_left(const struct mp_reader *r);

/* Submits the next unit. */
int mp_reader_submit(struct mp_reader *r, struct mp_error *err);

/* Submits all that are left, and reports progress; MP_ERR_INTERRUPTED if the program asks to stop.
 */
int mp_reader_submit_all(struct mp_reader *r, struct mp_error *err);

/* After the last unit: waits, and computes the logits the job asks for; last_logits by a task that
 * may still run on return. */
int mp_reader_finish(struct mp_reader *run, struct mp_error *err);

/* Waits for its tasks and frees everything but the job's KV. */
void mp_reader_close(struct mp_reader *run);

/* All of that. */
int mp_prefill_run(const struct mp_engine *e, const struct mp_prefill_job *job,
                   struct mp_error *err);

/* ---- synthetic.c ---- */

/* Allocates and fills the KV and the tables of a request of `tokens` prompt tokens without reading
 * its prompt: random keys and values. With
 * sampled > 0, the queries of random weights meet about that share of the offloaded keys in two
 * tables; MP_ERR_USAGE says which shares can be had. sampled 0: keys of any direction. nearest: a
 * share that cannot be had is replaced by the nearest one. */
int mp_synthetic_fill(const struct mp_engine *e, struct mp_layer_kv *kv, int64_t tokens,
                      double sampled, bool nearest, struct mp_error *err);

/* ---- step_buffers.c ---- */

int mp_step_buffers_create(const struct mp_engine *e, int rows, struct mp_step_buffers *out,
                           struct mp_error *err);
void mp_step_buffers_destroy(const struct mp_engine *e, struct mp_step_buffers *b);

#endif
