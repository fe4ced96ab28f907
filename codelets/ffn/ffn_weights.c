#include "codelets/common/linear/weight_block.h"
#include "codelets/common/linear/weight_part.h"
#include "codelets/ffn/ffn.h"

size_t ffn_weights_at(const struct mp_shape *shape, const void *base, struct ffn_weights *out)
{
    size_t hidden = (size_t)shape->hidden_size;
    size_t width = (size_t)shape->intermediate_size;
    struct weight_block block = {base, 0};
    struct ffn_weights w = {0};

    w.norm = weight_block_take(&block, hidden, sizeof *w.norm);
    w.gate_up = weight_block_take(&block, 2 * width * hidden, sizeof *w.gate_up);
    w.down = weight_block_take(&block, hidden * width, sizeof *w.down);
    if (shape->mlp_bias) {
        w.gate_up_bias = weight_block_take(&block, 2 * width, sizeof *w.gate_up_bias);
        w.down_bias = weight_block_take(&block, hidden, sizeof *w.down_bias);
    }
    if (base != NULL) {
        *out = w;
    }
    return block.bytes;
}

/* Gate rows, then up rows. */
static void take_gate_up(size_t width, const void *from, size_t own, size_t index, void *to,
                         size_t size)
{
    weight_rows(to, from, index * own, own, size);
    weight_rows((char *)to + own * size, from, width + index * own, own, size);
}

void ffn_weights_part(const struct mp_shape *shape, const void *whole, const struct mp_shape *part,
                      int index, void *out)
{
    struct ffn_weights from = {0}, to = {0};
    const size_t hidden = (size_t)shape->hidden_size;
    const size_t width = (size_t)shape->intermediate_size;
    const size_t own = (size_t)part->intermediate_size;
    const size_t i = (size_t)index;
    ffn_weights_at(shape, whole, &from);
    ffn_weights_at(part, out, &to);
    weight_rows((void *)to.norm, from.norm, 0, hidden, sizeof *to.norm);
    take_gate_up(width, from.gate_up, own, i, (void *)to.gate_up, hidden * sizeof *to.gate_up);
    weight_columns((void *)to.down, from.down, hidden, width, i * own, own, sizeof *to.down);
    if (shape->mlp_bias) {
        take_gate_up(width, from.gate_up_bias, own, i, (void *)to.gate_up_bias,
                     sizeof *to.gate_up_bias);
        memset((void *)to.down_bias, 0, hidden * sizeof *to.down_bias);
        weight_rows((void *)to.down_bias, from.down_bias, 0, i == 0 ? hidden : 0,
                    sizeof *to.down_bias);
    }
}
