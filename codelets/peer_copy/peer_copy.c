#include "codelets/peer_copy/peer_copy.h"

#include "codelets/common/task/codelet.h"

/* Buffers: from R, to W. */
struct peer_copy_task {
    int64_t count;
};

static void peer_copy_run(void *buffers[], const struct peer_copy_task *t, peer_copy_kernel *kernel)
{
    kernel(&(struct peer_copy_args){
        .from = MP_BUFFER(buffers, 0),
        .to = MP_BUFFER(buffers, 1),
        .count = t->count,
    });
}

MP_OP_FUNCTIONS(peer_copy, peer_copy_ref, MP_CUDA_KERNEL(peer_copy_cuda))

static struct mp_work peer_copy_work(const void *arg)
{
    const struct peer_copy_task *t = arg;
    return (struct mp_work){.bytes = 8.0 * (double)t->count};
}

static struct starpu_codelet peer_copy_codelet = MP_CODELET(peer_copy, 0x9c9ede, MP_WORKERS);

void peer_copy_insert(struct mp_submit *sub, const struct mp_buffer *from,
                      const struct mp_buffer *to, int64_t count)
{
    struct mp_task *t = mp_task_new(sub, &peer_copy_codelet, 2);
    struct peer_copy_task *arg = mp_task_argument(t, sizeof *arg);
    arg->count = count;
    mp_task_reads(t, from);
    mp_task_writes_on_peer(t, to);
    mp_task_submit(t);
}
