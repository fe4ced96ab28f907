/* memory_read on the GPU: as many 16-byte loads in flight as it can have. */
#include "codelets/common/cuda/cuda_internal.h"

extern "C" {
#include "codelets/memory_read/memory_read.h"
}

namespace
{

constexpr int THREADS = 256;
constexpr int CTAS_PER_MULTIPROCESSOR = 8; /* all threads that a multiprocessor holds */
constexpr int LOADS = 4;                   /* that a thread has in flight */

/* unsigned long long: the 64-bit type of CUDA's atomics and vectors. */
using word = unsigned long long;

/* Adds the words of data [vectors] to *sum. */
__global__ void __launch_bounds__(THREADS)
    add_words(const ulonglong2 *__restrict__ data, int64_t vectors, word *sum)
{
    const int64_t threads = (int64_t)gridDim.x * THREADS;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    word total = 0;
    for (; i + (LOADS - 1) * threads < vectors; i += LOADS * threads) {
        ulonglong2 loaded[LOADS];
#pragma unroll
        for (int j = 0; j < LOADS; j++) {
            loaded[j] = data[i + j * threads];
        }
#pragma unroll
        for (int j = 0; j < LOADS; j++) {
            total += loaded[j].x + loaded[j].y;
        }
    }
    for (; i < vectors; i += threads) {
        total += data[i].x + data[i].y;
    }

    __shared__ word block_total;
    if (threadIdx.x == 0) {
        block_total = 0;
    }
    __syncthreads();
    for (int offset = 16; offset > 0; offset /= 2) {
        total += __shfl_xor_sync(~0u, total, offset);
    }
    if (threadIdx.x % 32 == 0) {
        atomicAdd(&block_total, total);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        atomicAdd(sum, block_total);
    }
}

} // namespace

size_t memory_read_cuda_workspace(void)
{
    return cuda_workspace_round(sizeof(word));
}

/* The blocks add up in device memory: in host memory every one of them would wait for the bus. */
void memory_read_cuda(const struct memory_read_args *a)
{
    const int64_t vectors = a->bytes / (int64_t)sizeof(ulonglong2);
    word *sum = static_cast<word *>(cuda_workspace(memory_read_cuda_workspace()));
    CUDA_CHECK(cudaMemsetAsync(sum, 0, sizeof *sum, cuda_stream()));
    int grid = cuda_multiprocessors() * CTAS_PER_MULTIPROCESSOR;
    add_words<<<grid, THREADS, 0, cuda_stream()>>>(static_cast<const ulonglong2 *>(a->data),
                                                   vectors, sum);
    CUDA_CHECK_LAUNCH();
    CUDA_CHECK(cudaMemcpyAsync(a->sum, sum, sizeof *sum, cudaMemcpyDefault, cuda_stream()));
}
