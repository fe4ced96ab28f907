#include "codelets/embed/embed.h"

#include "codelets/common/task/codelet.h"

static void embed_run(void *buffers[], const struct embed_task *t, embed_kernel *kernel)
{
    kernel(&(struct embed_args){
        .ids = MP_BUFFER(buffers, 0),
        .table = MP_BUFFER(buffers, 1),
        .x = MP_BUFFER(buffers, 2),
        .rows = t->rows,
        .hidden_size = t->hidden_size,
    });
}

MP_OP_FUNCTIONS(embed, embed_ref, MP_CUDA_KERNEL(embed_cuda))

static struct mp_work embed_work(const void *arg)
{
    const struct embed_task *t = arg;
    /* An id, a row of the table and a row of x. */
    return (struct mp_work){.bytes = (double)t->rows * (4.0 + 6.0 * t->hidden_size)};
}

struct starpu_codelet embed_codelet = MP_CODELET(embed, 0x9e9e9e, MP_WORKERS);
