/* From a piece's logits to its inclusions and their sums, by all threads of its CTA. */
#ifndef MP_CODELETS_CODE_INCLUSION_CUDA_CUH
#define MP_CODELETS_CODE_INCLUSION_CUDA_CUH

#include "codelets/code_select/code_piece_cuda.cuh"

namespace
{

/* The largest logit of each head over all pieces, in s.largest. */
__device__ void share_largest(const code_launch &p, const piece &t, shared &s)
{
    __syncthreads();
    const int g = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (g < p.group) {
        uint32_t order = __reduce_max_sync(~0u, code_order(s.warp_largest[lane % WARPS][g]));
        if (lane == 0) {
            share(t, LARGEST + g, order);
        }
        for (int j = lane; j < t.parts; j += 32) {
            order = max(order, shared_by(t, LARGEST + g, j));
        }
        order = __reduce_max_sync(~0u, order);
        if (lane == 0) {
            s.largest[g] = code_of_order(order);
        }
    }
    __syncthreads();
}

/* ---- weights and x ---- */

/* codes_exp2, to the bit: adding 1.5 * 2^23 rounds to a whole number, and leaves it in the lower
 * bits. */
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
    return min((int)(p * __int_as_float(power)), CODES_ONE);
}

/* Logits become weights; their sums into s.warp_sums. */
__device__ void weigh(const code_launch &p, const piece &t, shared &s)
{
    for (int g = 0; g < p.group; g++) {
        float4 *logits = reinterpret_cast<float4 *>(t.store + g * t.padded);
        const float largest = s.largest[g];
        uint64_t sum = 0;
        for (int i = threadIdx.x; i < t.padded / 4; i += THREADS) {
            const float4 z = logits[i];
            const int32_t w[4] = {exp2_of(z.x - largest), exp2_of(z.y - largest),
                                  exp2_of(z.z - largest), exp2_of(z.w - largest)};
            logits[i] = make_float4(__int_as_float(w[0]), __int_as_float(w[1]),
                                    __int_as_float(w[2]), __int_as_float(w[3]));
            sum += (uint64_t)((uint32_t)w[0] + (uint32_t)w[1]);
            sum += (uint64_t)((uint32_t)w[2] + (uint32_t)w[3]);
        }
        sum = warp_sum_u64(sum);
        if (threadIdx.x % 32 == 0) {
            s.warp_sums[threadIdx.x / 32][g] = sum;
        }
    }
}

/* codes_head_scale of each head, from the weights of all pieces, in s.scale. */
__device__ void share_weights(const code_launch &p, const code_row &r, const piece &t, shared &s)
{
    __syncthreads();
    const int g = threadIdx.x / 32;
    const int lane = threadIdx.x % 32;
    if (g < p.group) {
        const uint64_t own = warp_sum_u64(lane < WARPS ? s.warp_sums[lane][g] : 0);
        if (lane == 0) {
            share_long(t, WEIGHTS + 2 * g, own);
        }
        uint64_t z = 0;
        for (int j = lane; j < t.parts; j += 32) {
            z += shared_long_by(t, WEIGHTS + 2 * g, j);
        }
        z = warp_sum_u64(z);
        if (lane == 0) {
            s.scale[g] = codes_head_scale(z, p.group, r.samples);
        }
    }
    __syncthreads();
}

/* x of a token that may have pi = 1; returns its part of the total. */
__device__ __forceinline__ uint64_t note_large(float x, const piece &t, shared &s)
{
    t.large[t.first + atomicAdd(&s.num_large, 1)] = x;
    return codes_large(x);
}

/* Weights become x, -1 of what fills the last block; the total into s.warp_sums. s.num_large is
 * 0. */
