#include "codelets/sample/sample.h"

#include "codelets/common/task/codelet.h"

#include <string.h>

struct sample_task {
    int64_t rows;
    int vocab_size;
    struct sample_row row[]; /* [rows] */
};

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

static struct starpu_codelet sample_codelet = MP_CODELET(sample, 0x7f7f7f, STARPU_CPU);

void sample_insert(struct mp_submit *sub, const struct mp_shape *shape,
                   const struct mp_buffer *logits, const struct sample_row *list,
                   const struct mp_buffer *ids, int64_t rows)
{
    size_t list_bytes = (size_t)rows * sizeof *list;
    const struct mp_device before = sub->device;
    sub->device = (struct mp_device){MP_CPU, -1};
    struct mp_task *t = mp_task_new(sub, &sample_codelet, 2);
    struct sample_task *arg = mp_task_argument(t, sizeof *arg + list_bytes);
    *arg = (struct sample_task){.rows = rows, .vocab_size = shape->vocab_size};
    memcpy(arg->row, list, list_bytes);
    mp_task_updates(t, logits);
    mp_task_writes(t, ids);
    mp_task_submit(t);
    sub->device = before;
}
