#include "codelets/embed/embed.h"

#include "codelets/common/task/codelet.h"

struct embed_task {
    int64_t rows;
    int hidden_size;
};

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

static struct mp_work embed_work(const void *arg)
{
    const struct embed_task *t = arg;
    /* An id, a row of the table and a row of x. */
    return (struct mp_work){.bytes = (double)t->rows * (4.0 + 6.0 * t->hidden_size)};
}

static struct starpu_codelet embed_codelet = MP_CODELET(embed, 0x9e9e9e, MP_WORKERS);

void embed_insert(struct mp_submit *sub, const struct mp_shape *shape, const struct mp_buffer *ids,
                  const struct mp_buffer *table, const struct mp_buffer *x, int64_t rows)
{
    struct mp_task *t = mp_task_new(sub, &embed_codelet, 3);
    struct embed_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct embed_task){.rows = rows, .hidden_size = shape->hidden_size};
    mp_task_reads(t, ids);
    mp_task_reads(t, table);
    mp_task_writes(t, x);
    mp_task_submit(t);
}
