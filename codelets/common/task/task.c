#include "codelets/common/task/task.h"

#include "codelets/common/task/codelet.h"
#include "core/base/clock.h"
#include "core/base/memory.h"

#include <starpu.h>
#include <stdlib.h>
#include <string.h>

/* What the trace knows of a task. */
struct span {
    struct mp_span_info about;
    uint64_t begin_ns; /* of a CPU task, once it runs */
};

struct mp_task {
    struct starpu_task *task;
    struct mp_span_info about;
    enum mp_where where;
    int max_buffers;
    int *nodes; /* [max_buffers] where a GPU task finds each buffer; NULL: a CPU task */
};

/* StarPU keeps in the codelet, not in the task, which buffers a GPU task uses in place and when it
 * counts as done: so there is a copy of a codelet for each way in which it is used, a few in all.
 */
struct placed_codelet {
    struct placed_codelet *next;
    const struct starpu_codelet *original;
    enum mp_where where;
    int num_nodes;
    int *nodes; /* [num_nodes] */
    struct starpu_codelet codelet;
};

static struct placed_codelet *placed_codelets;

static bool one_at_a_time;

void mp_task_one_at_a_time(bool on)
{
    one_at_a_time = on;
}

/* The copy of a codelet for these nodes, which it takes over. */
static struct starpu_codelet *place_codelet(struct starpu_codelet *original, enum mp_where where,
                                            int *nodes, int num_nodes)
{
    for (struct placed_codelet *p = placed_codelets; p != NULL; p = p->next) {
        if (p->original == original && p->where == where && p->num_nodes == num_nodes &&
            memcmp(p->nodes, nodes, (size_t)num_nodes * sizeof *nodes) == 0) {
            free(nodes);
            return &p->codelet;
        }
    }
    struct placed_codelet *p = mp_xcalloc(1, sizeof *p);
    *p = (struct placed_codelet){
        .next = placed_codelets,
        .original = original,
        .where = where,
        .num_nodes = num_nodes,
        .nodes = nodes,
        .codelet = *original,
    };
    p->codelet.specific_nodes = 1;
    p->codelet.dyn_nodes = nodes;
    p->codelet.cuda_flags[0] = where == MP_ON_GPU ? STARPU_CUDA_ASYNC : 0;
    placed_codelets = p;
    return &p->codelet;
}

void mp_task_release(void)
{
    while (placed_codelets != NULL) {
        struct placed_codelet *p = placed_codelets;
        placed_codelets = p->next;
        free(p->nodes);
        free(p);
    }
}

static void on_cpu_begin(void *arg)
{
    ((struct span *)arg)->begin_ns = mp_clock_ns();
}

static void on_cpu_end(void *arg)
{
    struct span *span = arg;
    mp_trace_span(&span->about, span->begin_ns, mp_clock_ns());
    free(span);
}

void mp_task_record_gpu_spans(void)
{
    uint64_t begin_ns, end_ns;
    struct span *span;
    while ((span = cuda_op_measured(&begin_ns, &end_ns)) != NULL) {
        mp_trace_span(&span->about, begin_ns, end_ns);
        free(span);
    }
}

/* Of a task that may still be running: its span waits in the measurement of its op. */
static void on_gpu_end(void *arg)
{
    (void)arg;
    mp_task_record_gpu_spans();
}

/* Attaches a span to the task; the codelet's GPU function measures a task that has a callback. */
static void trace(const struct mp_task *t)
{
    struct starpu_task *task = t->task;
    struct span *span = mp_xcalloc(1, sizeof *span);
    struct mp_work work = mp_codelet_work(task->cl, task->cl_arg);
    span->about = t->about;
    span->about.flops = (float)work.flops;
    span->about.bytes = (float)work.bytes;
    span->about.submit_ns = mp_clock_ns();
    if (t->where == MP_ON_CPU) {
        task->prologue_callback_pop_func = on_cpu_begin;
        task->prologue_callback_pop_arg = span;
    }
    task->callback_func = t->where == MP_ON_CPU ? on_cpu_end : on_gpu_end;
    task->callback_arg = span;
}

struct mp_task *mp_task_new(struct starpu_codelet *codelet, void *arg, int max_buffers,
                            enum mp_where where, const struct mp_span_info *about)
{
    struct mp_task *t = mp_xcalloc(1, sizeof *t);
    t->task = starpu_task_create();
    t->about = *about;
    t->about.op = codelet->name;
    t->where = where;
    t->max_buffers = max_buffers;

    t->task->cl = codelet;
    t->task->cl_arg = arg;
    t->task->cl_arg_free = 1;
    t->task->where = where == MP_ON_CPU ? STARPU_CPU : STARPU_CUDA;
    t->task->nbuffers = 0;
    if (where != MP_ON_CPU) {
        t->nodes = mp_xcalloc((size_t)max_buffers, sizeof *t->nodes);
    }
    if (max_buffers > STARPU_NMAXBUFS) {
        /* StarPU frees both with the task. */
        size_t n = (size_t)max_buffers;
        t->task->dyn_handles = mp_xcalloc(n, sizeof *t->task->dyn_handles);
        t->task->dyn_modes = mp_xcalloc(n, sizeof *t->task->dyn_modes);
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
    if (t->nodes != NULL) {
        t->nodes[i] = b->in_place ? STARPU_SPECIFIC_NODE_CPU : STARPU_SPECIFIC_NODE_LOCAL;
    }
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

void mp_task_on_cpu_worker(struct mp_task *t, int index)
{
    if (index < 0) {
        return;
    }
    int worker = starpu_worker_get_by_devid(STARPU_CPU_WORKER, index);
    if (worker < 0) {
        mp_panic("%s: there is no CPU worker %d", t->about.op, index);
    }
    t->task->execute_on_a_specific_worker = 1;
    t->task->workerid = (unsigned)worker;
}

int mp_task_submit(struct mp_task *t, int priority, struct mp_error *err)
{
    struct starpu_task *task = t->task;
    struct mp_span_info about = t->about;
    /* Not before: the callers fill the argument in until here. */
    if (mp_trace_enabled()) {
        trace(t);
    }
    if (t->nodes != NULL) {
        task->cl = place_codelet(task->cl, t->where, t->nodes, task->nbuffers);
    }
    free(t);

    /* Policies with a narrow range clamp it themselves only in part. */
    int lowest = starpu_sched_get_min_priority();
    int highest = starpu_sched_get_max_priority();
    task->priority = priority < lowest ? lowest : priority > highest ? highest : priority;

    task->synchronous = one_at_a_time;
    int rc = starpu_task_submit(task);
    if (rc != 0) {
        task->destroy = 0;
        starpu_task_destroy(task);
        return mp_fail(err, MP_ERR_RUNTIME, "%s of layer %d: StarPU refused the task: %s", about.op,
                       about.layer, strerror(-rc));
    }
    return 0;
}
