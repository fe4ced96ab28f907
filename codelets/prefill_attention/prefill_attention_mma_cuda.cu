/* prefill_attention for GPUs of compute capability 8.0 and later: flash attention on the warp-level
 * tensor core instructions (mma.sync, ldmatrix, cp.async).
 *
 * The G query heads of a KV head see the same keys, so they are packed: "packed row" i of a KV head
 * is row i / G, query head i % G of its group. A CTA of four warps takes 128 packed rows (64 for
 * head_dim > 128) of one KV head and walks over the keys 64 at a time: S = Q K^T, running softmax,
 * O += P V. Each warp owns 32 (16) rows from S to O, so warps only meet to hand over tiles. With 32
 * rows a warp uses each K or V fragment it reads twice, which keeps shared memory from being the
 * bound; O and S then fill the registers and Q stays in shared memory.
 *
 * K and V have one buffer each: V of a tile travels during S, K of the next tile during softmax and
 * O, and two CTAs an SM hide the rest. */
#include "codelets/common/cuda/mma_cuda.cuh"

extern "C" {
#include "codelets/prefill_attention/prefill_attention.h"
}

#include <math.h>

namespace
{

const int WARPS = 4;
const int THREADS = 32 * WARPS;
const int TILE_KEYS = 64;
const int KEY_BLOCKS = TILE_KEYS / 8; /* 8-wide column blocks of S */

struct params {
    const float *q;    /* [rows][num_heads][head_dim] */
    const uint16_t *k; /* [num_kv_heads][capacity][head_dim] bf16 */
    const uint16_t *v;
    float *o; /* [rows][num_heads][head_dim] */
    int64_t capacity;
    int first;
    int packed_rows; /* rows * group, of each KV head */
    int group;       /* query heads of a KV head */
    int num_heads;
    int head_dim;
    float scale_log2; /* scale * log2(e): the softmax is in powers of 2 */
};

/* Sizes for head_dim up to D; channels from head_dim to D are zeros. */
template <int D> struct shape {
    static const int ROW_BLOCKS = D <= 128 ? 2 : 1; /* of 16 rows, in a warp */
    static const int DIM_BLOCKS = D / 8;            /* 8-wide column blocks of O */
    static const int WARP_ROWS = 16 * ROW_BLOCKS;
    static const int ROWS = WARPS * WARP_ROWS;
    /* Elements from row to row of a tile in shared memory: an odd number of 16-byte units, so that
     * the 8 rows that ldmatrix reads together lie in different banks. */
    static const int STRIDE = D + 8;
    static const int SHARED_BYTES = (ROWS + 2 * TILE_KEYS) * STRIDE * (int)sizeof(uint16_t);
};

/* ---- instructions ---- */

/* Copies 16 bytes from global memory; unless wanted, writes zeros and reads nothing: `from` may
 * then lie outside of all memory. */
__device__ __forceinline__ void copy_async(unsigned to, const uint16_t *from, bool wanted)
{
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(wanted ? 16 : 0)
                 : "memory");
}

__device__ __forceinline__ void copy_wait()
{
    asm volatile("cp.async.wait_all;" ::: "memory");
}

/* As load_blocks, the blocks transposed. */
__device__ __forceinline__ uint4 load_blocks_transposed(unsigned address)
{
    uint4 block;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(block.x), "=r"(block.y), "=r"(block.z), "=r"(block.w)
                 : "r"(address)
                 : "memory");
    return block;
}

/* ---- tiles ---- */

/* Where packed row i of a KV head begins in q and o. */
__device__ __forceinline__ int64_t row_offset(const params &p, int kv_head, int i)
{
    int64_t row = i / p.group;
    int head = kv_head * p.group + i % p.group;
    return (row * p.num_heads + head) * p.head_dim;
}

/* Packed rows from first_packed, rounded to bf16; zeros after the last one. */
template <int D>
__device__ __forceinline__ void load_queries(const params &p, int kv_head, int first_packed,
                                             uint16_t *tile)
{
    for (int at = 4 * (int)threadIdx.x; at < shape<D>::ROWS * D; at += 4 * THREADS) {
        int row = at / D;
        int channel = at % D;
        int i = first_packed + row;
        float4 x = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (i < p.packed_rows && channel < p.head_dim) {
            x = *(const float4 *)(p.q + row_offset(p, kv_head, i) + channel);
        }
        *(uint2 *)(tile + row * shape<D>::STRIDE + channel) =
            make_uint2(pack_bf16(x.x, x.y), pack_bf16(x.z, x.w));
    }
}

