/* projection: RMSNorm, fused QKV GEMM, optional bias and QK-norm, RoPE; q goes out, k (centered if
 * the cache asks) and v are appended to each request's cache. */
#ifndef MP_CODELETS_PROJECTION_H
#define MP_CODELETS_PROJECTION_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

#include <stddef.h>

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

struct projection_args {
    const struct mp_shape *shape;
    struct projection_weights weights;
    const float *x; /* [rows][hidden_size]; rows = num_targets * rows_per_target */
    float *q;       /* out [rows][num_attention_heads][head_dim], after RoPE */
    float *q_host;  /* out: the same in pinned host memory, for readers on the CPU; NULL: there are
                       none. Only the GPU variant writes it */
    const struct projection_target *targets; /* [num_targets] */
    int64_t num_targets;
    int64_t rows_per_target; /* 1 in decode, the chunk's rows in prefill (one target) */
};

/* What every variant of the op is. */
typedef void projection_kernel(const struct projection_args *);

/* Bytes of the op's weight block; if base is not NULL, *out gets the views into it. */
size_t projection_weights_at(const struct mp_shape *shape, const void *base,
                             struct projection_weights *out);

void projection_ref(const struct projection_args *a);
/* oneDNN GEMM or own GEMV, with the vector variant in force. */
void projection_fast(const struct projection_args *a);
/* On the GPU: own GEMV or cuBLAS, then one kernel for all that follows. q may lie in pinned host
 * memory; the caches are bf16, in device memory. */
void projection_cuda(const struct projection_args *a);
/* Bytes of GPU workspace for up to `rows` rows. */
size_t projection_cuda_workspace(const struct mp_shape *shape, int64_t rows);

/* One request's rows in a task: a projection_target whose cache is a buffer of the task. */
struct projection_task_target {
    int64_t index;
    int64_t position;
    const float *inv_freq;
    float rope_scale;
};

/* Task. Buffers: 0 x R, 1 weights R, 2 q W, with copy_q 3 q_host W, then one struct kv_cache RW a
 * target. */
struct projection_task {
    const struct mp_shape *shape;
    bool copy_q;
    int64_t rows_per_target;
    int64_t num_targets;
    struct projection_task_target targets[]; /* [num_targets] */
};

extern struct starpu_codelet projection_codelet;

#endif
