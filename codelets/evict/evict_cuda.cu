/* evict on the GPU: a CTA the keys or the values of a KV head, a warp a row, a lane 8 channels. */
#include "codelets/common/attention/int8_rows_cuda.cuh"

extern "C" {
#include "codelets/evict/evict.h"
}

namespace
{

enum { EVICT_THREADS = 512, EVICT_WARPS = EVICT_THREADS / 32 };

struct evict_launch {
    uint4 *cache[2];      /* k and v, from slot `first` on */
    void *out[2];         /* offloaded k and v, from the first new token on; NULL: dropped */
    float *scales;        /* of that token, k and v in turn; NULL unless int8 */
    int64_t cache_tokens; /* between two KV heads */
    int64_t out_tokens;
    int64_t count;
    int64_t rest; /* slots behind those that leave */
    int chunks;   /* of a row: head_dim / 8 */
    int pitch;    /* chunks from an offloaded row to the next */
};

/* One row to the offloaded tokens. */
__device__ void leave(const evict_launch &p, int which, const uint4 *row, int64_t token)
{
    const int lane = threadIdx.x % 32;
    const bool active = lane < p.chunks;
    const uint4 chunk = active ? row[lane] : make_uint4(0, 0, 0, 0);
    const int64_t at = token * p.pitch + lane;
    if (p.scales == nullptr) {
        if (active) {
            static_cast<uint4 *>(p.out[which])[at] = chunk;
        }
        return;
    }
    const channels c = unpack(chunk);
    const float scale = int8_scale(warp_largest(c));
    if (active) {
        static_cast<uint2 *>(p.out[which])[at] = pack_int8(c, scale);
    }
    if (lane == 0) {
        p.scales[2 * token + which] = scale;
    }
}

/* Grid: KV heads, keys and values. Rows move down by `count`: no more of them than that at a time,
 * so that none is overwritten before it has been read. */
__global__ void __launch_bounds__(EVICT_THREADS) evict_rows(const __grid_constant__ evict_launch p)
{
    const int which = blockIdx.y;
    const int warp = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    uint4 *cache = p.cache[which] + blockIdx.x * p.cache_tokens * p.chunks;
    for (int64_t i = warp; i < p.count && p.out[which] != nullptr; i += EVICT_WARPS) {
        leave(p, which, cache + i * p.chunks, blockIdx.x * p.out_tokens + i);
    }
    for (int64_t first = 0; first < p.rest; first += p.count) {
        const int64_t end = min(first + p.count, p.rest);
        __syncthreads();
        for (int64_t i = first + warp; i < end && lane < p.chunks; i += EVICT_WARPS) {
            cache[i * p.chunks + lane] = cache[(i + p.count) * p.chunks + lane];
        }
    }
}

void check_args(const evict_args *a)
{
    const mp_dtype offloaded = a->offloaded != NULL ? a->offloaded->dtype : MP_BF16;
    const kv_cache *c = a->cache;
    if (c->dtype != MP_BF16 || offloaded == MP_F32 || c->head_dim % 8 != 0 || c->head_dim > 256) {
        mp_panic("evict: dtypes %d and %d, head_dim %d", (int)c->dtype, (int)offloaded,
                 c->head_dim);
    }
    evict_check(a);
}

} // namespace

void evict_cuda(const struct evict_args *a)
{
    check_args(a);
    const kv_cache *cache = a->cache;
    const offloaded_kv *off = a->offloaded;
    evict_launch p = {};
    p.chunks = cache->head_dim / 8;
    p.cache[0] = static_cast<uint4 *>(cache->k) + a->first * p.chunks;
    p.cache[1] = static_cast<uint4 *>(cache->v) + a->first * p.chunks;
    if (off != NULL) {
        const int64_t token = off->count - a->count;
        p.pitch = (int)kv_pitch(off) / 8;
        p.out[0] = static_cast<char *>(off->k) + kv_row_at(off, 0, token);
        p.out[1] = static_cast<char *>(off->v) + kv_row_at(off, 0, token);
        p.scales = off->dtype == MP_I8 ? &off->scales[token].k : nullptr;
        p.out_tokens = off->capacity;
    }
    p.cache_tokens = cache->capacity;
    p.count = a->count;
    p.rest = a->used - a->first - a->count;
    evict_rows<<<dim3((unsigned)cache->num_kv_heads, 2), EVICT_THREADS, 0, cuda_stream()>>>(p);
    CUDA_CHECK_LAUNCH();
}
