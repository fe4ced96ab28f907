/* Launches that overlap. The kernels of a decode step are short and bound by memory, which idles
 * while one kernel drains, the next is launched and fills the GPU.
 *
 * A kernel launched with launch_overlapped may start once every CTA of the kernel before it in the
 * stream has called allow_next_kernel() or has ended. Since no CTA of that kernel is left to be
 * launched then, it takes nothing away by starting; each kernel of a step allows the next one at
 * its very start. The rule for a kernel launched so:
 *   - Every thread that does not just end calls wait_for_kernels(), on every path, even if there is
 *     nothing to do before. A kernel is only known to be complete with all those before it because
 *     it waited for them itself.
 *   - Before, it may read its parameters, and weights: what was written before the step, and the
 *     host has waited for. Everything else that it reads, and all that it writes, comes after.
 *   - Its first parameter is the begin_stamp that it gives to wait_for_kernels().
 *   - What kernels of a step write is never read through __ldg or const __restrict__: the compiler
 *     may move such loads to before the wait.
 * Kernels launched with <<<>>>, copies and events keep their place in the stream.
 *
 * On devices before compute capability 9.0 all launches are ordinary. */
#ifndef MP_CODELETS_COMMON_LAUNCH_CUDA_CUH
#define MP_CODELETS_COMMON_LAUNCH_CUDA_CUH

#include "codelets/common/cuda/cuda_internal.h"

/* Lets the next kernel in the stream start as soon as all CTAs have called this. */
static __device__ __forceinline__ void allow_next_kernel()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* Where a kernel notes the time at which the kernels before it are complete. */
struct begin_stamp {
    unsigned long long *ns; /* of the GPU's global timer, in host memory; NULL: nowhere */
};

/* Returns when all kernels before this one in the stream are complete and what they wrote is
 * visible. */
static __device__ __forceinline__ void wait_for_kernels(begin_stamp stamp)
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
    if (stamp.ns != NULL && threadIdx.x == 0 && blockIdx.x == 0 && blockIdx.y == 0) {
        unsigned long long now;
        asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(now));
        *static_cast<volatile unsigned long long *>(stamp.ns) = now;
    }
}

/* Brings the 128 bytes around p into L2. */
static __device__ __forceinline__ void prefetch_line(const void *p)
{
    asm volatile("prefetch.global.L2 [%0];" ::"l"(p));
}

/* kernel<<<grid, block, shared, cuda_stream()>>>(stamp, args...), overlapped. shared: bytes of
 * dynamic shared memory. */
template <typename... Parameters, typename... Args>
static void launch_overlapped(void (*kernel)(begin_stamp, Parameters...), dim3 grid, dim3 block,
                              size_t shared, const Args &...args)
{
    begin_stamp stamp = {cuda_measure_take_stamp()}; /* else cuda_stream() would have it noted */
    cudaLaunchAttribute overlap = {};
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = block;
    config.dynamicSmemBytes = shared;
    config.stream = cuda_stream();
    config.attrs = &overlap;
    config.numAttrs = cuda_kernels_wait() ? 1 : 0;
    CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, stamp, args...));
}

#endif
