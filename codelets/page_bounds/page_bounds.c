#include "codelets/page_bounds/page_bounds.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static page_bounds_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = page_bounds_ref,
    [MP_ISA_AVX2] = MP_X86(page_bounds_avx2),
    [MP_ISA_AVX512] = MP_X86(page_bounds_avx512),
};

/* Buffers: struct offloaded_kv R, struct key_pages RW. */
struct page_bounds_task {
    int num_kv_heads; /* of the shard */
    int head_dim;
    int page_size; /* tokens */
    int64_t count; /* offloaded tokens */
};

static void page_bounds_run(void *buffers[], const struct page_bounds_task *t,
                            page_bounds_kernel *kernel)
{
    (void)t; /* keys and pages know their sizes */
    kernel(&(struct page_bounds_args){
        .kv = MP_BUFFER(buffers, 0),
        .pages = MP_BUFFER(buffers, 1),
    });
}

MP_OP_FUNCTIONS(page_bounds, MP_KERNEL(variants), MP_CUDA_KERNEL(page_bounds_cuda))

static struct mp_work page_bounds_work(const void *arg)
{
    const struct page_bounds_task *t = arg;
    double key = 2.0 * t->num_kv_heads * t->head_dim; /* bytes of a token's */
    /* Two comparisons a channel; every key in, two rows a page out. */
    return (struct mp_work){
        .flops = (double)t->count * key,
        .bytes = (double)t->count * key + 2.0 * key * (double)key_pages_of(t->count, t->page_size),
    };
}

static struct starpu_codelet page_bounds_codelet = MP_CODELET(page_bounds, 0x9edae5, MP_WORKERS);

void page_bounds_insert(struct mp_submit *sub, const struct mp_shard *shard,
                        const struct mp_buffer *kv, const struct mp_buffer *pages, int head_dim,
                        int page_size, int64_t count)
{
    struct mp_task *t = mp_task_new(sub, &page_bounds_codelet, 2);
    struct page_bounds_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct page_bounds_task){
        .num_kv_heads = shard->num_kv_heads,
        .head_dim = head_dim,
        .page_size = page_size,
        .count = count,
    };
    mp_task_reads(t, kv);
    mp_task_updates(t, pages);
    mp_task_submit(t);
}
