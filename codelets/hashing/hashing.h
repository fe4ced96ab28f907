/* hashing: SimHash codes of queries (decode) or of offloaded keys (prefill).
 * MagicPIG (arXiv 2410.16179), section 4.1: bit k of table l is sign(x . W[:, l*K + k]). */
#ifndef MP_CODELETS_HASHING_H
#define MP_CODELETS_HASHING_H

#include "core/base/dtype.h"
#include "core/base/shape.h"

#include <stddef.h>
#include <stdint.h>

struct mp_buffer;
struct mp_head_buffer;
struct mp_shard;
struct mp_submit;

/* Strides are in elements. Vector i of head h starts at x + h*x_head_stride + i*x_vec_stride;
 * its code in table l goes to codes[h*code_head_stride + i*code_vec_stride + l*code_table_stride].
 * Queries: x [rows][num_heads][head_dim] -> codes [rows][num_heads][L].
 * Keys: x [num_heads][capacity][head_dim] -> codes [num_heads][L][count]. */
struct hashing_args {
    const void *x;
    enum mp_dtype dtype; /* of x */
    int64_t x_head_stride;
    int64_t x_vec_stride;
    int64_t count; /* vectors per head */
    int num_heads;
    int head_dim;
    int K;                    /* bits per code, 1..16, least significant bit first */
    int L;                    /* tables */
    const float *w;           /* [num_heads / heads_per_projection][head_dim][K * L] */
    int heads_per_projection; /* heads that share one W: G for queries with one W per KV head,
                                 num_heads for one shared W */
    uint16_t *codes;          /* out */
    int64_t code_head_stride;
    int64_t code_vec_stride;
    int64_t code_table_stride;
};

/* What every variant of the op is. */
typedef void hashing_kernel(const struct hashing_args *);

/* Bit k of the code of table l = [x . W(:, l*K + k) > 0]. Variants may round the dot product
 * differently, so a code may differ where it is within rounding of 0. */
void hashing_ref(const struct hashing_args *a);
void hashing_avx2(const struct hashing_args *a);
void hashing_avx512(const struct hashing_args *a);

/* x, w and codes in device or pinned host memory. float32 vectors are taken for the queries of a
 * step (head_dim <= 256), bf16 vectors for keys (head_dim <= 256; head_dim and the strides of x
 * multiples of 8, x on a boundary of 16 bytes). Only keys need workspace. */
void hashing_cuda(const struct hashing_args *a);
size_t hashing_cuda_workspace(int num_heads, int heads_per_projection, int head_dim, int K, int L);

/* The hash functions of a layer. */
struct hashing_functions {
    int K;                     /* bits per code */
    int L;                     /* tables */
    int kv_heads_per_w;        /* KV heads that share a W: 1, or all */
    const struct mp_buffer *w; /* [num_key_value_heads / kv_heads_per_w][head_dim][K * L] f32 */
};

/* The codes of a step's queries q [rows][num_attention_heads][head_dim] f32: each part gets
 * [rows][num_heads][L] u16 of its heads, whole groups of a KV head. */
void hashing_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct hashing_functions *f, const struct mp_buffer *q, int64_t rows,
                    const struct mp_head_buffer *parts, int num_parts);

/* The codes [KV heads of the shard][L][count] u16 of a shard's offloaded keys, a buffer that wraps
 * a struct offloaded_kv of count tokens. */
void hashing_keys_insert(struct mp_submit *sub, const struct mp_shape *shape,
                         const struct hashing_functions *f, const struct mp_shard *shard,
                         const struct mp_buffer *kv, int64_t count, const struct mp_buffer *codes);

/* Bytes of GPU workspace that hashing the keys of so many heads needs; 0 in a program without
 * CUDA. */
size_t hashing_workspace(int num_kv_heads, int kv_heads_per_w, int head_dim, int K, int L);

#endif
