#include "codelets/common/linear/weight_block.h"
#include "codelets/common/linear/weight_part.h"
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

/* Rows of the heads of a part: its queries', its keys', its values'. */
static void take_heads(const struct mp_shape *shape, const void *from, const struct mp_shape *part,
                       size_t index, void *to, size_t size)
{
    const size_t head = (size_t)shape->head_dim;
    const size_t q = (size_t)mp_shape_q_width(shape);
    const size_t kv = (size_t)shape->num_key_value_heads * head;
    const size_t own_q = (size_t)mp_shape_q_width(part);
    const size_t own_kv = (size_t)part->num_key_value_heads * head;
    char *out = to;
    weight_rows(out, from, index * own_q, own_q, size);
    weight_rows(out + own_q * size, from, q + index * own_kv, own_kv, size);
    weight_rows(out + (own_q + own_kv) * size, from, q + kv + index * own_kv, own_kv, size);
}

void projection_weights_part(const struct mp_shape *shape, const void *whole,
                             const struct mp_shape *part, int index, void *out)
{
    struct projection_weights from = {0}, to = {0};
    const size_t hidden = (size_t)shape->hidden_size;
    const size_t head_dim = (size_t)shape->head_dim;
    projection_weights_at(shape, whole, &from);
    projection_weights_at(part, out, &to);
    weight_rows((void *)to.norm, from.norm, 0, hidden, sizeof *to.norm);
    take_heads(shape, from.qkv, part, (size_t)index, (void *)to.qkv, hidden * sizeof *to.qkv);
    if (shape->qkv_bias) {
        take_heads(shape, from.bias, part, (size_t)index, (void *)to.bias, sizeof *to.bias);
    }
    if (shape->qk_norm) {
        weight_rows((void *)to.q_norm, from.q_norm, 0, head_dim, sizeof *to.q_norm);
        weight_rows((void *)to.k_norm, from.k_norm, 0, head_dim, sizeof *to.k_norm);
    }
}
