/* lm_head on the GPU. Always the GEMV, 16 rows at a time: logits often lie in host memory, where
 * each element should be written once, and there are rarely more rows than requests in a batch. */
extern "C" {
#include "codelets/lm_head/lm_head.h"
}

#include "codelets/common/linear/linear_cuda.h"

void lm_head_cuda(const struct lm_head_args *a)
{
    const int64_t hidden = a->shape->hidden_size;
    const int64_t vocab = a->shape->vocab_size;
    const struct linear_norm norm = {a->norm, a->shape->rms_norm_eps};
    for (int64_t first = 0; first < a->rows; first += LINEAR_GEMV_MAX_ROWS) {
        int64_t rest = a->rows - first;
        struct linear_args product = {};
        product.x = a->x + first * hidden;
        product.x_stride = hidden;
        product.w = a->w;
        product.y = a->logits + first * vocab;
        product.y_stride = vocab;
        product.rows = rest < LINEAR_GEMV_MAX_ROWS ? rest : (int64_t)LINEAR_GEMV_MAX_ROWS;
        product.in = a->shape->hidden_size;
        product.out = a->shape->vocab_size;
        linear_gemv_cuda(&product, &norm);
    }
}
