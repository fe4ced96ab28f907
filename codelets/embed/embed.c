#include "codelets/embed/embed.h"

#include "codelets/common/codelet.h"

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

static double embed_cost(struct starpu_task *task, struct starpu_perfmodel_arch *arch, unsigned n)
{
    (void)n;
    const struct embed_task *t = task->cl_arg;
    return mp_cost_us(arch, 0.0, 6.0 * (double)t->rows * t->hidden_size);
}

static struct starpu_perfmodel embed_model = MP_COST_MODEL("embed", embed_cost);

struct starpu_codelet embed_codelet = MP_CODELET(embed, 0x9e9e9e, MP_WORKERS);
