/* restore on the GPU: a thread takes 8 channels of a key and those of its value. Rows in pinned
 * host memory are read where they lie, in their order, at the speed of the bus. */
#include "codelets/common/attention/int8_rows_cuda.cuh"

extern "C" {
#include "codelets/restore/restore.h"
}

namespace
{

enum {
    THREADS = 256, /* at most; as many as make whole rows, so that a thread keeps its channels */
    CTAS = 264,    /* of all heads: enough rows on their way to fill a bus */
};

/* Rows of all heads, in units of 8 channels. */
template <class Chunk> struct kept_rows {
    const Chunk *k;
    const Chunk *v;
    const float2 *scales; /* struct kv_scale; NULL: 1 */
    int64_t capacity;     /* rows between two heads */
    int pitch;            /* chunks between two rows */
};

struct staging_rows {
    uint4 *k;
    uint4 *v;
    int64_t capacity;
};

__device__ channels widen(uint4 chunk, float)
{
    return unpack(chunk);
}

/* 8 integers times their scale. */
__device__ channels widen(uint2 chunk, float scale)
{
    const unsigned word[2] = {chunk.x, chunk.y};
    channels c;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        c.x[i] = (float)(int8_t)(word[i / 4] >> 8 * (i % 4)) * scale;
    }
    return c;
}

/* n rows of each head. Grid: x any, y heads. */
template <class Chunk>
__global__ void restore_kernel_of(kept_rows<Chunk> from, staging_rows to, int64_t n, int chunks,
                                  const float *mean)
{
    const int chunk = threadIdx.x % chunks;
    mean += ((int64_t)blockIdx.y * chunks + chunk) * 8;
    float m[8];
#pragma unroll
    for (int c = 0; c < 8; c++) {
        m[c] = mean[c];
    }
    const int rows = blockDim.x / chunks; /* of a CTA at a time */
#pragma unroll 4
    for (int64_t i = (int64_t)blockIdx.x * rows + threadIdx.x / chunks; i < n;
         i += (int64_t)gridDim.x * rows) {
        const int64_t row = blockIdx.y * from.capacity + i;
        const int64_t read = row * from.pitch + chunk;
        const float2 scale =
            from.scales != nullptr ? __ldg(from.scales + row) : make_float2(1.0f, 1.0f);
        channels key = widen(__ldg(from.k + read), scale.x);
        const channels value = widen(__ldg(from.v + read), scale.y);
#pragma unroll
        for (int c = 0; c < 8; c++) {
            key.x[c] += m[c];
        }
        const int64_t write = (blockIdx.y * to.capacity + i) * chunks + chunk;
        to.k[write] = pack(key);
        to.v[write] = pack(value);
    }
}

/* ---- host ---- */

template <class Chunk>
void restore_rows(const restore_args *a, const kept_rows<Chunk> &from, int64_t first, int64_t n)
{
    if (n == 0) {
        return;
    }
    const int chunks = a->staging->head_dim / 8;
    const int heads = a->staging->num_kv_heads;
    const staging_rows to = {static_cast<uint4 *>(a->staging->k) + first * chunks,
                             static_cast<uint4 *>(a->staging->v) + first * chunks,
                             a->staging->capacity};
    dim3 grid((unsigned)((CTAS + heads - 1) / heads), (unsigned)heads);
    restore_kernel_of<<<grid, THREADS / chunks * chunks, 0, cuda_stream()>>>(from, to, n, chunks,
                                                                             a->kept->k_mean);
    CUDA_CHECK_LAUNCH();
}

template <class Chunk> kept_rows<Chunk> offloaded_rows(const offloaded_kv *off)
{
    return {static_cast<const Chunk *>(off->k), static_cast<const Chunk *>(off->v),
            reinterpret_cast<const float2 *>(off->scales), off->capacity, (int)kv_pitch(off) / 8};
}

void check_dtypes(const restore_args *a)
{
    const kv_cache *s = a->staging;
    const mp_dtype offloaded = a->offloaded != NULL ? a->offloaded->dtype : MP_BF16;
    if (s->dtype != MP_BF16 || a->kept->dtype != MP_BF16 || offloaded == MP_F32 ||
        s->head_dim % 8 != 0 || s->head_dim > 256) {
        mp_panic("restore: dtypes %d, %d, %d, head_dim %d", (int)s->dtype, (int)a->kept->dtype,
                 (int)offloaded, s->head_dim);
    }
}

} // namespace

void restore_cuda(const struct restore_args *a)
{
    check_dtypes(a);
    restore_check(a);
    const kv_cache *kept = a->kept;
    const int64_t in_kept = restore_kept(a);
    const kept_rows<uint4> first = {static_cast<const uint4 *>(kept->k),
                                    static_cast<const uint4 *>(kept->v), nullptr, kept->capacity,
                                    kept->head_dim / 8};
    restore_rows(a, first, 0, in_kept);
    if (in_kept == a->tokens) {
        return;
    }
    if (a->offloaded->dtype == MP_I8) {
        restore_rows(a, offloaded_rows<uint2>(a->offloaded), in_kept, a->tokens - in_kept);
    } else {
        restore_rows(a, offloaded_rows<uint4>(a->offloaded), in_kept, a->tokens - in_kept);
    }
}
