#include "codelets/output/output.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/linear/row_block.h"
#include "codelets/common/scratch.h"

#include <math.h>
#include <string.h>

/* What is not empty of a head's parts. */
struct live_parts {
    const float *o[ATTENTION_MAX_PARTS]; /* [head_dim] each */
    float weight[ATTENTION_MAX_PARTS];   /* lse, then exp(lse - max) */
    float max;                           /* of the lse; -INFINITY: none */
    float total;                         /* of the weights */
    int count;
};

static void find_live_parts(const struct output_args *a, int64_t row, int h,
                            struct live_parts *live)
{
    float max = -INFINITY;
    live->count = 0;
    live->total = 0.0f;
    for (int i = 0; i < a->num_parts; i++) {
        const struct attention_part *p = &a->parts[i];
        if (!attention_part_covers(p, h)) {
            continue;
        }
        int64_t at = attention_part_at(p, row, h);
        float lse = p->lse == NULL ? 0.0f : p->lse[at];
        if (lse != -INFINITY) {
            max = fmaxf(max, lse);
            live->o[live->count] = p->o + at * a->shape->head_dim;
            live->weight[live->count++] = lse;
        }
    }
    for (int i = 0; i < live->count; i++) {
        live->weight[i] = expf(live->weight[i] - max);
        live->total += live->weight[i];
    }
    live->max = max;
}

/* Merges head h of a row. */
static void merge_head(const struct output_args *a, const struct elementwise *e, int64_t row, int h,
                       float *out)
{
    int d = a->shape->head_dim;
    struct live_parts live;
    find_live_parts(a, row, h, &live);
    if (a->merged.lse != NULL) {
        a->merged.lse[row * a->shape->num_attention_heads + h] =
            live.count == 0 ? -INFINITY : live.max + logf(live.total);
    }
    if (live.count == 0) {
        memset(out, 0, (size_t)d * sizeof *out);
        return;
    }
    if (live.count == 1) {
        memcpy(out, live.o[0], (size_t)d * sizeof *out);
        return;
    }
    const float *w = live.weight;
    e->blend(out, live.o[0], w[0] / live.total, live.o[1], w[1] / live.total, d);
    for (int i = 2; i < live.count; i++) {
        e->blend(out, out, 1.0f, live.o[i], w[i] / live.total, d);
    }
}

/* The attention output [rows][num_attention_heads][head_dim] of a block of rows: that of the only
 * part where there is nothing to merge, nor a merge wanted. */
static const float *merge_rows(const struct output_args *a, int64_t first, int64_t rows)
{
    int width = mp_shape_q_width(a->shape);
    int heads = a->shape->num_attention_heads;
    bool wanted = a->merged.o != NULL;
    if (!wanted && attention_part_is_all(a->parts, a->num_parts, heads)) {
        return a->parts[0].o + first * width;
    }
    const struct elementwise *e = elementwise_current();
    float *merged = wanted ? a->merged.o + first * width
                           : mp_scratch((size_t)rows * (size_t)width, sizeof *merged);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < rows * heads; i++) {
        merge_head(a, e, first + i / heads, (int)(i % heads), merged + i * a->shape->head_dim);
    }
    return merged;
}

void output_fast(const struct output_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = mp_shape_q_width(a->shape);
    attention_parts_check(a->parts, a->num_parts, a->shape->num_attention_heads);
    for (int64_t first = 0; first < a->rows; first += MAX_ROW_BLOCK) {
        int64_t rows = row_block(first, a->rows);
        mp_scratch_reset();
        linear_fast(&(struct linear_args){
            .x = merge_rows(a, first, rows),
            .x_stride = width,
            .w = a->weights.o,
            .bias = a->weights.bias,
            .y = a->x + first * hidden,
            .y_stride = hidden,
            .rows = rows,
            .in = width,
            .out = hidden,
            .accumulate = true,
        });
    }
}
