#include "codelets/table_build/table_build.h"

#include "codelets/common/task/codelet.h"

static void table_build_run(void *buffers[], const struct table_build_task *t,
                            table_build_kernel *kernel)
{
    struct lsh_tables *tables = MP_BUFFER(buffers, 1);
    tables->count = t->count;
    kernel(&(struct table_build_args){
        .codes = MP_BUFFER(buffers, 0),
        .tables = tables,
    });
}

MP_OP_FUNCTIONS(table_build, table_build_ref, MP_CUDA_KERNEL(table_build_cuda))

static struct mp_work table_build_work(const void *arg)
{
    const struct table_build_task *t = arg;
    /* A code in, an id out. */
    return (struct mp_work){.bytes = 4.0 * (double)t->count * t->num_kv_heads * t->L};
}

struct starpu_codelet table_build_codelet = MP_CODELET(table_build, 0x8c564b, MP_WORKERS);
