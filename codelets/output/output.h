/* output: merge of the attention parts, O projection, bias, residual. */
#ifndef MP_CODELETS_OUTPUT_H
#define MP_CODELETS_OUTPUT_H

#include "codelets/common/attention/attention_part.h"
#include "core/base/shape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_buffer;
struct mp_submit;

struct output_weights {
    const uint16_t *o; /* [hidden_size][num_attention_heads * head_dim] bf16 */
    const float *bias; /* [hidden_size], NULL unless shape->output_bias */
};

/* The merge of the parts, for who wants it too. */
struct output_merged {
    float *o;   /* [rows][num_attention_heads][head_dim]; NULL: not wanted */
    float *lse; /* [rows][num_attention_heads] ln of the sum over all parts, -INFINITY: all empty */
};

struct output_args {
    const struct mp_shape *shape;
    struct output_weights weights;
    const struct attention_part *parts; /* [num_parts] in the order in which they are merged; a head
                                           that no part covers is 0 */
    int num_parts;                      /* 1 to ATTENTION_MAX_PARTS */
    float *x;                    /* in and out [rows][hidden_size]: x += W_o * merged + bias */
    struct output_merged merged; /* out, if wanted; then all parts have an lse */
    int64_t rows;
};

/* What every variant of the op is. */
typedef void output_kernel(const struct output_args *);

size_t output_weights_at(const struct mp_shape *shape, const void *base,
                         struct output_weights *out);

/* Each query head over the parts that cover it:
 *   o = sum_i exp(lse_i - max) o_i / sum_i exp(lse_i - max).
 * A part with lse = -inf is not looked at; one alone that covers all heads is used as it is. */
/* The block of part `index` of a model's, as projection_weights_part: the columns of its heads. The
 * first part alone has a bias other than 0. */
void output_weights_part(const struct mp_shape *shape, const void *whole,
                         const struct mp_shape *part, int index, void *out);

void output_ref(const struct output_args *a);
void output_fast(const struct output_args *a);
/* On the GPU; parts and merged may lie in pinned host memory: each element of o is read once. */
void output_cuda(const struct output_args *a);
/* Bytes of GPU workspace for up to `rows` rows. */
size_t output_cuda_workspace(const struct mp_shape *shape, int64_t rows);

/* A struct attention_part whose arrays, all rows of them, are buffers. */
struct output_part {
    const struct mp_buffer *o;
    const struct mp_buffer *lse; /* NULL: no other part covers its heads */
    int first_head;
    int num_heads;
};

/* Where a struct output_merged goes, of all rows. */
struct output_merged_buffers {
    const struct mp_buffer *o;
    const struct mp_buffer *lse;
};

/* Adds the merge of the parts to some rows of x [..][hidden_size] f32; weights: a block of
 * output_weights_at. merged: NULL where it is not wanted. */
void output_insert(struct mp_submit *sub, const struct mp_shape *shape,
                   const struct mp_buffer *weights, const struct output_part *parts, int num_parts,
                   const struct mp_buffer *x, const struct output_merged_buffers *merged,
                   struct mp_rows rows);

/* Bytes of GPU workspace that a task needs, for up to so many rows; 0 in a program without CUDA. */
size_t output_workspace(const struct mp_shape *shape, int64_t rows);

#endif
