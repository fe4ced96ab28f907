#include "codelets/random/random.h"

#include "codelets/common/task/codelet.h"

static void random_run(void *buffers[], const struct random_part *t, random_kernel *kernel)
{
    kernel(&(struct random_args){
        .out = MP_BUFFER(buffers, 0),
        .dtype = t->dtype,
        .offset = t->offset,
        .count = t->count,
        .numbers = t->numbers,
    });
}

MP_OP_FUNCTIONS(random, random_ref, MP_CUDA_KERNEL(random_cuda))

static struct mp_work random_work(const void *arg)
{
    const struct random_part *t = arg;
    double count = (double)t->count;
    return (struct mp_work){
        .flops = 2.0 * count, /* the hash is of integers */
        .bytes = (double)mp_dtype_size(t->dtype) * count,
    };
}

static struct starpu_codelet random_codelet = MP_CODELET(random, 0xc7c7c7, MP_WORKERS);

void random_insert(struct mp_submit *sub, const struct mp_buffer *out,
                   const struct random_part *part)
{
    const struct mp_device before = sub->device;
    sub->device = mp_device_of(out->place);
    struct mp_task *t = mp_task_new(sub, &random_codelet, 1);
    struct random_part *arg = mp_task_argument(t, sizeof *arg);
    *arg = *part;
    mp_task_updates(t, out);
    mp_task_submit(t);
    sub->device = before;
}
