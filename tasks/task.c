#include "tasks/task.h"

#include "core/clock.h"
#include "core/memory.h"

#include <starpu.h>
#include <stdlib.h>
#include <string.h>

/* What the trace knows of a running task; lives until its callback has run. */
struct span {
    struct mp_span_info about;
    uint64_t begin_ns;
};

struct mp_task {
    struct starpu_task *task;
    struct mp_span_info about;
    int max_buffers;
};

static void on_begin(void *arg)
{
    ((struct span *)arg)->begin_ns = mp_clock_ns();
}

static void on_end(void *arg)
{
    const struct span *span = arg;
    mp_trace_span(&span->about, span->begin_ns, mp_clock_ns());
}

struct mp_task *mp_task_new(struct starpu_codelet *codelet, void *arg, int max_buffers,
                            const struct mp_span_info *about)
{
    struct mp_task *t = mp_xcalloc(1, sizeof *t);
    t->task = starpu_task_create();
    t->about = *about;
    t->about.op = codelet->name;
    t->max_buffers = max_buffers;

    t->task->cl = codelet;
    t->task->cl_arg = arg;
    t->task->cl_arg_free = 1;
    t->task->nbuffers = 0;
    if (max_buffers > STARPU_NMAXBUFS) {
        /* StarPU frees both with the task. */
        size_t n = (size_t)max_buffers;
        t->task->dyn_handles = mp_xcalloc(n, sizeof *t->task->dyn_handles);
        t->task->dyn_modes = mp_xcalloc(n, sizeof *t->task->dyn_modes);
    }
    if (mp_trace_enabled()) {
        struct span *span = mp_xcalloc(1, sizeof *span);
        span->about = t->about;
        t->task->prologue_callback_pop_func = on_begin;
        t->task->prologue_callback_pop_arg = span;
        t->task->callback_func = on_end;
        t->task->callback_arg = span;
        t->task->callback_arg_free = 1;
    }
    return t;
}

static void add(struct mp_task *t, const struct mp_buffer *b, enum starpu_data_access_mode mode)
{
    int i = t->task->nbuffers;
    if (i == t->max_buffers) {
        mp_panic("%s: more than the %d buffers announced", t->about.op, t->max_buffers);
    }
    STARPU_TASK_SET_HANDLE(t->task, b->handle, i);
    STARPU_TASK_SET_MODE(t->task, mode, i);
    t->task->nbuffers = i + 1;
}

void mp_task_reads(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_R);
}

void mp_task_writes(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_W);
}

void mp_task_updates(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_RW);
}

int mp_task_submit(struct mp_task *t, int priority, struct mp_error *err)
{
    struct starpu_task *task = t->task;
    struct mp_span_info about = t->about;
    free(t);

    /* Policies with a narrow range clamp it themselves only in part. */
    int lowest = starpu_sched_get_min_priority();
    int highest = starpu_sched_get_max_priority();
    task->priority = priority < lowest ? lowest : priority > highest ? highest : priority;

    int rc = starpu_task_submit(task);
    if (rc != 0) {
        task->destroy = 0;
        starpu_task_destroy(task);
        return mp_fail(err, MP_ERR_RUNTIME, "%s of layer %d: StarPU refused the task: %s", about.op,
                       about.layer, strerror(-rc));
    }
    return 0;
}
