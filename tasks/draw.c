#include "tasks/draw.h"

#include "codelets/common/task/task.h"
#include "codelets/memory_read/memory_read.h"
#include "codelets/random/random.h"
#include "core/base/memory.h"

static const struct mp_span_info about = {
    .layer = -1, .request = -1, .chunk = -1, .micro_batch = -1};

/* Where a buffer is. */
static enum mp_where where(const struct mp_buffer *b)
{
    return b->place == MP_PLACE_GPU ? MP_ON_GPU : MP_ON_CPU;
}

int mp_submit_random(const struct mp_buffer *b, const struct random_task *what,
                     struct mp_error *err)
{
    struct random_task *arg = mp_xmalloc(sizeof *arg);
    *arg = *what;
    struct mp_task *t = mp_task_new(&random_codelet, arg, 1, where(b), &about);
    mp_task_updates(t, b);
    return mp_task_submit(t, 0, err);
}

int mp_submit_memory_read(const struct mp_buffer *data, const struct mp_buffer *sum,
                          struct mp_error *err)
{
    struct memory_read_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct memory_read_task){.bytes = (int64_t)(data->bytes / 64 * 64)};
    struct mp_task *t = mp_task_new(&memory_read_codelet, arg, 2, where(data), &about);
    mp_task_reads(t, data);
    mp_task_writes(t, sum);
    return mp_task_submit(t, 0, err);
}
