#include "codelets/lm_head/lm_head.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/linear/row_block.h"
#include "codelets/common/scratch.h"

void lm_head_fast(const struct lm_head_args *a)
{
    int hidden = a->shape->hidden_size;
    int vocab = a->shape->vocab_size;
    for (int64_t first = 0; first < a->rows; first += MAX_ROW_BLOCK) {
        int64_t rows = row_block(first, a->rows);
        mp_scratch_reset();
        float *normed = mp_scratch((size_t)rows * (size_t)hidden, sizeof *normed);
        rms_norm_rows(normed, a->x + first * hidden, a->norm, rows, hidden, a->shape->rms_norm_eps);
        linear_fast(&(struct linear_args){
            .x = normed,
            .x_stride = hidden,
            .w = a->w,
            .y = a->logits + first * vocab,
            .y_stride = vocab,
            .rows = rows,
            .in = hidden,
            .out = vocab,
        });
    }
}
