#include "codelets/memory_read/memory_read.h"

#include "codelets/common/task/codelet.h"

static void memory_read_run(void *buffers[], const struct memory_read_task *t,
                            memory_read_kernel *kernel)
{
    kernel(&(struct memory_read_args){
        .data = MP_BUFFER(buffers, 0),
        .bytes = t->bytes,
        .sum = MP_BUFFER(buffers, 1),
    });
}

MP_OP_FUNCTIONS(memory_read, memory_read_ref, MP_CUDA_KERNEL(memory_read_cuda))

static struct mp_work memory_read_work(const void *arg)
{
    const struct memory_read_task *t = arg;
    return (struct mp_work){.bytes = (double)t->bytes};
}

struct starpu_codelet memory_read_codelet = MP_CODELET(memory_read, 0x393b79, MP_WORKERS);
