#include "codelets/exchange/exchange.h"

#include "codelets/common/task/codelet.h"

/* Buffers: one a part, R if it is this rank's, else W. */
struct exchange_task {
    struct mp_ranks *ranks;
    int tag;
    int count;
    struct {
        size_t bytes;
        int rank;
    } parts[]; /* [count] */
};

static void end_task(void *task)
{
    starpu_task_end_dep_release(task);
}

static void exchange_run(void *buffers[], const struct exchange_task *t, exchange_kernel *kernel)
{
    int ranks = mp_ranks_count(t->ranks);
    int own = mp_ranks_index(t->ranks);
    struct mp_message list[t->count * ranks];
    int n = 0;
    for (int i = 0; i < t->count; i++) {
        struct mp_message m = {.data = MP_BUFFER(buffers, i),
                               .bytes = t->parts[i].bytes,
                               .peer = t->parts[i].rank,
                               .tag = t->tag,
                               .send = t->parts[i].rank == own};
        for (int peer = 0; m.send && peer < ranks; peer++) {
            m.peer = peer;
            if (peer != own) {
                list[n++] = m;
            }
        }
        if (!m.send) {
            list[n++] = m;
        }
    }
    struct starpu_task *task = starpu_task_get_current();
    starpu_task_end_dep_add(task, 1);
    kernel(t->ranks, list, n, end_task, task);
}

MP_OP_FUNCTIONS(exchange, mp_ranks_exchange, NULL)

static struct mp_work exchange_work(const void *arg)
{
    const struct exchange_task *t = arg;
    struct mp_work work = {0};
    for (int i = 0; i < t->count; i++) {
        work.bytes += (double)t->parts[i].bytes;
    }
    return work;
}

static struct starpu_codelet exchange_codelet = MP_CODELET(exchange, 0x393b79, STARPU_CPU);

void exchange_insert(struct mp_submit *sub, struct mp_ranks *ranks,
                     const struct exchange_part *parts, int count, int tag)
{
    const struct mp_device before = sub->device;
    sub->device = (struct mp_device){MP_CPU, -1};
    struct mp_task *t = mp_task_new(sub, &exchange_codelet, count);
    struct exchange_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)count * sizeof arg->parts[0]);
    arg->ranks = ranks;
    arg->tag = tag;
    arg->count = count;
    for (int i = 0; i < count; i++) {
        arg->parts[i].bytes = parts[i].bytes;
        arg->parts[i].rank = parts[i].rank;
        if (parts[i].rank == mp_ranks_index(ranks)) {
            mp_task_reads(t, parts[i].buffer);
        } else {
            mp_task_writes(t, parts[i].buffer);
        }
    }
    mp_task_submit(t);
    sub->device = before;
}
