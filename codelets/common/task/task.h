/* Building and submitting one task: a codelet, its argument, its buffers in the codelet's order. */
#ifndef MP_TASKS_TASK_H
#define MP_TASKS_TASK_H

#include "codelets/common/task/buffer.h"
#include "core/base/error.h"
#include "core/trace/trace.h"

#include <stdbool.h>

struct starpu_codelet;
struct mp_task; /* opaque */

/* What runs a task, and when it counts as done. */
enum mp_where {
    MP_ON_CPU,        /* a CPU worker */
    MP_ON_GPU,        /* a GPU worker; done when it has run */
    MP_IN_GPU_STREAM, /* a GPU worker; done once it is enqueued: GPU tasks that depend on it follow
                         it in the same stream without waiting for its end to be noticed. What it
                         reads and writes may only be touched by CPU tasks and by the host that wait
                         for an MP_ON_GPU task after it */
};

/* A task of up to max_buffers buffers. arg is malloc'ed and becomes the task's. about names the
 * work in traces and errors; about->op is taken from the codelet. */
struct mp_task *mp_task_new(struct starpu_codelet *codelet, void *arg, int max_buffers,
                            enum mp_where where, const struct mp_span_info *about);

/* Appends a buffer that the task reads, writes whole, or reads and writes. */
void mp_task_reads(struct mp_task *t, const struct mp_buffer *b);
void mp_task_writes(struct mp_task *t, const struct mp_buffer *b);
void mp_task_updates(struct mp_task *t, const struct mp_buffer *b);

/* Only CPU worker `index` may run it, whatever the scheduler would choose; -1: any worker. */
void mp_task_on_cpu_worker(struct mp_task *t, int index);

/* Hands the task over; it is freed in any case. priority: higher first, 0 is usual. */
int mp_task_submit(struct mp_task *t, int priority, struct mp_error *err);

/* Makes mp_task_submit wait until the task has run, to time ops alone; or no longer. */
void mp_task_one_at_a_time(bool on);

/* On a GPU worker: records the spans of the tasks that have run. Happens by itself whenever an
 * MP_ON_GPU task ends. */
void mp_task_record_gpu_spans(void);

/* Frees what mp_task_submit keeps between tasks. After StarPU has been shut down. */
void mp_task_release(void);

#endif
