#include "codelets/common/linear/weight_block.h"
#include "codelets/output/output.h"

size_t output_weights_at(const struct mp_shape *shape, const void *base, struct output_weights *out)
{
    size_t hidden = (size_t)shape->hidden_size;
    struct weight_block block = {base, 0};
    struct output_weights w = {0};

    w.o = weight_block_take(&block, hidden * (size_t)mp_shape_q_width(shape), sizeof *w.o);
    if (shape->output_bias) {
        w.bias = weight_block_take(&block, hidden, sizeof *w.bias);
    }
    if (base != NULL) {
        *out = w;
    }
    return block.bytes;
}
