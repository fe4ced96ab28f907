/* peer_mean on the GPU: a float a thread and turn. */
extern "C" {
#include "codelets/peer_mean/peer_mean.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"

static __global__ void add_up(begin_stamp stamp, const peer_mean_args a)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < a.count; i += step) {
        float sum = a.from[0][i];
        for (int s = 1; s < a.num_from; s++) {
            sum += a.from[s][i];
        }
        a.to[i] = a.scale * sum;
    }
}

void peer_mean_cuda(const struct peer_mean_args *a)
{
    const int64_t blocks = (a->count + 255) / 256;
    const int64_t most = 8 * (int64_t)cuda_multiprocessors();
    launch_overlapped(add_up, (unsigned)(blocks < most ? blocks : most), 256, 0, *a);
}