__device__ void mix(const code_launch &p, const code_row &r, const piece &t, shared &s)
{
    const float uniform = codes_uniform(r.samples, r.tokens);
    uint64_t sum = 0;
    for (int i = threadIdx.x; i < t.padded / 4; i += THREADS) {
        float x[4] = {uniform, uniform, uniform, uniform};
        for (int g = 0; g < p.group; g++) {
            const float4 w = reinterpret_cast<const float4 *>(t.store + g * t.padded)[i];
            const float scale = s.scale[g];
            x[0] = fmaf((float)__float_as_int(w.x), scale, x[0]);
            x[1] = fmaf((float)__float_as_int(w.y), scale, x[1]);
            x[2] = fmaf((float)__float_as_int(w.z), scale, x[2]);
            x[3] = fmaf((float)__float_as_int(w.w), scale, x[3]);
        }
        uint32_t small = 0;
#pragma unroll
        for (int j = 0; j < 4; j++) {
            if (4 * i + j >= t.tokens) {
                x[j] = -1.0f;
            } else if (x[j] >= 1.0f) {
                sum += note_large(x[j], t, s);
            } else {
                small += (uint32_t)codes_small(x[j]); /* of four at most 2^32 - 4 */
            }
        }
        sum += small;
        reinterpret_cast<float4 *>(t.store)[i] = make_float4(x[0], x[1], x[2], x[3]);
    }
    sum = warp_sum_u64(sum);
    if (threadIdx.x % 32 == 0) {
        s.warp_sums[threadIdx.x / 32][0] = sum;
    }
}

/* The total of all pieces into s.total, where the large x of each begin among all into s.offsets,
 * and how many they are into s.num_large. */
__device__ void share_total(const piece &t, shared &s)
{
    __syncthreads();
    if (threadIdx.x < 32) {
        const int lane = threadIdx.x;
        const uint64_t own = warp_sum_u64(lane < WARPS ? s.warp_sums[lane][0] : 0);
        if (lane == 0) {
            __threadfence(); /* the large x are there before their number is */
            share(t, LARGE, (uint32_t)s.num_large);
            share_long(t, TOTAL, own);
        }
        uint64_t total = 0;
        int before = 0;
        for (int j = lane; j < (t.parts + 31) / 32 * 32; j += 32) {
            int n = 0;
            if (j < t.parts) {
                total += shared_long_by(t, TOTAL, j);
                n = (int)shared_by(t, LARGE, j);
            }
            const int running = (int)warp_running_sum((uint64_t)n);
            if (j < t.parts) {
                s.offsets[j] = before + running - n;
            }
            before += __shfl_sync(~0u, running, 31);
        }
        total = warp_sum_u64(total);
        if (lane == 0) {
            s.offsets[t.parts] = before;
            s.total = total;
        }
    }
    __syncthreads();
    __threadfence();
}

/* ---- c' ---- */

/* Counts the large x in pieces' lists or, if `gathered` is not NULL, there, for which c x >= 1;
 * adds up codes_large of them. */
__device__ void count_capped(const piece &t, int chunk, const shared &s, const float *gathered,
                             float c, int &count, uint64_t &sum)
{
    count = 0;
    sum = 0;
    if (gathered != NULL) {
        for (int i = threadIdx.x; i < s.offsets[t.parts]; i += THREADS) {
            const bool capped = c * gathered[i] >= 1.0f;
            count += capped;
            sum += capped ? codes_large(gathered[i]) : 0;
        }
        return;
    }
    for (int j = threadIdx.x / 32; j < t.parts; j += WARPS) {
        const float *large = t.large + (int64_t)j * chunk;
        for (int i = threadIdx.x % 32; i < s.offsets[j + 1] - s.offsets[j]; i += 32) {
            const float x = __ldcg(large + i);
            count += c * x >= 1.0f;
            sum += c * x >= 1.0f ? codes_large(x) : 0;
        }
    }
}

