/* From a piece's logits to its inclusions and their sums, by all warps of its CTA unless it says by
 * which ones. */
#ifndef MP_CODELETS_CODE_INCLUSION_CUDA_CUH
#define MP_CODELETS_CODE_INCLUSION_CUDA_CUH

#include "codelets/code_select/code_piece_cuda.cuh"

namespace
{

/* ---- the largest logits ---- */

/* Shares the largest logit of each head. */
__device__ void share_largest(const code_launch &p, const piece t, const shared &s)
{
    const int g = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (g < p.group) {
        const uint32_t order =
            __reduce_max_sync(~0u, code_order(s.warp_largest[lane % SCORERS][g]));
        if (lane == 0) {
            share(t, LARGEST + g, order);
        }
    }
}

/* Those of all pieces, in s.largest, by a warp a head; for all others after __syncthreads(). */
__device__ void find_largest(const code_launch &p, const piece t, shared &s)
{
    const int g = threadIdx.x / 32;
    if (g < p.group) {
        uint32_t order = 0;
        for_parts<1>(t, LARGEST + g, t.parts,
                     [&](int, const uint32_t *x) { order = max(order, x[0]); });
        order = __reduce_max_sync(~0u, order);
        if (threadIdx.x % 32 == 0) {
            s.largest[g] = code_of_order(order);
        }
    }
}

/* ---- weights and x ---- */

/* codes_exp2, to the bit: adding 1.5 * 2^23 rounds to a whole number, and leaves it in the lower
 * bits. Of x that is not a number it is 0. */
__device__ __forceinline__ int32_t exp2_of(float x)
{
    const float magic = 12582912.0f;
    x = fmaxf(x, -31.0f);
    const float shifted = x + magic;
    const float r = x - (shifted - magic);
    float p = 1.5403530e-4f;
    p = fmaf(p, r, 1.3333558e-3f);
    p = fmaf(p, r, 9.6181291e-3f);
    p = fmaf(p, r, 5.5504109e-2f);
    p = fmaf(p, r, 2.4022651e-1f);
    p = fmaf(p, r, 6.9314718e-1f);
    p = fmaf(p, r, 1.0f);
    const int power =
        (int)((uint32_t)__float_as_int(shifted) << 23) + ((127 + CODES_ONE_BITS) << 23);
    return (int)(p * __int_as_float(power)); /* at most CODES_ONE: p <= 1 where r <= 0 */
}

/* Warps that weigh for one head. */
__device__ __forceinline__ int warps_a_head(const code_launch &p)
{
    return WARPS / p.group;
}

/* Logits become weights; shares their sums. Each warp does so for one head. */
__device__ void weigh(const code_launch &p, const piece t, shared &s)
{
    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    const int share_of_head = warp / p.group;
    if (share_of_head < warps_a_head(p)) {
        const int g = warp % p.group;
        float4 *logits = reinterpret_cast<float4 *>(logits_of(t, g));
        const float largest = s.largest[g];
        uint64_t sum = 0;
#pragma unroll 2
        for (int i = share_of_head * 32 + lane; i < t.padded / 4; i += warps_a_head(p) * 32) {
            const float4 z = logits[i];
            const int32_t w[4] = {exp2_of(z.x - largest), exp2_of(z.y - largest),
                                  exp2_of(z.z - largest), exp2_of(z.w - largest)};
            logits[i] = make_float4(__int_as_float(w[0]), __int_as_float(w[1]),
                                    __int_as_float(w[2]), __int_as_float(w[3]));
            sum += (uint64_t)((uint32_t)w[0] + (uint32_t)w[1]);
            sum += (uint64_t)((uint32_t)w[2] + (uint32_t)w[3]);
        }
        sum = warp_sum_u64(sum);
        if (lane == 0) {
            s.warp_sums[warp] = sum;
        }
    }
    __syncthreads();
    if (warp < p.group) {
        const bool of_head = lane % p.group == warp && lane / p.group < warps_a_head(p);
        const uint64_t own = warp_sum_u64(of_head ? s.warp_sums[lane] : 0);
        if (lane == 0) {
            share_long(t, WEIGHTS + 2 * warp, own);
        }
    }
}

/* codes_head_scale of each head, from the weights of all pieces, in s.scale; the same. */
__device__ void find_head_scales(const code_launch &p, const piece t, shared &s)
{
    const int g = threadIdx.x / 32;
    if (g < p.group) {
        uint64_t z = 0;
        for_parts<2>(t, WEIGHTS + 2 * g, t.parts, [&](int, const uint32_t *x) { z += long_of(x); });
        z = warp_sum_u64(z);
        if (threadIdx.x % 32 == 0) {
            s.scale[g] = codes_head_scale(z, p.group, p.row[t.row].samples);
        }
    } else if (g < MAX_GROUP) {
        s.scale[g] = 0.0f;
    }
}

/* What the CTAs of a KV head count together. */
__device__ __forceinline__ code_kv_head *counted(const code_launch &p, const piece &t)
{
    return p.row[t.row].scratch.kv_heads + t.kv_head;
}

/* x of the tokens of a KV head that may have pi = 1. */
__device__ __forceinline__ float *large_x(const code_launch &p, const piece &t)
{
    const code_scratch &scratch = p.row[t.row].scratch;
    return scratch.large + t.kv_head * scratch.stride;
}

/* x of the piece from its weights of GROUP query heads or less; shares their total. */
template <int GROUP> __device__ void mix(const code_launch &p, const piece t, shared &s)
{
    const code_row &r = p.row[t.row];
    const float uniform = codes_uniform(r.samples, r.tokens);
    const float2 *weights[GROUP];
    float scale[GROUP];
#pragma unroll
    for (int g = 0; g < GROUP; g++) {
        weights[g] = reinterpret_cast<const float2 *>(logits_of(t, min(g, p.group - 1)));
        scale[g] = s.scale[g];
    }
    uint64_t sum = 0;
    for (int i = threadIdx.x; i < t.padded / 2; i += THREADS) {
        float x[2] = {uniform, uniform};
#pragma unroll
        for (int g = 0; g < GROUP; g++) {
            const float2 w = weights[g][i];
            x[0] = fmaf((float)__float_as_int(w.x), scale[g], x[0]);
            x[1] = fmaf((float)__float_as_int(w.y), scale[g], x[1]);
        }
        reinterpret_cast<float2 *>(x_of(t))[i] = make_float2(x[0], x[1]);
        uint32_t small[2] = {(uint32_t)codes_small(x[0]), (uint32_t)codes_small(x[1])};
        if (fmaxf(x[0], x[1]) >= 1.0f) {
#pragma unroll
            for (int j = 0; j < 2; j++) {
                if (x[j] >= 1.0f) { /* may have pi = 1 */
                    large_x(p, t)[atomicAdd(&counted(p, t)->large, 1)] = x[j];
                    sum += codes_large(x[j]);
                    small[j] = 0;
                }
            }
        }
        sum += small[0] + small[1];
    }
    sum = warp_sum_u64(sum);
    if (threadIdx.x % 32 == 0) {
        s.warp_sums[threadIdx.x / 32] = sum;
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        sum = warp_sum_u64(threadIdx.x < WARPS ? s.warp_sums[threadIdx.x] : 0);
        if (threadIdx.x == 0) {
            __threadfence(); /* the large x are there before the total is */
            /* What fills the last block has weights 0. */
            sum -= (uint64_t)(t.padded - t.tokens) * (uint64_t)codes_small(uniform);
            share_long(t, TOTAL, sum);
        }
    }
}

/* ---- c' ---- */

/* The total of all pieces into s.total, and how many of their x are large; by the servers. */
__device__ void find_total(const code_launch &p, const piece t, shared &s)
{
    if (server_thread() < 32) {
        uint64_t total = 0;
        for_parts<2>(t, TOTAL, t.parts, [&](int, const uint32_t *x) { total += long_of(x); });
        total = warp_sum_u64(total);
        __threadfence(); /* the large x are read after the totals */
        if (threadIdx.x % 32 == 0) {
            s.total = total;
            s.num_large = __ldcg(&counted(p, t)->large);
        }
    }
    server_sync();
}

/* Counts the large x for which c x >= 1; adds up codes_large of them. */
__device__ void count_capped(const shared &s, const float *large, float c, int &count,
                             uint64_t &sum)
{
    const int n = s.num_large;
    count = 0;
    sum = 0;
    for (int i = server_thread(); i < n; i += 32 * SERVERS) {
        const float x = n <= GATHERED ? s.gathered[i] : __ldcg(large + i);
        const bool capped = c * x >= 1.0f;
        count += capped;
        sum += capped ? codes_large(x) : 0;
    }
    count = __reduce_add_sync(~0u, count);
    sum = warp_sum_u64(sum);
}

/* c', the same in every CTA of the KV head, in s.c; by the servers. */
__device__ void find_scale(const code_launch &p, const piece t, shared &s)
{
    const int samples = p.row[t.row].samples;
    const float *large = large_x(p, t);
    const int n = s.num_large;
    for (int i = server_thread(); n <= GATHERED && i < n; i += 32 * SERVERS) {
        s.gathered[i] = __ldcg(large + i); /* its thread alone reads it again */
    }
    float c = codes_next_scale(samples, 0, s.total, 0);
    int capped = 0;
    for (int side = 0; n > 0; side ^= 1) {
        int count;
        uint64_t sum;
        count_capped(s, large, c, count, sum);
        if (threadIdx.x % 32 == 0) {
            s.warp_counts[side][server_thread() / 32] = count;
            s.warp_capped[side][server_thread() / 32] = sum;
        }
        server_sync(); /* one is enough: the next counts go to the other side */
        count = 0;
        sum = 0;
        for (int w = 0; w < SERVERS; w++) {
            count += s.warp_counts[side][w];
            sum += s.warp_capped[side][w];
        }
        if (count <= capped) {
            break;
        }
        capped = count;
        c = codes_next_scale(samples, capped, s.total, sum);
    }
    s.c = c; /* all write the same */
}

/* ---- inclusion ---- */

/* Inclusions of a lane's four tokens of a span, codes_inclusion to the bit; 0 beyond the last
 * token. */
__device__ __forceinline__ void include(const piece &t, int span, float c, int32_t (&out)[4])
{
    const int token = span * SPAN + threadIdx.x % 32 * 4;
    const float4 four = *reinterpret_cast<const float4 *>(x_of(t) + token);
    const float x[4] = {four.x, four.y, four.z, four.w};
    const float one = (float)CODES_ONE;
#pragma unroll
    for (int j = 0; j < 4; j++) {
        out[j] = max((int32_t)fminf(c * x[j] * one, one), 1);
    }
    if ((span + 1) * SPAN > t.tokens) {
#pragma unroll
        for (int j = 0; j < 4; j++) {
            out[j] = token + j < t.tokens ? out[j] : 0;
        }
    }
}

__device__ __forceinline__ int spans_of(const piece &t)
{
    return (t.padded + SPAN - 1) / SPAN;
}

/* Inclusions before each span, of the piece's alone, into the sums; shares that of the piece. */
__device__ void add_inclusions(const piece t, float c)
{
    const int lane = threadIdx.x % 32;
    const int spans = spans_of(t);
    uint64_t *sums = sums_of_spans();
    for (int i = threadIdx.x / 32; i < spans; i += WARPS) {
        int32_t pi[4];
        include(t, i, c, pi);
        /* Halves, for sums of 32 bits: four are 2^32 at most. */
        const uint64_t four = (uint64_t)((uint32_t)pi[0] + (uint32_t)pi[1]) +
                              (uint64_t)((uint32_t)pi[2] + (uint32_t)pi[3]);
        const uint32_t low = __reduce_add_sync(~0u, (uint32_t)four & 0xffffu);
        const uint32_t high = __reduce_add_sync(~0u, (uint32_t)(four >> 16));
        if (lane == 0) {
            sums[i] = ((uint64_t)high << 16) + low;
        }
    }
    __syncthreads();
    if (threadIdx.x < 32) {
        const int run = (spans + 31) / 32;
        const int begin = min(spans, lane * run);
        const int end = min(spans, begin + run);
        uint64_t own = 0;
        for (int i = begin; i < end; i++) {
            own += sums[i];
        }
        const uint64_t running = warp_running_sum(own);
        if (lane == 31) {
            share_long(t, INCLUSIONS, running);
            sums[spans] = running;
        }
        uint64_t before = running - own;
        for (int i = begin; i < end; i++) {
            const uint64_t sum = sums[i];
            sums[i] = before;
            before += sum;
        }
    }
}

/* Inclusions of the pieces before into s.before, by the last warp. */
__device__ void find_before(const piece t, shared &s)
{
    if (threadIdx.x / 32 == WARPS - 1) {
        uint64_t before = 0;
        for_parts<2>(t, INCLUSIONS, t.part, [&](int, const uint32_t *x) { before += long_of(x); });
        before = warp_sum_u64(before);
        if (threadIdx.x % 32 == 0) {
            s.before = before;
        }
    }
}

} // namespace

#endif