/* Starts the copy of the TILE_KEYS tokens of a head's keys or values from token `start`; zeros from
 * token `end` on, which nobody sees and which may be NaN or not allocated. */
template <int D>
__device__ __forceinline__ void start_copy(const params &p, const uint16_t *head, int start,
                                           int end, uint16_t *tile)
{
    const int UNITS = D / 8; /* 16-byte units of a row; a thread keeps to one column of them */
    const int STEP = THREADS / UNITS;
    int channel = (int)threadIdx.x % UNITS * 8;
    int first_row = (int)threadIdx.x / UNITS;
    int wanted_rows = channel < p.head_dim ? end - start : 0;
    const uint16_t *from = head + (int64_t)(start + first_row) * p.head_dim + channel;
    unsigned to = shared_address(tile + first_row * shape<D>::STRIDE + channel);
#pragma unroll
    for (int row = 0; row < TILE_KEYS; row += STEP) {
        copy_async(to + (unsigned)(row * shape<D>::STRIDE * 2), from,
                   first_row + row < wanted_rows);
        from += STEP * p.head_dim;
    }
}

/* ---- the arithmetic of a warp ---- */

template <int D> using scores = float[shape<D>::ROW_BLOCKS][KEY_BLOCKS][4];
template <int D> using outputs = float[shape<D>::ROW_BLOCKS][shape<D>::DIM_BLOCKS][4];
/* Of rows lane / 4 and lane / 4 + 8 of each row block. */
template <int D> using row_values = float[shape<D>::ROW_BLOCKS][2];

/* s = Q K^T, unscaled. q and k: this lane's ldmatrix addresses in the tiles. */
template <int D> __device__ __forceinline__ void multiply_keys(scores<D> &s, unsigned q, unsigned k)
{
    const int ROW_BLOCKS = shape<D>::ROW_BLOCKS;
    const int BLOCK_BYTES = 16 * shape<D>::STRIDE * 2; /* of 16 rows */
#pragma unroll
    for (int m = 0; m < ROW_BLOCKS; m++) {
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; n++) {
            s[m][n][0] = s[m][n][1] = s[m][n][2] = s[m][n][3] = 0.0f;
        }
    }
#pragma unroll
    for (int c = 0; c < D; c += 16) {
        uint4 a[ROW_BLOCKS];
#pragma unroll
        for (int m = 0; m < ROW_BLOCKS; m++) {
            a[m] = load_blocks(q + (unsigned)(m * BLOCK_BYTES + 2 * c));
        }
#pragma unroll
        for (int n = 0; n < KEY_BLOCKS; n += 2) {
            uint4 b = load_blocks(k + (unsigned)(n / 2 * BLOCK_BYTES + 2 * c));
#pragma unroll
            for (int m = 0; m < ROW_BLOCKS; m++) {
                mma_bf16(s[m][n], a[m], b.x, b.z);
                mma_bf16(s[m][n + 1], a[m], b.y, b.w);
            }
        }
    }
}

/* Hides the keys after each row's own token. warp_packed: the warp's first packed row. */
template <int D>
__device__ __forceinline__ void mask(scores<D> &s, const params &p, int warp_packed, int start)
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < shape<D>::ROW_BLOCKS; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int i = warp_packed + 16 * m + 8 * half + lane / 4;
            /* The row's last token, counted from this lane's first column. */
            int last = p.first + i / p.group - start - lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < KEY_BLOCKS; n++) {
#pragma unroll
                for (int e = 0; e < 2; e++) {
                    if (8 * n + e > last) {
                        s[m][n][2 * half + e] = -INFINITY;
                    }
                }
            }
        }
    }
}

/* Turns s into weights 2^(scale * (s - max)) of the maximum so far, and rescales what the tiles
 * before have left in o and sum to it. Each lane sums its own columns. The first tile holds token
 * 0, which every row sees, so max is finite from then on. */
