#include "codelets/ffn/ffn.h"

#include "codelets/common/codelet.h"
#include "core/cpu.h"

static ffn_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = ffn_ref,
    [MP_ISA_AVX2] = ffn_fast,
    [MP_ISA_AVX512] = ffn_fast,
};

static void ffn_run(void *buffers[], const struct ffn_task *t, ffn_kernel *kernel)
{
    struct ffn_weights weights;
    ffn_weights_at(t->shape, MP_BUFFER(buffers, 0), &weights);
    kernel(&(struct ffn_args){
        .shape = t->shape,
        .weights = weights,
        .x = (float *)MP_BUFFER(buffers, 1) + t->first_row * t->shape->hidden_size,
        .rows = t->rows,
    });
}

MP_OP_FUNCTIONS(ffn, MP_KERNEL(variants), MP_CUDA_KERNEL(ffn_cuda))

static double ffn_cost(struct starpu_task *task, struct starpu_perfmodel_arch *arch, unsigned n)
{
    (void)n;
    const struct ffn_task *t = task->cl_arg;
    double weights = 3.0 * t->shape->intermediate_size * t->shape->hidden_size;
    return mp_cost_us(arch, 2.0 * weights * (double)t->rows, 2.0 * weights);
}

static struct starpu_perfmodel ffn_model = MP_COST_MODEL("ffn", ffn_cost);

struct starpu_codelet ffn_codelet = MP_CODELET(ffn, 0x2ca02c, MP_WORKERS);
