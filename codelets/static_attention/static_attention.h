/* static_attention: exact attention of one query row per request over a whole cache (sink, local
 * and generated tokens of a sparse layer, or everything of a dense one). */
#ifndef MP_CODELETS_STATIC_ATTENTION_H
#define MP_CODELETS_STATIC_ATTENTION_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_submit;

struct static_attention_args {
    const float *q;                      /* [rows][num_heads][head_dim] */
    const struct kv_cache *const *cache; /* [rows] */
    const int64_t *length;               /* [rows] tokens of the cache to attend, >= 0 */
    float *o;                            /* out [rows][num_heads][head_dim], 0 of no tokens */
    float *lse;                          /* out [rows][num_heads], natural log; then -INFINITY */
    int64_t rows;
    int num_heads;
    int head_dim;
    float scale; /* 1 / sqrt(head_dim) */
};

/* What every variant of the op is. */
typedef void static_attention_kernel(const struct static_attention_args *);

void static_attention_ref(const struct static_attention_args *a);
/* The fast ones need dtype MP_BF16 and head_dim a multiple of 8 (AVX2) or 16 (AVX-512). */
void static_attention_avx2(const struct static_attention_args *a);
void static_attention_avx512(const struct static_attention_args *a);
/* Needs dtype MP_BF16, 16-byte aligned k, v and q, head_dim a multiple of 8 up to 256. */
void static_attention_cuda(const struct static_attention_args *a);
size_t static_attention_cuda_workspace(int64_t rows, int num_heads, int head_dim);

/* A request's cache, a buffer that wraps a struct kv_cache, and its tokens to attend to. */
struct static_attention_row {
    const struct mp_buffer *cache;
    int64_t length;
};

/* q, o [rows][num_attention_heads][head_dim] and lse [rows][num_attention_heads], all f32. */
void static_attention_insert(struct mp_submit *sub, const struct mp_shape *shape,
                             const struct mp_buffer *q, const struct static_attention_row *list,
                             int64_t rows, const struct mp_buffer *o, const struct mp_buffer *lse);

/* Bytes of GPU workspace that a task needs, for up to so many rows; 0 in a program without CUDA. */
size_t static_attention_workspace(const struct mp_shape *shape, int64_t rows);

#endif
