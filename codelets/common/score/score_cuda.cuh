/* Scores on the GPU, to the bits of score.h, and the selection of the largest.
 *
 * Two threads score a row: one has sums 0 to 7, the other sums 8 to 15, so that they read chunks of
 * 8 channels (16 bytes) in turns and together whole sectors. A CTA selects for one query head. */
#ifndef MP_CODELETS_COMMON_SCORE_CUDA_CUH
#define MP_CODELETS_COMMON_SCORE_CUDA_CUH

#include "codelets/common/cuda/launch_cuda.cuh"

extern "C" {
#include "codelets/common/score/score.h"
}

#include <math.h>

enum {
    SCORE_REQUESTS = 32, /* of a launch: their addresses are kernel parameters */
    SCORE_THREADS = 256, /* of a CTA that scores */
    SCORE_CTA_ROWS = SCORE_THREADS / 2,
    SCORE_CTAS_PER_SM = 8, /* about; each goes on with further rows */
    SELECT_WARPS = 32,     /* of a CTA that selects */
    SELECT_THREADS = 32 * SELECT_WARPS,
};

/* ---- scores ---- */

/* The rows of one request, and where their scores go. A chunk is 8 channels. */
struct score_request {
    const void *rows;           /* [KV heads] head_rows apart, of [count][pitch] */
    const kv_scale *row_scales; /* [KV heads] head_rows apart, of [count]; int8 alone */
    int64_t head_rows;          /* rows between two KV heads */
    int pitch;                  /* chunks from a row to the next */
    int64_t count;              /* 0: nothing to score */
    float *scores;              /* [num_heads][stride] */
    int64_t stride;
};

struct score_launch {
    score_request request[SCORE_REQUESTS];
    const float *q; /* [requests][kv_heads * group][head_dim] */
    int kv_heads;
    int group; /* query heads of a KV head */
    int head_dim;
    int chunks; /* of a row: of keys head_dim / 8; of bounds, which are two rows, twice that */
    float scale;
};

/* The queries of `heads` heads as the rows need them, [HEADS][8 * chunks]; those missing are 0.
 * BOUNDS: a row is the least values of all channels, then the largest, of which each query takes
 * the one that gives the larger product. */
template <int HEADS, bool BOUNDS>
__device__ void score_put_queries(float *queries, const float *q, int heads, int head_dim)
{
    const int width = BOUNDS ? 2 * head_dim : head_dim;
    for (int i = threadIdx.x; i < HEADS * width; i += SCORE_THREADS) {
        const int c = i % width;
        float x = i / width < heads ? q[i / width * head_dim + c % head_dim] : 0.0f;
        if (BOUNDS) {
            x = c < head_dim ? fminf(x, 0.0f) : fmaxf(x, 0.0f);
        }
        queries[i] = x;
    }
}

