/* What the engine's files share: the engine's and a session's insides. */
#ifndef MP_PIPELINE_INTERNAL_H
#define MP_PIPELINE_INTERNAL_H

#include "core/base/rng.h"
#include "core/trace/calibration.h"
#include "models/model.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/host.h"
#include "pipeline/engine/plan.h"
#include "tasks/graph.h"
#include "tasks/methods/method.h"
#include "tasks/runtime.h"

struct mp_segment;   /* pipeline/engine/prefixes/segment.h */
struct mp_kv_folder; /* pipeline/engine/prefixes/kv_folder.h */
struct mp_loading;   /* pipeline/engine/prefixes/prefix_cache.c */

/* The prompts whose KV an engine offers to others. */
struct mp_prefix_cache {
    struct mp_segment *first;        /* a list; NULL: there are none */
    int64_t budget[MP_PLAN_DEVICES]; /* bytes of those that no request uses */
    int64_t planned;                 /* tokens of the longest prompt that there is memory for */
    struct mp_kv_folder *folder;     /* of files for later runs; NULL: there is none */
    struct mp_loading *loading;      /* a file of it, for a prompt to come; NULL: none */
    char *model;                     /* whose prompts these are, for that; NULL without it */
    char *settings;                  /* that what is kept of a prompt depends on; likewise */
    uint64_t uses;                   /* a clock */
};

/* With runtime.parallel tensor an engine has parts: what each of its devices has of every layer,
 * the columns and rows of some heads and of some of the FFN's width. A part is an engine itself, of
 * its own shape, with weights, attention and graph of its own; all else is the whole engine's. */
struct mp_engine {
    struct mp_engine_host *host; /* of the program that it runs in */
    const struct mp_config *config;
    struct mp_model *model;
    const struct mp_shape *shape;
    struct mp_runtime *runtime;
    enum mp_dtype dtype; /* of every cache that is attended as a whole, and of what prompts are read
                            to: bf16, or f32 on the reference path */
    struct mp_model_weights weights;
    struct mp_attention attention;
    int64_t gpu_free;      /* bytes free on a GPU when the engine was opened: on the one that had
                              the least */
    int64_t gpu_limit;     /* bytes of them that may be used, on each */
    struct mp_graph graph; /* of its placements the devices are known at once, the layers' once the
                              engine has started */
    int rank;              /* this process, of .. */
    int num_ranks;         /* .. so many that deal out the KV heads of sparse layers; >= 1 */
    int *rank_shards; /* [num_ranks] shards that each cuts its heads into, where they are on the
                         CPU; NULL before the engine has started */
    struct mp_prefix_cache *prefixes;
    const int32_t *eos; /* [num_eos] end tokens */
    int num_eos;
    struct mp_calibration calibration;
    char *calibration_path;    /* NULL: nothing is kept */
    char *calibration_trouble; /* what is wrong with the machine's own file; NULL: nothing */
    /* Variants have model, weights, runtime, prefixes and host of their base, and neither hold nor
     * free them. */
    struct mp_engine *base;   /* of a variant; NULL: it is none */
    bool lends;               /* it has, or had, variants, whose sessions take its prompts over */
    struct mp_engine **parts; /* [num_parts]; NULL: it has none, or is one */
    int num_parts;
    int part;                    /* number of a part, .. */
    struct mp_engine *whole;     /* .. of this; NULL: it is none */
    struct mp_shape part_shape;  /* of a part, to which its shape points */
    struct mp_engine **variants; /* [num_variants] that are open, in the order of their opening */
    int num_variants;
};

/* An engine for an open model, which it takes over, as it does what *host holds; also after an
 * error. */
int mp_engine_create(const struct mp_config *config, struct mp_model *model,
                     const struct mp_engine_host *host, struct mp_engine **out,
                     struct mp_error *err);

/* RoPE of a request at seq_len tokens. */
void mp_engine_rope(const struct mp_engine *e, int64_t seq_len, struct mp_rope *out);

/* The first device of dense work; the others are of its kind. */
static inline struct mp_device mp_dense(const struct mp_engine *e)
{
    return e->graph.placements.devices[0];
}

