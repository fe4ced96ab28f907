/* prefill_attention on Hopper's warpgroup instructions, for heads of 64 and 128.
 *
 * A block takes 128 query rows of one head and walks over their keys in tiles of 128. One thread
 * feeds tiles of K and V through the copy engine into a ring in shared memory; two warpgroups of 64
 * rows each consume them: scores S = Q K^T and output O += P V on the tensor cores, with scores,
 * weights P and output in registers. To keep the tensor cores busy during the softmax, a warpgroup
 * issues the scores of tile j and the values of tile j - 1 together and works on the softmax of j
 * while the values are in progress, and the two warpgroups take turns in issuing. */
extern "C" {
#include "codelets/prefill_attention/prefill_attention.h"
}

#include "codelets/common/cuda/mma_cuda.cuh"
#include "codelets/prefill_attention/wgmma.cuh"

#include <math.h>

namespace
{

enum {
    CONSUMERS = 2, /* warpgroups that compute */
    ROWS = 64,     /* query rows of one of them */
    BLOCK_ROWS = CONSUMERS * ROWS,
    KEYS = 128, /* of a tile */
    SLOTS = 6,  /* tiles of K or V in the ring */
    THREADS = (1 + CONSUMERS) * WARPGROUP,
    /* Registers of a thread: 24 * 128 + 240 * 256 are all but 1024 of a multiprocessor's. */
    PRODUCER_REGISTERS = 24,
    CONSUMER_REGISTERS = 240,
    /* Named barriers, of consumer w: */
    QUERIES_READY = 1,               /* + w: its queries are in shared memory */
    TURN = QUERIES_READY + CONSUMERS /* + w: it may issue */
};

struct attention {
    const float *q; /* [rows][num_heads][head_dim] */
    float *o;       /* the same */
    int first;      /* row r attends to keys 0 .. first + r */
    int rows;
    int num_heads;
    int group;         /* query heads per KV head */
    float scale_log2e; /* turns scores into log2 of weights */
};

/* What a block works on. */
struct block {
    int head;
    int row0;
    int tiles; /* of keys */
};

/* Shared memory; operands in swizzled panels, see wgmma.cuh. */
template <int HEAD_DIM> struct shared {
    static const int PANELS = HEAD_DIM / PANEL_COLUMNS;

    alignas(SWIZZLE_BYTES) uint16_t q[CONSUMERS][PANELS][ROWS][PANEL_COLUMNS];
    /* Load i goes to slot i % SLOTS. The order is that of use: K of tile 0, then K of tile j and V
     * of tile j - 1 for each j, then V of the last tile. */
    alignas(SWIZZLE_BYTES) uint16_t slot[SLOTS][PANELS][KEYS][PANEL_COLUMNS];
    uint64_t full[SLOTS];  /* phases end when a load has arrived */
    uint64_t empty[SLOTS]; /* phases end when all consumer warps are done with a load */
};

#ifdef __CUDA_ARCH_FEAT_SM90_ALL

/* ---- the ring ---- */

__device__ __forceinline__ uint32_t parity(unsigned load)
{
    return load / SLOTS % 2;
}

template <int HEAD_DIM>
__device__ __forceinline__ void load_tile(shared<HEAD_DIM> &s, unsigned load,
                                          const CUtensorMap *map, int key0, int kv_head)
{
    unsigned slot = load % SLOTS;
    uint32_t full = shared_address(&s.full[slot]);
    mbarrier_wait(shared_address(&s.empty[slot]), parity(load) ^ 1); /* of its last use */
    mbarrier_arrive_expect(full, sizeof s.slot[slot]);
#pragma unroll
    for (int p = 0; p < s.PANELS; p++) {
        copy_box(shared_address(s.slot[slot][p]), map, p * PANEL_COLUMNS, key0, kv_head, full);
    }
}

template <int HEAD_DIM> __device__ __forceinline__ void wait_for(shared<HEAD_DIM> &s, unsigned load)
{
    mbarrier_wait(shared_address(&s.full[load % SLOTS]), parity(load));
}

template <int HEAD_DIM> __device__ __forceinline__ void release(shared<HEAD_DIM> &s, unsigned load)
{
    if (threadIdx.x % warpSize == 0) {
        mbarrier_arrive(shared_address(&s.empty[load % SLOTS]));
    }
}

/* ---- producer ---- */

template <int HEAD_DIM>
__device__ void produce(shared<HEAD_DIM> &s, const CUtensorMap *k, const CUtensorMap *v,
                        int kv_head, int tiles)
{
    unsigned load = 0;
    for (int j = 0; j <= tiles; j++) {
        if (j < tiles) {
            load_tile(s, load++, k, j * KEYS, kv_head);
        }
        if (j > 0) {
            load_tile(s, load++, v, (j - 1) * KEYS, kv_head);
        }
    }
}

/* ---- consumers ---- */

/* The running softmax of a thread's two rows; all four threads of a row have its maximum, each has
 * its part of the sum. */
struct softmax {
    float max[2];
    float sum[2];
    float keep[2]; /* factor that the last tile put on what was summed before it */
};

/* The warpgroup's queries, rounded to bf16, to shared memory; rows past the last are zero. */
template <int HEAD_DIM>
__device__ void load_queries(const attention &a, shared<HEAD_DIM> &s, int consumer, int head,
                             int row0)
{
    const int chunks = HEAD_DIM / 8; /* of 8 numbers, 16 bytes of bf16 */
    const int panel_chunks = PANEL_COLUMNS / 8;
    for (int i = threadIdx.x % WARPGROUP; i < ROWS * chunks; i += WARPGROUP) {
        int row = i / chunks;
        int chunk = i % chunks;
        float4 x[2] = {};
        if (row0 + row < a.rows) {
            int64_t query = (int64_t)(row0 + row) * a.num_heads + head;
            const float4 *q = (const float4 *)(a.q + query * HEAD_DIM) + 2 * chunk;
            x[0] = q[0];
            x[1] = q[1];
        }
        __nv_bfloat162 packed[4] = {
            __floats2bfloat162_rn(x[0].x, x[0].y), __floats2bfloat162_rn(x[0].z, x[0].w),
            __floats2bfloat162_rn(x[1].x, x[1].y), __floats2bfloat162_rn(x[1].z, x[1].w)};
        int swizzled = chunk % panel_chunks ^ row % SWIZZLE_ROWS;
        *(uint4 *)&s.q[consumer][chunk / panel_chunks][row][8 * swizzled] = *(uint4 *)packed;
    }
    fence_proxy_async();
    named_barrier_sync(QUERIES_READY + consumer, WARPGROUP);
}

/* Issues score = Q K^T, 64 x 128. */
template <int HEAD_DIM>
__device__ __forceinline__ void issue_scores(shared<HEAD_DIM> &s, int consumer, unsigned load,
                                             float (&score)[KEYS / 2])
{
    uint32_t q = shared_address(s.q[consumer]);
    uint32_t k = shared_address(s.slot[load % SLOTS]);
    const int panel_steps = PANEL_COLUMNS / K_STEP;
    pin(score);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < HEAD_DIM / K_STEP; i++) {
        uint32_t panel = i / panel_steps;
        uint32_t bytes = i % panel_steps * K_STEP * sizeof(uint16_t);
        wgmma_k_major(score, descriptor_k_major(q + panel * sizeof s.q[0][0] + bytes),
                      descriptor_k_major(k + panel * sizeof s.slot[0][0] + bytes), i > 0);
    }
    wgmma_commit();
}

