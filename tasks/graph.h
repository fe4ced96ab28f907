/* The data of the task graph, and the submission of its layers. The pipeline owns these structs and
 * fills them; submission functions only read them and return before the tasks have run, so all of
 * it stays in place until the tasks' group has been waited for. */
#ifndef MP_TASKS_GRAPH_H
#define MP_TASKS_GRAPH_H

#include "codelets/common/attention/kv.h"
#include "codelets/common/task/task.h"
#include "codelets/sample/sample.h"
#include "core/base/sampling.h"
#include "core/base/shape.h"
#include "tasks/placement.h"

struct mp_attention; /* tasks/methods/method.h */
struct mp_ranks;     /* core/ranks/ranks.h */

/* The critical path first: what decoding waits for, then what it does not, then prompts. */
enum {
    MP_INDEX_PRIORITY = -2,   /* offload of a prompt's layer, and what the method makes of it */
    MP_PREFILL_PRIORITY = -1, /* a prompt's dense work */
    MP_STATIC_PRIORITY = 0,   /* of decoding: static_attention, which output alone waits for */
    MP_DECODE_PRIORITY = 1,   /* of decoding: all else */
};

/* ---- what all requests share ---- */

/* Weight blocks of one decoder layer, laid out by the ops' *_weights_at. */
struct mp_layer_weights {
    struct mp_buffer projection;
    struct mp_buffer output;
    struct mp_buffer ffn;
};

struct mp_model_weights {
    struct mp_buffer embed;          /* [vocab_size][hidden_size] bf16 */
    struct mp_buffer lm_head;        /* the same shape; unused if tied: then embed serves */
    struct mp_buffer final_norm;     /* [hidden_size] f32 */
    struct mp_layer_weights *layers; /* [num_hidden_layers] */
};

/* What every submission needs. Where each of several devices has a part of every layer, of the
 * heads and of the FFN's width, there is one for each of them: its shape says how much it has, its
 * weights are those columns and rows. What such parts have in their residual streams adds up to the
 * model's; each has the same share of it before an op reads it. */
struct mp_graph {
    const struct mp_shape *shape;
    const struct mp_model_weights *weights;
    const struct mp_attention *attention; /* the method that sparse layers follow */
    struct mp_placements placements;      /* of a part: all on its device */
    bool part;                            /* of a layer, beside others; false: all of it */
    struct mp_ranks *ranks; /* among which KV heads are dealt out; NULL: there is one */
    bool blocked_prefill;   /* flash prefill attention; false: the plain reference */
    int64_t sink;           /* first tokens of a prompt kept in the static cache of sparse layers */
    int64_t window;         /* last tokens of a prompt kept there */
    bool center;            /* keys of sparse layers are stored less their mean */
};

/* The matrix of the LM head: the embedding where they are tied. */
static inline const struct mp_buffer *mp_lm_head(const struct mp_graph *g)
{
    return g->shape->tied_embeddings ? &g->weights->embed : &g->weights->lm_head;
}

/* Tokens of a prompt that are kept in the static cache of a sparse layer. */
static inline int64_t mp_static_tokens(const struct mp_graph *g, int64_t tokens)
{
    return tokens < g->sink + g->window ? tokens : g->sink + g->window;
}

/* ---- one request ---- */

/* What is offloaded of one layer, of the KV heads of one shard. */
struct mp_shard_kv {
    struct offloaded_kv offloaded;
    struct mp_buffer offloaded_buffer; /* wraps it */
    struct offloaded_kv leaving;       /* while tokens leave the static cache, these, in it */
    struct mp_buffer leaving_buffer;   /* wraps it; unused where none ever do */
    void *index;                       /* what the method has made of the keys; NULL: nothing */
    struct mp_buffer index_buffer;     /* wraps it; unused without */
};

