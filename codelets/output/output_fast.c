#include "codelets/output/output.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/linear/row_block.h"
#include "codelets/common/scratch.h"

#include <math.h>
#include <string.h>

/* Merges head `at`, counted over all rows. */
static void merge_head(const struct output_args *a, const struct elementwise *e, int64_t at,
                       float *out)
{
    int d = a->shape->head_dim;
    float max = fmaxf(a->lse_static[at], a->lse_sampled[at]);
    if (max == -INFINITY) {
        memset(out, 0, (size_t)d * sizeof *out);
        return;
    }
    float w_static = expf(a->lse_static[at] - max);
    float w_sampled = expf(a->lse_sampled[at] - max);
    float sum = w_static + w_sampled;
    e->blend(out, a->o_static + at * d, w_static / sum, a->o_sampled + at * d, w_sampled / sum, d);
}

/* The attention output [rows][num_attention_heads][head_dim] of a block of rows: o_static itself
 * where there is nothing to merge. */
static const float *merge_rows(const struct output_args *a, int64_t first, int64_t rows)
{
    int width = mp_shape_q_width(a->shape);
    if (a->o_sampled == NULL) {
        return a->o_static + first * width;
    }
    const struct elementwise *e = elementwise_current();
    int heads = a->shape->num_attention_heads;
    float *merged = mp_scratch((size_t)rows * (size_t)width, sizeof *merged);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows * heads; i++) {
        merge_head(a, e, first * heads + i, merged + i * a->shape->head_dim);
    }
    return merged;
}

void output_fast(const struct output_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = mp_shape_q_width(a->shape);
    for (int64_t first = 0; first < a->rows; first += MAX_ROW_BLOCK) {
        int64_t rows = row_block(first, a->rows);
        mp_scratch_reset();
        linear_fast(&(struct linear_args){
            .x = merge_rows(a, first, rows),
            .x_stride = width,
            .w = a->weights.o,
            .bias = a->weights.bias,
            .y = a->x + first * hidden,
            .y_stride = hidden,
            .rows = rows,
            .in = width,
            .out = hidden,
            .accumulate = true,
        });
    }
}