/* The large x of all pieces one after the other. */
__device__ void gather_large(const piece &t, int chunk, const shared &s, float *out)
{
    for (int j = threadIdx.x / 32; j < t.parts; j += WARPS) {
        const float *large = t.large + (int64_t)j * chunk;
        const int n = s.offsets[j + 1] - s.offsets[j];
        for (int i = threadIdx.x % 32; i < n; i += 32) {
            out[s.offsets[j] + i] = __ldcg(large + i);
        }
    }
    __syncthreads();
}

/* c', the same in every CTA of the KV head. room: [fits] floats of shared memory. */
__device__ float find_scale(const code_row &r, const piece &t, int chunk, shared &s, float *room,
                            int fits)
{
    float c = codes_next_scale(r.samples, 0, s.total, 0);
    const int large = s.offsets[t.parts];
    if (large == 0) {
        return c;
    }
    const float *gathered = large <= fits ? room : NULL;
    if (gathered != NULL) {
        gather_large(t, chunk, s, room);
    }
    int capped = 0;
    for (int side = 0;; side ^= 1) {
        int count;
        uint64_t sum;
        count_capped(t, chunk, s, gathered, c, count, sum);
        count = __reduce_add_sync(~0u, count);
        sum = warp_sum_u64(sum);
        if (threadIdx.x % 32 == 0) {
            s.warp_counts[side][threadIdx.x / 32] = count;
            s.warp_capped[side][threadIdx.x / 32] = sum;
        }
        __syncthreads(); /* one is enough: the next counts go to the other side */
        count = 0;
        sum = 0;
        for (int w = 0; w < WARPS; w++) {
            count += s.warp_counts[side][w];
            sum += s.warp_capped[side][w];
        }
        if (count <= capped) {
            return c;
        }
        capped = count;
        c = codes_next_scale(r.samples, capped, s.total, sum);
    }
}

/* ---- inclusion ---- */

__device__ __forceinline__ int32_t inclusion_of(float x, float c)
{
    return x < 0.0f ? 0 : codes_inclusion(x, c);
}

/* Inclusions of a lane's four tokens of a span. */
__device__ __forceinline__ void include(const piece &t, int span, float c, int32_t (&out)[4])
{
    const int i = span * (SPAN / 4) + threadIdx.x % 32;
    const float4 x = i < t.padded / 4 ? reinterpret_cast<const float4 *>(t.store)[i]
                                      : make_float4(-1.0f, -1.0f, -1.0f, -1.0f);
    out[0] = inclusion_of(x.x, c);
    out[1] = inclusion_of(x.y, c);
    out[2] = inclusion_of(x.z, c);
    out[3] = inclusion_of(x.w, c);
}

/* sums[i]: of the spans before span i; the last one, sums[spans], is that of the piece. Shares that
 * and finds s.before. */
__device__ void share_inclusions(const piece &t, float c, int spans, uint64_t *sums, shared &s)
{
    const int lane = threadIdx.x % 32;
    const int warp = threadIdx.x / 32;
    for (int i = warp; i < spans; i += WARPS) {
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
    if (warp == 0) {
        const int run = (spans + 31) / 32;
        const int begin = min(spans, lane * run);
        const int end = min(spans, begin + run);
        uint64_t own = 0;
        for (int i = begin; i < end; i++) {
            own += sums[i];
        }
        const uint64_t running = warp_running_sum(own);
        uint64_t before = running - own;
        if (lane == 31) {
            share_long(t, INCLUSIONS, running);
        }
        for (int i = begin; i < end; i++) {
            const uint64_t sum = sums[i];
            sums[i] = before;
            before += sum;
        }
        if (lane == 31) {
            sums[spans] = running;
        }
    } else if (warp == 1) {
        uint64_t before = 0;
        for (int j = lane; j < t.part; j += 32) {
            before += shared_long_by(t, INCLUSIONS, j);
        }
        before = warp_sum_u64(before);
        if (lane == 0) {
            s.before = before;
        }
    }
    __syncthreads();
}

} // namespace

#endif