/* KV of one request in one layer. */
struct mp_layer_kv {
    struct kv_cache static_cache;   /* sink, window and generated tokens, or the whole KV of a dense
                                       layer (there the mean subtracted from the keys is 0) */
    struct mp_buffer static_buffer; /* wraps it */
    int64_t offloaded;          /* tokens that are kept elsewhere: in the shards; of the prompt, and
                                   generated ones that have grown old */
    struct mp_shard_kv *shards; /* [shards of the layer] by KV heads; NULL: there are none. Of a
                                   request that shares a prefix, views of the lender's */
    const struct mp_layer_kv *lender; /* keeps the prompt's prefix, for others too: of a dense layer
                                         the first tokens of its static cache; NULL: nobody, all is
                                         the request's own */
};

/* Room for what a request's steps select for the query heads of one shard. Each layer that is cut
 * so uses it in turn. */
struct mp_selection {
    struct mp_buffer ids; /* [query heads of the shard][room] u32; or [KV heads] for a method
                             with shared rows */
    struct mp_buffer log_weights; /* the same of f32, if the method gives any */
    struct mp_buffer scratch;     /* what the method needs to select; empty if nothing */
    int64_t room;                 /* tokens */
};

/* RoPE of a request at its present length. */
struct mp_rope {
    float inv_freq[MP_MAX_HEAD_DIM / 2]; /* [head_dim / 2] radians per token */
    float scale;                         /* factor on cos and sin */
};

/* ---- prefill of one request ---- */

/* Part of an area for the keys and values of a prompt's layer while it is read. */
struct mp_staging {
    struct kv_cache cache;   /* the area */
    struct mp_buffer buffer; /* wraps it: the part that tasks depend on */
};

/* One chunk of the prompt: its residual stream, and its part of the staging areas. */
struct mp_prefill_chunk {
    int64_t first;              /* position of its first token */
    int64_t rows;               /* tokens */
    struct mp_buffer ids;       /* [rows] int32 */
    struct mp_buffer *x;        /* [devices] of [rows][hidden_size] f32 */
    struct mp_staging *staging; /* [num_areas] */
};

/* What the chunks in the layers of one device use in turn: chunk c number c % chunks_at_once. */
struct mp_prefill_activations {
    struct mp_buffer q[2]; /* [rows of the longest chunk][num_attention_heads][head_dim] f32 */
    struct mp_buffer o[2]; /* the same */
    struct mp_buffer y[2]; /* [rows of the longest chunk][hidden_size] f32: of a part, between
                              attention and FFN; else unused */
};

/* What it takes to make the index of one shard of a layer. Each layer that is cut so uses it in
 * turn. */
struct mp_index_scratch {
    struct offloaded_kv keys;     /* its keys where they are read to be indexed, not rounded to 8
                                     bits; v NULL. k NULL: the offloaded ones serve */
    struct mp_buffer keys_buffer; /* wraps them, if there are any */
    struct mp_buffer work;        /* what else the method needs; empty if nothing */
};

/* What decoding needs of a prompt. */
struct mp_keep {
    int request;            /* index, for traces; -1: none */
    int64_t tokens;         /* of the prompt */
    int64_t shared;         /* the first ones of them, that lenders keep; 0: none. The others go to
                               the static caches */
    struct mp_layer_kv *kv; /* [num_hidden_layers] of the request, filled; NULL: nothing is
                               kept, as where only logits are wanted */
    struct mp_index_scratch **scratch; /* [cuts] -> [shards] */
};

/* Makes a layer of it from the keys and values of all its tokens: offload, and the method's index
 * of what was offloaded. staging [num_staging]: each wraps a struct kv_cache; all of them describe
 * the same memory, not centered. */
void mp_submit_keep(struct mp_submit *sub, const struct mp_graph *g, const struct mp_keep *k,
                    int layer, const struct mp_buffer *const *staging, int num_staging);