/* Whether layers can be placed: dense work is on GPUs, or on CPU workers that stand for them. */
static inline bool mp_has_gpus(const struct mp_engine *e)
{
    return mp_dense(e).index >= 0;
}

/* Its parts, from 0; one without any is its own. */
static inline int mp_num_parts(const struct mp_engine *e)
{
    return e->parts != NULL ? e->num_parts : 1;
}

static inline const struct mp_engine *mp_part(const struct mp_engine *e, int part)
{
    return e->parts != NULL ? e->parts[part] : e;
}

/* Of the layers [parts][num_hidden_layers] of a request, those of a part. */
static inline struct mp_layer_kv *mp_part_layers(const struct mp_engine *part,
                                                 struct mp_layer_kv *layers)
{
    return layers + part->part * part->shape->num_hidden_layers;
}

/* A rank's KV heads of a sparse layer. */
static inline struct mp_kv_heads mp_heads_of_rank(const struct mp_engine *e, int rank)
{
    return mp_kv_heads_of_rank(e->shape->num_key_value_heads, rank, e->num_ranks);
}

/* Whether sessions search for the best number of micro-batches: by the time of their steps, which
 * no two ranks agree on. */
static inline bool mp_searches_micro_batches(const struct mp_engine *e)
{
    return mp_takes_turns(&e->graph.placements) && e->num_ranks == 1;
}

/* Of the keys and values that are offloaded and kept. */
static inline enum mp_dtype mp_offloaded_dtype(const struct mp_engine *e)
{
    return e->config->kv_dtype == MP_KV_INT8 ? MP_I8 : e->dtype;
}

/* ---- place.c ---- */

/* Which device has which layers, in a plan for so many tokens. */
void mp_engine_split(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                     struct mp_stages *out);

/* Places every layer; of those whose offloaded tokens are kept, gpu_kv_layers keep them on their
 * GPU, the first ones of each in proportion. Free with mp_placements_free. */
void mp_engine_place(const struct mp_engine *e, const struct mp_stages *stages, int gpu_kv_layers,
                     struct mp_placements *out);

/* Layers whose offloaded tokens the method keeps: these can be placed. */
int mp_engine_kept_layers(const struct mp_engine *e);

/* ---- engine.c ---- */

/* What a configuration says of attention. MP_ERR_USAGE: it cannot be, with this model. */
int mp_engine_set_attention(struct mp_engine *e, const struct mp_config *config,
                            struct mp_error *err);

/* Places the layers as a plan of this engine says, and makes what the method shares. The runtime
 * has been started. */
int mp_engine_set_up_attention(struct mp_engine *e, const struct mp_plan *plan,
                               struct mp_error *err);

/* ---- parts.c ---- */

/* The parts of an engine whose devices are chosen. MP_ERR_USAGE: it cannot be parted so. */
int mp_parts_create(struct mp_engine *e, struct mp_error *err);

/* Their weights have been destroyed. */
void mp_parts_destroy(struct mp_engine *e);

/* ---- variants.c ---- */

/* The plans of an engine and of its variants, each beside what the engine keeps for them, fit:
 * *out gets the engine's own, its GPUs' workspace large enough for all. MP_ERR_MEMORY. */
int mp_variants_plan(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                     struct mp_plan *out, struct mp_error *err);

/* A variant is closed. */
void mp_variants_remove(struct mp_engine *e, const struct mp_engine *variant);

/* Starts the variants of an engine that has been started for so many tokens. */
int mp_variants_start(struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                      struct mp_error *err);

/* ---- plan.c ---- */

/* A copy of the engine that holds nothing, placed as a plan wants it. Free its placements with
 * mp_placements_free. */
void mp_plan_place(const struct mp_engine *e, const struct mp_stages *stages, int gpu_kv_layers,
                   struct mp_engine *out);

/* Parts bytes by kind of memory between the devices. */
void mp_plan_by_device(const int64_t counted[MP_MEMORIES], int64_t out[MP_PLAN_DEVICES]);

/* ---- ranks.c ---- */

