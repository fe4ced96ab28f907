/* Rows of bf16 that become rows of MP_I8 on the GPU: a warp a row, a lane 8 channels. */
#ifndef MP_CODELETS_COMMON_INT8_ROWS_CUDA_CUH
#define MP_CODELETS_COMMON_INT8_ROWS_CUDA_CUH

#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/common/attention/int8_rows.h"
}

struct channels {
    float x[8];
};

static __device__ __forceinline__ channels unpack(uint4 chunk)
{
    const uint32_t word[4] = {chunk.x, chunk.y, chunk.z, chunk.w};
    channels c;
#pragma unroll
    for (int i = 0; i < 4; i++) {
        c.x[2 * i] = __uint_as_float(word[i] << 16);
        c.x[2 * i + 1] = __uint_as_float(word[i] & 0xffff0000u);
    }
    return c;
}

static __device__ __forceinline__ uint4 pack(const channels &c)
{
    uint32_t word[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        word[i] = float_to_bf16(c.x[2 * i]) | (uint32_t)float_to_bf16(c.x[2 * i + 1]) << 16;
    }
    return make_uint4(word[0], word[1], word[2], word[3]);
}

/* The largest magnitude over the warp's channels; NaN if there is one, as its bits are above those
 * of all numbers. */
static __device__ __forceinline__ float warp_largest(const channels &c)
{
    unsigned largest = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        largest = max(largest, __float_as_uint(c.x[i]) & 0x7fffffffu);
    }
    return __uint_as_float(__reduce_max_sync(0xffffffffu, largest));
}

static __device__ __forceinline__ uint2 pack_int8(const channels &c, float scale)
{
    unsigned word[2] = {0, 0};
    if (int8_is_regular(scale)) {
#pragma unroll
        for (int i = 0; i < 8; i++) {
            word[i / 4] |= ((unsigned)(int)rintf(c.x[i] / scale) & 0xffu) << 8 * (i % 4);
        }
    }
    return make_uint2(word[0], word[1]);
}

#endif
