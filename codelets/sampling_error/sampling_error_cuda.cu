/* sampling_error on the GPU: a CTA a query head of a row, its warps take the tokens in turn. Few
 * steps are measured, and each token's rows have just been read: it is not more than simple. */
extern "C" {
#include "codelets/sampling_error/sampling_error_lists.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"

namespace
{

enum { ERROR_WARPS = 8, ERROR_ROWS = 16 /* of a launch: they are kernel parameters */ };

struct error_row {
    const void *k; /* NULL: nothing was drawn */
    const void *v;
    const kv_scale *scales; /* NULL unless int8 */
    const uint32_t *ids;
    const float *log_weights;
    int64_t ids_stride;
    int64_t capacity; /* tokens between two KV heads */
};

/* All but row and rows begin with the launch's first row. */
struct error_launch {
    error_row row[ERROR_ROWS];
    const float *q;
    const float *o;
    const float *lse;
    const int32_t *nnz;
    float *error;
    int layer_heads;
    int first_head;
    int num_kv_heads;
    int group;
    int head_dim;
    float scale;
};

__device__ __forceinline__ float element(const void *rows, bool int8, int64_t i)
{
    return int8 ? (float)static_cast<const int8_t *>(rows)[i]
                : __uint_as_float((unsigned)static_cast<const uint16_t *>(rows)[i] << 16);
}

/* (1 - pi) |r|^2 / D^2 of one token, by a warp. */
__device__ float token_error(const error_launch &p, const error_row &r, int64_t token,
                             float log_weight, const float *q, const float *o, float lse)
{
    const bool int8 = r.scales != NULL;
    const kv_scale by = int8 ? r.scales[token] : kv_scale{1.0f, 1.0f};
    float dot = 0.0f;
    float distance = 0.0f;
    for (int c = threadIdx.x % 32; c < p.head_dim; c += 32) {
        const int64_t i = token * p.head_dim + c;
        const float v = element(r.v, int8, i) * by.v - o[c];
        dot += q[c] * element(r.k, int8, i);
        distance += v * v;
    }
    dot = warp_sum(dot) * by.k;
    distance = warp_sum(distance);
    const float weight = expf(dot * p.scale + log_weight - lse);
    return (1.0f - expf(-log_weight)) * weight * weight * distance;
}

/* Grid: query heads, rows. */
__global__ void __launch_bounds__(32 * ERROR_WARPS)
    error_kernel(begin_stamp stamp, const __grid_constant__ error_launch p)
{
    __shared__ float sums[ERROR_WARPS];
    __shared__ float q[MP_MAX_HEAD_DIM]; /* and o, which may lie in host memory */
    __shared__ float o[MP_MAX_HEAD_DIM];
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int head = blockIdx.x;
    const int kv_head = head / p.group;
    const int64_t row = blockIdx.y;
    const error_row &r = p.row[row];
    const int64_t of_layer = row * p.layer_heads + p.first_head + head;
    const int64_t own = row * gridDim.x + head;
    const int n = r.k != NULL ? p.nnz[row * p.num_kv_heads + kv_head] : 0;
    const int64_t selected = kv_head * r.ids_stride;
    const int warp = threadIdx.x / 32;
    const float lse = p.lse[of_layer];
    for (int c = threadIdx.x; c < p.head_dim; c += 32 * ERROR_WARPS) {
        q[c] = p.q[own * p.head_dim + c];
        o[c] = p.o[of_layer * p.head_dim + c];
    }
    __syncthreads();
    float sum = 0.0f;
    for (int j = warp; j < n; j += ERROR_WARPS) {
        sum += token_error(p, r, kv_head * r.capacity + r.ids[selected + j],
                           r.log_weights[selected + j], q, o, lse);
    }
    if (threadIdx.x % 32 == 0) {
        sums[warp] = sum;
    }
    __syncthreads();
    if (warp == 0) {
        float norm = 0.0f;
        for (int c = threadIdx.x; c < p.head_dim; c += 32) {
            norm += o[c] * o[c];
        }
        norm = warp_sum(norm);
        const float total = warp_sum(threadIdx.x < ERROR_WARPS ? sums[threadIdx.x] : 0.0f);
        if (threadIdx.x == 0) {
            p.error[own] = norm > 0.0f ? sqrtf(total / norm) : 0.0f;
        }
    }
}

error_row describe_row(const sampling_error_args *a, int64_t r)
{
    error_row row = {};
    const offloaded_kv *kv = a->kv[r];
    if (kv != NULL && kv->count > 0) {
        row.k = kv->k;
        row.v = kv->v;
        row.scales = kv->dtype == MP_I8 ? kv->scales : NULL;
        row.ids = a->ids[r];
        row.log_weights = a->log_weights[r];
        row.ids_stride = a->ids_stride[r];
        row.capacity = kv->capacity;
    }
    return row;
}

} // namespace

void sampling_error_cuda(const struct sampling_error_args *a)
{
    for (int64_t first = 0; first < a->rows; first += ERROR_ROWS) {
        const int rows =
            (int)(a->rows - first < ERROR_ROWS ? a->rows - first : (int64_t)ERROR_ROWS);
        error_launch p = {};
        for (int r = 0; r < rows; r++) {
            p.row[r] = describe_row(a, first + r);
        }
        p.q = a->q + first * a->num_heads * a->head_dim;
        p.o = a->o + first * a->layer_heads * a->head_dim;
        p.lse = a->lse + first * a->layer_heads;
        p.nnz = a->nnz + first * a->num_kv_heads;
        p.error = a->error + first * a->num_heads;
        p.layer_heads = a->layer_heads;
        p.first_head = a->first_head;
        p.num_kv_heads = a->num_kv_heads;
        p.group = a->num_heads / a->num_kv_heads;
        p.head_dim = a->head_dim;
        p.scale = a->scale;
        launch_overlapped(error_kernel, dim3((unsigned)a->num_heads, (unsigned)rows),
                          32 * ERROR_WARPS, 0, p);
    }
}
