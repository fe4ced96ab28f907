#include "codelets/common/linear/weight_block.h"
#include "codelets/common/linear/weight_part.h"
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

void output_weights_part(const struct mp_shape *shape, const void *whole,
                         const struct mp_shape *part, int index, void *out)
{
    struct output_weights from = {0}, to = {0};
    const size_t hidden = (size_t)shape->hidden_size;
    const size_t width = (size_t)mp_shape_q_width(part);
    output_weights_at(shape, whole, &from);
    output_weights_at(part, out, &to);
    weight_columns((void *)to.o, from.o, hidden, (size_t)mp_shape_q_width(shape),
                   (size_t)index * width, width, sizeof *to.o);
    if (shape->output_bias) {
        memset((void *)to.bias, 0, hidden * sizeof *to.bias);
        weight_rows((void *)to.bias, from.bias, 0, index == 0 ? hidden : 0, sizeof *to.bias);
    }
}
