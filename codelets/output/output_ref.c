#include "codelets/output/output.h"

#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"

/* The attention output of one row: that of the only part, or the merge of the parts, in `scratch`
 * unless it is wanted. */
static const float *merge_row(const struct output_args *a, int64_t row, float *scratch)
{
    int heads = a->shape->num_attention_heads;
    int d = a->shape->head_dim;
    bool wanted = a->merged.o != NULL;
    if (!wanted && attention_part_is_all(a->parts, a->num_parts, heads)) {
        return a->parts[0].o + row * heads * d;
    }
    float *merged = wanted ? a->merged.o + row * heads * d : scratch;
    for (int h = 0; h < heads; h++) {
        float lse = attention_part_merge(a->parts, a->num_parts, row, h, d, merged + h * d);
        if (wanted) {
            a->merged.lse[row * heads + h] = lse;
        }
    }
    return merged;
}

void output_ref(const struct output_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = mp_shape_q_width(a->shape);
    attention_parts_check(a->parts, a->num_parts, a->shape->num_attention_heads);
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
