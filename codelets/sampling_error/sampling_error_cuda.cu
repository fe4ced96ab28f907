/* sampling_error on the GPU: a CTA up to 8 query heads of a KV head of a row, its warps take the
 * tokens in turn. Rows may lie in host memory: each is read once, as whole lines. */
extern "C" {
#include "codelets/sampling_error/sampling_error_lists.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"

namespace
{

enum {
    ERROR_WARPS = 32,
    ERROR_QUERIES = 8,
    ERROR_QUADS = MP_MAX_HEAD_DIM / 4 / 32, /* of a row, a lane: four channels each */
    ERROR_ROWS = 16,                        /* of a launch: they are kernel parameters */
};

struct error_row {
    const void *k; /* NULL: nothing was drawn */
    const void *v;
    const kv_scale *scales; /* NULL unless int8 */
    const uint32_t *ids;
    const float *log_weights;
    int64_t ids_stride;
    int64_t capacity; /* tokens between two KV heads */
    int quads;        /* four channels each, from a row to the next */
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

/* What a CTA's query heads are, and what they have come to. */
struct error_shared {
    float4 q[ERROR_QUERIES][MP_MAX_HEAD_DIM / 4];
    float4 o[ERROR_QUERIES][MP_MAX_HEAD_DIM / 4]; /* may come from host memory */
    float lse[ERROR_QUERIES];
    float sums[ERROR_QUERIES][ERROR_WARPS];
};

__device__ __forceinline__ float4 load_quad(const void *rows, bool int8, int64_t i)
{
    if (int8) {
        const char4 x = static_cast<const char4 *>(rows)[i];
        return make_float4(x.x, x.y, x.z, x.w);
    }
    const uint2 x = static_cast<const uint2 *>(rows)[i];
    return make_float4(__uint_as_float(x.x << 16), __uint_as_float(x.x & 0xffff0000u),
                       __uint_as_float(x.y << 16), __uint_as_float(x.y & 0xffff0000u));
}

__device__ __forceinline__ float dot(float4 a, float4 b)
{
    return a.x * b.x + a.y * b.y + a.z * b.z + a.w * b.w;
}

/* Adds (1 - pi) |r|^2 / D^2 of one token to the sums of the query heads, by a warp. */
__device__ void add_token(const error_launch &p, const error_row &r, const error_shared &shared,
                          int64_t token, float log_weight, int queries,
                          float (&sums)[ERROR_QUERIES])
{
    const bool int8 = r.scales != NULL;
    const int quads = p.head_dim / 4;
    float4 k[ERROR_QUADS];
    float4 v[ERROR_QUADS];
#pragma unroll
    for (int i = 0; i < ERROR_QUADS; i++) {
        const int at = (int)threadIdx.x % 32 + 32 * i;
        k[i] = at < quads ? load_quad(r.k, int8, token * r.quads + at) : make_float4(0, 0, 0, 0);
        v[i] = at < quads ? load_quad(r.v, int8, token * r.quads + at) : make_float4(0, 0, 0, 0);
    }
    const kv_scale by = int8 ? r.scales[token] : kv_scale{1.0f, 1.0f};
    const float rest = 1.0f - expf(-log_weight);
#pragma unroll
    for (int g = 0; g < ERROR_QUERIES; g++) {
        if (g < queries) {
            float product = 0.0f;
            float distance = 0.0f;
#pragma unroll
            for (int i = 0; i < ERROR_QUADS; i++) {
                const int at = (int)threadIdx.x % 32 + 32 * i;
                if (at < quads) {
                    const float4 o = shared.o[g][at];
                    const float4 off = make_float4(v[i].x * by.v - o.x, v[i].y * by.v - o.y,
                                                   v[i].z * by.v - o.z, v[i].w * by.v - o.w);
                    product += dot(shared.q[g][at], k[i]);
                    distance += dot(off, off);
                }
            }
            product = warp_sum(product) * by.k;
            distance = warp_sum(distance);
            const float weight = expf(product * p.scale + log_weight - shared.lse[g]);
            sums[g] += rest * weight * weight * distance;
        }
    }
}

/* The error of query head `query`, by a warp. */
__device__ float conclude(const error_launch &p, const error_shared &shared, int query)
{
    float norm = 0.0f;
    for (int at = threadIdx.x % 32; at < p.head_dim / 4; at += 32) {
        norm += dot(shared.o[query][at], shared.o[query][at]);
    }
    norm = warp_sum(norm);
    const float total = warp_sum(shared.sums[query][threadIdx.x % 32]);
    return norm > 0.0f ? sqrtf(total / norm) : 0.0f;
}

/* Grid: blocks of query heads of all KV heads, rows. */
__global__ void __launch_bounds__(32 * ERROR_WARPS)
    error_kernel(begin_stamp stamp, const __grid_constant__ error_launch p)
{
    __shared__ error_shared shared;
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int blocks = (p.group + ERROR_QUERIES - 1) / ERROR_QUERIES;
    const int kv_head = blockIdx.x / blocks;
    const int first = blockIdx.x % blocks * ERROR_QUERIES;
    const int queries = min((int)ERROR_QUERIES, p.group - first);
    const int64_t row = blockIdx.y;
    const error_row &r = p.row[row];
    const int64_t own = (row * p.num_kv_heads + kv_head) * p.group + first;
    const int64_t of_layer = row * p.layer_heads + p.first_head + kv_head * p.group + first;
    const int quads = p.head_dim / 4;
    const int warp = threadIdx.x / 32;
    for (int i = threadIdx.x; i < queries * quads; i += 32 * ERROR_WARPS) {
        shared.q[i / quads][i % quads] = reinterpret_cast<const float4 *>(p.q)[own * quads + i];
        shared.o[i / quads][i % quads] =
            reinterpret_cast<const float4 *>(p.o)[of_layer * quads + i];
    }
    if ((int)threadIdx.x < queries) {
        shared.lse[threadIdx.x] = p.lse[of_layer + threadIdx.x];
    }
    __syncthreads();
    const int n = r.k != NULL ? p.nnz[row * p.num_kv_heads + kv_head] : 0;
    const int64_t selected = kv_head * r.ids_stride;
    float sums[ERROR_QUERIES] = {};
    for (int j = warp; j < n; j += ERROR_WARPS) {
        add_token(p, r, shared, kv_head * r.capacity + r.ids[selected + j],
                  r.log_weights[selected + j], queries, sums);
    }
#pragma unroll
    for (int g = 0; g < ERROR_QUERIES; g++) {
        if (threadIdx.x % 32 == 0) {
            shared.sums[g][warp] = sums[g];
        }
    }
    __syncthreads();
    if (warp < queries) {
        const float error = conclude(p, shared, warp);
        if (threadIdx.x % 32 == 0) {
            p.error[own + warp] = error;
        }
    }
}

error_row describe_row(const sampling_error_args *a, int64_t r)
{
    error_row row = {};
    const offloaded_kv *kv = a->kv[r];
    if (kv != NULL && kv->count > 0) {
        if (kv->dtype == MP_F32) {
            mp_panic("sampling_error: row %lld: dtype %d", (long long)r, (int)kv->dtype);
        }
        row.k = kv->k;
        row.v = kv->v;
        row.scales = kv->dtype == MP_I8 ? kv->scales : NULL;
        row.ids = a->ids[r];
        row.log_weights = a->log_weights[r];
        row.ids_stride = a->ids_stride[r];
        row.capacity = kv->capacity;
        row.quads = (int)kv_pitch(kv) / 4;
    }
    return row;
}

} // namespace

void sampling_error_cuda(const struct sampling_error_args *a)
{
    if (a->head_dim % 8 != 0 || a->head_dim > MP_MAX_HEAD_DIM) {
        mp_panic("sampling_error: head_dim %d: expected a multiple of 8 up to %d", a->head_dim,
                 (int)MP_MAX_HEAD_DIM);
    }
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
        const int blocks = a->num_kv_heads * ((p.group + ERROR_QUERIES - 1) / ERROR_QUERIES);
        launch_overlapped(error_kernel, dim3((unsigned)blocks, (unsigned)rows), 32 * ERROR_WARPS, 0,
                          p);
    }
}
