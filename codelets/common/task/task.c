#include "codelets/common/task/task.h"

#include "codelets/common/task/codelet.h"
#include "codelets/common/task/group.h"
#include "codelets/common/task/task_end.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/trace/profile.h"

#include <starpu.h>
#include <stdlib.h>
#include <string.h>

struct mp_task {
    struct mp_submit *sub;
    struct starpu_task *task;
    int max_buffers;
    int *nodes;   /* [max_buffers] where a GPU task finds each buffer; NULL: a CPU task */
    size_t bytes; /* of the buffers so far, for messages */
};

/* ---- codelets by the way they are used ---- */

/* StarPU keeps in the codelet, not in the task, which buffers a GPU task uses in place and when it
 * counts as done: so there is a copy of a codelet for each way in which it is used, a few in all.
 */
struct placed_codelet {
    struct placed_codelet *next;
    const struct starpu_codelet *original;
    bool in_stream;
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
static struct starpu_codelet *place_codelet(struct starpu_codelet *original, bool in_stream,
                                            int *nodes, int num_nodes)
{
    for (struct placed_codelet *p = placed_codelets; p != NULL; p = p->next) {
        if (p->original == original && p->in_stream == in_stream && p->num_nodes == num_nodes &&
            memcmp(p->nodes, nodes, (size_t)num_nodes * sizeof *nodes) == 0) {
            free(nodes);
            return &p->codelet;
        }
    }
    struct placed_codelet *p = mp_xcalloc(1, sizeof *p);
    *p = (struct placed_codelet){
        .next = placed_codelets,
        .original = original,
        .in_stream = in_stream,
        .num_nodes = num_nodes,
        .nodes = nodes,
        .codelet = *original,
    };
    p->codelet.specific_nodes = 1;
    p->codelet.dyn_nodes = nodes;
    p->codelet.cuda_flags[0] = in_stream ? 0 : STARPU_CUDA_ASYNC;
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

/* ---- begin and end of a task ---- */

void mp_task_record_gpu_spans(void)
{
    uint64_t begin_ns, end_ns;
    struct mp_task_span *span;
    while ((span = cuda_op_measured(&begin_ns, &end_ns)) != NULL) {
        mp_trace_span(&span->about, begin_ns, end_ns);
        free(span);
    }
}

static void on_cpu_begin(void *arg)
{
    ((struct mp_task_span *)arg)->begin_ns = mp_clock_ns();
}

static void leave(struct mp_task_end *end)
{
    if (end->group != NULL) {
        mp_task_group_leave(end->group);
    }
    free(end);
}

static void on_cpu_end(void *arg)
{
    struct mp_task_end *end = arg;
    if (end->span != NULL) {
        mp_trace_span(&end->span->about, end->span->begin_ns, mp_clock_ns());
        free(end->span);
    }
    leave(end);
}

/* Of a task that may still be running: its span waits in the measurement of its op. */
static void on_gpu_end(void *arg)
{
    mp_task_record_gpu_spans();
    leave(arg);
}

static struct mp_task_span *make_span(const struct mp_task *t)
{
    struct starpu_task *task = t->task;
    struct mp_task_span *span = mp_xcalloc(1, sizeof *span);
    struct mp_work work = mp_codelet_work(task->cl, task->cl_arg);
    span->about = t->sub->about;
    span->about.op = task->cl->name;
    span->about.flops = (float)work.flops;
    span->about.bytes = (float)work.bytes;
    span->about.submit_ns = mp_clock_ns();
    return span;
}

/* Attaches what is to happen; the codelet's GPU function measures a task that has a span. */
static struct mp_task_end *attach_end(const struct mp_task *t)
{
    bool cpu = t->nodes == NULL;
    struct mp_task_end *end = mp_xcalloc(1, sizeof *end);
    end->group = t->sub->group;
    end->span = mp_trace_enabled() ? make_span(t) : NULL;
    if (cpu && end->span != NULL) {
        t->task->prologue_callback_pop_func = on_cpu_begin;
        t->task->prologue_callback_pop_arg = end->span;
    }
    t->task->callback_func = cpu ? on_cpu_end : on_gpu_end;
    t->task->callback_arg = end;
    return end;
}

/* ---- building ---- */

struct mp_task *mp_task_new(struct mp_submit *sub, struct starpu_codelet *codelet, int max_buffers)
{
    struct mp_task *t = mp_xcalloc(1, sizeof *t);
    bool gpu = sub->device.kind == MP_GPU;
    t->sub = sub;
    t->task = starpu_task_create();
    t->max_buffers = max_buffers;
    t->task->cl = codelet;
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

void *mp_task_argument(struct mp_task *t, size_t bytes)
{
    return t->task->cl_arg = mp_xcalloc(1, bytes);
}

/* node: where a GPU task finds it. */
static void add(struct mp_task *t, const struct mp_buffer *b, enum starpu_data_access_mode mode,
                int node)
{
    int i = t->task->nbuffers;
    if (i == t->max_buffers) {
        mp_panic("%s: more than the %d buffers announced", t->task->cl->name, t->max_buffers);
    }
    STARPU_TASK_SET_HANDLE(t->task, b->handle, i);
    STARPU_TASK_SET_MODE(t->task, mode, i);
    if (t->nodes != NULL) {
        t->nodes[i] = node;
    }
    t->task->nbuffers = i + 1;
    t->bytes += b->bytes;
}

static int usual_node(const struct mp_buffer *b)
{
    return b->in_place ? STARPU_SPECIFIC_NODE_CPU : STARPU_SPECIFIC_NODE_LOCAL;
}

void mp_task_reads(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_R, usual_node(b));
}

void mp_task_writes(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_W, usual_node(b));
}

void mp_task_updates(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_RW, usual_node(b));
}

