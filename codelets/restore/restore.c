#include "codelets/restore/restore.h"

#include "codelets/common/task/codelet.h"
#include "core/base/error.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static restore_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = restore_ref,
    [MP_ISA_AVX2] = MP_X86(restore_avx2),
    [MP_ISA_AVX512] = MP_X86(restore_avx512),
};

void restore_check(const struct restore_args *a)
{
    int64_t kept = restore_kept(a);
    int64_t offloaded = a->offloaded == NULL ? 0 : a->offloaded->count;
    if (a->tokens > a->staging->capacity || kept > a->kept->capacity ||
        a->tokens - kept > offloaded) {
        mp_panic("restore: %lld tokens, found room for %lld, and %lld kept and %lld offloaded",
                 (long long)a->tokens, (long long)a->staging->capacity, (long long)kept,
                 (long long)offloaded);
    }
}

/* Buffers: struct kv_cache kept R, struct kv_cache staging RW, and, if any token is offloaded,
 * struct offloaded_kv R. */
struct restore_task {
    struct restore_size size;
    int first_kv_head;
    int num_kv_heads;
    int head_dim;
    bool offloaded; /* there is a struct offloaded_kv */
};

static void restore_run(void *buffers[], const struct restore_task *t, restore_kernel *kernel)
{
    struct kv_cache kept = kv_cache_heads(MP_BUFFER(buffers, 0), t->first_kv_head, t->num_kv_heads);
    struct kv_cache staging =
        kv_cache_heads(MP_BUFFER(buffers, 1), t->first_kv_head, t->num_kv_heads);
    kernel(&(struct restore_args){
        .kept = &kept,
        .offloaded = t->offloaded ? MP_BUFFER(buffers, 2) : NULL,
        .tokens = t->size.tokens,
        .sink = t->size.sink,
        .staging = &staging,
    });
}

MP_OP_FUNCTIONS(restore, MP_KERNEL(variants), MP_CUDA_KERNEL(restore_cuda))

static struct mp_work restore_work(const void *arg)
{
    const struct restore_task *t = arg;
    double width = (double)t->num_kv_heads * t->head_dim;
    /* A key and a value are read and written. */
    double element = t->offloaded && t->size.int8 ? 6.0 : 8.0;
    return (struct mp_work){.bytes = element * (double)t->size.tokens * width};
}

static struct starpu_codelet restore_codelet = MP_CODELET(restore, 0x9edae5, MP_WORKERS);

void restore_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct mp_shard *shard, const struct restore_buffers *b,
                    const struct restore_size *size)
{
    struct mp_task *t = mp_task_new(sub, &restore_codelet, 3);
    struct restore_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct restore_task){
        .size = *size,
        .first_kv_head = shard == NULL ? 0 : shard->first_kv_head,
        .num_kv_heads = shard == NULL ? shape->num_key_value_heads : shard->num_kv_heads,
        .head_dim = shape->head_dim,
        .offloaded = b->offloaded != NULL,
    };
    mp_task_reads(t, b->kept);
    mp_task_updates(t, b->staging);
    if (b->offloaded != NULL) {
        mp_task_reads(t, b->offloaded);
    }
    mp_task_submit(t);
}
