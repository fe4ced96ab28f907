/* output: merge of the attention parts, O projection, bias, residual. */
#ifndef MP_CODELETS_OUTPUT_H
#define MP_CODELETS_OUTPUT_H

#include "core/base/shape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct output_weights {
    const uint16_t *o; /* [hidden_size][num_attention_heads * head_dim] bf16 */
    const float *bias; /* [hidden_size], NULL unless shape->output_bias */
};

struct output_args {
    const struct mp_shape *shape;
    struct output_weights weights;
    const float *o_static;   /* [rows][num_attention_heads][head_dim] */
    const float *lse_static; /* [rows][num_attention_heads], natural log; NULL if o_static is all */
    const float *o_sampled;  /* as o_static; NULL: nothing to merge */
    const float *lse_sampled; /* -INFINITY where the selection was empty */
    float *x;                 /* in and out [rows][hidden_size]: x += W_o * merged + bias */
    int64_t rows;
};

/* What every variant of the op is. */
typedef void output_kernel(const struct output_args *);

size_t output_weights_at(const struct mp_shape *shape, const void *base,
                         struct output_weights *out);

/* o = sum_i exp(lse_i - max) o_i / sum_i exp(lse_i - max); a part with lse = -inf weighs 0. */
void output_ref(const struct output_args *a);
void output_fast(const struct output_args *a);
/* On the GPU; the sampled part may lie in pinned host memory: each element is read once. */
void output_cuda(const struct output_args *a);
/* Bytes of GPU workspace for up to `rows` rows. */
size_t output_cuda_workspace(const struct mp_shape *shape, int64_t rows);

/* Task on rows [first_row, first_row + rows) of its buffers.
 * Buffers: 0 weights R, 1 x RW, 2 o_static R, then either nothing more (one part that is all), or
 * 3 lse_static R, then o_sampled R and lse_sampled R once for each share that wrote its heads into
 * these two. */
struct output_task {
    const struct mp_shape *shape;
    int64_t first_row;
    int64_t rows;
    bool merge; /* buffers 3 and on are there */
};

extern struct starpu_codelet output_codelet;

#endif
