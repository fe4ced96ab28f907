#include "codelets/page_select/page_select.h"

#include "codelets/common/score/score.h"
#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

static page_select_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = page_select_ref,
    [MP_ISA_AVX2] = MP_X86(page_select_avx2),
    [MP_ISA_AVX512] = MP_X86(page_select_avx512),
};

/* Buffers: q R, nnz W, then for each row struct key_pages R, ids W, scratch W. */
struct page_select_task {
    int num_kv_heads; /* of the shard */
    int num_heads;    /* query heads of the shard */
    int head_dim;
    double pages; /* that have scores, of all rows together */
    int64_t rows;
    struct {
        int64_t room;
        int64_t budget;
    } list[]; /* [rows] */
};

enum { Q, NNZ, ROWS, PER_ROW = 3 };

static void page_select_run(void *buffers[], const struct page_select_task *t,
                            page_select_kernel *kernel)
{
    const struct key_pages *pages[t->rows];
    uint32_t *ids[t->rows];
    void *scratch[t->rows];
    int64_t room[t->rows];
    int64_t budget[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        pages[r] = MP_BUFFER(buffers, ROWS + PER_ROW * r);
        ids[r] = MP_BUFFER(buffers, ROWS + PER_ROW * r + 1);
        scratch[r] = MP_BUFFER(buffers, ROWS + PER_ROW * r + 2);
        room[r] = t->list[r].room;
        budget[r] = t->list[r].budget;
    }
    kernel(&(struct page_select_args){
        .q = MP_BUFFER(buffers, Q),
        .pages = pages,
        .budget = budget,
        .ids = ids,
        .ids_stride = room,
        .scratch = scratch,
        .nnz = MP_BUFFER(buffers, NNZ),
        .rows = t->rows,
        .num_heads = t->num_heads,
        .head_dim = t->head_dim,
    });
}

MP_OP_FUNCTIONS(page_select, MP_KERNEL(variants), MP_CUDA_KERNEL(page_select_cuda))

static struct mp_work page_select_work(const void *arg)
{
    const struct page_select_task *t = arg;
    return (struct mp_work){
        .flops = 4.0 * t->pages * t->num_heads * t->head_dim,
        /* The bounds; a score for each page and head, written and read. */
        .bytes = t->pages * (4.0 * t->num_kv_heads * t->head_dim + 8.0 * t->num_heads),
    };
}

static struct starpu_codelet page_select_codelet = MP_CODELET(page_select, 0xbcbd22, MP_WORKERS);

void page_select_insert(struct mp_submit *sub, const struct mp_shape *shape,
                        const struct mp_shard *shard, const struct mp_buffer *q,
                        const struct page_select_row *list, int64_t rows, int page_size,
                        const struct mp_buffer *nnz)
{
    struct mp_task *t = mp_task_new(sub, &page_select_codelet, ROWS + PER_ROW * (int)rows);
    struct page_select_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)rows * sizeof arg->list[0]);
    arg->num_kv_heads = shard->num_kv_heads;
    arg->num_heads = shard->num_kv_heads * mp_shape_group(shape);
    arg->head_dim = shape->head_dim;
    arg->rows = rows;
    mp_task_reads(t, q);
    mp_task_writes(t, nnz);
    for (int64_t r = 0; r < rows; r++) {
        arg->pages += (double)key_pages_full(list[r].tokens, page_size);
        arg->list[r].room = list[r].room;
        arg->list[r].budget = list[r].budget;
        mp_task_reads(t, list[r].pages);
        mp_task_writes(t, list[r].ids);
        mp_task_writes(t, list[r].scratch);
    }
    mp_task_submit(t);
}

size_t page_select_scratch(int num_heads, int64_t tokens, int page_size)
{
    int64_t stride = score_stride(key_pages_full(tokens, page_size));
    return (size_t)num_heads * (size_t)stride * sizeof(float);
}
