/* For .cu files alone: the calling thread's stream and cuBLAS handle, checks, and small device
 * functions that several ops share. */
#ifndef MP_CODELETS_COMMON_CUDA_INTERNAL_H
#define MP_CODELETS_COMMON_CUDA_INTERNAL_H

#include "codelets/common/cuda/cuda.h"

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* Of the calling thread, to enqueue work on right away: if the time at which that work begins is to
 * be known, a kernel that notes it is enqueued before. */
cudaStream_t cuda_stream(void);
cublasHandle_t cuda_cublas(void); /* bound to cuda_stream() */
int cuda_multiprocessors(void);
int cuda_capability(void); /* 10 * major + minor of its device */
/* Whether its device runs code for compute capability 9.0 or later, in which kernels can wait for
 * each other (launch_cuda.cuh). */
bool cuda_kernels_wait(void);

/* The part of the context that measures ops (cuda_measure.cu). Destroying takes what a failed
 * creation left. cuda_measure_op_end ends the op in progress, if it is measured. */
cudaError_t cuda_measure_create(void);
void cuda_measure_destroy(void);
void cuda_measure_op_end(void);

/* Where the next kernel is to note the time at which it begins, in host memory; NULL: nowhere. The
 * caller launches that kernel. */
unsigned long long *cuda_measure_take_stamp(void);
/* If there is such a place, enqueues a kernel that does nothing but note the time. */
void cuda_measure_note(void);

/* Ends the program with the call, the op in progress, file and line (mp_give_up) unless the status
 * is success. */
#define CUDA_CHECK(call) cuda_check((call), #call, __FILE__, __LINE__)
#define CUBLAS_CHECK(call) cublas_check((call), #call, __FILE__, __LINE__)
void cuda_check(cudaError_t status, const char *call, const char *file, int line);
void cublas_check(cublasStatus_t status, const char *call, const char *file, int line);

/* After each <<<>>>. */
#define CUDA_CHECK_LAUNCH() CUDA_CHECK(cudaGetLastError())

/* Lets a kernel use more than 48 KiB of dynamic shared memory; cheap enough before each launch. */
#define CUDA_ALLOW_SHARED(kernel, bytes)                                                           \
    CUDA_CHECK(cudaFuncSetAttribute((const void *)(kernel),                                        \
                                    cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(bytes)))

#ifdef __CUDACC__

/* Element i of an array of bf16 kept as the host keeps it (uint16_t). */
static __device__ __forceinline__ float bf16_to_float(uint16_t x)
{
    return __uint_as_float((unsigned)x << 16);
}

static __device__ __forceinline__ uint16_t float_to_bf16(float x)
{
    return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

/* The sum (maximum) over the warp, in every lane. */
static __device__ __forceinline__ float warp_sum(float x)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        x += __shfl_xor_sync(0xffffffffu, x, offset);
    }
    return x;
}

static __device__ __forceinline__ float warp_max(float x)
{
    for (int offset = 16; offset > 0; offset /= 2) {
        x = fmaxf(x, __shfl_xor_sync(0xffffffffu, x, offset));
    }
    return x;
}

#endif

#endif
