#include "codelets/lm_head/lm_head.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static lm_head_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = lm_head_ref,
    [MP_ISA_AVX2] = lm_head_fast,
    [MP_ISA_AVX512] = lm_head_fast,
};

static void lm_head_run(void *buffers[], const struct lm_head_task *t, lm_head_kernel *kernel)
{
    kernel(&(struct lm_head_args){
        .shape = t->shape,
        .norm = MP_BUFFER(buffers, 1),
        .w = MP_BUFFER(buffers, 2),
        .x = (const float *)MP_BUFFER(buffers, 0) + t->first_row * t->shape->hidden_size,
        .logits = MP_BUFFER(buffers, 3),
        .rows = t->rows,
    });
}

MP_OP_FUNCTIONS(lm_head, MP_KERNEL(variants), MP_CUDA_KERNEL(lm_head_cuda))

static struct mp_work lm_head_work(const void *arg)
{
    const struct lm_head_task *t = arg;
    double rows = (double)t->rows;
    double hidden = t->shape->hidden_size;
    double vocab = t->shape->vocab_size;
    return (struct mp_work){
        .flops = 2.0 * vocab * hidden * rows,
        .bytes = 2.0 * vocab * hidden + 4.0 * rows * (hidden + vocab), /* x in, logits out */
    };
}

struct starpu_codelet lm_head_codelet = MP_CODELET(lm_head, 0x98df8a, MP_WORKERS);
