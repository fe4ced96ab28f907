#include "codelets/output/output.h"

#include "codelets/common/codelet.h"
#include "core/cpu.h"

static output_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = output_ref,
    [MP_ISA_AVX2] = output_fast,
    [MP_ISA_AVX512] = output_fast,
};

static void output_run(void *buffers[], const struct output_task *t, output_kernel *kernel)
{
    struct output_weights weights;
    output_weights_at(t->shape, MP_BUFFER(buffers, 0), &weights);

    int64_t o_at = t->first_row * mp_shape_q_width(t->shape);
    int64_t lse_at = t->first_row * t->shape->num_attention_heads;
    struct output_args args = {
        .shape = t->shape,
        .weights = weights,
        .o_static = (const float *)MP_BUFFER(buffers, 2) + o_at,
        .x = (float *)MP_BUFFER(buffers, 1) + t->first_row * t->shape->hidden_size,
        .rows = t->rows,
    };
    if (t->merge) {
        args.lse_static = (const float *)MP_BUFFER(buffers, 3) + lse_at;
        args.o_sampled = (const float *)MP_BUFFER(buffers, 4) + o_at;
        args.lse_sampled = (const float *)MP_BUFFER(buffers, 5) + lse_at;
    }
    kernel(&args);
}

MP_OP_FUNCTIONS(output, MP_KERNEL(variants), MP_CUDA_KERNEL(output_cuda))

static double output_cost(struct starpu_task *task, struct starpu_perfmodel_arch *arch, unsigned n)
{
    (void)n;
    const struct output_task *t = task->cl_arg;
    double weights = (double)mp_shape_q_width(t->shape) * t->shape->hidden_size;
    return mp_cost_us(arch, 2.0 * weights * (double)t->rows, 2.0 * weights);
}

static struct starpu_perfmodel output_model = MP_COST_MODEL("output", output_cost);

struct starpu_codelet output_codelet = MP_CODELET(output, 0xaec7e8, MP_WORKERS);
