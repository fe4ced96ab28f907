/* page_bounds on the GPU: a thread for each 8 channels (a chunk, 16 bytes) of each page. */
#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/page_bounds/page_bounds.h"
}

namespace
{

constexpr int THREADS = 256;
constexpr unsigned MAX_GRID = 1u << 16; /* CTAs a head; each goes on with further chunks */

/* Channels 2i and 2i + 1 of a chunk as they are stored. */
struct chunk_bounds {
    uint32_t least[4];
    uint32_t largest[4];
};

/* bounds[i] becomes x where it compares so; both halves of the word, each on its own. */
template <bool LARGEST> __device__ __forceinline__ uint32_t better(uint32_t x, uint32_t bound)
{
    uint32_t out = 0;
#pragma unroll
    for (int shift = 0; shift < 32; shift += 16) {
        float a = bf16_to_float((uint16_t)(x >> shift));
        float b = bf16_to_float((uint16_t)(bound >> shift));
        bool replaces = LARGEST ? a > b : a < b;
        out |= (replaces ? x : bound) & 0xffffu << shift;
    }
    return out;
}

__device__ __forceinline__ void widen(chunk_bounds &b, uint4 key)
{
    const uint32_t word[4] = {key.x, key.y, key.z, key.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        b.least[i] = better<false>(word[i], b.least[i]);
        b.largest[i] = better<true>(word[i], b.largest[i]);
    }
}

/* k [heads][capacity][pitch], of which `chunks` are a key's, bounds [heads][page_capacity][2]
 * [chunks]. Grid: x any, y heads. */
__global__ void __launch_bounds__(THREADS)
    bound_pages(const uint4 *k, int pitch, int64_t capacity, int64_t count, int chunks,
                int page_size, uint4 *bounds, int64_t page_capacity)
{
    k += blockIdx.y * capacity * pitch;
    bounds += blockIdx.y * page_capacity * 2 * chunks;
    const int64_t total = (count + page_size - 1) / page_size * chunks;
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += stride) {
        const int64_t page = i / chunks;
        const int64_t first = page * page_size;
        const int64_t end = min(first + page_size, count);
        const uint4 *key = k + i % chunks;
        const uint4 x = key[first * pitch];
        chunk_bounds b = {{x.x, x.y, x.z, x.w}, {x.x, x.y, x.z, x.w}};
        for (int64_t token = first + 1; token < end; token++) {
            widen(b, key[token * pitch]);
        }
        uint4 *out = bounds + page * 2 * chunks + i % chunks;
        out[0] = make_uint4(b.least[0], b.least[1], b.least[2], b.least[3]);
        out[chunks] = make_uint4(b.largest[0], b.largest[1], b.largest[2], b.largest[3]);
    }
}

} // namespace

void page_bounds_cuda(const struct page_bounds_args *a)
{
    const offloaded_kv *kv = a->kv;
    const key_pages *p = a->pages;
    if (kv->dtype != MP_BF16 || p->dtype != MP_BF16 || kv->head_dim % 8 != 0) {
        mp_panic("page_bounds: dtypes %d, %d, head_dim %d", (int)kv->dtype, (int)p->dtype,
                 kv->head_dim);
    }
    if (kv->count == 0) {
        return;
    }
    const int chunks = kv->head_dim / 8;
    const int64_t total = key_pages_of(kv->count, p->page_size) * chunks;
    const int64_t ctas = (total + THREADS - 1) / THREADS;
    dim3 grid(ctas < MAX_GRID ? (unsigned)ctas : MAX_GRID, (unsigned)kv->num_kv_heads);
    bound_pages<<<grid, THREADS, 0, cuda_stream()>>>(
        static_cast<const uint4 *>(kv->k), (int)kv_pitch(kv) / 8, kv->capacity, kv->count, chunks,
        p->page_size, static_cast<uint4 *>(p->bounds), key_pages_of(p->capacity, p->page_size));
    CUDA_CHECK_LAUNCH();
}
