#include "codelets/table_build/table_build.h"

#include "codelets/common/codelet.h"

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

static double table_build_cost(struct starpu_task *task, struct starpu_perfmodel_arch *arch,
                               unsigned n)
{
    (void)n;
    const struct table_build_task *t = task->cl_arg;
    /* Two reads of each code, and a scattered write of each id that moves a whole cache line. */
    double codes = (double)t->count * t->num_kv_heads * t->L;
    return mp_cost_us(arch, 0.0, codes * (2.0 + 2.0 + 16.0));
}

static struct starpu_perfmodel table_build_model = MP_COST_MODEL("table_build", table_build_cost);

struct starpu_codelet table_build_codelet = MP_CODELET(table_build, 0x8c564b, MP_WORKERS);
