/* projection on the GPU: the fused QKV product into workspace, then one kernel that turns its rows
 * into q and cache entries, a warp a head. */
extern "C" {
#include "codelets/projection/projection.h"
#include "core/machine/shard.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"
#include "codelets/common/linear/linear_cuda.h"

#include <string.h>

namespace
{

enum {
    FINISH_WARPS = 8,
    FINISH_THREADS = 32 * FINISH_WARPS,
    FINISH_TARGETS = 16,            /* a launch: they travel as a kernel parameter */
    MAX_HALF = MP_MAX_HEAD_DIM / 2, /* a head's rotation pairs */
    LANE_PAIRS = MAX_HALF / 32,
};

/* A projection_target as the kernel needs it. */
struct finish_target {
    uint16_t *k;
    uint16_t *v;
    const float *k_mean;
    int64_t capacity;
    int64_t index;
    int64_t position;
    float rope_scale;
    float inv_freq[MAX_HALF];
};

/* Rows [first_row, first_row + grid) of the op, all of which belong to the targets listed. */
struct finish_params {
    const float *qkv; /* row first_row: [q heads, k heads, v heads][head_dim] a row */
    float *q;         /* of the op: row 0 */
    projection_copy copies[MP_MAX_SHARDS]; /* [num_copies] of the op: row 0 */
    int num_copies;
    const float *bias;
    const float *q_norm;
    const float *k_norm;
    float eps;
    int num_heads;
    int num_kv_heads;
    int head_dim;
    int64_t first_row;
    int64_t rows_per_target;
    int64_t first_target; /* the op's index of targets[0] */
    finish_target targets[FINISH_TARGETS];
};

/* A head in the registers of a warp: lane l holds the rotation pairs l, l + 32, ..., which are
 * elements i and i + head_dim / 2. */
struct head_pairs {
    float a[LANE_PAIRS];
    float b[LANE_PAIRS];
};

/* Calls body(p, i) for the lane's pairs: p counts them, i is the pair. */
template <typename Body> __device__ __forceinline__ void for_each_pair(int half, Body body)
{
#pragma unroll
    for (int p = 0; p < LANE_PAIRS; p++) {
        int i = 32 * p + threadIdx.x % 32;
        if (i < half) {
            body(p, i);
        }
    }
}

__device__ __forceinline__ void normalize(head_pairs *head, const float *gain, int half, float eps)
{
    float squares = 0.0f;
    for_each_pair(
        half, [&](int p, int) { squares += head->a[p] * head->a[p] + head->b[p] * head->b[p]; });
    float scale = 1.0f / sqrtf(warp_sum(squares) / (float)(2 * half) + eps);
    for_each_pair(half, [&](int p, int i) {
        head->a[p] *= scale * gain[i];
        head->b[p] *= scale * gain[half + i];
    });
}

__device__ __forceinline__ void rotate(head_pairs *head, const float *cosine, const float *sine,
                                       int half)
{
    for_each_pair(half, [&](int p, int i) {
        float a = head->a[p];
        float b = head->b[p];
        head->a[p] = a * cosine[i] - b * sine[i];
        head->b[p] = b * cosine[i] + a * sine[i];
    });
}

/* To a head's slot in a cache, less mean (NULL: 0). */
__device__ __forceinline__ void append(const head_pairs &head, uint16_t *slot, const float *mean,
                                       int half)
{
    for_each_pair(half, [&](int p, int i) {
        slot[i] = float_to_bf16(head.a[p] - (mean != NULL ? mean[i] : 0.0f));
        slot[half + i] = float_to_bf16(head.b[p] - (mean != NULL ? mean[half + i] : 0.0f));
    });
}

/* CTA (x, y): heads [y * FINISH_WARPS, ...) of row first_row + x. */
__global__ void __launch_bounds__(FINISH_THREADS)
    finish_kernel(begin_stamp stamp, const __grid_constant__ finish_params a)
{
    __shared__ float cosine[MAX_HALF];
    __shared__ float sine[MAX_HALF];
    allow_next_kernel();
    const int d = a.head_dim;
    const int half = d / 2;
    const int64_t row = a.first_row + blockIdx.x;
    const finish_target &target = a.targets[row / a.rows_per_target - a.first_target];
    const int64_t offset = row % a.rows_per_target;
    for (int i = threadIdx.x; i < half; i += FINISH_THREADS) {
        /* As the models were trained, the angle is rounded to float32; it may reach 1e5, beyond
         * what the fast intrinsics can reduce. */
        float angle = (float)(target.position + offset) * target.inv_freq[i];
        sincosf(angle, &sine[i], &cosine[i]);
        sine[i] *= target.rope_scale;
        cosine[i] *= target.rope_scale;
    }
    wait_for_kernels(stamp); /* the angles depend on parameters alone */
    __syncthreads();

    const int heads = a.num_heads + 2 * a.num_kv_heads;
    int h = blockIdx.y * FINISH_WARPS + threadIdx.x / 32;
    if (h >= heads) {
        return;
    }
    const float *from = a.qkv + ((int64_t)blockIdx.x * heads + h) * d;
    head_pairs head;
    for_each_pair(half, [&](int p, int i) {
        head.a[p] = from[i] + (a.bias != NULL ? a.bias[h * d + i] : 0.0f);
        head.b[p] = from[half + i] + (a.bias != NULL ? a.bias[h * d + half + i] : 0.0f);
    });

    const bool is_q = h < a.num_heads;
    const bool is_v = h >= a.num_heads + a.num_kv_heads;
    if (!is_v) {
        const float *gain = is_q ? a.q_norm : a.k_norm;
        if (gain != NULL) {
            normalize(&head, gain, half, a.eps);
        }
        rotate(&head, cosine, sine, half);
    }
    if (is_q) {
        float *q = a.q + (row * a.num_heads + h) * d;
        for_each_pair(half, [&](int p, int i) {
            q[i] = head.a[p];
            q[half + i] = head.b[p];
        });
        for (int c = 0; c < a.num_copies; c++) {
            int own = h - a.copies[c].first_head;
            if (own >= 0 && own < a.copies[c].num_heads) {
                float *copy = a.copies[c].q + (row * a.copies[c].num_heads + own) * d;
                for_each_pair(half, [&](int p, int i) {
                    copy[i] = head.a[p];
                    copy[half + i] = head.b[p];
                });
            }
        }
        return;
    }
    h -= is_v ? a.num_heads + a.num_kv_heads : a.num_heads;
    int64_t slot = (h * target.capacity + target.index + offset) * d;
    const float *mean = is_v || target.k_mean == NULL ? NULL : target.k_mean + h * d;
    append(head, (is_v ? target.v : target.k) + slot, mean, half);
}

finish_target make_target(const projection_target *from, int head_dim)
{
    const kv_cache *cache = from->cache;
    if (cache->dtype != MP_BF16) {
        mp_panic("projection: a GPU cache of head_dim %d is not bf16", head_dim);
    }
    finish_target target = {};
    target.k = static_cast<uint16_t *>(cache->k);
    target.v = static_cast<uint16_t *>(cache->v);
    target.k_mean = cache->k_mean;
    target.capacity = cache->capacity;
    target.index = from->index;
    target.position = from->position;
    target.rope_scale = from->rope_scale;
    memcpy(target.inv_freq, from->inv_freq, (size_t)(head_dim / 2) * sizeof(float));
    return target;
}

/* Rows [first, end) of the op, whose products lie in qkv; FINISH_TARGETS targets a launch. */
void finish_rows(const projection_args *a, const float *qkv, int64_t first, int64_t end)
{
    const mp_shape *shape = a->shape;
    const int heads = shape->num_attention_heads + 2 * shape->num_key_value_heads;
    finish_params params = {};
    params.q = a->q;
    params.num_copies = a->num_copies;
    memcpy(params.copies, a->copies, (size_t)a->num_copies * sizeof *a->copies);
    params.bias = a->weights.bias;
    params.q_norm = a->weights.q_norm;
    params.k_norm = a->weights.k_norm;
    params.eps = shape->qk_norm_eps;
    params.num_heads = shape->num_attention_heads;
    params.num_kv_heads = shape->num_key_value_heads;
    params.head_dim = shape->head_dim;
    params.rows_per_target = a->rows_per_target;
    for (int64_t row = first; row < end;) {
        params.qkv = qkv + (row - first) * heads * shape->head_dim;
        params.first_row = row;
        params.first_target = row / a->rows_per_target;
        int64_t next = params.first_target; /* target */
        for (; next < params.first_target + FINISH_TARGETS && next * a->rows_per_target < end;
             next++) {
            params.targets[next - params.first_target] =
                make_target(&a->targets[next], shape->head_dim);
        }
        int64_t stop = next * a->rows_per_target < end ? next * a->rows_per_target : end;
        dim3 grid((unsigned)(stop - row), (unsigned)(heads + FINISH_WARPS - 1) / FINISH_WARPS);
        launch_overlapped(finish_kernel, grid, FINISH_THREADS, 0, params);
        row = stop;
    }
}

size_t qkv_bytes(const mp_shape *shape, int64_t rows)
{
    return (size_t)linear_cuda_block(0, rows) * (size_t)mp_shape_qkv_rows(shape) * sizeof(float);
}

} // namespace

void projection_cuda(const struct projection_args *a)
{
    const int hidden = a->shape->hidden_size;
    const int64_t rows = a->num_targets * a->rows_per_target;
    const struct linear_norm norm = {a->weights.norm, a->shape->rms_norm_eps};
    struct linear_parts parts = linear_cuda_take_parts(rows, hidden);
    float *qkv = static_cast<float *>(cuda_workspace(qkv_bytes(a->shape, rows)));
    for (int64_t first = 0; first < rows; first += LINEAR_CUDA_ROW_BLOCK) {
        struct linear_args product = {}; /* the bias is added by finish_rows */
        product.x = a->x + first * hidden;
        product.x_stride = hidden;
        product.w = a->weights.qkv;
        product.y = qkv;
        product.y_stride = mp_shape_qkv_rows(a->shape);
        product.rows = linear_cuda_block(first, rows);
        product.in = hidden;
        product.out = mp_shape_qkv_rows(a->shape);
        linear_cuda(&product, &norm, &parts);
        finish_rows(a, qkv, first, first + product.rows);
    }
}

size_t projection_cuda_workspace(const struct mp_shape *shape, int64_t rows)
{
    return linear_cuda_workspace(rows, shape->hidden_size) +
           cuda_workspace_round(qkv_bytes(shape, rows));
}
