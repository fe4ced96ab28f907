/* Rotating vectors on the GPU, to the bits of key_rotate and encode_sum; a warp has a vector.
 *
 * Channel c is element c / 32 of lane c % 32. No sum here may be fused with a product: files that
 * include this are compiled with --fmad=false. */
#ifndef MP_CODELETS_COMMON_KEY_ROTATION_CUDA_CUH
#define MP_CODELETS_COMMON_KEY_ROTATION_CUDA_CUH

#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/common/attention/key_rotation.h"
#include "core/base/shape.h"
}

enum { ROTATED = MP_MAX_HEAD_DIM / 32 }; /* channels of a lane */

/* One doubling of the stride for each pass, as hadamard of key_rotation.c: a + b, then a - b. */
static __device__ __forceinline__ void rotate_hadamard(const float *signs, int d,
                                                       float (&x)[ROTATED])
{
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        x[e] = lane + 32 * e < d ? signs[lane + 32 * e] * x[e] : 0.0f;
    }
#pragma unroll
    for (int stride = 1; stride < 32; stride *= 2) {
        if (stride < d) {
#pragma unroll
            for (int e = 0; e < ROTATED; e++) {
                const float other = __shfl_xor_sync(~0u, x[e], stride);
                x[e] = (lane & stride) != 0 ? other - x[e] : x[e] + other;
            }
        }
    }
#pragma unroll
    for (int stride = 1; stride < ROTATED; stride *= 2) {
        if (32 * stride < d) {
#pragma unroll
            for (int e = 0; e < ROTATED; e++) {
                if ((e & stride) == 0) {
                    const float a = x[e];
                    const float b = x[e + stride];
                    x[e] = a + b;
                    x[e + stride] = a - b;
                }
            }
        }
    }
    const float scale = 1.0f / sqrtf((float)d);
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        x[e] *= scale;
    }
}

/* Rows of R times x, which the lanes read from each other through `shared`, [MP_MAX_HEAD_DIM]
 * floats of this warp. */
static __device__ __forceinline__ void rotate_dense(const float *rows, int d, float (&x)[ROTATED],
                                                    float *shared)
{
    const int lane = threadIdx.x % 32;
    __syncwarp();
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        shared[lane + 32 * e] = x[e];
    }
    __syncwarp();
#pragma unroll
    for (int e = 0; e < ROTATED; e++) {
        const int j = lane + 32 * e;
        x[e] = 0.0f;
#pragma unroll 1
        for (int c = 0; j < d && c < d; c++) {
            x[e] = fmaf(rows[j * d + c], shared[c], x[e]);
        }
    }
}

/* R x in place of x; r->data in device memory. */
static __device__ __forceinline__ void rotate(const float *data, int d, float (&x)[ROTATED],
                                              float *shared)
{
    if ((d & (d - 1)) == 0) { /* key_rotation_is_hadamard */
        rotate_hadamard(data, d, x);
    } else {
        rotate_dense(data, d, x, shared);
    }
}

/* encode_sum of d products, in every lane. */
static __device__ __forceinline__ float ordered_sum(float (&x)[ROTATED], int d)
{
#pragma unroll
    for (int half = ROTATED / 2; half > 0; half /= 2) {
        if (32 * half < d) {
#pragma unroll
            for (int e = 0; e < half; e++) {
                x[e] += x[e + half];
            }
        }
    }
#pragma unroll
    for (int half = 16; half > 0; half /= 2) {
        if (half < d) {
            x[0] += __shfl_xor_sync(~0u, x[0], half);
        }
    }
    return __shfl_sync(~0u, x[0], 0);
}

#endif