/* All ranks say how they cut their heads, and that they run the same: their plans are for so many
 * tokens. MP_ERR_USAGE says what differs. The runtime has been started. */
int mp_engine_meet_ranks(struct mp_engine *e, int64_t tokens, int64_t new_tokens, int gpu_kv_layers,
                         struct mp_error *err);

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

/* Allocates the weights, and frees them. */
void mp_weights_create(struct mp_engine *e, struct mp_allocator *a);
void mp_weights_destroy(struct mp_engine *e);

/* Bytes of those of a layer, and of the embedding or the LM head. */
int64_t mp_weights_layer_bytes(const struct mp_engine *e);
int64_t mp_weights_matrix_bytes(const struct mp_engine *e);

/* Bytes of the largest block of them: through as much CPU memory they reach a GPU. */
size_t mp_weights_largest_block(const struct mp_engine *e);

/* Reads them from the model's files, or draws them if it has none. */
int mp_weights_fill(struct mp_engine *e, struct mp_error *err);

/* ---- prefix_cache.c ---- */

/* What requests allocate with: before there is no memory for one, past prompts that no request uses
 * make room. */
struct mp_allocator mp_request_allocator(const struct mp_engine *e, struct mp_error *err);

/* ---- kv.c ---- */

/* Where the cache of a layer is that is attended as a whole: with the layer's dense device, which
 * in an engine with variants only writes it: its prompts are taken over by sessions of those. */
static inline struct mp_place mp_cache_place(const struct mp_engine *e, int layer)
{
    return e->lends && mp_dense(e).kind == MP_GPU
               ? MP_PINNED
               : mp_memory_of(e->graph.placements.layers[layer].dense);
}

/* A cache of capacity tokens; centered: with key means, 0 at first. */
void mp_kv_cache_create(const struct mp_engine *e, struct mp_allocator *a, struct mp_place place,
                        struct kv_cache *cache, int64_t capacity, bool centered);
void mp_kv_cache_destroy(struct mp_place place, struct kv_cache *cache);

/* Makes room for `tokens` tokens in a layer's cache that holds `used`, keeping them. Only between
 * tasks. MP_ERR_MEMORY or MP_ERR_RUNTIME: it is as it was. */
int mp_kv_cache_reserve(const struct mp_engine *e, int layer, struct kv_cache *cache, int64_t used,
                        int64_t tokens, struct mp_error *err);

/* The parts of one layer's KV, zeroed at first, of a request of `tokens` prompt tokens: the cache
 * that is attended as a whole; what is offloaded, with room for `growth` tokens more; the method's
 * index of that. In this order. */
void mp_kv_create_static(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                         int layer, int64_t tokens, int64_t growth);
void mp_kv_create_offloaded(const struct mp_engine *e, struct mp_allocator *a,
                            struct mp_layer_kv *kv, int layer, int64_t tokens, int64_t growth);
void mp_kv_create_index(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                        int layer);

/* All of them. MP_ERR_MEMORY: what there is of them is to be destroyed. */
int mp_kv_create_layer(const struct mp_engine *e, struct mp_layer_kv *kv, int layer, int64_t tokens,
                       int64_t growth, struct mp_error *err);
void mp_kv_destroy_layer(const struct mp_engine *e, struct mp_layer_kv *kv, int layer);
/* Every layer's of every part, and the array itself; NULL is fine. */
void mp_kv_destroy(const struct mp_engine *e, struct mp_layer_kv *kv);

/* The offloaded part alone, of kv->offloaded tokens, of a layer that has one. */
void mp_kv_create_shards(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                         int layer, int64_t growth);

/* Empty layers of a request, [parts][num_hidden_layers]; mp_kv_destroy. */
struct mp_layer_kv *mp_kv_layers(const struct mp_engine *e);

/* Makes and frees what one request of a plan offloads to memory that is locked for the GPU, so that
 * it is there when the first one comes. MP_ERR_MEMORY. */
int mp_kv_lock_pages(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                     struct mp_error *err);

/* What a method has to know to say how large its parts of a shard are, of so many offloaded
 * tokens. */