/* Issues o += P V, 64 x HEAD_DIM. */
template <int HEAD_DIM>
__device__ __forceinline__ void issue_values(shared<HEAD_DIM> &s, unsigned load,
                                             uint32_t (&weight)[KEYS / K_STEP][4],
                                             float (&o)[HEAD_DIM / 2])
{
    uint32_t v = shared_address(s.slot[load % SLOTS]);
    pin(o);
    pin(weight);
    wgmma_fence();
#pragma unroll
    for (int i = 0; i < KEYS / K_STEP; i++) {
        uint32_t bytes = i * K_STEP * PANEL_COLUMNS * sizeof(uint16_t);
        wgmma_n_major(o, weight[i], descriptor_n_major(v + bytes, sizeof s.slot[0][0]));
    }
    wgmma_commit();
}

/* Hides the keys of a tile that the thread's rows may not see; its first row sees `visible` keys of
 * the tile, its second 8 more. */
__device__ __forceinline__ void mask_scores(float (&score)[KEYS / 2], int visible)
{
    int column = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < KEYS / 2; i++) {
        if (i / 4 * 8 + i % 2 + column >= visible + i / 2 % 2 * 8) {
            score[i] = -INFINITY;
        }
    }
}

/* Turns the scores of a tile into weights relative to each row's maximum so far. Every row sees key
 * 0, so that the maximum is finite from the first tile on. */
