#include "codelets/output/output.h"

#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"

#include <math.h>

/* Merges one head of one row. An empty part (lse = -inf) is not even looked at. */
static void merge_head(float *out, const float *o_static, float lse_static, const float *o_sampled,
                       float lse_sampled, int head_dim)
{
    float max = fmaxf(lse_static, lse_sampled);
    float w_static = lse_static == -INFINITY ? 0.0f : expf(lse_static - max);
    float w_sampled = lse_sampled == -INFINITY ? 0.0f : expf(lse_sampled - max);
    for (int c = 0; c < head_dim; c++) {
        float sum = 0.0f;
        if (w_static > 0.0f) {
            sum += w_static * o_static[c];
        }
        if (w_sampled > 0.0f) {
            sum += w_sampled * o_sampled[c];
        }
        out[c] = max == -INFINITY ? 0.0f : sum / (w_static + w_sampled);
    }
}

/* The attention output of one row: o_static itself, or the merge of both parts in `merged`. */
static const float *merge_row(const struct output_args *a, int64_t row, float *merged)
{
    int heads = a->shape->num_attention_heads;
    int d = a->shape->head_dim;
    if (a->o_sampled == NULL) {
        return a->o_static + row * heads * d;
    }
    for (int64_t h = 0; h < heads; h++) {
        int64_t at = row * heads + h;
        merge_head(merged + h * d, a->o_static + at * d, a->lse_static[at], a->o_sampled + at * d,
                   a->lse_sampled[at], d);
    }
    return merged;
}

void output_ref(const struct output_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = mp_shape_q_width(a->shape);
    mp_scratch_reset();
    float *merged = mp_scratch((size_t)width, sizeof *merged);
    for (int64_t row = 0; row < a->rows; row++) {
        linear_ref(&(struct linear_args){
            .x = merge_row(a, row, merged),
            .x_stride = width,
            .w = a->weights.o,
            .bias = a->weights.bias,
            .y = a->x + row * hidden,
            .y_stride = hidden,
            .rows = 1,
            .in = width,
            .out = hidden,
            .accumulate = true,
        });
    }
}
