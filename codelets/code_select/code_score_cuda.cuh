/* Logits of a CTA's tokens, by tensor cores: products of levels, unpacked from their words, with 8
 * query heads. Which of its 16 rows and 32 channels a product takes for which tokens and channels
 * does not matter, if only both sides agree: so each lane unpacks whole words of four neighbours,
 * and gets logits of four neighbours. */
#ifndef MP_CODELETS_CODE_SCORE_CUDA_CUH
#define MP_CODELETS_CODE_SCORE_CUDA_CUH

#include "codelets/code_select/code_piece_cuda.cuh"

namespace
{

/* c (16x8) += a (16x32) * b (32x8), levels and queries. Lane l has four channels from 4 (l % 4) on,
 * of rows l / 4 and l / 4 + 8 in a0 and a1, of column l / 4 in b0; 16 channels further the same in
 * a2, a3 and b1; of c columns 2 (l % 4) and the next one of row l / 4, then of row l / 4 + 8. */
__device__ __forceinline__ void mma_levels(int (&c)[4], uint32_t a0, uint32_t a1, uint32_t a2,
                                           uint32_t a3, uint32_t b0, uint32_t b1)
{
    asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

/* Four words or floats that are read once. */
__device__ __forceinline__ uint4 load_once(const void *at)
{
    uint4 x;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(at)
                 : "memory");
    return x;
}

__device__ __forceinline__ float4 load_once_float(const float *at)
{
    const uint4 x = load_once(at);
    return make_float4(__uint_as_float(x.x), __uint_as_float(x.y), __uint_as_float(x.z),
                       __uint_as_float(x.w));
}

/* What a lane needs of the query heads: channels of head lane / 4, and how logits of heads
 * 2 (lane % 4) and the next one are made. */
template <int BITS, int STEPS> struct lane_queries {
    uint32_t channels[STEPS][8 / BITS][2];
    float scale[2];
    int32_t sum[2];
};

template <int BITS, int STEPS>
__device__ __forceinline__ void load_queries(const code_head *heads, int group,
                                             lane_queries<BITS, STEPS> &q)
{
    const int slots = 8 / BITS;
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
#pragma unroll
        for (int k = 0; k < slots; k++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int i = (8 * s + 4 * half + t) * slots + k;
                q.channels[s][k][half] =
                    g < group ? reinterpret_cast<const uint32_t *>(heads[g].query)[i] : 0;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        const bool exists = 2 * t + i < group;
        q.scale[i] = exists ? heads[2 * t + i].scale : 0.0f;
        q.sum[i] = exists ? heads[2 * t + i].query_sum : 0;
    }
}

/* Two words each of four tokens, 4 (lane / 4) of a block and on: words lane % 4 and the fourth one
 * after it, of eight. */
struct lane_words {
    uint4 word[2];
};

__device__ __forceinline__ lane_words load_words(const uint32_t *block, int num_words, int step)
{
    lane_words w;
    const int m = 8 * step + threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const uint32_t *at = block + (m + 4 * half) * CODES_BLOCK + threadIdx.x % 32 / 4 * 4;
        w.word[half] = m + 4 * half < num_words ? load_once(at) : make_uint4(0, 0, 0, 0);
    }
    return w;
}

/* Adds the products of a step's words: sums[0] of tokens 0 and 1 of four, sums[1] of 2 and 3. */
template <int BITS>
__device__ __forceinline__ void add_step(const lane_words &w, const uint32_t (&q)[8 / BITS][2],
                                         int (&sums)[2][4])
{
    const uint32_t mask = 0x01010101u * ((1u << BITS) - 1);
#pragma unroll
    for (int k = 0; k < 8 / BITS; k++) {
        const uint4 a = w.word[0];
        const uint4 b = w.word[1];
        mma_levels(sums[0], a.x >> (k * BITS) & mask, a.y >> (k * BITS) & mask,
                   b.x >> (k * BITS) & mask, b.y >> (k * BITS) & mask, q[k][0], q[k][1]);
        mma_levels(sums[1], a.z >> (k * BITS) & mask, a.w >> (k * BITS) & mask,
                   b.z >> (k * BITS) & mask, b.w >> (k * BITS) & mask, q[k][0], q[k][1]);
    }
}

/* Logits of a lane's four tokens for its head i; `left` of the tokens exist. */
template <int BITS, int STEPS>
__device__ __forceinline__ float4 logits_of(const int (&sums)[2][4], int i,
                                            const lane_queries<BITS, STEPS> &q, float4 f, int left)
{
    float4 z;
    z.x = codes_logit(codes_twice_dot(sums[0][i], q.sum[i], BITS), q.scale[i], f.x);
    z.y = codes_logit(codes_twice_dot(sums[0][2 + i], q.sum[i], BITS), q.scale[i], f.y);
    z.z = codes_logit(codes_twice_dot(sums[1][i], q.sum[i], BITS), q.scale[i], f.z);
    z.w = codes_logit(codes_twice_dot(sums[1][2 + i], q.sum[i], BITS), q.scale[i], f.w);
    if (left < 4) { /* of those that fill the last block */
        z.x = left > 0 ? z.x : -INFINITY;
        z.y = left > 1 ? z.y : -INFINITY;
        z.z = left > 2 ? z.z : -INFINITY;
        z.w = -INFINITY;
    }
    return z;
}

/* Logits of the piece into the store; the largest ones of each head into s.warp_largest. Each warp
 * takes every WARPS-th block, and reads ahead. */
template <int BITS, int STEPS>
__device__ void score(const code_launch &p, const code_row &r, const piece &t, shared &s)
{
    lane_queries<BITS, STEPS> q;
    load_queries(s.heads, p.group, q);
    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    const int blocks = t.padded / CODES_BLOCK;
    const int64_t first = t.kv_head * r.head_blocks + t.first / CODES_BLOCK;
    const uint32_t *words = r.words + first * p.words * CODES_BLOCK;
    const float *factors = r.factors + first * CODES_BLOCK + lane / 4 * 4;
    const int64_t block_words = (int64_t)p.words * CODES_BLOCK;
    float largest[2] = {-INFINITY, -INFINITY};
    lane_words next = {};
    float4 next_factors = {};
    if (warp < blocks) {
        next = load_words(words + warp * block_words, p.words, 0);
        next_factors = load_once_float(factors + warp * CODES_BLOCK);
    }
    for (int b = warp; b < blocks; b += WARPS) {
        const float4 f = next_factors;
        int sums[2][4] = {};
        const bool more = b + WARPS < blocks;
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            const lane_words now = next;
            if (step + 1 < STEPS) {
                next = load_words(words + b * block_words, p.words, step + 1);
            } else if (more) {
                next = load_words(words + (b + WARPS) * block_words, p.words, 0);
                next_factors = load_once_float(factors + (b + WARPS) * CODES_BLOCK);
            }
            add_step<BITS>(now, q.channels[step], sums);
        }
        const int token = b * CODES_BLOCK + lane / 4 * 4;
#pragma unroll
        for (int i = 0; i < 2; i++) {
            const int g = 2 * (lane % 4) + i;
            if (g < p.group) {
                const float4 z = logits_of(sums, i, q, f, t.tokens - token);
                *reinterpret_cast<float4 *>(t.store + g * t.padded + token) = z;
                largest[i] = fmaxf(largest[i], fmaxf(fmaxf(z.x, z.y), fmaxf(z.z, z.w)));
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        for (int offset = 4; offset < 32; offset *= 2) {
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(~0u, largest[i], offset));
        }
        if (lane < 4) {
            s.warp_largest[warp][2 * lane + i] = largest[i];
        }
    }
}

} // namespace

#endif
