#include "codelets/table_lookup/table_lookup.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static table_lookup_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = table_lookup_ref,
    [MP_ISA_AVX2] = MP_X86(table_lookup_avx2),
    [MP_ISA_AVX512] = MP_X86(table_lookup_avx512),
};

/* Buffers: codes R, nnz W, then for each row struct lsh_tables R and ids W. */
struct table_lookup_task {
    struct table_lookup_size size;
    double expected_hits;
    int64_t room[]; /* [rows] */
};

static void table_lookup_run(void *buffers[], const struct table_lookup_task *t,
                             table_lookup_kernel *kernel)
{
    int64_t rows = t->size.rows;
    const struct lsh_tables *tables[rows];
    uint32_t *ids[rows];
    for (int64_t r = 0; r < rows; r++) {
        tables[r] = MP_BUFFER(buffers, 2 + 2 * r);
        ids[r] = MP_BUFFER(buffers, 3 + 2 * r);
    }
    kernel(&(struct table_lookup_args){
        .codes = MP_BUFFER(buffers, 0),
        .tables = tables,
        .ids = ids,
        .ids_stride = t->room,
        .nnz = MP_BUFFER(buffers, 1),
        .rows = rows,
        .num_heads = t->size.num_heads,
        .L = t->size.L,
    });
}

MP_OP_FUNCTIONS(table_lookup, MP_KERNEL(variants), MP_CUDA_KERNEL(table_lookup_cuda))

static struct mp_work table_lookup_work(const void *arg)
{
    const struct table_lookup_task *t = arg;
    /* In every table a code and the two ends of its bucket, 2 bytes for each id in the bucket, and
     * 4 for each token selected: about one for four ids. */
    double buckets = (double)t->size.rows * t->size.num_heads * t->size.L;
    return (struct mp_work){.bytes = 10.0 * buckets + 3.0 * t->expected_hits};
}

static struct starpu_codelet table_lookup_codelet = MP_CODELET(table_lookup, 0xd62728, MP_WORKERS);

void table_lookup_insert(struct mp_submit *sub, const struct table_lookup_size *size,
                         const struct mp_buffer *codes, const struct table_lookup_row *list,
                         const struct mp_buffer *nnz, double expected_hits)
{
    struct mp_task *t = mp_task_new(sub, &table_lookup_codelet, 2 + 2 * (int)size->rows);
    struct table_lookup_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)size->rows * sizeof arg->room[0]);
    arg->size = *size;
    arg->expected_hits = expected_hits;
    mp_task_reads(t, codes);
    mp_task_writes(t, nnz);
    for (int64_t r = 0; r < size->rows; r++) {
        arg->room[r] = list[r].room;
        mp_task_reads(t, list[r].tables);
        mp_task_writes(t, list[r].ids);
    }
    mp_task_submit(t);
}
