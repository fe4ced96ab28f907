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
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 "
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

/* What a lane needs of the query heads. It gets the logits of HEADS of them, 1 or 2: if there are
 * no more than four, every second column of a product is one. channels: of the head in column
 * lane / 4. */
template <int BITS, int STEPS, int HEADS> struct lane_queries {
    uint32_t channels[STEPS][8 / BITS][2];
    float scale[HEADS];
    int32_t offset[HEADS]; /* codes_twice_dot of 0, in the bits of 1.5 * 2^23 */
};

/* The i-th head that the lane gets logits of. */
template <int HEADS> __device__ __forceinline__ int lane_head(int i)
{
    return HEADS * (threadIdx.x % 4) + i;
}

template <int BITS, int STEPS, int HEADS>
__device__ __forceinline__ void load_queries(const code_head *heads, int group,
                                             lane_queries<BITS, STEPS, HEADS> &q)
{
    const int slots = 8 / BITS;
    const int column = threadIdx.x % 32 / 4;
    const int g = column * HEADS / 2;
    const bool exists = g < group && column * HEADS % 2 == 0;
#pragma unroll
    for (int s = 0; s < STEPS; s++) {
#pragma unroll
        for (int k = 0; k < slots; k++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const int i = (8 * s + 4 * half + (int)threadIdx.x % 4) * slots + k;
                q.channels[s][k][half] =
                    exists ? reinterpret_cast<const uint32_t *>(heads[g].query)[i] : 0;
            }
        }
    }
#pragma unroll
    for (int i = 0; i < HEADS; i++) {
        const int h = lane_head<HEADS>(i);
        q.scale[i] = h < group ? heads[h].scale : 0.0f;
        q.offset[i] = 0x4b400000 + codes_twice_dot(0, h < group ? heads[h].query_sum : 0, BITS);
    }
}

/* ---- codes ---- */

/* Of a block, what a lane needs: two words a step of four tokens, 4 (lane / 4) and on, which are
 * words lane % 4 and the fourth one after it, of eight. */
template <int STEPS> struct lane_block {
    uint4 words[STEPS][2];
    float4 factors;
};

/* Where a lane reads its next block. */
template <int STEPS> struct lane_reader {
    const uint32_t *words;
    const float *factors;
    int place[STEPS][2]; /* of its words */
    int block_words;
};

/* At block number `block` of a KV head. */
template <int STEPS>
__device__ __forceinline__ lane_reader<STEPS> make_reader(const code_launch &p, const piece &t,
                                                          int64_t block)
{
    const code_row &r = p.row[t.row];
    const int first = threadIdx.x % 32 / 4 * 4;
    lane_reader<STEPS> x;
    block += t.kv_head * r.head_blocks;
    x.block_words = p.words * CODES_BLOCK;
    x.words = r.words + block * x.block_words + first;
    x.factors = r.factors + block * CODES_BLOCK + first;
#pragma unroll
    for (int i = 0; i < 2 * STEPS; i++) {
        /* Instead of one beyond the last it is the last: the query has 0 for it. */
        x.place[i / 2][i % 2] = min(4 * i + (int)threadIdx.x % 4, p.words - 1) * CODES_BLOCK;
    }
    return x;
}

template <int STEPS>
__device__ __forceinline__ void read_words(const lane_reader<STEPS> &x, lane_block<STEPS> &out)
{
#pragma unroll
    for (int i = 0; i < 2 * STEPS; i++) {
        out.words[i / 2][i % 2] = load_once(x.words + x.place[i / 2][i % 2]);
    }
}

/* What follows read_words; goes on to the next block of the warp, if there is one. */
template <int STEPS>
__device__ __forceinline__ void read_factors(lane_reader<STEPS> &x, bool more,
                                             lane_block<STEPS> &out)
{
    out.factors = load_once_float(x.factors);
    if (more) {
        x.words += SCORERS * x.block_words;
        x.factors += SCORERS * CODES_BLOCK;
    }
}

/* Not a number for a lane's tokens beyond `left` of a block: their logits are none. */
__device__ __forceinline__ void end_factors(int left, float4 &f)
{
    left -= threadIdx.x % 32 / 4 * 4;
    __syncwarp(); /* for a branch: it costs less than doing nothing for every block */
    f.x = left > 0 ? f.x : NAN;
    f.y = left > 1 ? f.y : NAN;
    f.z = left > 2 ? f.z : NAN;
    f.w = left > 3 ? f.w : NAN;
}

/* ---- products ---- */

/* Sums of products, of two tokens. high: those of levels that are left in the upper half of their
 * bits, 2^BITS times as large. */
struct lane_sums {
    int low[4];
    int high[4];
};

/* Adds the products of a step's words of two tokens: a of one word each, b of the other. */
template <int BITS>
__device__ __forceinline__ void add_products(uint2 a, uint2 b, const uint32_t (&q)[8 / BITS][2],
                                             lane_sums &sums)
{
    const uint32_t low = 0x01010101u * ((1u << BITS) - 1);
    const uint32_t high = low << BITS;
#pragma unroll
    for (int k = 0; k < 8 / BITS; k += 2) {
        mma_levels(sums.low, a.x & low, a.y & low, b.x & low, b.y & low, q[k][0], q[k][1]);
        mma_levels(sums.high, a.x & high, a.y & high, b.x & high, b.y & high, q[k + 1][0],
                   q[k + 1][1]);
        a = {a.x >> (2 * BITS), a.y >> (2 * BITS)};
        b = {b.x >> (2 * BITS), b.y >> (2 * BITS)};
    }
}

