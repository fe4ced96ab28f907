#include "codelets/lm_head/lm_head.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static lm_head_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = lm_head_ref,
    [MP_ISA_AVX2] = lm_head_fast,
    [MP_ISA_AVX512] = lm_head_fast,
};

struct lm_head_task {
    const struct mp_shape *shape;
    struct mp_rows rows;
};

static void lm_head_run(void *buffers[], const struct lm_head_task *t, lm_head_kernel *kernel)
{
    kernel(&(struct lm_head_args){
        .shape = t->shape,
        .norm = MP_BUFFER(buffers, 1),
        .w = MP_BUFFER(buffers, 2),
        .x = (const float *)MP_BUFFER(buffers, 0) + t->rows.first * t->shape->hidden_size,
        .logits = MP_BUFFER(buffers, 3),
        .rows = t->rows.count,
    });
}

MP_OP_FUNCTIONS(lm_head, MP_KERNEL(variants), MP_CUDA_KERNEL(lm_head_cuda))

static struct mp_work lm_head_work(const void *arg)
{
    const struct lm_head_task *t = arg;
    double rows = (double)t->rows.count;
    double hidden = t->shape->hidden_size;
    double vocab = t->shape->vocab_size;
    return (struct mp_work){
        .flops = 2.0 * vocab * hidden * rows,
        .bytes = 2.0 * vocab * hidden + 4.0 * rows * (hidden + vocab), /* x in, logits out */
    };
}

static struct starpu_codelet lm_head_codelet = MP_CODELET(lm_head, 0x98df8a, MP_WORKERS);

void lm_head_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct mp_buffer *norm, const struct mp_buffer *w,
                    const struct mp_buffer *x, struct mp_rows rows, const struct mp_buffer *logits)
{
    struct mp_task *t = mp_task_new(sub, &lm_head_codelet, 4);
    struct lm_head_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct lm_head_task){.shape = shape, .rows = rows};
    mp_task_reads(t, x);
    mp_task_reads(t, norm);
    mp_task_reads(t, w);
    mp_task_writes(t, logits);
    mp_task_submit(t);
}
