/* prefill_attention on a GPU: checks the arguments and picks the kernel for the device. */
#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/prefill_attention/prefill_attention.h"
}

/* Below this many rows most of a wgmma tile would be empty. */
static const int64_t MIN_WGMMA_ROWS = 64;

/* Tokens and (row, head) pairs are counted in 32 bits on the device, with room for a tile. */
static const int64_t MAX_COUNT = int64_t{1} << 30;

static void check(const struct prefill_attention_args *a)
{
    const struct kv_cache *cache = a->cache;
    if (cache->dtype != MP_BF16 || cache->head_dim != a->head_dim ||
        a->num_heads % cache->num_kv_heads != 0 || a->first < 0 ||
        a->first + a->rows > cache->capacity || a->first + a->rows > MAX_COUNT ||
        a->rows * a->num_heads > MAX_COUNT) {
        mp_panic("prefill_attention_cuda: rows %lld at %lld, %d heads of %d on a cache of dtype %d "
                 "with %lld tokens, %d heads of %d",
                 (long long)a->rows, (long long)a->first, a->num_heads, a->head_dim,
                 (int)cache->dtype, (long long)cache->capacity, cache->num_kv_heads,
                 cache->head_dim);
    }
}

void prefill_attention_cuda(const struct prefill_attention_args *a)
{
    if (a->rows == 0) {
        return;
    }
    check(a);
    bool has_wgmma_kernel = a->head_dim == 64 || a->head_dim == 128;
    if (cuda_capability() == 90 && has_wgmma_kernel && a->rows >= MIN_WGMMA_ROWS) {
        prefill_attention_wgmma_cuda(a);
    } else {
        prefill_attention_mma_cuda(a);
    }
}
