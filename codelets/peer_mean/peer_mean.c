#include "codelets/peer_mean/peer_mean.h"

#include "codelets/common/task/codelet.h"

/* Buffers: to W, then each of from R. */
struct peer_mean_task {
    int num_from;
    float scale;
    int64_t first; /* floats before those of the rows */
    int64_t count;
};

static void peer_mean_run(void *buffers[], const struct peer_mean_task *t, peer_mean_kernel *kernel)
{
    struct peer_mean_args a = {
        .num_from = t->num_from,
        .to = (float *)MP_BUFFER(buffers, 0) + t->first,
        .scale = t->scale,
        .count = t->count,
    };
    for (int i = 0; i < t->num_from; i++) {
        a.from[i] = (const float *)MP_BUFFER(buffers, 1 + i) + t->first;
    }
    kernel(&a);
}

MP_OP_FUNCTIONS(peer_mean, peer_mean_ref, MP_CUDA_KERNEL(peer_mean_cuda))

static struct mp_work peer_mean_work(const void *arg)
{
    const struct peer_mean_task *t = arg;
    double count = (double)t->count;
    return (struct mp_work){.flops = t->num_from * count, .bytes = 4.0 * (1 + t->num_from) * count};
}

static struct starpu_codelet peer_mean_codelet = MP_CODELET(peer_mean, 0xcedb9c, MP_WORKERS);

void peer_mean_insert(struct mp_submit *sub, const struct mp_buffer *const *from, int num_from,
                      const struct mp_buffer *to, struct mp_rows rows, int width, float scale)
{
    struct mp_task *t = mp_task_new(sub, &peer_mean_codelet, 1 + num_from);
    struct peer_mean_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct peer_mean_task){num_from, scale, rows.first * width, rows.count * width};
    mp_task_writes(t, to);
    for (int i = 0; i < num_from; i++) {
        mp_task_reads_on_peer(t, from[i]);
    }
    mp_task_submit(t);
}