__device__ __forceinline__ void update_softmax(softmax &m, float (&score)[KEYS / 2],
                                               float scale_log2e)
{
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float max = m.max[i];
#pragma unroll
        for (int j = 2 * i; j < KEYS / 2; j += 4) {
            max = fmaxf(max, fmaxf(score[j], score[j + 1]));
        }
        max = quad_max(max);
        m.keep[i] = exp2_fast((m.max[i] - max) * scale_log2e);
        m.max[i] = max;
        float shift = -max * scale_log2e;
        float sum = 0.0f;
#pragma unroll
        for (int j = 2 * i; j < KEYS / 2; j += 4) {
            score[j] = exp2_fast(fmaf(score[j], scale_log2e, shift));
            score[j + 1] = exp2_fast(fmaf(score[j + 1], scale_log2e, shift));
            sum += score[j] + score[j + 1];
        }
        m.sum[i] = fmaf(m.sum[i], m.keep[i], sum);
    }
}

/* Weights as A operand: pair i of the accumulators is pair i of the operand. */
__device__ __forceinline__ void pack_weights(const float (&score)[KEYS / 2],
                                             uint32_t (&weight)[KEYS / K_STEP][4])
{
#pragma unroll
    for (int i = 0; i < KEYS / 4; i++) {
        weight[i / 4][i % 4] = pack_bf16(score[2 * i], score[2 * i + 1]);
    }
}

template <int N> __device__ __forceinline__ void rescale(float (&o)[N], const float (&keep)[2])
{
#pragma unroll
    for (int i = 0; i < N; i++) {
        o[i] *= keep[i / 2 % 2];
    }
}

/* Stores the sums divided by the sums of the weights; `row` is the thread's first row. */
template <int HEAD_DIM>
__device__ void store_output(const attention &a, const softmax &m, const float (&o)[HEAD_DIM / 2],
                             int head, int row)
{
    float sum[2] = {quad_sum(m.sum[0]), quad_sum(m.sum[1])};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        if (row + 8 * i >= a.rows) {
            break;
        }
        float inverse = __fdividef(1.0f, sum[i]);
        int64_t query = (int64_t)(row + 8 * i) * a.num_heads + head;
        float *out = a.o + query * HEAD_DIM + threadIdx.x % 4 * 2;
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 8; j++) {
            *(float2 *)(out + 8 * j) =
                make_float2(o[4 * j + 2 * i] * inverse, o[4 * j + 2 * i + 1] * inverse);
        }
    }
}

