#include "codelets/common/linear/weight_block.h"
#include "codelets/projection/projection.h"

size_t projection_weights_at(const struct mp_shape *shape, const void *base,
                             struct projection_weights *out)
{
    size_t hidden = (size_t)shape->hidden_size;
    size_t rows = (size_t)mp_shape_qkv_rows(shape);
    size_t head_dim = (size_t)shape->head_dim;
    struct weight_block block = {base, 0};
    struct projection_weights w = {0};

    w.norm = weight_block_take(&block, hidden, sizeof *w.norm);
    w.qkv = weight_block_take(&block, rows * hidden, sizeof *w.qkv);
    if (shape->qkv_bias) {
        w.bias = weight_block_take(&block, rows, sizeof *w.bias);
    }
    if (shape->qk_norm) {
        w.q_norm = weight_block_take(&block, head_dim, sizeof *w.q_norm);
        w.k_norm = weight_block_take(&block, head_dim, sizeof *w.k_norm);
    }
    if (base != NULL) {
        *out = w;
    }
    return block.bytes;
}
