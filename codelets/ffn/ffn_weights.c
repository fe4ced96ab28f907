#include "codelets/common/linear/weight_block.h"
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
