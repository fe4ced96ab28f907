/* offload on the GPU: means of the offloaded keys in two stages, then one pass over keys and values
 * for each place that tokens go to. All in units of 16 bytes, 8 channels, called chunks. */
#include "codelets/common/attention/int8_rows_cuda.cuh"

extern "C" {
#include "codelets/offload/offload_slot.h"
}

namespace
{

enum {
    THREADS = 256,   /* at most; as many as make whole rows, so that a thread keeps its channels */
    UNITS = 64,      /* CTAs that share the sum of a head's keys */
    STORE_CTAS = 32, /* enough for PCIe, few enough to leave the GPU to the next layer's prefill */
};

/* partial [heads][UNITS][head_dim]: sums of `count` keys of each head, unit by unit. A thread adds
 * few enough in float; the rest is double. Grid: x units, y heads. */
__global__ void sum_keys_kernel(const uint4 *k, int64_t head_chunks, int64_t count, int chunks,
                                double *partial)
{
    __shared__ channels sums[THREADS];
    k += blockIdx.y * head_chunks;
    const int64_t begin = count * blockIdx.x / UNITS * chunks;
    const int64_t end = count * (blockIdx.x + 1) / UNITS * chunks;
    channels sum = {};
#pragma unroll 4
    for (int64_t i = begin + threadIdx.x; i < end; i += blockDim.x) {
        const channels key = unpack(__ldg(k + i));
#pragma unroll
        for (int c = 0; c < 8; c++) {
            sum.x[c] += key.x[c];
        }
    }
    sums[threadIdx.x] = sum;
    __syncthreads();
    for (int c = threadIdx.x; c < 8 * chunks; c += blockDim.x) {
        double total = 0.0;
        for (int t = c / 8; t < (int)blockDim.x; t += chunks) {
            total += (double)sums[t].x[c % 8];
        }
        partial[((int64_t)blockIdx.y * UNITS + blockIdx.x) * 8 * chunks + c] = total;
    }
}

/* One CTA a head, a thread a channel. */
__global__ void mean_keys_kernel(const double *partial, int64_t count, float *mean)
{
    const int head_dim = blockDim.x;
    partial += (int64_t)blockIdx.x * UNITS * head_dim + threadIdx.x;
    double sum = 0.0;
#pragma unroll 8
    for (int unit = 0; unit < UNITS; unit++) {
        sum += partial[(int64_t)unit * head_dim];
    }
    mean[blockIdx.x * head_dim + threadIdx.x] = count > 0 ? (float)(sum / (double)count) : 0.0f;
}

/* Consecutive tokens of each head, and how far apart tokens and heads are, in chunks. */
struct span {
    uint4 *k;
    uint4 *v; /* NULL: keys alone are stored */
    int64_t head_chunks;
    int pitch;
};

/* n tokens of each head: to = from, keys minus their mean. Grid: x any, y heads. */
__global__ void store_kernel(span from, span to, int64_t n, int chunks, const float *mean)
{
    const int64_t read = blockIdx.y * from.head_chunks + threadIdx.x % chunks;
    const int64_t write = blockIdx.y * to.head_chunks + threadIdx.x % chunks;
    mean += ((int64_t)blockIdx.y * chunks + threadIdx.x % chunks) * 8;
    float m[8];
#pragma unroll
    for (int c = 0; c < 8; c++) {
        m[c] = mean[c];
    }
    const int rows = blockDim.x / chunks; /* of a CTA at a time */
    for (int64_t i = (int64_t)blockIdx.x * rows + threadIdx.x / chunks; i < n;
         i += (int64_t)gridDim.x * rows) {
        channels key = unpack(__ldg(from.k + read + i * from.pitch));
#pragma unroll
        for (int c = 0; c < 8; c++) {
            key.x[c] -= m[c];
        }
        to.k[write + i * to.pitch] = pack(key);
        if (to.v != nullptr) {
            to.v[write + i * to.pitch] = __ldg(from.v + read + i * from.pitch);
        }
    }
}

/* ---- int8 ---- */

enum {
    INT8_TOKENS = 32
}; /* that a warp stores in a row, so that it writes whole lines of scales */

/* As span, in chunks of 8 bytes; all of one head's memory at a time. */
struct int8_span {
    uint2 *k;
    uint2 *v;
    float2 *scales;   /* struct kv_scale */
    int64_t capacity; /* tokens between two heads */
    int pitch;        /* chunks from a token to the next */
};

/* n tokens of each head: to = from, keys minus their mean. A warp a token, a lane a chunk. Grid: x
 * any, y heads. */
__global__ void store_int8_kernel(span from, int8_span to, int64_t n, int chunks, const float *mean)
{
    const int lane = threadIdx.x % 32;
    const bool active = lane < chunks;
    const int64_t read = blockIdx.y * from.head_chunks;
    const int64_t head = blockIdx.y * to.capacity;
    float m[8];
#pragma unroll
    for (int c = 0; c < 8; c++) {
        m[c] = active ? mean[((int64_t)blockIdx.y * chunks + lane) * 8 + c] : 0.0f;
    }
    const int64_t warp = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const int64_t stride = (int64_t)gridDim.x * (blockDim.x / 32) * INT8_TOKENS;
    for (int64_t first = warp * INT8_TOKENS; first < n; first += stride) {
        const int tokens = (int)min(n - first, (int64_t)INT8_TOKENS);
        float2 scales = make_float2(0.0f, 0.0f); /* of token `lane` */
#pragma unroll 4
        for (int j = 0; j < tokens; j++) {
            const int64_t in = read + (first + j) * chunks + lane;
            const int64_t out = (head + first + j) * to.pitch + lane;
            channels key = unpack(active ? __ldg(from.k + in) : make_uint4(0, 0, 0, 0));
            channels value = unpack(active ? __ldg(from.v + in) : make_uint4(0, 0, 0, 0));
#pragma unroll
            for (int c = 0; c < 8; c++) {
                key.x[c] -= m[c];
            }
            const float by_k = int8_scale(warp_largest(key));
            const float by_v = int8_scale(warp_largest(value));
            if (active) {
                to.k[out] = pack_int8(key, by_k);
                to.v[out] = pack_int8(value, by_v);
            }
            scales = lane == j ? make_float2(by_k, by_v) : scales;
        }
        if (lane < tokens) {
            to.scales[head + first + lane] = scales;
        }
    }
}

/* ---- host ---- */

/* Token `token` on of a cache. */
span cache_span(const kv_cache *c, int64_t token)
{
    const int chunks = c->head_dim / 8;
    return {static_cast<uint4 *>(c->k) + token * chunks,
            static_cast<uint4 *>(c->v) + token * chunks, c->capacity * chunks, chunks};
}

/* All offloaded tokens; v is NULL where they are keys alone. */
span offloaded_span(const offloaded_kv *kv)
{
    const int pitch = (int)kv_pitch(kv) / 8;
    return {static_cast<uint4 *>(kv->k), static_cast<uint4 *>(kv->v), kv->capacity * pitch, pitch};
}

int cta_threads(int chunks)
{
    return THREADS / chunks * chunks;
}

/* The mean of tokens sink .. sink + count - 1, to the static cache. */
void mean_keys(const offload_args *a, int64_t count)
{
    const int d = a->staging->head_dim;
    const int heads = a->staging->num_kv_heads;
    double *partial = (double *)cuda_workspace((size_t)heads * UNITS * d * sizeof(double));
    span keys = cache_span(a->staging, a->sink);
    sum_keys_kernel<<<dim3(UNITS, (unsigned)heads), cta_threads(d / 8), 0, cuda_stream()>>>(
        keys.k, keys.head_chunks, count, d / 8, partial);
    CUDA_CHECK_LAUNCH();
    mean_keys_kernel<<<heads, d, 0, cuda_stream()>>>(partial, count, a->static_cache->k_mean);
    CUDA_CHECK_LAUNCH();
}

/* Tokens first .. first + n - 1 of the prompt. */
void store_tokens(const offload_args *a, int64_t first, int64_t n, span to)
{
    if (n == 0) {
        return;
    }
    const int chunks = a->staging->head_dim / 8;
    const int heads = a->staging->num_kv_heads;
    dim3 grid((unsigned)((STORE_CTAS + heads - 1) / heads), (unsigned)heads);
    store_kernel<<<grid, cta_threads(chunks), 0, cuda_stream()>>>(
        cache_span(a->staging, first), to, n, chunks, a->static_cache->k_mean);
    CUDA_CHECK_LAUNCH();
}

/* Tokens first .. first + n - 1 of the prompt, to the offloaded ones, which are int8. */
void store_int8(const offload_args *a, int64_t first, int64_t n)
{
    if (n == 0) {
        return;
    }
    const offloaded_kv *off = a->offloaded;
    const int heads = a->staging->num_kv_heads;
    const int8_span to = {static_cast<uint2 *>(off->k), static_cast<uint2 *>(off->v),
                          reinterpret_cast<float2 *>(off->scales), off->capacity,
                          (int)kv_pitch(off) / 8};
    dim3 grid((unsigned)((STORE_CTAS + heads - 1) / heads), (unsigned)heads);
    store_int8_kernel<<<grid, THREADS, 0, cuda_stream()>>>(
        cache_span(a->staging, first), to, n, a->staging->head_dim / 8, a->static_cache->k_mean);
    CUDA_CHECK_LAUNCH();
}

void check_args(const offload_args *a)
{
    const kv_cache *s = a->staging;
    const mp_dtype offloaded = a->offloaded != NULL ? a->offloaded->dtype : MP_BF16;
    const mp_dtype keys = a->keys != NULL ? a->keys->dtype : MP_BF16;
    if (s->dtype != MP_BF16 || a->static_cache->dtype != MP_BF16 || offloaded == MP_F32 ||
        keys != MP_BF16 || s->head_dim % 8 != 0 || s->head_dim > 256) {
        mp_panic("offload: dtypes %d, %d, %d, %d, head_dim %d", (int)s->dtype,
                 (int)a->static_cache->dtype, (int)offloaded, (int)keys, s->head_dim);
    }
    offload_check_count(a);
}

} // namespace

size_t offload_cuda_workspace(int num_kv_heads, int head_dim)
{
    return cuda_workspace_round((size_t)num_kv_heads * UNITS * head_dim * sizeof(double));
}

void offload_cuda(const struct offload_args *a)
{
    check_args(a);
    const offloaded_kv *off = a->offloaded;
    const int64_t count = offload_count(a);
    const int64_t head = count > 0 ? a->sink : a->tokens; /* tokens before the offloaded ones */
    if (!a->mean_given) {
        mean_keys(a, offload_mean_count(a));
    }
    store_tokens(a, 0, head, cache_span(a->static_cache, 0));
    if (a->keys != NULL) {
        store_tokens(a, head, count, offloaded_span(a->keys));
    }
    if (off != NULL && off->dtype == MP_I8) {
        store_int8(a, head, count);
    } else if (off != NULL) {
        store_tokens(a, head, count, offloaded_span(off));
    }
    store_tokens(a, head + count, a->tokens - head - count, cache_span(a->static_cache, head));
}
