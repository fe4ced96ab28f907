/* sampled_attention: attention over the looked-up tokens, re-weighted by their sampling
 * probability. MagicPIG (arXiv 2410.16179), equations 5 to 7; here
 *   z = q.k_c / sqrt(d) - ln(u(cos) + 1e-4),  cos = q.k_c / (|q| |k_c|). */
#ifndef MP_CODELETS_SAMPLED_ATTENTION_H
#define MP_CODELETS_SAMPLED_ATTENTION_H

#include "codelets/common/attention/kv.h"
#include "codelets/common/attention/lsh.h"
#include "core/base/shape.h"

struct sampled_attention_args {
    const float *q;                       /* [rows][row_heads][head_dim] */
    const struct offloaded_kv *const *kv; /* [rows]; NULL or count 0: empty selection */
    const uint32_t *const *ids;           /* [rows] -> [num_heads][ids_stride[row]] */
    const int64_t *ids_stride;            /* [rows] */
    const int32_t *nnz;                   /* [rows][row_heads] */
    const struct lsh_weight *weight;      /* ln(u + 1e-4) as a function of cos, for (K, L) */
    float *o;                             /* out [rows][row_heads][head_dim]; 0 if empty */
    float *lse;                           /* out [rows][row_heads]; -INFINITY if empty */
    int64_t rows;
    int num_heads; /* query heads attended for */
    int row_heads; /* from one row of q, nnz, o and lse to the next, >= num_heads; what belongs to
                      other heads is left alone */
    int head_dim;
    float scale; /* 1 / sqrt(head_dim) */
};

/* What every variant of the op is. */
typedef void sampled_attention_kernel(const struct sampled_attention_args *);

void sampled_attention_ref(const struct sampled_attention_args *a);
/* The fast ones need kv dtype MP_BF16 and head_dim a multiple of 8 (16); otherwise they hand over
 * to the reference. */
void sampled_attention_avx2(const struct sampled_attention_args *a);
void sampled_attention_avx512(const struct sampled_attention_args *a);
/* Needs kv dtype MP_BF16, 16-byte aligned k, v and q, head_dim a multiple of 8 up to 256. Of the
 * weight only K and L are used. */
void sampled_attention_cuda(const struct sampled_attention_args *a);
size_t sampled_attention_cuda_workspace(int64_t rows, int num_heads, int head_dim);

/* Task on the heads of a share. Buffers, of all heads: 0 q R, 1 struct lsh_selection R, 2 nnz R, 3
 * o W, 4 lse W, then one struct offloaded_kv R a row. */
struct sampled_attention_task {
    const struct mp_shape *shape;
    const struct mp_share *share;
    const struct lsh_weight *weight;
    int64_t rows;
    double expected_nnz; /* tokens over all rows and the share's heads, for the cost estimate */
};

extern struct starpu_codelet sampled_attention_codelet;

#endif
