/* ffn: RMSNorm, gate and up GEMM, SiLU(gate) * up, down GEMM, residual. */
#ifndef MP_CODELETS_FFN_H
#define MP_CODELETS_FFN_H

#include "core/base/shape.h"

#include <stddef.h>
#include <stdint.h>

struct mp_buffer;
struct mp_submit;

struct ffn_weights {
    const float *norm;         /* [hidden_size] RMSNorm gain */
    const uint16_t *gate_up;   /* [2 * intermediate_size][hidden_size] bf16: gate rows, up rows */
    const uint16_t *down;      /* [hidden_size][intermediate_size] bf16 */
    const float *gate_up_bias; /* [2 * intermediate_size], NULL unless shape->mlp_bias */
    const float *down_bias;    /* [hidden_size], likewise */
};

struct ffn_args {
    const struct mp_shape *shape;
    struct ffn_weights weights;
    float *x; /* in and out [rows][hidden_size] */
    int64_t rows;
};

/* What every variant of the op is. */
typedef void ffn_kernel(const struct ffn_args *);

size_t ffn_weights_at(const struct mp_shape *shape, const void *base, struct ffn_weights *out);

/* The block of part `index` of a model's, as output_weights_part, of the FFN's width. */
void ffn_weights_part(const struct mp_shape *shape, const void *whole, const struct mp_shape *part,
                      int index, void *out);

void ffn_ref(const struct ffn_args *a);
void ffn_fast(const struct ffn_args *a);
/* On the GPU. */
void ffn_cuda(const struct ffn_args *a);
/* Bytes of GPU workspace for up to `rows` rows. */
size_t ffn_cuda_workspace(const struct mp_shape *shape, int64_t rows);

/* On some rows of x [..][hidden_size] f32; weights: a block of ffn_weights_at. */
void ffn_insert(struct mp_submit *sub, const struct mp_shape *shape,
                const struct mp_buffer *weights, const struct mp_buffer *x, struct mp_rows rows);

/* Bytes of GPU workspace that a task needs, for up to so many rows; 0 in a program without CUDA. */
size_t ffn_workspace(const struct mp_shape *shape, int64_t rows);

#endif
