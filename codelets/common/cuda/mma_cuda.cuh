/* The instructions that kernels on tensor cores share, one function each: bf16 fragments in and out
 * of shared memory, and the matrix product of a warp. Compute capability 8.0 and later. */
#ifndef MP_CODELETS_COMMON_MMA_CUDA_CUH
#define MP_CODELETS_COMMON_MMA_CUDA_CUH

#include "codelets/common/cuda/cuda_internal.h"

/* Two floats rounded to bf16 in one register, x0 in the lower half. */
static __device__ __forceinline__ unsigned pack_bf16(float x0, float x1)
{
    __nv_bfloat162 pair = __floats2bfloat162_rn(x0, x1);
    return *reinterpret_cast<unsigned *>(&pair);
}

/* The 32-bit address that instructions on shared memory take. */
static __device__ __forceinline__ unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* Four 8x8 blocks of bf16; lane 8b + r gives the address of row r of block b. Lane l receives
 * elements 2(l % 4) and 2(l % 4) + 1 of row l / 4 of each block. */
static __device__ __forceinline__ uint4 load_blocks(unsigned address)
{
    uint4 block;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(block.x), "=r"(block.y), "=r"(block.z), "=r"(block.w)
                 : "r"(address)
                 : "memory");
    return block;
}

/* c (16x8) += a (16x16) * b (16x8) of bf16. Lane l holds of c: (row l / 4, columns 2(l % 4) and
 * + 1), then the same of row l / 4 + 8; of a: rows and columns (0, 0), (8, 0), (0, 8), (8, 8)
 * onwards in 8x8 blocks; of b: the blocks from k = 0 and k = 8, transposed. */
static __device__ __forceinline__ void mma_bf16(float (&c)[4], uint4 a, unsigned b0, unsigned b1)
{
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.x), "r"(a.y), "r"(a.z), "r"(a.w), "r"(b0), "r"(b1));
}

/* The maximum, the sum over the four lanes that hold a row of c together. */
static __device__ __forceinline__ float quad_max(float x)
{
    x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 1));
    return fmaxf(x, __shfl_xor_sync(0xffffffffu, x, 2));
}

static __device__ __forceinline__ float quad_sum(float x)
{
    x += __shfl_xor_sync(0xffffffffu, x, 1);
    return x + __shfl_xor_sync(0xffffffffu, x, 2);
}

/* 2^x to about 2 units in the last place; 0 for -infinity. */
static __device__ __forceinline__ float exp2_fast(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif
