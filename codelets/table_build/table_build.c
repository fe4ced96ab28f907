#include "codelets/table_build/table_build.h"

#include "codelets/common/task/codelet.h"

/* Buffers: codes R, struct lsh_tables RW. */
struct table_build_task {
    int64_t count; /* tokens */
    int num_kv_heads;
    int L;
};

static void table_build_run(void *buffers[], const struct table_build_task *t,
                            table_build_kernel *kernel)
{
    (void)t; /* the tables know their sizes */
    kernel(&(struct table_build_args){
        .codes = MP_BUFFER(buffers, 0),
        .tables = MP_BUFFER(buffers, 1),
    });
}

MP_OP_FUNCTIONS(table_build, table_build_ref, MP_CUDA_KERNEL(table_build_cuda))

static struct mp_work table_build_work(const void *arg)
{
    const struct table_build_task *t = arg;
    /* A code in, an id out. */
    return (struct mp_work){.bytes = 4.0 * (double)t->count * t->num_kv_heads * t->L};
}

static struct starpu_codelet table_build_codelet = MP_CODELET(table_build, 0x8c564b, MP_WORKERS);

void table_build_insert(struct mp_submit *sub, const struct mp_buffer *codes,
                        const struct mp_buffer *tables, int num_kv_heads, int L, int64_t count)
{
    struct mp_task *t = mp_task_new(sub, &table_build_codelet, 2);
    struct table_build_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct table_build_task){.count = count, .num_kv_heads = num_kv_heads, .L = L};
    mp_task_reads(t, codes);
    mp_task_updates(t, tables);
    mp_task_submit(t);
}

size_t table_build_workspace(void)
{
    return MP_CUDA_WORKSPACE(table_build_cuda_workspace());
}
