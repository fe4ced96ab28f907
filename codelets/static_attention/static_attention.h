/* static_attention: exact attention of one query row per request over a whole cache (sink, local
 * and generated tokens of a sparse layer, or everything of a dense one). */
#ifndef MP_CODELETS_STATIC_ATTENTION_H
#define MP_CODELETS_STATIC_ATTENTION_H

#include "codelets/common/attention/kv.h"

struct static_attention_args {
    const float *q;                      /* [rows][num_heads][head_dim] */
    const struct kv_cache *const *cache; /* [rows] */
    const int64_t *length;               /* [rows] tokens of the cache to attend, >= 1 */
    float *o;                            /* out [rows][num_heads][head_dim] */
    float *lse;                          /* out [rows][num_heads], natural log */
    int64_t rows;
    int num_heads;
    int head_dim;
    float scale; /* 1 / sqrt(head_dim) */
};

/* What every variant of the op is. */
typedef void static_attention_kernel(const struct static_attention_args *);

void static_attention_ref(const struct static_attention_args *a);
void static_attention_avx2(const struct static_attention_args *a);
void static_attention_avx512(const struct static_attention_args *a);
/* Needs dtype MP_BF16, 16-byte aligned k, v and q, head_dim a multiple of 8 up to 256. */
void static_attention_cuda(const struct static_attention_args *a);
size_t static_attention_cuda_workspace(int64_t rows, int num_heads, int head_dim);

/* Task. Buffers: 0 q R, 1 o W, 2 lse W, then one struct kv_cache R a row. */
struct static_attention_task {
    int64_t rows;
    int num_heads;
    int num_kv_heads;
    int head_dim;
    int64_t length[]; /* [rows] tokens to attend */
};

extern struct starpu_codelet static_attention_codelet;

#endif
