/* sampled_attention: attention over selected tokens, each re-weighted by what its selection says.
 * The logit of a token is
 *   z = q.k_c / sqrt(d) + log weight,
 * where the log weight is a number given for each token, or follows from its sampling probability
 * as in MagicPIG (arXiv 2410.16179), equations 5 to 7:
 *   -ln(u(cos) + 1e-4),  cos = q.k_c / (|q| |k_c|);
 * or it is 0.
 *
 * Each query head has a selection of its own, or all query heads of a KV head share one; then each
 * row of K and V is read once for all of them. */
#ifndef MP_CODELETS_SAMPLED_ATTENTION_H
#define MP_CODELETS_SAMPLED_ATTENTION_H

#include "codelets/common/attention/kv.h"
#include "codelets/common/attention/lsh.h"
#include "core/base/shape.h"

#include <stdbool.h>

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct sampled_attention_args {
    const float *q;                       /* [rows][num_heads][head_dim] */
    const struct offloaded_kv *const *kv; /* [rows]; NULL or count 0: empty selection */
    const uint32_t *const *ids;           /* [rows] -> [num_heads][ids_stride[row]] */
    const int64_t *ids_stride;            /* [rows] */
    const int32_t *nnz;                   /* [rows][num_heads] */
    const float *const *log_weights;      /* [rows] -> [num_heads][ids_stride[row]] natural log,
                                             finite, entry j added to the logit of ids' entry j;
                                             NULL: see weight */
    const struct lsh_weight *weight;      /* unless log_weights is given, the weight as a function
                                             of the cosine: -ln(u + 1e-4), for (K, L); both NULL:
                                             every token weighs 1 */
    float *o;                             /* out [rows][num_heads][head_dim]; 0 if empty */
    float *lse;                           /* out [rows][num_heads]; -INFINITY if empty */
    int64_t rows;
    int num_heads; /* query heads attended for */
    int head_dim;
    float scale; /* 1 / sqrt(head_dim) */
    bool shared; /* one selection a KV head, which all of its query heads attend to: then ids and
                    log_weights are [num_kv_heads][ids_stride[row]], nnz is
                    [rows][num_kv_heads], and all rows' kv that are not NULL have as many heads */
};

/* What every variant of the op is. */
typedef void sampled_attention_kernel(const struct sampled_attention_args *);

void sampled_attention_ref(const struct sampled_attention_args *a);
/* The fast ones need kv dtype MP_BF16 or MP_I8 and head_dim a multiple of 8 (AVX2) or 16 (AVX-512).
 */
void sampled_attention_avx2(const struct sampled_attention_args *a);
void sampled_attention_avx512(const struct sampled_attention_args *a);
/* Needs kv dtype MP_BF16 or, in all rows, MP_I8, 16-byte aligned k, v and q, head_dim a multiple of
 * 8 up to 256. Of weight only K and L are used. k, v, their scales and nnz in device or in pinned
 * host memory, ids and log_weights in device memory. */
void sampled_attention_cuda(const struct sampled_attention_args *a);
size_t sampled_attention_cuda_workspace(int64_t rows, int num_heads, int head_dim);

/* A request's offloaded tokens, and which of them are selected. There is one list for each query
 * head of the shard; for each KV head if they are shared. */
struct sampled_attention_row {
    const struct mp_buffer *kv;          /* wraps the struct offloaded_kv of the shard's KV heads */
    const struct mp_buffer *ids;         /* [lists][room] u32 */
    const struct mp_buffer *log_weights; /* [lists][room] f32; NULL in all rows: see the weight */
    int64_t room;
};

struct sampled_attention_buffers {
    const struct mp_buffer *q;   /* [rows][heads of the shard][head_dim] f32 */
    const struct mp_buffer *nnz; /* [rows][lists] i32: ids selected */
    const struct mp_buffer *o;   /* out, as q */
    const struct mp_buffer *lse; /* out [rows][heads of the shard] f32 */
};

struct sampled_attention_weight {
    const struct lsh_weight *function; /* as in the args; stays in place */
    double expected_nnz;               /* tokens over all rows and lists, for the cost estimate */
    bool shared;                       /* as in the args */
    bool int8;                         /* rows are MP_I8, for the cost estimate */
};

/* The attention of a shard's query heads over what is selected. */
void sampled_attention_insert(struct mp_submit *sub, const struct mp_shape *shape,
                              const struct mp_shard *shard,
                              const struct sampled_attention_buffers *b,
                              const struct sampled_attention_row *list, int64_t rows,
                              const struct sampled_attention_weight *weight);

/* Bytes of GPU workspace that a task needs, for up to so many rows; 0 in a program without CUDA. */
size_t sampled_attention_workspace(const struct mp_shape *shape, int64_t rows);

#endif
