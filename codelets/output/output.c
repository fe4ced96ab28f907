#include "codelets/output/output.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

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

static struct mp_work output_work(const void *arg)
{
    const struct output_task *t = arg;
    double rows = (double)t->rows;
    double hidden = t->shape->hidden_size;
    double q = mp_shape_q_width(t->shape);
    /* x is read and written; each part of the attention is an o, and to merge them an lse. */
    double part = t->merge ? 2.0 * (q + t->shape->num_attention_heads) : q;
    return (struct mp_work){
        .flops = 2.0 * q * hidden * rows,
        .bytes = 2.0 * q * hidden + rows * (8.0 * hidden + 4.0 * part),
    };
}

struct starpu_codelet output_codelet = MP_CODELET(output, 0xaec7e8, MP_WORKERS);