struct mp_shard_size mp_kv_shard_size(const struct mp_engine *e, const struct mp_shard *shard,
                                      int64_t offloaded);

/* Tokens that all heads of a layer are expected to select of so many together, before a step has
 * told. */
double mp_expected_selected(const struct mp_engine *e, int64_t offloaded);

/* Room for what the steps of a request select: [cuts] -> [shards]. */
struct mp_selection **mp_selections_create(const struct mp_engine *e, struct mp_allocator *a,
                                           int64_t offloaded);
void mp_selections_destroy(const struct mp_engine *e, struct mp_selection **s);

/* ---- kv_count.c ---- */

/* Counts the static cache of a layer, of a request of `tokens` prompt tokens, when it has generated
 * new_tokens. */
void mp_kv_count_static(const struct mp_engine *e, struct mp_allocator *a, int layer,
                        int64_t tokens, int64_t new_tokens);

/* Likewise that of a request that shares a prefix in place, at most. */
void mp_kv_count_borrower(const struct mp_engine *e, struct mp_allocator *a, int layer,
                          int64_t new_tokens);

/* Likewise the largest cache that grows meanwhile, on each device: until it is copied there are two
 * of it. One at a time grows, of all requests. */
void mp_kv_count_growing(const struct mp_engine *e, struct mp_allocator *a, int64_t tokens,
                         int64_t new_tokens);

/* Counts all that a layer keeps of such a request. */
void mp_kv_count_layer(const struct mp_engine *e, struct mp_allocator *a, int layer, int64_t tokens,
                       int64_t new_tokens);

/* Bytes that the KV of a request takes, when it has generated new_tokens. */
void mp_kv_count(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                 int64_t bytes[MP_PLAN_DEVICES]);

/* Bytes that layers [num_hidden_layers] take by themselves, as they are. */
void mp_kv_count_held(const struct mp_engine *e, const struct mp_layer_kv *layers,
                      int64_t bytes[MP_PLAN_DEVICES]);

/* ---- growth.c ---- */

/* Tokens that leave the static caches of a request of `tokens` prompt tokens, while it generates up
 * to new_tokens; 0 if the method wants generated tokens to stay. */
int64_t mp_kv_growth(const struct mp_engine *e, int64_t tokens, int64_t new_tokens);

/* Slots of a sparse layer's static cache that are in use when tokens leave it. */
int64_t mp_kv_static_limit(const struct mp_engine *e);

/* ---- prefill.c ---- */

struct mp_prefix;

/* A prefill under way, in units of one chunk in one layer. Where it goes layer by layer, there is
 * nothing between two of them in the room that it works in. */
struct mp_prefill_run;

/* A prompt to read. */
struct mp_prefill_options {
    int request;        /* index, for traces */
    const int32_t *ids; /* [count] the prompt */
    int64_t count;
    struct mp_layer_kv *kv; /* [parts][num_hidden_layers] filled; NULL: nothing is kept */
    int64_t growth;         /* tokens that there is to be room for behind the offloaded ones */
    const struct mp_prefix *prefix; /* its first tokens, which are not read; NULL: all are */
    const struct mp_rope *rope;
    const struct mp_buffer *last_logits; /* gets [1][vocab_size] of the last token, or NULL */
    int64_t *read_tokens;                /* gets how many tokens have been read, or NULL */
    mp_logits_sink *sink;                /* gets every row's logits, or NULL */
    void *sink_arg;
    struct mp_prefill_run *interrupted; /* a prompt that lets it in: it works in the other's room,
                                           which goes on once this one is closed; NULL: in its own
                                         */
};

/* Allocates what it takes, the KV aside: that comes layer by layer with the units. *options is
 * copied. MP_ERR_MEMORY, MP_ERR_RUNTIME. */
int mp_prefill_open(const struct mp_engine *e, const struct mp_prefill_options *options,
                    struct mp_prefill_run **out, struct mp_error *err);

/* What a prompt works in while a layer is computed. */
struct mp_prefill_room {
    int num_areas; /* this and what follows as in struct mp_prefill */
    struct kv_cache *areas;
    int chunks_at_once;
    struct mp_prefill_activations *activations;
    int64_t rows; /* of a chunk that there is room for */
    int users;    /* prompts that are in turn read in it */
};

