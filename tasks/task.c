#include "tasks/task.h"

#include "codelets/common/codelet.h"
#include "core/clock.h"
#include "core/memory.h"

#include <starpu.h>
#include <stdlib.h>
#include <string.h>

/* What the trace knows of a task; lives until its callback has run. */
struct span {
    struct mp_span_info about;
    bool gpu;
    uint64_t begin_ns; /* of a CPU task, once it runs */
};

struct mp_task {
    struct starpu_task *task;
    struct mp_span_info about;
    int max_buffers;
    int *nodes; /* [max_buffers] where a GPU task finds each buffer; NULL: a CPU task */
};

/* StarPU keeps in the codelet, not in the task, which buffers a GPU task uses in place: so there is
 * a copy of a codelet for each pattern of places it is used with, a few in all. */
struct placed_codelet {
    struct placed_codelet *next;
    const struct starpu_codelet *original;
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
static struct starpu_codelet *place_codelet(struct starpu_codelet *original, int *nodes,
                                            int num_nodes)
{
    for (struct placed_codelet *p = placed_codelets; p != NULL; p = p->next) {
        if (p->original == original && p->num_nodes == num_nodes &&
            memcmp(p->nodes, nodes, (size_t)num_nodes * sizeof *nodes) == 0) {
            free(nodes);
            return &p->codelet;
        }
    }
    struct placed_codelet *p = mp_xcalloc(1, sizeof *p);
    *p = (struct placed_codelet){
        .next = placed_codelets,
        .original = original,
        .num_nodes = num_nodes,
        .nodes = nodes,
        .codelet = *original,
    };
    p->codelet.specific_nodes = 1;
    p->codelet.dyn_nodes = nodes;
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

static void on_begin(void *arg)
{
    ((struct span *)arg)->begin_ns = mp_clock_ns();
}

static void on_end(void *arg)
{
    const struct span *span = arg;
    uint64_t begin = span->begin_ns;
    uint64_t end = mp_clock_ns();
    /* A GPU worker enqueues tasks ahead and ends them in that order: the oldest measured op is
     * this task's. */
    if (span->gpu && !cuda_op_measured(&begin, &end)) {
        mp_panic("%s: a GPU task has ended that was not measured", span->about.op);
    }
    mp_trace_span(&span->about, begin, end);
}

/* Attaches a span to the task; MP_OP_FUNCTIONS measures a GPU task that has a callback. */
static void trace(struct starpu_task *task, const struct mp_span_info *about, bool gpu)
{
    struct span *span = mp_xcalloc(1, sizeof *span);
    span->about = *about;
    span->gpu = gpu;
    if (!gpu) {
        task->prologue_callback_pop_func = on_begin;
        task->prologue_callback_pop_arg = span;
    }
    task->callback_func = on_end;
    task->callback_arg = span;
    task->callback_arg_free = 1;

    struct mp_work work = mp_codelet_work(task->cl, task->cl_arg);
    span->about.flops = (float)work.flops;
    span->about.bytes = (float)work.bytes;
    span->about.submit_ns = mp_clock_ns();
}

struct mp_task *mp_task_new(struct starpu_codelet *codelet, void *arg, int max_buffers, bool gpu,
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
    t->task->where = gpu ? STARPU_CUDA : STARPU_CPU;
    t->task->nbuffers = 0;
    if (gpu) {
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

int mp_task_submit(struct mp_task *t, int priority, struct mp_error *err)
{
    struct starpu_task *task = t->task;
    struct mp_span_info about = t->about;
    /* Not before: the callers fill the argument in until here. */
    if (mp_trace_enabled()) {
        trace(task, &about, t->nodes != NULL);
    }
    if (t->nodes != NULL) {
        task->cl = place_codelet(task->cl, t->nodes, task->nbuffers);
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
