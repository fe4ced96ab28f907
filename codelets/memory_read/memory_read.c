#include "codelets/memory_read/memory_read.h"

#include "codelets/common/task/codelet.h"

struct memory_read_task {
    int64_t bytes; /* of data that are read */
};

static void memory_read_run(void *buffers[], const struct memory_read_task *t,
                            memory_read_kernel *kernel)
{
    kernel(&(struct memory_read_args){
        .data = MP_BUFFER(buffers, 0),
        .bytes = t->bytes,
        .sum = MP_BUFFER(buffers, 1),
    });
}

MP_OP_FUNCTIONS(memory_read, memory_read_ref, MP_CUDA_KERNEL(memory_read_cuda))

static struct mp_work memory_read_work(const void *arg)
{
    const struct memory_read_task *t = arg;
    return (struct mp_work){.bytes = (double)t->bytes};
}

static struct starpu_codelet memory_read_codelet = MP_CODELET(memory_read, 0x393b79, MP_WORKERS);

void memory_read_insert(struct mp_submit *sub, const struct mp_buffer *data,
                        const struct mp_buffer *sum)
{
    const struct mp_device before = sub->device;
    sub->device = mp_device_of(data->place);
    struct mp_task *t = mp_task_new(sub, &memory_read_codelet, 2);
    struct memory_read_task *arg = mp_task_argument(t, sizeof *arg);
    arg->bytes = (int64_t)(data->bytes / 64 * 64);
    mp_task_reads(t, data);
    mp_task_writes(t, sum);
    mp_task_submit(t);
    sub->device = before;
}

size_t memory_read_workspace(void)
{
    return MP_CUDA_WORKSPACE(memory_read_cuda_workspace());
}
