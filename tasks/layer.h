/* The data of the task graph, and the insertion of its layers. The pipeline owns these structs and
 * fills them; submission functions only read them and return before the tasks have run, so all of
 * it stays in place until mp_runtime_wait. */
#ifndef MP_TASKS_LAYER_H
#define MP_TASKS_LAYER_H

#include "codelets/common/attention/kv.h"
#include "codelets/common/attention/lsh.h"
#include "codelets/common/task/buffer.h"
#include "codelets/common/task/task.h"
#include "core/base/sampling.h"
#include "core/base/shape.h"
#include "core/machine/share.h"
#include "core/trace/trace.h"

/* The critical path first: what decoding waits for, then what it does not, then prompts. */
enum {
    MP_TABLES_PRIORITY = -2,  /* offload, hashing of keys and table build of a prompt */
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

/* The hash functions. K = 0: no layer is sparse and nothing else is set. */
struct mp_lsh {
    int K;                         /* bits per code */
    int L;                         /* tables */
    struct lsh_weight weight;      /* ln(u + 1e-4) over cos */
    int layers_per_group;          /* consecutive layers that share their W */
    int kv_heads_per_projection;   /* 1: one W per KV head; num_key_value_heads: one for all */
    struct mp_buffer *projections; /* [groups] of [KV heads / kv_heads_per_projection][head_dim]
                                      [K * L] f32 */
};

/* What every submission needs. */
struct mp_graph {
    const struct mp_shape *shape;
    const struct mp_model_weights *weights;
    const struct mp_lsh *lsh;
    bool gpu;             /* there is a GPU: all ops run there but those on tables and offloaded KV
                             in CPU memory, and sampling */
    bool blocked_prefill; /* flash prefill attention; false: the plain reference */
    int64_t sink;         /* first tokens of a prompt kept in the static cache */
    int64_t window;       /* last tokens of a prompt kept there */
    /* What lookup and sampled attention are cut into for a layer with its tables in CPU memory, and
     * for one on the GPU: that is a single share. */
    struct mp_shares shares[2];
};

/* ---- one request ---- */

/* KV of one request in one layer. The buffers wrap the structs before them. */
struct mp_layer_kv {
    bool sparse;           /* false: `fixed` holds every token, the rest is empty */
    enum mp_place place;   /* of offloaded and tables: GPU, or CPU memory */
    struct kv_cache fixed; /* static cache, or the whole KV of a dense layer (there the
                              mean subtracted from the keys is 0) */
    struct offloaded_kv offloaded;
    struct lsh_tables tables;
    struct mp_buffer fixed_buffer;
    struct mp_buffer offloaded_buffer;
    struct mp_buffer tables_buffer;
};

/* RoPE of a request at its present length. */
struct mp_rope {
    float inv_freq[MP_MAX_HEAD_DIM / 2]; /* [head_dim / 2] radians per token */
    float scale;                         /* factor on cos and sin */
};

/* ---- prefill of one request ---- */

/* One chunk of the prompt: its residual stream, and its view of the two staging areas. */
struct mp_prefill_chunk {
    int64_t first;                      /* position of its first token */
    int64_t rows;                       /* tokens */
    struct mp_buffer ids;               /* [rows] int32 */
    struct mp_buffer x;                 /* [rows][hidden_size] f32 */
    struct kv_cache staging[2];         /* K and V of the whole prompt; even and odd layers
                                           alternate, so that offload runs under the next layer */
    struct mp_buffer staging_buffer[2]; /* wrap staging[]: this chunk's part of the area */
};

struct mp_prefill {
    int request;    /* index, for traces */
    int64_t tokens; /* of the prompt */
    int num_chunks;
    struct mp_prefill_chunk *chunks; /* [num_chunks] */
    struct mp_buffer
        q[2]; /* [rows of the longest chunk][num_attention_heads][head_dim], by chunk parity */
    struct mp_buffer o[2];  /* the same */
    struct mp_buffer codes; /* [num_kv_heads][L][offloaded] u16 of the keys */
    struct mp_layer_kv *kv; /* [num_hidden_layers] of the request; NULL: only logits are
                               wanted, nothing is kept */
    const struct mp_rope *rope;
    bool last_row_only; /* only the last token's logits are wanted: the last layer
                           skips attention and FFN of every other row */
};

/* x of every chunk from its ids. */
int mp_submit_prefill_embed(const struct mp_graph *g, const struct mp_prefill *p,
                            struct mp_error *err);

/* One chunk in one decoder layer: projection, prefill_attention, output, ffn. The chunks of a layer
 * come in order, all before the next layer's. */
int mp_submit_prefill_chunk(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                            int chunk, struct mp_error *err);

/* After a layer's last chunk, what decoding needs of it: offload and, in a sparse layer, hashing
 * and table_build, at a lower priority, so that they run under the next layer. */
int mp_submit_prefill_keep(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                           struct mp_error *err);

/* Of that, hashing and table_build, for a layer whose offloaded keys are in place. */
int mp_submit_prefill_tables(const struct mp_graph *g, const struct mp_prefill *p, int layer,
                             struct mp_error *err);

/* Logits of rows [first_row, first_row + rows) of a chunk into logits [rows][vocab_size]. */
int mp_submit_prefill_logits(const struct mp_graph *g, const struct mp_prefill *p, int chunk,
                             int64_t first_row, int64_t rows, const struct mp_buffer *logits,
                             struct mp_error *err);

/* ---- decode of a micro-batch ---- */

/* What a share writes: the part of its heads in the arrays of all heads. Every share wraps these
 * arrays in handles of its own, so that none waits for another. Two layers never use them at the
 * same time, even if one is on the GPU: each begins with a projection, which waits for the end of
 * the one before. */
struct mp_step_share {
    struct mp_buffer selection;   /* struct lsh_selection */
    struct mp_buffer *nnz;        /* [num_hidden_layers] of [max_rows][num_attention_heads] i32 */
    struct mp_buffer o_sampled;   /* [max_rows][num_attention_heads][head_dim] f32 */
    struct mp_buffer lse_sampled; /* [max_rows][num_attention_heads] f32 */
};

/* Activations of up to max_rows requests, reused by every layer and step. */
struct mp_step_buffers {
    struct mp_buffer ids;    /* [max_rows] int32: tokens to feed, then the ones sampled */
    struct mp_buffer x;      /* [max_rows][hidden_size] f32 */
    struct mp_buffer q;      /* [max_rows][num_attention_heads][head_dim] f32 */
    struct mp_buffer q_host; /* the same where the CPU attends for the GPU; else not there */
    struct mp_buffer codes;  /* [max_rows][num_attention_heads][L] u16 */
    /* Room for what a lookup selects, on the CPU and on the GPU: each layer uses the one where its
     * tables are. */
    struct lsh_selection selection[2];
    struct mp_buffer *nnz;       /* [num_hidden_layers] of [max_rows][num_attention_heads] i32 */
    struct mp_buffer o_static;   /* as q */
    struct mp_buffer lse_static; /* [max_rows][num_attention_heads] f32 */
    struct mp_buffer o_sampled;
    struct mp_buffer lse_sampled;
    /* [shares of the graph] wrap selection[], nnz, o_sampled and lse_sampled, for the tasks. */
    struct mp_step_share *shares[2];
    struct mp_buffer logits; /* [max_rows][vocab_size] f32 */
};

/* One request in a step. */
struct mp_decode_row {
    struct mp_layer_kv *kv; /* [num_hidden_layers] */
    const struct mp_rope *rope;
    int64_t position;    /* of the token fed in: RoPE, and its slot in dense caches */
    int64_t fixed_index; /* its slot in the static caches of sparse layers */
    const struct mp_sampling *sampling; /* how its next token is drawn */
    struct mp_rng *rng;
    const double *expected_nnz; /* [num_hidden_layers] tokens the last step selected, all heads */
};

struct mp_decode_step {
    int micro_batch; /* index, for traces */
    int num_rows;
    const struct mp_decode_row *rows; /* [num_rows] */
    const struct mp_step_buffers *buffers;
};

/* ids -> x. */
int mp_submit_decode_embed(const struct mp_graph *g, const struct mp_decode_step *s,
                           struct mp_error *err);

/* projection -> hashing -> table_lookup -> sampled_attention, static_attention beside the last
 * two, then output -> ffn. */
int mp_submit_decode_layer(const struct mp_graph *g, const struct mp_decode_step *s, int layer,
                           struct mp_error *err);

/* x -> logits -> ids. */
int mp_submit_decode_sample(const struct mp_graph *g, const struct mp_decode_step *s,
                            struct mp_error *err);

/* ---- shared by both ---- */

struct sample_row; /* codelets/sample/sample.h */

int mp_submit_embed(const struct mp_graph *g, enum mp_where where, int priority,
                    const struct mp_buffer *ids, const struct mp_buffer *x, int64_t rows,
                    const struct mp_span_info *about, struct mp_error *err);
int mp_submit_ffn(const struct mp_graph *g, enum mp_where where, int priority, int layer,
                  const struct mp_buffer *x, int64_t first_row, int64_t rows,
                  const struct mp_span_info *about, struct mp_error *err);
int mp_submit_lm_head(const struct mp_graph *g, int priority, const struct mp_buffer *x,
                      int64_t first_row, int64_t rows, const struct mp_buffer *logits,
                      const struct mp_span_info *about, struct mp_error *err);
int mp_submit_sample(const struct mp_graph *g, const struct mp_buffer *logits,
                     const struct mp_buffer *ids, int priority, const struct sample_row *row,
                     int64_t rows, const struct mp_span_info *about, struct mp_error *err);

/* W of a layer's hash functions. */
static inline const struct mp_buffer *mp_lsh_projection(const struct mp_lsh *lsh, int layer)
{
    return &lsh->projections[layer / lsh->layers_per_group];
}

#endif