template <int D>
__device__ __forceinline__ void softmax_step(scores<D> &s, outputs<D> &o, row_values<D> &max,
                                             row_values<D> &sum, float scale_log2)
{
#pragma unroll
    for (int m = 0; m < shape<D>::ROW_BLOCKS; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float top = max[m][half];
#pragma unroll
            for (int n = 0; n < KEY_BLOCKS; n++) {
                top = fmaxf(top, fmaxf(s[m][n][2 * half], s[m][n][2 * half + 1]));
            }
            top = quad_max(top);
            float shrink = exp2_fast((max[m][half] - top) * scale_log2);
            float offset = top * scale_log2;
            float total = 0.0f;
#pragma unroll
            for (int n = 0; n < KEY_BLOCKS; n++) {
#pragma unroll
                for (int e = 2 * half; e < 2 * half + 2; e++) {
                    s[m][n][e] = exp2_fast(fmaf(s[m][n][e], scale_log2, -offset));
                    total += s[m][n][e];
                }
            }
            max[m][half] = top;
            sum[m][half] = sum[m][half] * shrink + total;
#pragma unroll
            for (int n = 0; n < shape<D>::DIM_BLOCKS; n++) {
                o[m][n][2 * half] *= shrink;
                o[m][n][2 * half + 1] *= shrink;
            }
        }
    }
}

/* o += P V. P is s rounded to bf16: two column blocks of S lie in the lanes just as a 16x16 operand
 * wants them. v: this lane's ldmatrix address in the tile. */
template <int D>
__device__ __forceinline__ void add_values(outputs<D> &o, const scores<D> &s, unsigned v)
{
    const int ROW_BLOCKS = shape<D>::ROW_BLOCKS;
#pragma unroll
    for (int key = 0; key < TILE_KEYS; key += 16) {
        uint4 a[ROW_BLOCKS];
#pragma unroll
        for (int m = 0; m < ROW_BLOCKS; m++) {
            const float(&left)[4] = s[m][key / 8];
            const float(&right)[4] = s[m][key / 8 + 1];
            a[m] = make_uint4(pack_bf16(left[0], left[1]), pack_bf16(left[2], left[3]),
                              pack_bf16(right[0], right[1]), pack_bf16(right[2], right[3]));
        }
#pragma unroll
        for (int n = 0; n < shape<D>::DIM_BLOCKS; n += 2) {
            uint4 b = load_blocks_transposed(v + (unsigned)(2 * (key * shape<D>::STRIDE + 8 * n)));
#pragma unroll
            for (int m = 0; m < ROW_BLOCKS; m++) {
                mma_bf16(o[m][n], a[m], b.x, b.y);
                mma_bf16(o[m][n + 1], a[m], b.z, b.w);
            }
        }
    }
}

/* Divides by the sum of the weights and writes the rows that exist. */
template <int D>
__device__ __forceinline__ void store_outputs(const params &p, int kv_head, int warp_packed,
                                              const outputs<D> &o, const row_values<D> &sum)
{
    int lane = (int)threadIdx.x % 32;
#pragma unroll
    for (int m = 0; m < shape<D>::ROW_BLOCKS; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float inverse = 1.0f / quad_sum(sum[m][half]);
            int i = warp_packed + 16 * m + 8 * half + lane / 4;
            if (i >= p.packed_rows) {
                continue;
            }
            float *out = p.o + row_offset(p, kv_head, i) + lane % 4 * 2;
#pragma unroll
            for (int n = 0; n < shape<D>::DIM_BLOCKS; n++) {
                if (8 * n < p.head_dim) {
                    *(float2 *)(out + 8 * n) =
                        make_float2(o[m][n][2 * half] * inverse, o[m][n][2 * half + 1] * inverse);
                }
            }
        }
    }
}

/* ---- the kernel ---- */

/* Grid: x the tiles of packed rows, y the KV heads. The last rows see the most keys and go first,
 * so that short CTAs fill the end; CTAs of a KV head run together and share its tiles in L2. */