/* Channel i of a chunk of bf16, and of int8. */
static __device__ __forceinline__ float score_channel(uint4 chunk, int i)
{
    const uint32_t word[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
    return __uint_as_float(i % 2 == 0 ? word[i / 2] << 16 : word[i / 2] & 0xffff0000u);
}

static __device__ __forceinline__ float score_channel(uint2 chunk, int i)
{
    const uint32_t word = i < 4 ? chunk.x : chunk.y;
    return (float)(int8_t)(word >> 8 * (i % 4));
}

/* Adds the products of every second chunk of a row, from chunk `half` on. */
template <int HEADS, class Chunk>
__device__ __forceinline__ void score_add_row(float (&sums)[HEADS][8], const Chunk *row,
                                              const float4 *queries, int chunks, int half)
{
#pragma unroll 4
    for (int s = half; s < chunks; s += 2) {
        const Chunk chunk = row[s];
#pragma unroll
        for (int h = 0; h < HEADS; h++) {
            const float4 low = queries[(h * chunks + s) * 2];
            const float4 high = queries[(h * chunks + s) * 2 + 1];
            const float q[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
            for (int i = 0; i < 8; i++) {
                sums[h][i] = __fmaf_rn(q[i], score_channel(chunk, i), sums[h][i]);
            }
        }
    }
}

/* The sum of a row's 16 sums, in both of its threads; by whole warps. */
static __device__ __forceinline__ float score_merge(const float (&sums)[8])
{
    float s[8];
#pragma unroll
    for (int i = 0; i < 8; i++) {
        s[i] = __fadd_rn(sums[i], __shfl_xor_sync(0xffffffffu, sums[i], 1));
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        s[i] = __fadd_rn(s[i], s[i + 4]);
    }
    return __fadd_rn(__fadd_rn(s[0], s[2]), __fadd_rn(s[1], s[3]));
}

/* Grid: x any, y KV heads of all requests. Chunk: uint4 of bf16, uint2 of int8. */
template <int HEADS, bool BOUNDS, class Chunk>
__global__ void __launch_bounds__(SCORE_THREADS)
    score_kernel(begin_stamp stamp, const __grid_constant__ score_launch p)
{
    extern __shared__ float4 score_queries[];
    allow_next_kernel();
    wait_for_kernels(stamp);
    const score_request &r = p.request[blockIdx.y / p.kv_heads];
    const int kv_head = blockIdx.y % p.kv_heads;
    const int half = threadIdx.x % 2;
    const int64_t head = kv_head * r.head_rows;
    const Chunk *rows = static_cast<const Chunk *>(r.rows) + head * r.pitch;
    for (int g = 0; g < p.group; g += HEADS) {
        const int heads = min(HEADS, p.group - g);
        const int64_t query = (int64_t)blockIdx.y * p.group + g;
        float *scores = r.scores + (int64_t)(kv_head * p.group + g) * r.stride;
        __syncthreads(); /* the queries before these have been used */
        score_put_queries<HEADS, BOUNDS>(reinterpret_cast<float *>(score_queries),
                                         p.q + query * p.head_dim, heads, p.head_dim);
        __syncthreads();
        for (int64_t first = (int64_t)blockIdx.x * SCORE_CTA_ROWS; first < r.count;
             first += (int64_t)gridDim.x * SCORE_CTA_ROWS) {
            const int64_t row = first + threadIdx.x / 2;
            const int64_t read = min(row, r.count - 1); /* the last stands in for those missing */
            float sums[HEADS][8] = {};
            score_add_row<HEADS>(sums, rows + read * r.pitch, score_queries, p.chunks, half);
#pragma unroll
            for (int h = 0; h < HEADS; h++) {
                float dot = score_merge(sums[h]);
                if (half == 0 && row < r.count && h < heads) {
                    if (sizeof(Chunk) == sizeof(uint2)) {
                        dot = __fmul_rn(r.row_scales[head + row].k, dot);
                    }
                    scores[h * r.stride + row] = __fmul_rn(p.scale, dot);
                }
            }
        }
    }
}

template <int HEADS, bool BOUNDS, class Chunk>
void score_launch_heads(const score_launch &p, dim3 grid)
{
    size_t shared = (size_t)HEADS * p.chunks * 8 * sizeof(float);
    launch_overlapped(score_kernel<HEADS, BOUNDS, Chunk>, grid, SCORE_THREADS, shared, p);
}

/* Scores the rows of so many requests; the longest has `longest` of them, > 0. */
template <bool BOUNDS, class Chunk>
void score_requests(const score_launch &p, int requests, int64_t longest)
{
    int64_t lists = (int64_t)requests * p.kv_heads;
    int64_t ctas = (longest + SCORE_CTA_ROWS - 1) / SCORE_CTA_ROWS;
    int64_t most = ((int64_t)SCORE_CTAS_PER_SM * cuda_multiprocessors() + lists - 1) / lists;
    dim3 grid((unsigned)(ctas < most ? ctas : most), (unsigned)lists);
    if (p.group == 1) {
        score_launch_heads<1, BOUNDS, Chunk>(p, grid);
    } else if (p.group == 2) {
        score_launch_heads<2, BOUNDS, Chunk>(p, grid);
    } else if (p.group <= 4) {
        score_launch_heads<4, BOUNDS, Chunk>(p, grid);
    } else {
        score_launch_heads<8, BOUNDS, Chunk>(p, grid);
    }
}

/* ---- selection, by all threads of a CTA of SELECT_THREADS ---- */

/* score_order of score.h. */
static __device__ __forceinline__ unsigned order_of(float score)
{
    unsigned bits = __float_as_uint(__fadd_rn(score, 0.0f));
    return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

/* Selected are all rows whose order is above `order`, and the first `equal` of those with it. */
struct score_cut {
    unsigned order;
    int equal;
};

/* The digit at which `left` rows with the largest digits end, and how many of them have it; by one
 * warp. 1 <= left <= the sum of all buckets. */
static __device__ score_cut find_digit(const unsigned *buckets, unsigned left)
{
    const int lane = threadIdx.x % 32;
    const int first = 255 - 8 * lane; /* this lane has it and the 7 below */
    unsigned own = 0;
    for (int j = 0; j < 8; j++) {
        own += buckets[first - j];
    }
    unsigned sum = own; /* becomes that of the lanes up to this one */
    for (int offset = 1; offset < 32; offset *= 2) {
        unsigned below = __shfl_up_sync(~0u, sum, offset);
        sum += lane >= offset ? below : 0;
    }
    const bool here = sum - own < left && left <= sum;
    score_cut cut = {0, 0};
    if (here) {
        unsigned digit = first;
        unsigned rest = left - (sum - own);
        for (; buckets[digit] < rest; digit--) {
            rest -= buckets[digit];
        }
        cut.order = digit;
        cut.equal = (int)rest;
    }
    const int from = __ffs(__ballot_sync(~0u, here)) - 1;
    cut.order = __shfl_sync(~0u, cut.order, from);
    cut.equal = __shfl_sync(~0u, cut.equal, from);
    return cut;
}

/* Where the `selected` largest of `count` scores end, byte by byte. 1 <= selected <= count. */
static __device__ score_cut find_cut(const float *scores, int count, int selected)
{
    __shared__ unsigned buckets[256];
    __shared__ score_cut found;
    score_cut cut = {0, selected}; /* the digits known so far; rows still to find with them */
    for (int shift = 24; shift >= 0; shift -= 8) {
        const unsigned known = shift == 24 ? 0 : ~0u << (shift + 8);
        if (threadIdx.x < 256) {
            buckets[threadIdx.x] = 0;
        }
        __syncthreads();
        for (int first = 0; first < count; first += SELECT_THREADS) {
            const int i = first + (int)threadIdx.x;
            const unsigned order = i < count ? order_of(scores[i]) : 0;
            const bool counted = i < count && (order & known) == cut.order;
            const unsigned digit = counted ? order >> shift & 255 : 256;
            /* One addition for all lanes with the same digit: often they are most of a warp. */
            const unsigned peers = __match_any_sync(~0u, digit);
            if (counted && (int)threadIdx.x % 32 == __ffs(peers) - 1) {
                atomicAdd(&buckets[digit], __popc(peers));
            }
        }
        __syncthreads();
        if (threadIdx.x < 32) {
            const score_cut digit = find_digit(buckets, (unsigned)cut.equal);
            if (threadIdx.x == 0) {
                found = digit;
            }
        }
        __syncthreads();
        cut.order |= found.order << shift;
        cut.equal = found.equal;
    }
    return cut;
}

enum row_kind { ROW_LEFT_OUT, ROW_SELECTED, ROW_EQUAL };

/* Rows of two kinds before some row: how many. */
struct row_counts {
    int selected;
    int equal;
};

/* Calls take(i, position) for each of `count` rows that is selected: kind(i) says so, or that it is
 * one of those of which the first `equal` are. Positions ascend with i, from 0. Each warp has a run
 * of rows: it counts them, learns how many the warps before it have, and takes them. Returns how
 * many there are. */
template <typename Kind, typename Take>
__device__ int take_rows(int count, int equal, Kind kind, Take take)
{
    __shared__ row_counts counts[SELECT_WARPS];
    const int warp = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    const unsigned below = (1u << lane) - 1;
    const int run = (count + SELECT_THREADS - 1) / SELECT_THREADS * 32;
    const int begin = min(count, warp * run);
    const int end = min(count, begin + run);
    row_counts own = {0, 0};
    for (int first = begin; first < end; first += 32) {
        const int i = first + lane;
        const row_kind k = i < end ? kind(i) : ROW_LEFT_OUT;
        own.selected += __popc(__ballot_sync(~0u, k == ROW_SELECTED));
        own.equal += __popc(__ballot_sync(~0u, k == ROW_EQUAL));
    }
    if (lane == 0) {
        counts[warp] = own;
    }
    __syncthreads();
    row_counts before = {0, 0};
    row_counts all = {0, 0};
    for (int w = 0; w < SELECT_WARPS; w++) {
        before.selected += w < warp ? counts[w].selected : 0;
        before.equal += w < warp ? counts[w].equal : 0;
        all.selected += counts[w].selected;
        all.equal += counts[w].equal;
    }
    int position = before.selected + min(before.equal, equal);
    for (int first = begin; first < end; first += 32) {
        const int i = first + lane;
        const row_kind k = i < end ? kind(i) : ROW_LEFT_OUT;
        const unsigned equals = __ballot_sync(~0u, k == ROW_EQUAL);
        const bool taken =
            k == ROW_SELECTED || (k == ROW_EQUAL && before.equal + __popc(equals & below) < equal);
        const unsigned takes = __ballot_sync(~0u, taken);
        if (taken) {
            take(i, position + __popc(takes & below));
        }
        position += __popc(takes);
        before.equal += __popc(equals);
    }
    return all.selected + min(all.equal, equal);
}

/* Calls take(i, position) for the `selected` rows with the largest scores, as score_select. */
template <typename Take>
__device__ void take_largest(const float *scores, int count, int selected, Take take)
{
    const score_cut cut = find_cut(scores, count, selected);
    take_rows(
        count, cut.equal,
        [=](int i) {
            const unsigned order = order_of(scores[i]);
            return order > cut.order ? ROW_SELECTED : order == cut.order ? ROW_EQUAL : ROW_LEFT_OUT;
        },
        take);
}

#endif