struct mp_prefill {
    struct mp_keep keep;
    int num_chunks;
    struct mp_prefill_chunk *chunks; /* [num_chunks] */
    int num_areas; /* of staging, used by the layers in turn. On one device two, so that offload
                      runs under the next layer; on several one a layer, so that chunks follow each
                      other from device to device */
    struct kv_cache *areas; /* [num_areas] K and V of the whole prompt */
    int chunks_at_once; /* that a device works on. One device alone: two, so that tasks of one are
                           ready when the other's end; several: one, so that chunks leave them one
                           by one */
    struct mp_prefill_activations *activations; /* [devices] */
    /* The first tokens of the prompt are not read: a request has kept their KV. */
    int64_t prefix;                 /* tokens; 0: all are read */
    const struct mp_layer_kv *kept; /* [num_hidden_layers] of that request; NULL without prefix */
    struct mp_staging *prefix_staging; /* [num_areas] the prefix's part of them */
    const struct mp_rope *rope;
    bool last_row_only; /* only the last token's logits are wanted: the last layer
                           skips attention and FFN of every other row */
};

/* The same prompt in each of several parts, of which the first one has the ids and the logits. */
struct mp_prefill_parts {
    int count; /* 1: there are none */
    const struct mp_graph *graphs[MP_MAX_GPUS];
    const struct mp_prefill *prefills[MP_MAX_GPUS];
};

/* x of every chunk from its ids. */
void mp_submit_prefill_embed(struct mp_submit *sub, const struct mp_prefill_parts *p);

/* One chunk in one decoder layer: projection, prefill_attention, output, ffn (with parts, peer_mean
 * after both), and, if the next
 * layer is on another device, peer_copy; before the first one, the keys and values of a prefix that
 * is not read are restored. The chunks of a layer come in order; with fewer areas than layers, all
 * before the next layer's. */
void mp_submit_prefill_chunk(struct mp_submit *sub, const struct mp_prefill_parts *p, int layer,
                             int chunk);

/* After a layer's last chunk, what is kept of it (mp_submit_keep), at a lower priority, so that
 * this runs under the next layer. */
void mp_submit_prefill_keep(struct mp_submit *sub, const struct mp_graph *g,
                            const struct mp_prefill *p, int layer);

/* Logits of some rows of a chunk into logits [rows.count][vocab_size] f32. */
void mp_submit_prefill_logits(struct mp_submit *sub, const struct mp_graph *g,
                              const struct mp_prefill *p, int chunk, struct mp_rows rows,
                              const struct mp_buffer *logits);

/* ---- growth of a request ---- */

/* Generated tokens that have grown old leave the static caches of sparse layers. */
struct mp_growth {
    int request;            /* index, for traces */
    struct mp_layer_kv *kv; /* [num_hidden_layers]; leaving is set in the shards */
    int64_t first;          /* slot of the first that leaves */
    int64_t count;          /* tokens that leave */
    int64_t used;           /* slots in use before */
};

/* In a sparse layer: the index of the old tokens, and their place with the offloaded ones. */
void mp_submit_growth(struct mp_submit *sub, const struct mp_graph *g, const struct mp_growth *w,
                      int layer);

/* ---- decode of a micro-batch ---- */

/* What a step exchanges with one shard: arrays of the shard's query heads alone. Of another rank's
 * shard there are only those that it sends: nnz, error, o and lse. Two layers never
 * use them at the same time: each begins with a projection, which waits for the end of the one
 * before. */
struct mp_step_shard {
    const struct mp_buffer *q; /* [max_rows][heads][head_dim] f32: own_q, or the step's q itself
                                  where the shard has all heads and sees it */
    struct mp_buffer own_q;
    struct mp_buffer query;  /* [max_rows][..] what the method makes of the queries */
    struct mp_buffer *nnz;   /* [num_hidden_layers] of [max_rows][heads] i32: tokens selected; of KV
                                heads for a method with shared rows */
    struct mp_buffer *error; /* [num_hidden_layers] of [max_rows][heads] f32: of the output in an
                                observed step, estimated; NULL: the method cannot */
    struct mp_buffer o;      /* as q */
    struct mp_buffer lse;    /* [max_rows][heads] f32 */
};

