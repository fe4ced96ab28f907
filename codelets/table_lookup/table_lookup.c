#include "codelets/table_lookup/table_lookup.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static table_lookup_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = table_lookup_ref,
    [MP_ISA_AVX2] = MP_X86(table_lookup_avx2),
    [MP_ISA_AVX512] = MP_X86(table_lookup_avx512),
};

static void table_lookup_run(void *buffers[], const struct table_lookup_task *t,
                             table_lookup_kernel *kernel)
{
    const struct lsh_selection *selection = MP_BUFFER(buffers, 1);
    int group = mp_shape_group(t->shape);
    int64_t first_head = (int64_t)t->share->first_kv_head * group;
    struct lsh_tables parts[t->rows];
    const struct lsh_tables *tables[t->rows];
    uint32_t *ids[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        parts[r] = lsh_tables_of(t->share, MP_BUFFER(buffers, 3 + r));
        tables[r] = &parts[r];
        ids[r] = selection->ids[r] + first_head * selection->stride[r];
    }
    kernel(&(struct table_lookup_args){
        .codes = (const uint16_t *)MP_BUFFER(buffers, 0) + first_head * t->L,
        .tables = tables,
        .ids = ids,
        .ids_stride = selection->stride,
        .nnz = (int32_t *)MP_BUFFER(buffers, 2) + first_head,
        .rows = t->rows,
        .num_heads = t->share->num_kv_heads * group,
        .row_heads = t->shape->num_attention_heads,
        .L = t->L,
    });
}

MP_OP_FUNCTIONS(table_lookup, MP_KERNEL(variants), MP_CUDA_KERNEL(table_lookup_cuda))

static struct mp_work table_lookup_work(const void *arg)
{
    const struct table_lookup_task *t = arg;
    /* In every table a code and the two ends of its bucket, 2 bytes for each id in the bucket, and
     * 4 for each token selected: about one for four ids. */
    double heads = (double)t->share->num_kv_heads * mp_shape_group(t->shape);
    double buckets = (double)t->rows * heads * t->L;
    return (struct mp_work){.bytes = 10.0 * buckets + 3.0 * t->expected_hits};
}

struct starpu_codelet table_lookup_codelet = MP_CODELET(table_lookup, 0xd62728, MP_WORKERS);
