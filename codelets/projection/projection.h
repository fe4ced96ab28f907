/* projection: RMSNorm, fused QKV GEMM, optional bias and QK-norm, RoPE; q goes out, k (centered if
 * the cache asks) and v are appended to each request's cache. */
#ifndef MP_CODELETS_PROJECTION_H
#define MP_CODELETS_PROJECTION_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

#include <stddef.h>

struct mp_buffer;
struct mp_head_buffer;
struct mp_submit;

/* Views into one weight block of the op, as projection_weights_at lays it out. */
struct projection_weights {
    const float *norm;   /* [hidden_size] RMSNorm gain */
    const uint16_t *qkv; /* [mp_shape_qkv_rows][hidden_size] bf16: q heads, k heads, v heads */
    const float *bias;   /* [mp_shape_qkv_rows], NULL unless shape->qkv_bias */
    const float *q_norm; /* [head_dim], NULL unless shape->qk_norm */
    const float *k_norm; /* [head_dim], likewise */
};

/* Where one request's rows go. */
struct projection_target {
    struct kv_cache *cache; /* k and v are written at [index, index + rows_per_target) */
    int64_t index;          /* first token slot in the cache */
    int64_t position;       /* RoPE position of the first row */
    const float *inv_freq;  /* [head_dim / 2] RoPE inverse frequencies, radians per token */
    float rope_scale;       /* multiplies cos and sin (YaRN attention factor); 1 otherwise */
};

/* A further copy of the queries of some heads, for who reads them elsewhere. */
struct projection_copy {
    float *q; /* [rows][num_heads][head_dim] */
    int first_head;
    int num_heads;
};

struct projection_args {
    const struct mp_shape *shape;
    struct projection_weights weights;
    const float *x; /* [rows][hidden_size]; rows = num_targets * rows_per_target */
    float *q;       /* out [rows][num_attention_heads][head_dim], after RoPE */
    const struct projection_copy *copies;    /* [num_copies] out, together at most all heads once */
    int num_copies;                          /* at most MP_MAX_SHARDS */
    const struct projection_target *targets; /* [num_targets] */
    int64_t num_targets;
    int64_t rows_per_target; /* 1 in decode, the chunk's rows in prefill (one target) */
};

/* What every variant of the op is. */
typedef void projection_kernel(const struct projection_args *);

/* Bytes of the op's weight block; if base is not NULL, *out gets the views into it. */
size_t projection_weights_at(const struct mp_shape *shape, const void *base,
                             struct projection_weights *out);

/* The block of part `index` of a model's: that has so many of its heads, as the part's shape says,
 * those after the heads of the parts before. Both in host memory. */
void projection_weights_part(const struct mp_shape *shape, const void *whole,
                             const struct mp_shape *part, int index, void *out);

void projection_ref(const struct projection_args *a);
/* oneDNN GEMM or own GEMV, with the vector variant in force. */
void projection_fast(const struct projection_args *a);
/* On the GPU: own GEMV or cuBLAS, then one kernel for all that follows. q and its copies may lie in
 * pinned host memory; the caches are bf16, in device memory. */
void projection_cuda(const struct projection_args *a);
/* Bytes of GPU workspace for up to `rows` rows. */
size_t projection_cuda_workspace(const struct mp_shape *shape, int64_t rows);

/* A projection_target whose cache is a buffer that wraps a struct kv_cache. */
struct projection_row {
    const struct mp_buffer *cache;
    int64_t index;
    int64_t position;
    const float *inv_freq;
    float rope_scale;
};

struct projection_buffers {
    const struct mp_buffer *x;           /* [rows][hidden_size] f32 */
    const struct mp_buffer *weights;     /* a block of projection_weights_at */
    const struct mp_buffer *q;           /* out [rows][num_attention_heads][head_dim] f32 */
    const struct mp_head_buffer *copies; /* [num_copies] out, parts of q */
    int num_copies;
};

/* What the structs point to is copied, but for inv_freq, which stays in place. */
void projection_insert(struct mp_submit *sub, const struct mp_shape *shape,
                       const struct projection_buffers *b, const struct projection_row *targets,
                       int64_t num_targets, int64_t rows_per_target);

/* Bytes of GPU workspace that a task needs, for up to so many rows; 0 in a program without CUDA. */
size_t projection_workspace(const struct mp_shape *shape, int64_t rows);

#endif
