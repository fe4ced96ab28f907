#include "codelets/projection/projection_copy.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"

/* Normalizes (if the model does) and rotates one head in place. */
static void position_head(const struct projection_args *a, float *head, const float *norm,
                          const float *cosine, const float *sine)
{
    int d = a->shape->head_dim;
    if (norm != NULL) {
        elementwise_ref.rms_norm(head, head, norm, d, a->shape->qk_norm_eps);
    }
    elementwise_ref.rope(head, cosine, sine, d);
}

/* Appends key and value head h of one row to slot `index` of the cache. */
static void append(const struct kv_cache *cache, int h, int64_t index, const float *k,
                   const float *v)
{
    int d = cache->head_dim;
    size_t at = (size_t)(h * cache->capacity + index) * (size_t)d;
    for (int c = 0; c < d; c++) {
        float mean = cache->k_mean != NULL ? cache->k_mean[h * d + c] : 0.0f;
        mp_store(cache->k, cache->dtype, at + (size_t)c, k[c] - mean);
        mp_store(cache->v, cache->dtype, at + (size_t)c, v[c]);
    }
}

/* q, k, v heads of one row (qkv, overwritten) -> q of the row and slots of its request's cache. */
static void finish_row(const struct projection_args *a, int64_t row, float *qkv)
{
    int d = a->shape->head_dim;
    int num_heads = a->shape->num_attention_heads;
    int num_kv_heads = a->shape->num_key_value_heads;
    const struct projection_target *target = &a->targets[row / a->rows_per_target];
    int64_t offset = row % a->rows_per_target;
    float cosine[MP_MAX_HEAD_DIM / 2];
    float sine[MP_MAX_HEAD_DIM / 2];
    rope_angles(cosine, sine, target->inv_freq, d, target->position + offset, target->rope_scale);

    float *k = qkv + num_heads * d;
    float *v = k + num_kv_heads * d;
    for (int h = 0; h < num_heads; h++) {
        position_head(a, qkv + h * d, a->weights.q_norm, cosine, sine);
    }
    for (int c = 0; c < num_heads * d; c++) {
        a->q[row * num_heads * d + c] = qkv[c];
    }
    copy_queries(a, row, qkv);
    for (int h = 0; h < num_kv_heads; h++) {
        position_head(a, k + h * d, a->weights.k_norm, cosine, sine);
        append(target->cache, h, target->index + offset, k + h * d, v + h * d);
    }
}

void projection_ref(const struct projection_args *a)
{
    int hidden = a->shape->hidden_size;
    int width = mp_shape_qkv_rows(a->shape);
    mp_scratch_reset();
    float *normed = mp_scratch((size_t)hidden, sizeof *normed);
    float *qkv = mp_scratch((size_t)width, sizeof *qkv);
    for (int64_t row = 0; row < a->num_targets * a->rows_per_target; row++) {
        elementwise_ref.rms_norm(normed, a->x + row * hidden, a->weights.norm, hidden,
                                 a->shape->rms_norm_eps);
        linear_ref(&(struct linear_args){
            .x = normed,
            .x_stride = hidden,
            .w = a->weights.qkv,
            .bias = a->weights.bias,
            .y = qkv,
            .y_stride = width,
            .rows = 1,
            .in = hidden,
            .out = width,
        });
        finish_row(a, row, qkv);
    }
}
