#include "codelets/sampling_error/sampling_error.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

#include <math.h>

static sampling_error_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = sampling_error_ref,
    [MP_ISA_AVX2] = MP_X86(sampling_error_avx2),
    [MP_ISA_AVX512] = MP_X86(sampling_error_avx512),
};

/* Buffers: q R, nnz R, o R, lse R, error W, then for each row struct offloaded_kv R, ids R,
 * log-weights R. */
struct sampling_error_task {
    int layer_heads; /* query heads of the layer */
    int first_kv_head;
    int num_kv_heads; /* of the shard */
    int group;        /* query heads of a KV head */
    int head_dim;
    double drawn;
    int64_t rows;
    int64_t room[]; /* [rows] */
};

enum { Q, NNZ, O, LSE, ERROR, ROWS, PER_ROW = 3 };

static void sampling_error_run(void *buffers[], const struct sampling_error_task *t,
                               sampling_error_kernel *kernel)
{
    const struct offloaded_kv *kv[t->rows];
    const uint32_t *ids[t->rows];
    const float *log_weights[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        kv[r] = MP_BUFFER(buffers, ROWS + PER_ROW * r);
        ids[r] = MP_BUFFER(buffers, ROWS + PER_ROW * r + 1);
        log_weights[r] = MP_BUFFER(buffers, ROWS + PER_ROW * r + 2);
    }
    kernel(&(struct sampling_error_args){
        .q = MP_BUFFER(buffers, Q),
        .o = MP_BUFFER(buffers, O),
        .lse = MP_BUFFER(buffers, LSE),
        .kv = kv,
        .ids = ids,
        .log_weights = log_weights,
        .ids_stride = t->room,
        .nnz = MP_BUFFER(buffers, NNZ),
        .error = MP_BUFFER(buffers, ERROR),
        .rows = t->rows,
        .layer_heads = t->layer_heads,
        .first_head = t->first_kv_head * t->group,
        .num_heads = t->num_kv_heads * t->group,
        .num_kv_heads = t->num_kv_heads,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
    });
}

MP_OP_FUNCTIONS(sampling_error, MP_KERNEL(variants), MP_CUDA_KERNEL(sampling_error_cuda))

static struct mp_work sampling_error_work(const void *arg)
{
    const struct sampling_error_task *t = arg;
    return (struct mp_work){
        .flops = 4.0 * t->drawn * t->group * t->head_dim,
        .bytes =
            t->drawn * (4.0 * t->head_dim + 8.0), /* as if bf16: a key, a value, what is drawn */
    };
}

static struct starpu_codelet sampling_error_codelet =
    MP_CODELET(sampling_error, 0xf7b6d2, MP_WORKERS);

void sampling_error_insert(struct mp_submit *sub, const struct mp_shape *shape,
                           const struct mp_shard *shard, const struct sampling_error_buffers *b,
                           const struct sampling_error_row *list, int64_t rows, double drawn)
{
    struct mp_task *t = mp_task_new(sub, &sampling_error_codelet, ROWS + PER_ROW * (int)rows);
    struct sampling_error_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)rows * sizeof arg->room[0]);
    arg->layer_heads = shape->num_attention_heads;
    arg->first_kv_head = shard->first_kv_head;
    arg->num_kv_heads = shard->num_kv_heads;
    arg->group = mp_shape_group(shape);
    arg->head_dim = shape->head_dim;
    arg->drawn = drawn;
    arg->rows = rows;
    mp_task_reads(t, b->q);
    mp_task_reads(t, b->nnz);
    mp_task_reads(t, b->o);
    mp_task_reads(t, b->lse);
    mp_task_writes(t, b->error);
    for (int64_t r = 0; r < rows; r++) {
        arg->room[r] = list[r].room;
        mp_task_reads(t, list[r].kv);
        mp_task_reads(t, list[r].ids);
        mp_task_reads(t, list[r].log_weights);
    }
    mp_task_submit(t);
}
