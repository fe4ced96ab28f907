#include "codelets/ffn/ffn.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"

void ffn_ref(const struct ffn_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = a->shape->intermediate_size;
    mp_scratch_reset();
    float *normed = mp_scratch((size_t)hidden, sizeof *normed);
    float *gate_up = mp_scratch(2 * (size_t)width, sizeof *gate_up);
    for (int64_t row = 0; row < a->rows; row++) {
        float *x = a->x + row * hidden;
        elementwise_ref.rms_norm(normed, x, a->weights.norm, hidden, a->shape->rms_norm_eps);
        linear_ref(&(struct linear_args){
            .x = normed,
            .x_stride = hidden,
            .w = a->weights.gate_up,
            .bias = a->weights.gate_up_bias,
            .y = gate_up,
            .y_stride = 2 * width,
            .rows = 1,
            .in = hidden,
            .out = 2 * width,
        });
        elementwise_ref.silu_mul(gate_up, gate_up, gate_up + width, width);
        linear_ref(&(struct linear_args){
            .x = gate_up,
            .x_stride = width,
            .w = a->weights.down,
            .bias = a->weights.down_bias,
            .y = x,
            .y_stride = hidden,
            .rows = 1,
            .in = width,
            .out = hidden,
            .accumulate = true,
        });
    }
}
