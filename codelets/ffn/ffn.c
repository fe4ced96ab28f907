#include "codelets/ffn/ffn.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static ffn_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = ffn_ref,
    [MP_ISA_AVX2] = ffn_fast,
    [MP_ISA_AVX512] = ffn_fast,
};

struct ffn_task {
    const struct mp_shape *shape;
    struct mp_rows rows;
};

static void ffn_run(void *buffers[], const struct ffn_task *t, ffn_kernel *kernel)
{
    struct ffn_weights weights;
    ffn_weights_at(t->shape, MP_BUFFER(buffers, 0), &weights);
    kernel(&(struct ffn_args){
        .shape = t->shape,
        .weights = weights,
        .x = (float *)MP_BUFFER(buffers, 1) + t->rows.first * t->shape->hidden_size,
        .rows = t->rows.count,
    });
}

MP_OP_FUNCTIONS(ffn, MP_KERNEL(variants), MP_CUDA_KERNEL(ffn_cuda))

static struct mp_work ffn_work(const void *arg)
{
    const struct ffn_task *t = arg;
    double rows = (double)t->rows.count;
    double weights = 3.0 * t->shape->intermediate_size * t->shape->hidden_size;
    return (struct mp_work){
        .flops = 2.0 * weights * rows,
        .bytes = 2.0 * weights + 8.0 * rows * t->shape->hidden_size, /* x is read and written */
    };
}

static struct starpu_codelet ffn_codelet = MP_CODELET(ffn, 0x2ca02c, MP_WORKERS);

void ffn_insert(struct mp_submit *sub, const struct mp_shape *shape,
                const struct mp_buffer *weights, const struct mp_buffer *x, struct mp_rows rows)
{
    struct mp_task *t = mp_task_new(sub, &ffn_codelet, 2);
    struct ffn_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct ffn_task){.shape = shape, .rows = rows};
    mp_task_reads(t, weights);
    mp_task_updates(t, x);
    mp_task_submit(t);
}

size_t ffn_workspace(const struct mp_shape *shape, int64_t rows)
{
    return MP_CUDA_WORKSPACE(ffn_cuda_workspace(shape, rows));
}