/* Of a block: [0] of tokens 0 and 1 of four, [1] of 2 and 3. */
template <int BITS, int STEPS, int HEADS>
__device__ __forceinline__ void multiply(const lane_block<STEPS> &block,
                                         const lane_queries<BITS, STEPS, HEADS> &q,
                                         lane_sums (&sums)[2])
{
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const uint4 a = block.words[step][0];
        const uint4 b = block.words[step][1];
        add_products<BITS>({a.x, a.y}, {b.x, b.y}, q.channels[step], sums[0]);
        add_products<BITS>({a.z, a.w}, {b.z, b.w}, q.channels[step], sums[1]);
    }
}

/* Logits of the lane's head i for its four tokens, codes_logit to the bit: adding 1.5 * 2^23 in the
 * bits of a float makes an integer one. */
template <int BITS, int STEPS, int HEADS>
__device__ __forceinline__ float4 make_logits(const lane_sums (&sums)[2], int i,
                                              const lane_queries<BITS, STEPS, HEADS> &q, float4 f)
{
    const auto logit = [&](int pair, int row, float factor) {
        const lane_sums &x = sums[pair];
        const int dot = x.low[2 * row + i] + (x.high[2 * row + i] >> BITS);
        const float twice_dot = __int_as_float(2 * dot + q.offset[i]) - 12582912.0f;
        return twice_dot * q.scale[i] * factor;
    };
    return {logit(0, 0, f.x), logit(0, 1, f.y), logit(1, 0, f.z), logit(1, 1, f.w)};
}

/* at: in shared memory. */
__device__ __forceinline__ void store_logits(uint32_t at, float4 z)
{
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at), "f"(z.x), "f"(z.y), "f"(z.z),
                 "f"(z.w)
                 : "memory");
}

/* Largest logits of a warp's lanes into s.warp_largest. */
template <int HEADS>
__device__ __forceinline__ void note_largest(float (&largest)[HEADS], shared &s)
{
#pragma unroll
    for (int i = 0; i < HEADS; i++) {
        for (int offset = 4; offset < 32; offset *= 2) {
            largest[i] = fmaxf(largest[i], __shfl_xor_sync(~0u, largest[i], offset));
        }
        if (threadIdx.x % 32 < 4) {
            s.warp_largest[threadIdx.x / 32][lane_head<HEADS>(i)] = largest[i];
        }
    }
}

/* Logits of the piece into the store, not a number for what fills the last block; the largest ones
 * of each head into s.warp_largest. Each scorer takes every SCORERS-th block, and reads BLOCKS
 * of them ahead. */
template <int BITS, int STEPS, int HEADS>
__device__ void score(const code_launch &p, const piece t, shared &s)
{
    enum { STEP = SCORERS * CODES_BLOCK, BLOCKS = STEPS == 1 ? 2 : 1 };
    lane_queries<BITS, STEPS, HEADS> q;
    load_queries(p.row[t.row].scratch.heads + t.kv_head * p.group, p.group, q);
    const int first = threadIdx.x / 32 * CODES_BLOCK;
    /* A warp that has no block reads one that is there. */
    lane_reader<STEPS> reader =
        make_reader<STEPS>(p, t, first < t.padded ? (t.first + first) / CODES_BLOCK : 0);
    const uint32_t logits = (uint32_t)__cvta_generic_to_shared(logits_of(t, lane_head<HEADS>(0)) +
                                                               threadIdx.x % 32 / 4 * 4);
    float largest[HEADS];
    lane_block<STEPS> ahead[BLOCKS];
#pragma unroll
    for (int i = 0; i < HEADS; i++) {
        largest[i] = -INFINITY;
    }
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
        read_words(reader, ahead[b]);
        read_factors(reader, first + (b + 1) * STEP < t.padded, ahead[b]);
    }
#pragma unroll 1
    for (int token = first; token < t.padded;) {
#pragma unroll
        for (int b = 0; b < BLOCKS && token < t.padded; b++, token += STEP) {
            lane_sums sums[2] = {};
            multiply(ahead[b], q, sums);
            read_words(reader, ahead[b]);
            if (token + CODES_BLOCK > t.tokens) {
                end_factors(t.tokens - token, ahead[b].factors);
            }
#pragma unroll
            for (int i = 0; i < HEADS; i++) {
                const float4 z = make_logits(sums, i, q, ahead[b].factors);
                largest[i] = fmaxf(largest[i], fmaxf(fmaxf(z.x, z.y), fmaxf(z.z, z.w)));
                if (lane_head<HEADS>(i) < p.group) {
                    store_logits(logits + (i * t.stride + token) * 4, z);
                }
            }
            read_factors(reader, token + (BLOCKS + 1) * STEP < t.padded, ahead[b]);
        }
    }
    note_largest(largest, s);
}

} // namespace

#endif
