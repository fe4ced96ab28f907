/* What the dense kernels do to single elements: the split into bf16 parts, and SiLU. */
#ifndef MP_CODELETS_COMMON_DENSE_CUDA_CUH
#define MP_CODELETS_COMMON_DENSE_CUDA_CUH

#include "codelets/common/cuda/mma_cuda.cuh"

/* x = high + low to about 16 bits: high is x rounded, low the rounded rest. */
static __device__ __forceinline__ void split_bf16(uint16_t *high, uint16_t *low, float x)
{
    *high = float_to_bf16(x);
    *low = float_to_bf16(x - bf16_to_float(*high));
}

/* The parts of x as element `at` of theirs; low NULL: there is one. */
static __device__ __forceinline__ void store_parts(uint16_t *high, uint16_t *low, int64_t at,
                                                   float x)
{
    if (low == NULL) {
        high[at] = float_to_bf16(x);
    } else {
        split_bf16(&high[at], &low[at], x);
    }
}

/* The same of two floats, packed. */
static __device__ __forceinline__ void split_bf16_pair(unsigned *high, unsigned *low, float x0,
                                                       float x1)
{
    *high = pack_bf16(x0, x1);
    *low = pack_bf16(x0 - __uint_as_float(*high << 16), x1 - __uint_as_float(*high & 0xffff0000u));
}

/* gate * sigmoid(gate) * up */
static __device__ __forceinline__ float silu_mul(float gate, float up)
{
    return gate / (1.0f + expf(-gate)) * up;
}

#endif