void mp_task_reads_on_peer(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_R, (int)mp_memory_node(b->place));
}

void mp_task_writes_on_peer(struct mp_task *t, const struct mp_buffer *b)
{
    add(t, b, STARPU_W, (int)mp_memory_node(b->place));
}

/* ---- submission ---- */

/* Where there is but one worker of a kind, the policy may as well find it itself. */
static void choose_worker(struct starpu_task *task, struct mp_device device)
{
    enum starpu_worker_archtype type =
        device.kind == MP_GPU ? STARPU_CUDA_WORKER : STARPU_CPU_WORKER;
    if (device.index < 0 || starpu_worker_get_count_by_type(type) == 1) {
        return;
    }
    /* The devices that StarPU was left with may not be the machine's first ones. */
    int worker = device.kind == MP_GPU ? starpu_worker_get_by_type(type, device.index)
                                       : starpu_worker_get_by_devid(type, device.index);
    if (worker < 0) {
        mp_panic("%s: there is no %s worker %d", task->cl->name,
                 device.kind == MP_GPU ? "GPU" : "CPU", device.index);
    }
    task->execute_on_a_specific_worker = 1;
    task->workerid = (unsigned)worker;
}

/* " NAME N" where it applies, else nothing. */
static void append(char *out, size_t size, const char *name, int n)
{
    size_t used = strlen(out);
    if (n >= 0) {
        snprintf(out + used, size - used, " %s %d", name, n);
    }
}

static int refuse(const struct mp_task *t, int rc)
{
    const struct mp_span_info *about = &t->sub->about;
    struct mp_work work = mp_codelet_work(t->task->cl, t->task->cl_arg);
    char where[128] = "";
    append(where, sizeof where, "of layer", about->layer);
    append(where, sizeof where, "of request", about->request);
    append(where, sizeof where, "of chunk", about->chunk);
    append(where, sizeof where, "of micro-batch", about->micro_batch);
    return mp_fail(t->sub->err, MP_ERR_RUNTIME,
                   "%s%s, with %d buffers of %zu bytes, %.3g flops on %.3g bytes: StarPU refused "
                   "the task: %s",
                   t->task->cl->name, where, t->task->nbuffers, t->bytes, work.flops, work.bytes,
                   strerror(-rc));
}

static void count_task(const struct mp_submit *sub, const struct starpu_task *task)
{
    struct mp_work work = mp_codelet_work(task->cl, task->cl_arg);
    enum mp_track_kind kind = sub->device.kind == MP_GPU ? MP_TRACK_GPU : MP_TRACK_CPU;
    mp_profile_count(sub->counted, task->cl->name, kind, work.flops, work.bytes);
}

/* Frees a task that StarPU never had. */
static void drop(struct starpu_task *task)
{
    task->destroy = 0;
    starpu_task_destroy(task);
}

void mp_task_submit(struct mp_task *t)
{
    struct mp_submit *sub = t->sub;
    struct starpu_task *task = t->task;
    if (sub->code == 0 && sub->counted != NULL) {
        count_task(sub, task);
    }
    if (sub->code != 0 || sub->counted != NULL) {
        free(t->nodes);
        drop(task);
        free(t);
        return;
    }
    sub->bytes += mp_codelet_work(task->cl, task->cl_arg).bytes;
    choose_worker(task, sub->device);
    /* Not before: the inserts fill the argument in until here. */
    struct mp_task_end *end = attach_end(t);
    if (t->nodes != NULL) {
        task->cl =
            place_codelet(task->cl, sub->in_stream && !one_at_a_time, t->nodes, task->nbuffers);
    }
    /* Policies with a narrow range clamp it themselves only in part. */
    int lowest = starpu_sched_get_min_priority();
    int highest = starpu_sched_get_max_priority();
    task->priority = sub->priority < lowest    ? lowest
                     : sub->priority > highest ? highest
                                               : sub->priority;
    task->synchronous = one_at_a_time;
    if (sub->group != NULL) {
        mp_task_group_enter(sub->group);
    }
    int rc = starpu_task_submit(task);
    if (rc != 0) {
        sub->code = refuse(t, rc);
        free(end->span);
        leave(end);
        drop(task);
    }
    free(t);
}
