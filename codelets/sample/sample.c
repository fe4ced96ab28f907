#include "codelets/sample/sample.h"

#include "codelets/common/task/codelet.h"

static void sample_run(void *buffers[], const struct sample_task *t, sample_kernel *kernel)
{
    kernel(&(struct sample_args){
        .logits = MP_BUFFER(buffers, 0),
        .row = t->row,
        .ids = MP_BUFFER(buffers, 1),
        .rows = t->rows,
        .vocab_size = t->vocab_size,
    });
}

MP_OP_FUNCTIONS(sample, sample_ref, NULL)

static struct mp_work sample_work(const void *arg)
{
    const struct sample_task *t = arg;
    return (struct mp_work){.bytes = 4.0 * (double)t->rows * t->vocab_size};
}

struct starpu_codelet sample_codelet = MP_CODELET(sample, 0x7f7f7f, STARPU_CPU);
