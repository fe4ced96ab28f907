#include "codelets/static_attention/static_attention.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

#include <math.h>

static static_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = static_attention_ref,
    [MP_ISA_AVX2] = MP_X86(static_attention_avx2),
    [MP_ISA_AVX512] = MP_X86(static_attention_avx512),
};

/* Buffers: q R, o W, lse W, then one struct kv_cache R a row. */
struct static_attention_task {
    int64_t rows;
    int num_heads;
    int num_kv_heads;
    int head_dim;
    int64_t length[]; /* [rows] tokens to attend */
};

static void static_attention_run(void *buffers[], const struct static_attention_task *t,
                                 static_attention_kernel *kernel)
{
    const struct kv_cache *cache[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        cache[r] = MP_BUFFER(buffers, 3 + r);
    }
    kernel(&(struct static_attention_args){
        .q = MP_BUFFER(buffers, 0),
        .cache = cache,
        .length = t->length,
        .o = MP_BUFFER(buffers, 1),
        .lse = MP_BUFFER(buffers, 2),
        .rows = t->rows,
        .num_heads = t->num_heads,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
    });
}

MP_OP_FUNCTIONS(static_attention, MP_KERNEL(variants), MP_CUDA_KERNEL(static_attention_cuda))

static struct mp_work static_attention_work(const void *arg)
{
    const struct static_attention_task *t = arg;
    double tokens = 0.0;
    for (int64_t r = 0; r < t->rows; r++) {
        tokens += (double)t->length[r];
    }
    double heads = (double)t->rows * t->num_heads;
    return (struct mp_work){
        .flops = 4.0 * tokens * t->num_heads * t->head_dim,
        /* A key and a value a token; q in, o and lse out. */
        .bytes = 4.0 * tokens * t->num_kv_heads * t->head_dim + heads * (8.0 * t->head_dim + 4.0),
    };
}

static struct starpu_codelet static_attention_codelet =
    MP_CODELET(static_attention, 0x9467bd, MP_WORKERS);

void static_attention_insert(struct mp_submit *sub, const struct mp_shape *shape,
                             const struct mp_buffer *q, const struct static_attention_row *list,
                             int64_t rows, const struct mp_buffer *o, const struct mp_buffer *lse)
{
    struct mp_task *t = mp_task_new(sub, &static_attention_codelet, 3 + (int)rows);
    struct static_attention_task *arg =
        mp_task_argument(t, sizeof *arg + (size_t)rows * sizeof arg->length[0]);
    arg->rows = rows;
    arg->num_heads = shape->num_attention_heads;
    arg->num_kv_heads = shape->num_key_value_heads;
    arg->head_dim = shape->head_dim;
    mp_task_reads(t, q);
    mp_task_writes(t, o);
    mp_task_writes(t, lse);
    for (int64_t r = 0; r < rows; r++) {
        arg->length[r] = list[r].length;
        mp_task_reads(t, list[r].cache);
    }
    mp_task_submit(t);
}

size_t static_attention_workspace(const struct mp_shape *shape, int64_t rows)
{
    return MP_CUDA_WORKSPACE(
        static_attention_cuda_workspace(rows, shape->num_attention_heads, shape->head_dim));
}
