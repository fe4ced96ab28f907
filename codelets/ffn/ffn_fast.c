#include "codelets/ffn/ffn.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/linear/row_block.h"
#include "codelets/common/scratch.h"

/* gate_up [rows][2 * width]: SiLU(gate) * up over the gate half. A row is cut in pieces, so that
 * a single one occupies all threads too. */
static void activate(float *gate_up, int64_t rows, int width)
{
    enum { PIECE = 2048 };
    const struct elementwise *e = elementwise_current();
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        for (int c = 0; c < width; c += PIECE) {
            float *gate = gate_up + r * 2 * width + c;
            e->silu_mul(gate, gate, gate + width, width - c < PIECE ? width - c : PIECE);
        }
    }
}

static void ffn_block(const struct ffn_args *a, float *x, int64_t rows)
{
    int hidden = a->shape->hidden_size;
    int width = a->shape->intermediate_size;
    mp_scratch_reset();
    float *normed = mp_scratch((size_t)rows * (size_t)hidden, sizeof *normed);
    float *gate_up = mp_scratch((size_t)rows * 2 * (size_t)width, sizeof *gate_up);

    rms_norm_rows(normed, x, a->weights.norm, rows, hidden, a->shape->rms_norm_eps);
    linear_fast(&(struct linear_args){
        .x = normed,
        .x_stride = hidden,
        .w = a->weights.gate_up,
        .bias = a->weights.gate_up_bias,
        .y = gate_up,
        .y_stride = 2 * width,
        .rows = rows,
        .in = hidden,
        .out = 2 * width,
    });
    activate(gate_up, rows, width);
    linear_fast(&(struct linear_args){
        .x = gate_up,
        .x_stride = 2 * width,
        .w = a->weights.down,
        .bias = a->weights.down_bias,
        .y = x,
        .y_stride = hidden,
        .rows = rows,
        .in = width,
        .out = hidden,
        .accumulate = true,
    });
}

void ffn_fast(const struct ffn_args *a)
{
    for (int64_t first = 0; first < a->rows; first += MAX_ROW_BLOCK) {
        ffn_block(a, a->x + first * a->shape->hidden_size, row_block(first, a->rows));
    }
}
