#include "codelets/sampled_attention/sampled_attention.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"
#include "core/machine/shard.h"

#include <math.h>

static sampled_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = sampled_attention_ref,
    [MP_ISA_AVX2] = MP_X86(sampled_attention_avx2),
    [MP_ISA_AVX512] = MP_X86(sampled_attention_avx512),
};

/* Buffers: q R, nnz R, o W, lse W, then for each row struct offloaded_kv R, ids R and, if there are
 * any, log-weights R. */
struct sampled_attention_task {
    int num_heads; /* of the shard */
    int head_dim;
    int num_kv_heads;
    bool log_weights; /* there are */
    bool int8;        /* rows are */
    bool shared;      /* one list of ids a KV head, otherwise a query head */
    const struct lsh_weight *weight;
    double expected_nnz;
    int64_t rows;
    int64_t room[]; /* [rows] */
};

enum { Q, NNZ, O, LSE, ROWS };

static void sampled_attention_run(void *buffers[], const struct sampled_attention_task *t,
                                  sampled_attention_kernel *kernel)
{
    const struct offloaded_kv *kv[t->rows];
    const uint32_t *ids[t->rows];
    const float *log_weights[t->rows];
    int per_row = 2 + t->log_weights;
    for (int64_t r = 0; r < t->rows; r++) {
        kv[r] = MP_BUFFER(buffers, ROWS + per_row * r);
        ids[r] = MP_BUFFER(buffers, ROWS + per_row * r + 1);
        log_weights[r] = t->log_weights ? MP_BUFFER(buffers, ROWS + per_row * r + 2) : NULL;
    }
    kernel(&(struct sampled_attention_args){
        .q = MP_BUFFER(buffers, Q),
        .kv = kv,
        .ids = ids,
        .ids_stride = t->room,
        .nnz = MP_BUFFER(buffers, NNZ),
        .log_weights = t->log_weights ? log_weights : NULL,
        .weight = t->weight,
        .o = MP_BUFFER(buffers, O),
        .lse = MP_BUFFER(buffers, LSE),
        .rows = t->rows,
        .num_heads = t->num_heads,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
        .shared = t->shared,
    });
}

MP_OP_FUNCTIONS(sampled_attention, MP_KERNEL(variants), MP_CUDA_KERNEL(sampled_attention_cuda))

static struct mp_work sampled_attention_work(const void *arg)
{
    const struct sampled_attention_task *t = arg;
    double heads = (double)t->rows * t->num_heads;
    double heads_of_list = t->shared ? (double)t->num_heads / t->num_kv_heads : 1.0;
    double head_dim = t->head_dim;
    double rows = t->int8 ? 2.0 * head_dim + 8.0 : 4.0 * head_dim; /* bytes a token, with scales */
    return (struct mp_work){
        .flops = 4.0 * t->expected_nnz * heads_of_list * head_dim,
        /* A key, a value and an id a token of a list, gathered; q in, o and lse out. */
        .bytes = t->expected_nnz * (rows + 4.0) + heads * (8.0 * head_dim + 4.0),
    };
}

static struct starpu_codelet sampled_attention_codelet =
    MP_CODELET(sampled_attention, 0xe377c2, MP_WORKERS);

void sampled_attention_insert(struct mp_submit *sub, const struct mp_shape *shape,
                              const struct mp_shard *shard,
                              const struct sampled_attention_buffers *b,
                              const struct sampled_attention_row *list, int64_t rows,
                              const struct sampled_attention_weight *weight)
{
    bool log_weights = list[0].log_weights != NULL;
    int per_row = 2 + log_weights;
    struct mp_task *t = mp_task_new(sub, &sampled_attention_codelet, ROWS + per_row * (int)rows);
    struct sampled_attention_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)rows * sizeof arg->room[0]);
    arg->num_heads = shard->num_kv_heads * mp_shape_group(shape);
    arg->num_kv_heads = shard->num_kv_heads;
    arg->shared = weight->shared;
    arg->int8 = weight->int8;
    arg->head_dim = shape->head_dim;
    arg->log_weights = log_weights;
    arg->weight = weight->function;
    arg->expected_nnz = weight->expected_nnz;
    arg->rows = rows;
    mp_task_reads(t, b->q);
    mp_task_reads(t, b->nnz);
    mp_task_writes(t, b->o);
    mp_task_writes(t, b->lse);
    for (int64_t r = 0; r < rows; r++) {
        arg->room[r] = list[r].room;
        mp_task_reads(t, list[r].kv);
        mp_task_reads(t, list[r].ids);
        if (log_weights) {
            mp_task_reads(t, list[r].log_weights);
        }
    }
    mp_task_submit(t);
}

size_t sampled_attention_workspace(const struct mp_shape *shape, int64_t rows)
{
    return MP_CUDA_WORKSPACE(
        sampled_attention_cuda_workspace(rows, shape->num_attention_heads, shape->head_dim));
}
