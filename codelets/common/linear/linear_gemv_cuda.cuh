/* GEMV of up to 16 rows on tensor cores, bound by reading W once from device memory.
 *
 * mma.m16n8k16 multiplies A [16 outputs][16 k] with B [16 k][8 rows of x]. With g = lane / 4 and
 * t = lane % 4, a lane holds of A the elements k = 2t, 2t + 1, 2t + 8, 2t + 9 of the rows g and
 * g + 8, and of B the same k of column g. A sum over k does not care about the order of k, so a
 * block of 32 k is dealt out in the order in which memory has it: lane t takes k = 8t .. 8t + 7 of
 * W and of x alike. Those are 16 contiguous bytes of a row of W, loaded straight into the A
 * fragments of two MMAs: W never passes through shared memory.
 *
 * A warp computes T x T tiles of 16 outputs x 8 rows (T = 2 above 8 rows, so that reading x never
 * costs more than reading W). The warps of a CTA share its outputs and split k: each takes every
 * GEMV_WARPS-th chunk of GEMV_UNROLL blocks of 32 k, in T parts, and their sums meet in shared
 * memory. So the sums of a row are added in the same order whatever rows are beside it.
 *
 * Blocks of W are loaded a part ahead. The first parts are on their way, and the next ones on
 * their way to L2, while the kernel before still computes x: see launch_cuda.cuh. */
#ifndef MP_CODELETS_COMMON_LINEAR_GEMV_CUDA_CUH
#define MP_CODELETS_COMMON_LINEAR_GEMV_CUDA_CUH

#include "codelets/common/cuda/launch_cuda.cuh"
#include "codelets/common/linear/dense_cuda.cuh"
#include "codelets/common/linear/linear_cuda.h"

