#include "codelets/evict/evict.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static evict_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = evict_any,
    [MP_ISA_AVX2] = evict_any,
    [MP_ISA_AVX512] = evict_any,
};

/* Buffers: struct kv_cache RW; if the tokens are kept, struct offloaded_kv RW, what reads the cache
 * by another name RW. */
struct evict_task {
    struct evict_size size;
    int first_kv_head;
    int num_kv_heads;
    int head_dim;
    bool keeps; /* there is a struct offloaded_kv */
};

static void evict_run(void *buffers[], const struct evict_task *t, evict_kernel *kernel)
{
    struct kv_cache cache =
        kv_cache_heads(MP_BUFFER(buffers, 0), t->first_kv_head, t->num_kv_heads);
    struct offloaded_kv *offloaded = NULL;
    if (t->keeps) {
        offloaded = MP_BUFFER(buffers, 1);
        offloaded->count += t->size.count;
    }
    kernel(&(struct evict_args){
        .cache = &cache,
        .first = t->size.first,
        .count = t->size.count,
        .used = t->size.used,
        .offloaded = offloaded,
    });
}

MP_OP_FUNCTIONS(evict, MP_KERNEL(variants), MP_CUDA_KERNEL(evict_cuda))

static struct mp_work evict_work(const void *arg)
{
    const struct evict_task *t = arg;
    /* As if all were bf16: every token behind `first` is read and written. */
    double moved = (double)(t->size.used - t->size.first);
    return (struct mp_work){.bytes = 8.0 * moved * t->num_kv_heads * t->head_dim};
}

static struct starpu_codelet evict_codelet = MP_CODELET(evict, 0xdbdb8d, MP_WORKERS);

void evict_insert(struct mp_submit *sub, const struct mp_shape *shape, const struct mp_shard *shard,
                  const struct mp_buffer *cache, const struct mp_buffer *leaving,
                  const struct mp_buffer *offloaded, const struct evict_size *size)
{
    struct mp_task *t = mp_task_new(sub, &evict_codelet, 3);
    struct evict_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct evict_task){
        .size = *size,
        .first_kv_head = shard->first_kv_head,
        .num_kv_heads = shard->num_kv_heads,
        .head_dim = shape->head_dim,
        .keeps = offloaded != NULL,
    };
    mp_task_updates(t, cache);
    if (offloaded != NULL) {
        mp_task_updates(t, offloaded);
        mp_task_updates(t, leaving);
    }
    mp_task_submit(t);
}
