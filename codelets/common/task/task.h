/* Submission: the context that a layer's inserts share, and the building of one task from it. Each
 * op has a function `<op>_insert(sub, ...)` in its own folder, which builds its task with what is
 * here: the argument, and the buffers in the order in which the op's codelet unpacks them. */
#ifndef MP_CODELETS_COMMON_TASK_H
#define MP_CODELETS_COMMON_TASK_H

#include "codelets/common/task/buffer.h"
#include "core/base/error.h"
#include "core/machine/device.h"
#include "core/trace/trace.h"

#include <stdbool.h>
#include <stddef.h>

struct mp_profile; /* core/trace/profile.h */
struct starpu_codelet;
struct mp_task; /* opaque */

/* ---- tasks in flight ---- */

/* Tasks of one owner, e.g. a session, which waits for its own alone. */
struct mp_task_group;
struct mp_task_group *mp_task_group_create(void);

/* Waits for its tasks. NULL is fine. */
void mp_task_group_destroy(struct mp_task_group *g);

/* Tasks submitted and not yet finished. */
int mp_task_group_pending(const struct mp_task_group *g);

/* Sleeps until at most `limit` of them are left. One thread at a time waits for a group. */
void mp_task_group_wait(struct mp_task_group *g, int limit);

/* Its tasks on the CPU that have not begun do nothing when their turn comes: what they would have
 * written is not to be used. Those that wait for the group wait no longer than for one task. */
void mp_task_group_cancel(struct mp_task_group *g);

/* ---- a sequence of inserts ---- */

struct mp_submit {
    int code;                    /* of the first insert that failed: those after it do nothing */
    struct mp_error *err;        /* its message: op, layer, work, StarPU's reason */
    struct mp_task_group *group; /* that the tasks join; NULL: none */
    double bytes;                /* of memory that the tasks so far move, by their codelets'
                                    estimates */
    struct mp_profile *counted;  /* a plan: the tasks' work is added up here (mp_profile_count) and
                                    none is run, nor need the buffers be there; NULL: they run */

    struct mp_device device; /* that runs what is inserted next */
    bool in_stream; /* on a GPU: a task counts as done once it is enqueued, and GPU tasks that
                       depend on it follow it in the same stream without waiting for its end to be
                       noticed. What it reads and writes may only be touched by CPU tasks and by
                       the host that wait for a later task of the stream which is not in_stream */
    int priority;   /* higher first, 0 is usual */
    struct mp_span_info about; /* trace identity; op is taken from the codelet */
};

/* An empty sequence for work of no layer, request, chunk or micro-batch. */
static inline struct mp_submit mp_submit_begin(struct mp_task_group *group, struct mp_error *err)
{
    return (struct mp_submit){
        .err = err,
        .group = group,
        .device = {MP_CPU, -1},
        .about = {.layer = -1, .request = -1, .chunk = -1, .micro_batch = -1},
    };
}

/* ---- one task ---- */

/* A task of the context's device, priority and identity with up to max_buffers buffers. */
struct mp_task *mp_task_new(struct mp_submit *sub, struct starpu_codelet *codelet, int max_buffers);

/* The task's argument, all zero, to be filled in before the submission. */
void *mp_task_argument(struct mp_task *t, size_t bytes);

/* Appends a buffer that the task reads, writes whole, or reads and writes. */
void mp_task_reads(struct mp_task *t, const struct mp_buffer *b);
void mp_task_writes(struct mp_task *t, const struct mp_buffer *b);
void mp_task_updates(struct mp_task *t, const struct mp_buffer *b);

/* Appends a buffer that a GPU's task reads, or writes whole, where it is, though that may be
 * another GPU's memory. */
void mp_task_reads_on_peer(struct mp_task *t, const struct mp_buffer *b);
void mp_task_writes_on_peer(struct mp_task *t, const struct mp_buffer *b);

/* Hands the task over, unless an insert before it failed; it is freed in any case. */
void mp_task_submit(struct mp_task *t);

/* ---- all tasks ---- */

/* Makes mp_task_submit wait until the task has run, to time ops alone; or no longer. */
void mp_task_one_at_a_time(bool on);

/* On a GPU worker: records the spans of the tasks that have run. Happens by itself whenever a task
 * that is not in_stream ends. */
void mp_task_record_gpu_spans(void);

/* Frees what mp_task_submit keeps between tasks. After StarPU has been shut down. */
void mp_task_release(void);

#endif
