/* The matrix product of every dense op on the GPU: y = x W^T, optionally of RMS-normalized rows of
 * x, + bias, added to y. Up to LINEAR_GEMV_MAX_ROWS rows an own kernel streams W once; more rows go
 * through cuBLAS.
 *
 * Both multiply bf16 weights with activations as bf16 parts and accumulate in float32: the own
 * kernel with two, x = high + low; cuBLAS with linear_num_parts().
 *
 * The args structs of linear.h mean what they mean there; arrays lie in device memory, small ones
 * may lie in pinned host memory. C and C++. */
#ifndef MP_CODELETS_COMMON_LINEAR_CUDA_H
#define MP_CODELETS_COMMON_LINEAR_CUDA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "codelets/common/linear/linear.h"

/* RMSNorm of each row before the product: x / sqrt(mean(x^2) + eps) * gain. */
struct linear_norm {
    const float *gain; /* [in], device memory */
    float eps;
};

/* Activations as bf16 parts in the calling thread's workspace, [rows][in] each. */
struct linear_parts {
    uint16_t *high;
    uint16_t *low; /* NULL: there is one part */
};

/* Above LINEAR_GEMV_MAX_ROWS rows are processed in blocks, so that workspace does not grow with the
 * chunk; large enough to amortize reading W once a block. */
enum { LINEAR_CUDA_ROW_BLOCK = 2048 };

/* Rows of the block that starts at `first` of `rows`. */
static inline int64_t linear_cuda_block(int64_t first, int64_t rows)
{
    return rows - first < LINEAR_CUDA_ROW_BLOCK ? rows - first : (int64_t)LINEAR_CUDA_ROW_BLOCK;
}

/* Takes the parts that products of `rows` rows of `in` elements need: none for a GEMV. One set
 * serves any number of products in a row. */
struct linear_parts linear_cuda_take_parts(int64_t rows, int in);
/* Bytes of workspace that it takes. */
size_t linear_cuda_workspace(int64_t rows, int in);

/* y = norm(x) W^T (+ bias) (+ y), any number of rows; norm NULL: x as it is. parts: of at least
 * linear_cuda_block(0, rows) rows. */
void linear_cuda(const struct linear_args *a, const struct linear_norm *norm,
                 const struct linear_parts *parts);

/* ---- the parts of linear_cuda ---- */

/* rows <= LINEAR_GEMV_MAX_ROWS. Writes each element of y once: y may lie in pinned host memory. */
void linear_gemv_cuda(const struct linear_args *a, const struct linear_norm *norm);

/* The first half of a gated FFN, rows <= LINEAR_GEMV_MAX_ROWS: W is [2 * out][in], gate rows and
 * then up rows, and bias [2 * out]; y [rows][out] = silu(gate) * up, where gate | up = norm(x) W^T
 * + bias. */
void linear_gemv_gated_cuda(const struct linear_args *a, const struct linear_norm *norm);

/* Splits a->rows <= LINEAR_CUDA_ROW_BLOCK rows of a->x, normalized unless norm is NULL. */
void linear_split_cuda(const struct linear_args *a, const struct linear_norm *norm,
                       const struct linear_parts *parts);

/* The product of rows that are already split; a->x is not read. */
void linear_matmul_cuda(const struct linear_args *a, const struct linear_parts *parts);

#ifdef __cplusplus
}
#endif

#endif
