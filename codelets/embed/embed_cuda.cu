/* embed on the GPU: one CTA a row. */
extern "C" {
#include "codelets/embed/embed.h"
}

#include "codelets/common/cuda/launch_cuda.cuh"

static __global__ void gather_rows(begin_stamp stamp, const embed_args a)
{
    allow_next_kernel();
    wait_for_kernels(stamp);
    const uint16_t *from = a.table + (int64_t)a.ids[blockIdx.x] * a.hidden_size;
    float *to = a.x + (int64_t)blockIdx.x * a.hidden_size;
    for (int i = threadIdx.x; i < a.hidden_size; i += blockDim.x) {
        to[i] = bf16_to_float(from[i]);
    }
}

void embed_cuda(const struct embed_args *a)
{
    launch_overlapped(gather_rows, (unsigned)a->rows, 256, 0, *a);
}