template <int HEAD_DIM>
__device__ void consume(const attention &a, const block &b, shared<HEAD_DIM> &s, int consumer)
{
    int row0 = b.row0 + consumer * ROWS;
    int row = row0 + threadIdx.x % WARPGROUP / 32 * 16 + threadIdx.x % 32 / 4;
    int other = 1 - consumer;
    float score[KEYS / 2];
    uint32_t weight[KEYS / K_STEP][4];
    float o[HEAD_DIM / 2] = {};
    softmax m = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}, {0.0f, 0.0f}};

    auto weigh = [&](int tile) {
        int visible = a.first + row + 1 - tile * KEYS;
        if ((tile + 1) * KEYS > a.first + row0 + 1) {
            mask_scores(score, visible);
        }
        update_softmax(m, score, a.scale_log2e);
        /* Here, not after the wait that follows in prepare_values. What keeps the assembler from
         * moving that wait up is the loop of wait_for before it. */
        pin(score);
    };

    /* What has to happen between the softmax of a tile and issuing its values. */
    auto prepare_values = [&]() {
        wgmma_wait<0>(); /* values of the tile before: they use o and weight */
        pin(o);
        rescale(o, m.keep);
        pack_weights(score, weight);
    };

    load_queries(a, s, consumer, b.head, row0);
    if (consumer == 1) {
        named_barrier_arrive(TURN + other, CONSUMERS * WARPGROUP); /* 0 goes first */
    }
    wait_for(s, 0);
    issue_scores(s, consumer, 0, score);
    wgmma_wait<0>();
    pin(score);
    weigh(0);

    for (int tile = 1; tile < b.tiles; tile++) {
        unsigned k = 2 * tile - 1; /* loads: K of this tile, V of the tile before */
        unsigned v = 2 * tile;
        wait_for(s, k);
        prepare_values();
        release(s, v - 2); /* V before that; for the first tile K, load 0 */
        named_barrier_sync(TURN + consumer, CONSUMERS * WARPGROUP);
        issue_scores(s, consumer, k, score);
        wait_for(s, v);
        issue_values(s, v, weight, o);
        named_barrier_arrive(TURN + other, CONSUMERS * WARPGROUP);
        wgmma_wait<1>();
        pin(score);
        release(s, k);
        weigh(tile);
    }

    unsigned v = 2 * b.tiles - 1;
    wait_for(s, v);
    prepare_values();
    issue_values(s, v, weight, o);
    if (consumer == 0) {
        named_barrier_sync(TURN, CONSUMERS * WARPGROUP); /* pairs with the last arrival */
    }
    wgmma_wait<0>();
    pin(o);
    store_output<HEAD_DIM>(a, m, o, b.head, row);
}

/* ---- the kernel ---- */

/* Blocks with the most keys come first; the heads of a KV head, which read the same tiles, are
 * neighbours. */
__device__ __forceinline__ block find_block(const attention &a)
{
    block b;
    b.head = (int)(blockIdx.x % a.num_heads);
    b.row0 = (int)((gridDim.x - 1 - blockIdx.x) / a.num_heads) * BLOCK_ROWS;
    int last_row = min(b.row0 + BLOCK_ROWS, a.rows) - 1;
    b.tiles = (a.first + last_row) / KEYS + 1;
    return b;
}

#endif

template <int HEAD_DIM>
__global__ void __launch_bounds__(THREADS, 1)
    prefill_attention_kernel(const attention a, const __grid_constant__ CUtensorMap k,
                             const __grid_constant__ CUtensorMap v)
{
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
    extern __shared__ uint8_t raw[];
    uintptr_t base = ((uintptr_t)raw + SWIZZLE_BYTES - 1) / SWIZZLE_BYTES * SWIZZLE_BYTES;
    shared<HEAD_DIM> &s = *(shared<HEAD_DIM> *)base;
    if (threadIdx.x == 0) {
        for (int i = 0; i < SLOTS; i++) {
            mbarrier_init(shared_address(&s.full[i]), 1);
            mbarrier_init(shared_address(&s.empty[i]), CONSUMERS * WARPGROUP / warpSize);
        }
        mbarrier_fence_init();
    }
    __syncthreads();
    block b = find_block(a);
    /* The same in all lanes, which the compiler cannot see otherwise. */
    int warpgroup = __shfl_sync(0xffffffffu, threadIdx.x / WARPGROUP, 0);
    if (warpgroup == 0) {
        shrink_registers<PRODUCER_REGISTERS>();
        if (threadIdx.x == 0) {
            produce(s, &k, &v, b.head / a.group, b.tiles);
        }
    } else {
        grow_registers<CONSUMER_REGISTERS>();
        consume(a, b, s, warpgroup - 1);
    }
#else
    __trap(); /* the host sends other GPUs elsewhere */
#endif
}

