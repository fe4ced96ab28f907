#include "codelets/projection/projection_copy.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/linear/row_block.h"
#include "codelets/common/scratch.h"

#include <string.h>

/* Cosines and sines of a row's position, times its rope scale. */
struct rotation {
    float cosine[MP_MAX_HEAD_DIM / 2];
    float sine[MP_MAX_HEAD_DIM / 2];
};

/* Normalizes (if the model does) and rotates `count` consecutive heads in place. */
static void position_heads(const struct mp_shape *shape, const struct elementwise *e, float *heads,
                           int count, const float *norm, const struct rotation *rotation)
{
    int d = shape->head_dim;
    for (float *head = heads; head < heads + count * d; head += d) {
        if (norm != NULL) {
            e->rms_norm(head, head, norm, d, shape->qk_norm_eps);
        }
        e->rope(head, rotation->cosine, rotation->sine, d);
    }
}

/* Writes n elements from offset `at` of a cache's k or v. */
static void store(void *to, enum mp_dtype dtype, int64_t at, const struct elementwise *e,
                  const float *x, int n)
{
    if (dtype == MP_BF16) {
        e->to_bf16((uint16_t *)to + at, x, n);
    } else {
        memcpy((float *)to + at, x, (size_t)n * sizeof *x);
    }
}

/* Appends one row's heads k and v [num_kv_heads][head_dim] as token `index`; centers k. */
static void append(const struct kv_cache *cache, const struct elementwise *e, int64_t index,
                   float *k, const float *v)
{
    int d = cache->head_dim;
    int width = cache->num_kv_heads * d;
    if (cache->k_mean != NULL) {
        e->blend(k, k, 1.0f, cache->k_mean, -1.0f, width);
    }
    for (int h = 0; h < cache->num_kv_heads; h++) {
        int64_t at = (h * cache->capacity + index) * d;
        store(cache->k, cache->dtype, at, e, k + h * d, d);
        store(cache->v, cache->dtype, at, e, v + h * d, d);
    }
}

/* q, k, v heads of one row (qkv, overwritten) -> q of the row and a token of its cache. */
static void finish_row(const struct projection_args *a, const struct elementwise *e, int64_t row,
                       float *qkv)
{
    const struct mp_shape *shape = a->shape;
    const struct projection_target *target = &a->targets[row / a->rows_per_target];
    int64_t offset = row % a->rows_per_target;
    int q_width = mp_shape_q_width(shape);
    float *k = qkv + q_width;
    float *v = k + shape->num_key_value_heads * shape->head_dim;

    struct rotation rotation;
    rope_angles(rotation.cosine, rotation.sine, target->inv_freq, shape->head_dim,
                target->position + offset, target->rope_scale);
    position_heads(shape, e, qkv, shape->num_attention_heads, a->weights.q_norm, &rotation);
    position_heads(shape, e, k, shape->num_key_value_heads, a->weights.k_norm, &rotation);
    memcpy(a->q + row * q_width, qkv, (size_t)q_width * sizeof *qkv);
    copy_queries(a, row, qkv);
    append(target->cache, e, target->index + offset, k, v);
}

static void projection_block(const struct projection_args *a, int64_t first, int64_t rows)
{
    const struct elementwise *e = elementwise_current();
    int hidden = a->shape->hidden_size;
    int width = mp_shape_qkv_rows(a->shape);
    mp_scratch_reset();
    float *normed = mp_scratch((size_t)rows * (size_t)hidden, sizeof *normed);
    float *qkv = mp_scratch((size_t)rows * (size_t)width, sizeof *qkv);

    rms_norm_rows(normed, a->x + first * hidden, a->weights.norm, rows, hidden,
                  a->shape->rms_norm_eps);
    linear_fast(&(struct linear_args){
        .x = normed,
        .x_stride = hidden,
        .w = a->weights.qkv,
        .bias = a->weights.bias,
        .y = qkv,
        .y_stride = width,
        .rows = rows,
        .in = hidden,
        .out = width,
    });
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        finish_row(a, e, first + r, qkv + r * width);
    }
}

void projection_fast(const struct projection_args *a)
{
    int64_t rows = a->num_targets * a->rows_per_target;
    for (int64_t first = 0; first < rows; first += MAX_ROW_BLOCK) {
        projection_block(a, first, row_block(first, rows));
    }
}
