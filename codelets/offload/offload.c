#include "codelets/offload/offload.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static offload_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = offload_ref,
    [MP_ISA_AVX2] = MP_X86(offload_avx2),
    [MP_ISA_AVX512] = MP_X86(offload_avx512),
};

static void offload_run(void *buffers[], const struct offload_task *t, offload_kernel *kernel)
{
    kernel(&(struct offload_args){
        .staging = MP_BUFFER(buffers, 2),
        .tokens = t->tokens,
        .sink = t->sink,
        .window = t->window,
        .fixed = MP_BUFFER(buffers, 0),
        .offloaded = MP_BUFFER(buffers, 1),
    });
}

MP_OP_FUNCTIONS(offload, MP_KERNEL(variants), MP_CUDA_KERNEL(offload_cuda))

static struct mp_work offload_work(const void *arg)
{
    const struct offload_task *t = arg;
    /* Keys are read twice (mean, then centering), values once; both are written once. */
    return (struct mp_work){.bytes = 5.0 * 2.0 * (double)t->tokens * t->kv_width};
}

struct starpu_codelet offload_codelet = MP_CODELET(offload, 0xbcbd22, MP_WORKERS);
