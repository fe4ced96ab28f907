#include "codelets/offload/offload.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static offload_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = offload_ref,
    [MP_ISA_AVX2] = MP_X86(offload_avx2),
    [MP_ISA_AVX512] = MP_X86(offload_avx512),
};

/* Buffers: struct kv_cache static_cache RW; if anything is kept of the rest, struct offloaded_kv
 * RW; if an index wants its keys, another one W; one struct kv_cache R for each chunk of the
 * prompt. */
struct offload_task {
    struct offload_size size;
    int first_kv_head;
    int num_kv_heads;
    int head_dim;
    bool keeps; /* there is a struct offloaded_kv */
    bool keys;  /* and another one for keys alone */
};

static void offload_run(void *buffers[], const struct offload_task *t, offload_kernel *kernel)
{
    struct kv_cache staging = kv_cache_heads(MP_BUFFER(buffers, 1 + t->keeps + t->keys),
                                             t->first_kv_head, t->num_kv_heads);
    struct kv_cache static_cache =
        kv_cache_heads(MP_BUFFER(buffers, 0), t->first_kv_head, t->num_kv_heads);
    kernel(&(struct offload_args){
        .staging = &staging,
        .tokens = t->size.tokens,
        .sink = t->size.sink,
        .window = t->size.window,
        .center = t->size.center,
        .mean_given = t->size.mean_given,
        .static_cache = &static_cache,
        .offloaded = t->keeps ? MP_BUFFER(buffers, 1) : NULL,
        .keys = t->keys ? MP_BUFFER(buffers, 2) : NULL,
    });
}

MP_OP_FUNCTIONS(offload, MP_KERNEL(variants), MP_CUDA_KERNEL(offload_cuda))

static struct mp_work offload_work(const void *arg)
{
    const struct offload_task *t = arg;
    const int64_t kept = t->size.sink + t->size.window;
    /* What is dropped is only looked at for the mean. */
    const bool all = t->keeps || t->keys || t->size.tokens < kept;
    const int64_t tokens = all ? t->size.tokens : kept;
    /* A key and a value are read, and the key once more for the mean; both are written, and the key
     * read and written once more for an index. */
    double element = 4.0 + (t->keeps && t->size.int8 ? 2.0 : 4.0) + (t->keys ? 4.0 : 0.0);
    double mean = t->size.center && !t->size.mean_given ? 2.0 * (double)t->size.tokens : 0.0;
    double width = (double)t->num_kv_heads * t->head_dim;
    return (struct mp_work){.bytes = (element * (double)tokens + mean) * width};
}

static struct starpu_codelet offload_codelet = MP_CODELET(offload, 0xbcbd22, MP_WORKERS);

void offload_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct mp_shard *shard, const struct offload_buffers *b,
                    const struct offload_size *size)
{
    struct mp_task *t = mp_task_new(sub, &offload_codelet, 3 + b->num_staging);
    struct offload_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct offload_task){
        .size = *size,
        .first_kv_head = shard == NULL ? 0 : shard->first_kv_head,
        .num_kv_heads = shard == NULL ? shape->num_key_value_heads : shard->num_kv_heads,
        .head_dim = shape->head_dim,
        .keeps = b->offloaded != NULL,
        .keys = b->keys != NULL,
    };
    mp_task_updates(t, b->static_cache);
    if (b->offloaded != NULL) {
        mp_task_updates(t, b->offloaded);
    }
    if (b->keys != NULL) {
        mp_task_updates(t, b->keys);
    }
    for (int i = 0; i < b->num_staging; i++) {
        mp_task_reads(t, b->staging[i]);
    }
    mp_task_submit(t);
}

size_t offload_workspace(const struct mp_shape *shape)
{
    return MP_CUDA_WORKSPACE(offload_cuda_workspace(shape->num_key_value_heads, shape->head_dim));
}
