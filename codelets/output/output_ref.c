#include "codelets/output/output.h"

#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"

#include <math.h>

/* Merges head h of a row. An empty part (lse = -inf) is not even looked at. */
static void merge_head(const struct output_args *a, int64_t row, int h, float *out)
{
    int head_dim = a->shape->head_dim;
    float weight[ATTENTION_MAX_PARTS]; /* lse, then exp(lse - max) */
    const float *o[ATTENTION_MAX_PARTS];
    int n = 0;
    float max = -INFINITY;
    for (int i = 0; i < a->num_parts; i++) {
        const struct attention_part *p = &a->parts[i];
        if (attention_part_covers(p, h)) {
            int64_t at = attention_part_at(p, row, h);
            weight[n] = p->lse == NULL ? 0.0f : p->lse[at];
            o[n] = p->o + at * head_dim;
            if (weight[n] != -INFINITY) {
                max = fmaxf(max, weight[n]);
                n++;
            }
        }
    }
    float total = 0.0f;
    for (int i = 0; i < n; i++) {
        weight[i] = expf(weight[i] - max);
        total += weight[i];
    }
    for (int c = 0; c < head_dim; c++) {
        float sum = 0.0f;
        for (int i = 0; i < n; i++) {
            sum += weight[i] * o[i][c];
        }
        out[c] = n == 0 ? 0.0f : sum / total;
    }
}

/* The attention output of one row: that of the only part, or the merge of the parts in `merged`. */
static const float *merge_row(const struct output_args *a, int64_t row, float *merged)
{
    int heads = a->shape->num_attention_heads;
    int d = a->shape->head_dim;
    if (attention_part_is_all(a->parts, a->num_parts, heads)) {
        return a->parts[0].o + row * heads * d;
    }
    for (int h = 0; h < heads; h++) {
        merge_head(a, row, h, merged + h * d);
    }
    return merged;
}

void output_ref(const struct output_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = mp_shape_q_width(a->shape);
    attention_parts_check(a->parts, a->num_parts, a->shape->num_attention_heads);
    mp_scratch_reset();
    float *merged = mp_scratch((size_t)width, sizeof *merged);
    for (int64_t row = 0; row < a->rows; row++) {
        linear_ref(&(struct linear_args){
            .x = merge_row(a, row, merged),
            .x_stride = width,
            .w = a->weights.o,
            .bias = a->weights.bias,
            .y = a->x + row * hidden,
            .y_stride = hidden,
            .rows = 1,
            .in = width,
            .out = hidden,
            .accumulate = true,
        });
    }
}
