#include "codelets/lm_head/lm_head.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"

void lm_head_ref(const struct lm_head_args *a)
{
    int hidden = a->shape->hidden_size;
    int vocab = a->shape->vocab_size;
    mp_scratch_reset();
    float *normed = mp_scratch((size_t)hidden, sizeof *normed);
    for (int64_t r = 0; r < a->rows; r++) {
        elementwise_ref.rms_norm(normed, a->x + r * hidden, a->norm, hidden,
                                 a->shape->rms_norm_eps);
        linear_ref(&(struct linear_args){
            .x = normed,
            .x_stride = hidden,
            .w = a->w,
            .y = a->logits + r * vocab,
            .y_stride = vocab,
            .rows = 1,
            .in = hidden,
            .out = vocab,
        });
    }
}