/* ---- host ---- */

typedef decltype(&cuTensorMapEncodeTiled) encode_tiled;

/* The driver's function, found at run time so that nothing links to the driver. */
encode_tiled find_encode_tiled(void)
{
    void *function = NULL;
    enum cudaDriverEntryPointQueryResult found;
    CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess) {
        mp_panic("prefill_attention: the driver has no cuTensorMapEncodeTiled");
    }
    return (encode_tiled)function;
}

/* Keys or values as [num_kv_heads][tokens][head_dim], copied in panels of a tile. Tokens beyond the
 * last row's own do not belong to the tensor: the copy engine puts zeros in their place, whatever
 * the cache holds there. */
CUtensorMap map_cache(const struct kv_cache *cache, void *elements, int64_t tokens)
{
    static const encode_tiled encode = find_encode_tiled();
    CUtensorMap map;
    cuuint64_t token_bytes = (cuuint64_t)cache->head_dim * sizeof(uint16_t);
    cuuint64_t size[3] = {(cuuint64_t)cache->head_dim, (cuuint64_t)tokens,
                          (cuuint64_t)cache->num_kv_heads};
    cuuint64_t stride[2] = {token_bytes, (cuuint64_t)cache->capacity * token_bytes};
    cuuint32_t box[3] = {PANEL_COLUMNS, KEYS, 1};
    cuuint32_t element_stride[3] = {1, 1, 1};
    CUresult status =
        encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 3, elements, size, stride, box,
               element_stride, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
               CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (status != CUDA_SUCCESS) {
        mp_panic("prefill_attention: no tensor map of %d heads x %lld tokens x %d: CUDA error %d",
                 cache->num_kv_heads, (long long)tokens, cache->head_dim, (int)status);
    }
    return map;
}

template <int HEAD_DIM> void launch(const struct prefill_attention_args *a)
{
    const struct kv_cache *cache = a->cache;
    int64_t tokens = a->first + a->rows;
    attention p = {};
    p.q = a->q;
    p.o = a->o;
    p.first = (int)a->first;
    p.rows = (int)a->rows;
    p.num_heads = a->num_heads;
    p.group = a->num_heads / cache->num_kv_heads;
    p.scale_log2e = a->scale * (float)M_LOG2E;
    int64_t blocks = (a->rows + BLOCK_ROWS - 1) / BLOCK_ROWS * a->num_heads;
    size_t bytes = sizeof(shared<HEAD_DIM>) + SWIZZLE_BYTES; /* room to align it */
    CUDA_ALLOW_SHARED(prefill_attention_kernel<HEAD_DIM>, bytes);
    prefill_attention_kernel<HEAD_DIM><<<(unsigned)blocks, THREADS, bytes, cuda_stream()>>>(
        p, map_cache(cache, cache->k, tokens), map_cache(cache, cache->v, tokens));
    CUDA_CHECK_LAUNCH();
}

} // namespace

extern "C" void prefill_attention_wgmma_cuda(const struct prefill_attention_args *a)
{
    int64_t tokens = a->first + a->rows;
    bool fits = a->rows > 0 && a->first >= 0 && tokens <= a->cache->capacity &&
                tokens <= INT32_MAX - 2 * KEYS && a->cache->dtype == MP_BF16 &&
                a->cache->head_dim == a->head_dim;
    if (cuda_capability() != 90 || !fits || (a->head_dim != 64 && a->head_dim != 128)) {
        mp_panic(
            "prefill_attention on wgmma: rows %lld, first %lld, head_dim %d, dtype %d, compute "
            "capability %d",
            (long long)a->rows, (long long)a->first, a->head_dim, (int)a->cache->dtype,
            cuda_capability());
    }
    if (a->head_dim == 64) {
        launch<64>(a);
    } else {
        launch<128>(a);
    }
}