template <int D> __global__ void __launch_bounds__(THREADS, 2) attend(const params p)
{
    extern __shared__ __align__(16) uint16_t tiles[];
    uint16_t *q_tile = tiles;
    uint16_t *k_tile = q_tile + shape<D>::ROWS * shape<D>::STRIDE;
    uint16_t *v_tile = k_tile + TILE_KEYS * shape<D>::STRIDE;

    int kv_head = (int)blockIdx.y;
    const uint16_t *k = p.k + kv_head * p.capacity * p.head_dim;
    const uint16_t *v = p.v + kv_head * p.capacity * p.head_dim;
    int first_packed = (int)(gridDim.x - 1 - blockIdx.x) * shape<D>::ROWS;
    int last_packed = min(first_packed + shape<D>::ROWS, p.packed_rows) - 1;
    int all_see = p.first + first_packed / p.group + 1; /* tokens that no row needs masked */
    int keys = p.first + last_packed / p.group + 1;

    int lane = (int)threadIdx.x % 32;
    int warp_row = (int)threadIdx.x / 32 * shape<D>::WARP_ROWS;
    /* Of ldmatrix: the four 8x8 blocks of a 16x16 block, down first, then right. */
    unsigned lane_offset = (unsigned)(2 * (lane % 16 * shape<D>::STRIDE + lane / 16 * 8));
    unsigned q_lane = shared_address(q_tile + warp_row * shape<D>::STRIDE) + lane_offset;
    unsigned k_lane = shared_address(k_tile) + lane_offset;
    unsigned v_lane = shared_address(v_tile) + lane_offset;

    outputs<D> o = {};
    row_values<D> sum = {};
    row_values<D> max;
    for (int m = 0; m < shape<D>::ROW_BLOCKS; m++) {
        max[m][0] = max[m][1] = -INFINITY;
    }
    /* `masked` is a constant in each use: with a branch instead, the registers would not suffice.
     */
    auto add_tile = [&](int start, bool masked) __attribute__((always_inline))
    {
        copy_wait();
        __syncthreads(); /* K (and Q) are there, and all are done with the V before */
        start_copy<D>(p, v, start, keys, v_tile);
        scores<D> s;
        multiply_keys<D>(s, q_lane, k_lane);
        copy_wait();
        __syncthreads(); /* V is there, and all are done with K */
        if (start + TILE_KEYS < keys) {
            start_copy<D>(p, k, start + TILE_KEYS, keys, k_tile);
        }
        if (masked) {
            mask<D>(s, p, first_packed + warp_row, start);
        }
        softmax_step<D>(s, o, max, sum, p.scale_log2);
        add_values<D>(o, s, v_lane);
    };
    start_copy<D>(p, k, 0, keys, k_tile);
    load_queries<D>(p, kv_head, first_packed, q_tile);
    int start = 0;
    for (; start + TILE_KEYS <= all_see; start += TILE_KEYS) {
        add_tile(start, false);
    }
    for (; start < keys; start += TILE_KEYS) {
        add_tile(start, true);
    }
    store_outputs<D>(p, kv_head, first_packed + warp_row, o, sum);
}

template <int D> void launch(const params &p, int num_kv_heads)
{
    int tiles = (p.packed_rows + shape<D>::ROWS - 1) / shape<D>::ROWS;
    dim3 grid((unsigned)tiles, (unsigned)num_kv_heads);
    CUDA_ALLOW_SHARED(attend<D>, shape<D>::SHARED_BYTES);
    attend<D><<<grid, THREADS, shape<D>::SHARED_BYTES, cuda_stream()>>>(p);
    CUDA_CHECK_LAUNCH();
}

} // namespace

void prefill_attention_mma_cuda(const struct prefill_attention_args *a)
{
    const struct kv_cache *cache = a->cache;
    int group = a->num_heads / cache->num_kv_heads;
    const float LOG2_E = 1.44269504f;
    params p = {a->q,
                (const uint16_t *)cache->k,
                (const uint16_t *)cache->v,
                a->o,
                cache->capacity,
                (int)a->first,
                (int)a->rows * group,
                group,
                a->num_heads,
                a->head_dim,
                a->scale * LOG2_E};
    if (a->head_dim % 8 != 0 || a->head_dim > 256) {
        mp_panic("prefill_attention_mma_cuda: head_dim %d is not a multiple of 8 up to 256",
                 a->head_dim);
    } else if (a->head_dim > 128) {
        launch<256>(p, cache->num_kv_heads);
    } else if (a->head_dim > 64) {
        launch<128>(p, cache->num_kv_heads);
    } else {
        launch<64>(p, cache->num_kv_heads);
    }
}