/* A room for `tokens` tokens, in chunks of up to `rows`; the plan counts it. */
void mp_prefill_room_create(const struct mp_engine *e, struct mp_allocator *a,
                            struct mp_prefill_room *room, int64_t tokens, int64_t rows);
void mp_prefill_room_destroy(const struct mp_engine *e, struct mp_prefill_room *room);

/* What else a prefill of `count` tokens takes in a room, of which the first p->prefix are not read;
 * the plan counts it. indexes: what is offloaded is kept and indexed. */
void mp_prefill_create_buffers(const struct mp_engine *e, struct mp_allocator *a,
                               struct mp_prefill *p, const struct mp_prefill_room *room,
                               int64_t count, bool indexes);
void mp_prefill_destroy_buffers(const struct mp_engine *e, struct mp_prefill *p);

/* Whether, at the end of a layer, it lets in a prompt of `count` tokens, of which `own` are not
 * another one's: one that is short beside it, unless more has been read of others than of itself.
 * Never on several devices, where it goes chunk by chunk. */
bool mp_prefill_lets_in(const struct mp_prefill_run *r, int64_t count, int64_t own);

/* ---- index_scratch.c ---- */

/* What it takes to make an index of so many offloaded tokens: [cuts] -> [shards]. */
struct mp_index_scratch **mp_index_scratch_create(const struct mp_engine *e, struct mp_allocator *a,
                                                  int64_t offloaded);
void mp_index_scratch_destroy(const struct mp_engine *e, struct mp_index_scratch **scratch);

/* Units not yet submitted; and those to the end of a layer, of the next one if it is at the end. */
int mp_prefill_units_left(const struct mp_prefill_run *r);
int mp_prefill_units_to_end(const struct mp_prefill_run *r);

/* Whether the next unit is a layer's first. */
bool mp_prefill_is_between_layers(const struct mp_prefill_run *r);

/* Submits the next unit. MP_ERR_MEMORY: none for the layer's KV; MP_ERR_RUNTIME. */
int mp_prefill_submit(struct mp_prefill_run *r, struct mp_error *err);

/* Submits the next unit, waits until no more than two layers of units, or two units, are under way,
 * and reports progress; MP_ERR_INTERRUPTED if the program asks to stop. The program's callbacks are
 * called. */
int mp_prefill_submit_next(struct mp_prefill_run *r, struct mp_error *err);

/* Waits for the units submitted so far; or as mp_prefill_submit_next does. */
void mp_prefill_wait(struct mp_prefill_run *r);
int mp_prefill_catch_up(struct mp_prefill_run *r, struct mp_error *err);

/* After the last unit: waits, and computes the logits that the options ask for. MP_ERR_MEMORY,
 * MP_ERR_RUNTIME, or what the sink returns. */
int mp_prefill_finish(struct mp_prefill_run *r, struct mp_error *err);

/* Waits for its tasks and frees everything but the KV. NULL is fine. */
void mp_prefill_close(struct mp_prefill_run *r);

/* ---- synthetic.c ---- */

/* Allocates and fills the KV and the index of a request of `tokens` prompt tokens, with room for
 * `growth` more, without reading its prompt: random keys and values. With sampled > 0, the queries
 * of random weights meet about that share of the offloaded keys; MP_ERR_USAGE says which shares can
 * be had. sampled 0: keys of any direction. nearest: a share that cannot be had is replaced by the
 * nearest one. */
int mp_synthetic_fill(const struct mp_engine *e, struct mp_layer_kv *kv, int64_t tokens,
                      int64_t growth, double sampled, bool nearest, struct mp_error *err);

/* ---- step_buffers.c ---- */

/* Of a micro-batch of up to `rows` requests. *out stays in place. */
void mp_step_buffers_create(const struct mp_engine *e, struct mp_allocator *a, int rows,
                            struct mp_step_buffers *out);
void mp_step_buffers_destroy(const struct mp_engine *e, struct mp_step_buffers *b);

#endif