namespace
{

enum {
    GEMV_WARPS = 8,
    GEMV_THREADS = 32 * GEMV_WARPS,
    GEMV_K = 32,     /* k a block: two MMAs */
    GEMV_UNROLL = 4, /* blocks of 32 k times tiles in flight: 8 loads of 16 bytes a lane */
    GEMV_CHUNK = GEMV_UNROLL * GEMV_K,   /* neighbouring k of a warp */
    GEMV_STEP = GEMV_WARPS * GEMV_CHUNK, /* k of the chunks of all warps */
    GEMV_LINE = 64,                      /* elements of W that L2 fetches at once */
    GEMV_AHEAD = 2, /* lines that each thread brings to L2 at the start: 64 KiB a CTA, a third of
                       the L2 for all CTAs that an H100 holds */
};

/* Partial sums of a CTA. */
template <int T> struct gemv_shared {
    float sums[GEMV_WARPS][8 * T][16 * T + 4]; /* [row of x][row of the tiles]; the padding keeps
                                                  the lanes of a fragment on different banks */
    float squares[GEMV_WARPS][8 * T];          /* of each row of x, for its norm */
};

/* First k of part i of a warp's k, GEMV_CHUNK / T of them. */
template <int T> __device__ __forceinline__ int part_of_k(int i, int warp)
{
    return i / T * GEMV_STEP + warp * GEMV_CHUNK + i % T * (GEMV_CHUNK / T);
}

/* Elements [k, k + 8) of a row of W of `in` elements, zero beyond its end. VECTOR: rows are 16-byte
 * aligned and `in` is a multiple of 8. W is read once: it is kept out of L1, where x stays. */
template <bool VECTOR>
__device__ __forceinline__ uint4 load_weights(const uint16_t *row, int k, int in)
{
    uint4 w = make_uint4(0, 0, 0, 0);
    if (VECTOR) {
        if (k < in) {
            asm volatile("ld.global.nc.L1::no_allocate.L2::128B.v4.u32 {%0, %1, %2, %3}, [%4];"
                         : "=r"(w.x), "=r"(w.y), "=r"(w.z), "=r"(w.w)
                         : "l"(row + k));
        }
    } else {
        unsigned pairs[4] = {0, 0, 0, 0};
#pragma unroll
        for (int c = 0; c < 8; c++) {
            pairs[c / 2] |= k + c < in ? (unsigned)row[k + c] << (c % 2 * 16) : 0u;
        }
        w = make_uint4(pairs[0], pairs[1], pairs[2], pairs[3]);
    }
    return w;
}

/* What a lane needs of a part of W: elements [k, k + 8) of its rows, and the same of each block of
 * GEMV_K after. */
template <bool VECTOR, int T, int BLOCKS>
__device__ __forceinline__ void load_part(uint4 (&w)[BLOCKS][T][2],
                                          const uint16_t *const (&rows)[T][2], int k, int in)
{
#pragma unroll
    for (int b = 0; b < BLOCKS; b++) {
#pragma unroll
        for (int i = 0; i < 2 * T; i++) {
            w[b][i / 2][i % 2] = load_weights<VECTOR>(rows[i / 2][i % 2], k + b * GEMV_K, in);
        }
    }
}

/* Elements [k, k + 8) of `end` floats, zero beyond. */
template <bool VECTOR>
__device__ __forceinline__ void load_floats(float (&v)[8], const float *from, int k, int end)
{
    if (VECTOR) {
        float4 a = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        float4 b = a;
        if (k < end) {
            a = *reinterpret_cast<const float4 *>(from + k);
            b = *reinterpret_cast<const float4 *>(from + k + 4);
        }
        v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
        v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
    } else {
#pragma unroll
        for (int c = 0; c < 8; c++) {
            v[c] = k + c < end ? from[k + c] : 0.0f;
        }
    }
}

/* sums += W x of one block of k: w[m] holds rows g and g + 8 of tile m, x eight elements of row g
 * of one tile of x. */
template <int T>
__device__ __forceinline__ void multiply_block(float (&sums)[T][4], const uint4 (&w)[T][2],
                                               const float (&x)[8])
{
    unsigned part[2][4]; /* high, low */
#pragma unroll
    for (int c = 0; c < 4; c++) {
        split_bf16_pair(&part[0][c], &part[1][c], x[2 * c], x[2 * c + 1]);
    }
#pragma unroll
    for (int m = 0; m < T; m++) {
#pragma unroll
        for (int p = 0; p < 2; p++) {
            mma_bf16(sums[m], make_uint4(w[m][0].x, w[m][1].x, w[m][0].y, w[m][1].y), part[p][0],
                     part[p][1]);
            mma_bf16(sums[m], make_uint4(w[m][0].z, w[m][1].z, w[m][0].w, w[m][1].w), part[p][2],
                     part[p][3]);
        }
    }
}

/* Row of W in row `row` of the CTA's tiles. GATED: a tile holds 8 gate rows and the up rows that
 * belong to them. Beyond the last row the last one again, whose sums nobody stores. */
template <bool GATED> __device__ __forceinline__ int weight_row(int first, int row, int out)
{
    int o = first + (GATED ? row / 16 * 8 + row % 8 : row);
    o = o < out ? o : out - 1;
    return GATED && row % 16 >= 8 ? out + o : o;
}

/* Brings into L2 what the CTA needs after the first parts of W, a line of a row a thread, and the
 * gain. */
template <int T, bool NORM, bool GATED>
__device__ __forceinline__ void prefetch(const linear_args &a, const linear_norm &norm, int first)
{
    constexpr int LINES = GEMV_THREADS / (16 * T); /* of a row */
    constexpr int PART = GEMV_CHUNK / T;
    static_assert(LINES * GEMV_LINE == GEMV_WARPS * PART && PART % GEMV_LINE == 0,
                  "the lines of the warps' parts, one a thread");
    const int row = weight_row<GATED>(first, threadIdx.x / LINES, a.out);
    const int line = threadIdx.x % LINES * GEMV_LINE;
#pragma unroll
    for (int i = 1; i <= GEMV_AHEAD; i++) {
        int k = part_of_k<T>(i, line / PART) + line % PART;
        if (k < a.in) {
            prefetch_line(a.w + (int64_t)row * a.in + k);
        }
    }
    for (int k = threadIdx.x * GEMV_LINE / 2; NORM && k < a.in; k += GEMV_THREADS * GEMV_LINE / 2) {
        prefetch_line(norm.gain + k);
    }
}

/* Adds up the warps' sums and stores the CTA's outputs, thread by thread along a row of y. */
template <int T, bool NORM, bool GATED>
__device__ void gemv_store(const gemv_shared<T> &shared, const linear_args &a,
                           const linear_norm &norm, int first)
{
    constexpr int OUTPUTS = (GATED ? 8 : 16) * T;
    for (int i = threadIdx.x; i < OUTPUTS * 8 * T; i += GEMV_THREADS) {
        int o = i % OUTPUTS;
        int row = i / OUTPUTS;
        if (first + o >= a.out || row >= a.rows) {
            continue;
        }
        int at = GATED ? o / 8 * 16 + o % 8 : o;
        float sum = 0.0f;
        float up = 0.0f;
        float squares = 0.0f;
        for (int warp = 0; warp < GEMV_WARPS; warp++) {
            sum += shared.sums[warp][row][at];
            up += GATED ? shared.sums[warp][row][at + 8] : 0.0f;
            squares += NORM ? shared.squares[warp][row] : 0.0f;
        }
        float scale = NORM ? 1.0f / sqrtf(squares / (float)a.in + norm.eps) : 1.0f;
        o += first;
        sum = sum * scale + (a.bias != NULL ? a.bias[o] : 0.0f);
        if (GATED) {
            sum = silu_mul(sum, up * scale + (a.bias != NULL ? a.bias[a.out + o] : 0.0f));
        }
        float *y = a.y + row * a.y_stride + o;
        *y = a.accumulate ? *y + sum : sum;
    }
}

/* One CTA per 16 * T rows of W. The norm's gain is applied to x on load, its scale, one number a
 * row of x, to the sums: each CTA sees all of x anyway. */
template <int T, bool NORM, bool GATED, bool VECTOR>
__global__ void __launch_bounds__(GEMV_THREADS, 2)
    gemv_kernel(begin_stamp stamp, const __grid_constant__ linear_args a,
                const __grid_constant__ linear_norm norm)
{
    __shared__ gemv_shared<T> shared;
    constexpr int BLOCKS = GEMV_UNROLL / T;
    allow_next_kernel();
    const int warp = threadIdx.x / 32;
    const int g = threadIdx.x % 32 / 4;
    const int t = threadIdx.x % 4;
    const int first = blockIdx.x * (GATED ? 8 : 16) * T;

    const uint16_t *weights[T][2];
    const float *x[T];
    int end[T]; /* of x; 0 for rows beyond the last */
#pragma unroll
    for (int i = 0; i < T; i++) {
        for (int half = 0; half < 2; half++) {
            int row = weight_row<GATED>(first, 16 * i + 8 * half + g, a.out);
            weights[i][half] = a.w + (int64_t)row * a.in;
        }
        x[i] = a.x + (8 * i + g) * a.x_stride;
        end[i] = 8 * i + g < a.rows ? a.in : 0;
    }

    uint4 w[BLOCKS][T][2]; /* of a part */
    load_part<VECTOR>(w, weights, part_of_k<T>(0, warp) + 8 * t, a.in);
    prefetch<T, NORM, GATED>(a, norm, first);
    wait_for_kernels(stamp);

    float sums[T][T][4] = {}; /* [tile of x][tile of W] */
    float squares[T] = {};
    for (int part = 0; part_of_k<T>(part, warp) < a.in; part++) {
#pragma unroll
        for (int b = 0; b < BLOCKS; b++) {
            const int k = part_of_k<T>(part, warp) + b * GEMV_K + 8 * t;
            float gain[8];
            if (NORM) {
                load_floats<VECTOR>(gain, norm.gain, k, a.in);
            }
#pragma unroll
            for (int n = 0; n < T; n++) {
                float v[8];
                load_floats<VECTOR>(v, x[n], k, end[n]);
#pragma unroll
                for (int c = 0; NORM && c < 8; c++) {
                    squares[n] += v[c] * v[c];
                    v[c] *= gain[c];
                }
                multiply_block<T>(sums[n], w[b], v);
            }
        }
        load_part<VECTOR>(w, weights, part_of_k<T>(part + 1, warp) + 8 * t, a.in);
    }

    /* Fragment c: rows g (0, 1) and g + 8 (2, 3) of the tile, columns 2t and 2t + 1. */
#pragma unroll
    for (int n = 0; n < T; n++) {
#pragma unroll
        for (int i = 0; i < 4 * T; i++) {
            int c = i % 4;
            shared.sums[warp][8 * n + 2 * t + c % 2][16 * (i / 4) + 8 * (c / 2) + g] =
                sums[n][i / 4][c];
        }
        if (NORM) {
            squares[n] += __shfl_xor_sync(0xffffffffu, squares[n], 1);
            squares[n] += __shfl_xor_sync(0xffffffffu, squares[n], 2);
            if (t == 0) {
                shared.squares[warp][8 * n + g] = squares[n];
            }
        }
    }
    __syncthreads();
    gemv_store<T, NORM, GATED>(shared, a, norm, first);
}

template <int T, bool NORM, bool GATED>
void gemv_launch(const linear_args &a, const linear_norm &norm)
{
    constexpr int OUTPUTS = (GATED ? 8 : 16) * T;
    uintptr_t addresses = (uintptr_t)a.x | (uintptr_t)a.w | (uintptr_t)norm.gain;
    bool vector = a.in % 8 == 0 && a.x_stride % 4 == 0 && addresses % 16 == 0;
    auto kernel = vector ? gemv_kernel<T, NORM, GATED, true> : gemv_kernel<T, NORM, GATED, false>;
    launch_overlapped(kernel, (a.out + OUTPUTS - 1) / OUTPUTS, GEMV_THREADS, 0, a, norm);
}

template <bool NORM, bool GATED> void gemv(const linear_args &a, const linear_norm &norm)
{
    if (a.rows > LINEAR_GEMV_MAX_ROWS) {
        mp_panic("GEMV of %lld rows", (long long)a.rows);
    }
    if (a.rows <= 8) {
        gemv_launch<1, NORM, GATED>(a, norm);
    } else {
        gemv_launch<2, NORM, GATED>(a, norm);
    }
}

} // namespace

#endif