/* Activations of up to max_rows requests on one device, reused by each of its layers. */
struct mp_dense_buffers {
    struct mp_buffer x;          /* [max_rows][hidden_size] f32 */
    struct mp_buffer y;          /* as x: of a part, between attention and FFN; else unused */
    struct mp_buffer q;          /* [max_rows][num_attention_heads][head_dim] f32 */
    struct mp_buffer o_static;   /* as q */
    struct mp_buffer lse_static; /* [max_rows][num_attention_heads] f32 */
    struct mp_buffer o_shared;   /* as q: of the prefixes that lenders keep, in dense layers */
    struct mp_buffer lse_shared; /* as lse_static */
};

/* All that a step of up to max_rows requests computes, reused by every step. */
struct mp_step_buffers {
    struct mp_buffer ids;           /* [max_rows] int32: tokens to feed, then the ones sampled */
    struct mp_dense_buffers *dense; /* [devices] */
    struct mp_buffer o_merged;      /* [max_rows][num_attention_heads][head_dim] f32: all of a
                                       layer's attention, in an observed step */
    struct mp_buffer lse_merged;    /* [max_rows][num_attention_heads] f32 */
    struct mp_buffer logits;        /* [max_rows][vocab_size] f32 */
    struct mp_step_shard **shards;  /* [cuts] -> [shards] */
};

/* One request in a step. */
struct mp_decode_row {
    struct mp_layer_kv *kv;                 /* [num_hidden_layers] */
    struct mp_selection *const *selections; /* [cuts] -> [shards] */
    const struct mp_rope *rope;
    int64_t position;     /* of the token fed in: RoPE */
    int64_t shared;       /* tokens of the prompt that lenders keep; 0: none */
    int64_t static_index; /* its slot in the static caches of sparse layers; in dense ones it is at
                             position - shared */
    uint64_t stream;      /* separates the request's random numbers from those of others */
    struct sample_row sample;
    bool due;                   /* what the step observes is wanted of it */
    const double *expected_nnz; /* [num_hidden_layers] tokens the last step selected, all heads */
    const int64_t *samples;     /* [num_hidden_layers] tokens that a KV head is to draw, for a
                                   method that draws a number of them */
};

struct mp_decode_step {
    int micro_batch; /* index, for traces */
    int lead; /* added to the priorities of its tasks. Where layers are on several devices, earlier
                 micro-batches go before later ones, so that they leave a device one by one; else
                 0: they take turns, layer by layer */
    int num_rows;
    const struct mp_decode_row *rows; /* [num_rows] */
    const struct mp_step_buffers *buffers;
    bool observe; /* each layer's attention is written down, and its error if the method can tell */
};

/* The same micro-batch in each of several parts, of which the first one has the ids and the
 * logits. */
struct mp_decode_parts {
    int count; /* 1: there are none */
    const struct mp_graph *graphs[MP_MAX_GPUS];
    const struct mp_decode_step *steps[MP_MAX_GPUS];
};

/* Where a layer's activations are. */
static inline const struct mp_dense_buffers *
mp_dense_buffers_of(const struct mp_graph *g, const struct mp_decode_step *s, int layer)
{
    return &s->buffers->dense[g->placements.layers[layer].stage];
}

/* ids -> x of the first device. */
void mp_submit_decode_embed(struct mp_submit *sub, const struct mp_decode_parts *p);

/* projection -> what the method selects by -> sampled_attention -> where there are several ranks,
 * exchange; static_attention beside the last three, then output -> ffn -> if the next layer is on
 * another device, peer_copy. With parts, peer_mean after output and ffn. Returns the bytes that all
 * between projection and output move, by their codelets' estimates. */
double mp_submit_decode_layer(struct mp_submit *sub, const struct mp_decode_parts *p, int layer);

/* x of the last device -> logits -> ids. */
void mp_submit_decode_sample(struct mp_submit *sub, const struct mp_decode_parts *p);

/* Tokens that a layer is expected to select for the heads of one shard, over all rows. */
double mp_expected_nnz(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                       const struct mp_shard *shard);

#endif
