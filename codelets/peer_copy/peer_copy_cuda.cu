/* peer_copy on the GPU: by its copy engine, as the addresses tell it whose memory they are. */
extern "C" {
#include "codelets/peer_copy/peer_copy.h"
}

#include "codelets/common/cuda/cuda_internal.h"

void peer_copy_cuda(const struct peer_copy_args *a)
{
    CUDA_CHECK(cudaMemcpyAsync(a->to, a->from, (size_t)a->count * sizeof *a->to, cudaMemcpyDefault,
                               cuda_stream()));
}
