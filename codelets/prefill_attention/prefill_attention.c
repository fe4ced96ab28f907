#include "codelets/prefill_attention/prefill_attention.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

#include <math.h>

static prefill_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = prefill_attention_ref,
    [MP_ISA_AVX2] = MP_X86(prefill_attention_avx2),
    [MP_ISA_AVX512] = MP_X86(prefill_attention_avx512),
};

/* Buffers: q R, o W, then one struct kv_cache R for each chunk up to this one. */
struct prefill_attention_task {
    int64_t first; /* cache index of the chunk's row 0 */
    struct mp_rows rows;
    int num_heads;
    int num_kv_heads;
    int head_dim;
    bool blocked;
};

static void prefill_attention_run(void *buffers[], const struct prefill_attention_task *t,
                                  prefill_attention_kernel *kernel)
{
    int64_t o_at = t->rows.first * t->num_heads * t->head_dim;
    struct prefill_attention_args args = {
        .q = (const float *)MP_BUFFER(buffers, 0) + o_at,
        .cache = MP_BUFFER(buffers, 2),
        .first = t->first + t->rows.first,
        .o = (float *)MP_BUFFER(buffers, 1) + o_at,
        .rows = t->rows.count,
        .num_heads = t->num_heads,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
    };
    if (t->blocked) {
        kernel(&args);
    } else {
        prefill_attention_ref(&args);
    }
}

MP_OP_FUNCTIONS(prefill_attention, MP_KERNEL(variants), MP_CUDA_KERNEL(prefill_attention_cuda))

static struct mp_work prefill_attention_work(const void *arg)
{
    const struct prefill_attention_task *t = arg;
    double rows = (double)t->rows.count;
    double before = (double)(t->first + t->rows.first);
    double pairs = rows * before + 0.5 * rows * (rows + 1.0);
    return (struct mp_work){
        .flops = 4.0 * pairs * t->num_heads * t->head_dim,
        /* Keys and values of all tokens up to the last row; q in, o out. */
        .bytes =
            t->head_dim * (4.0 * (before + rows) * t->num_kv_heads + 8.0 * rows * t->num_heads),
    };
}

static struct starpu_codelet prefill_attention_codelet =
    MP_CODELET(prefill_attention, 0x17becf, MP_WORKERS);

void prefill_attention_insert(struct mp_submit *sub, const struct mp_shape *shape,
                              const struct prefill_attention_buffers *b, int64_t first,
                              struct mp_rows rows, bool blocked)
{
    struct mp_task *t = mp_task_new(sub, &prefill_attention_codelet, 2 + b->num_caches);
    struct prefill_attention_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct prefill_attention_task){
        .first = first,
        .rows = rows,
        .num_heads = shape->num_attention_heads,
        .num_kv_heads = shape->num_key_value_heads,
        .head_dim = shape->head_dim,
        .blocked = blocked,
    };
    mp_task_reads(t, b->q);
    mp_task_writes(t, b->o);
    for (int i = 0; i < b->num_caches; i++) {
        mp_task_reads(t, b->caches[i]);
    }
    mp_task_submit(t);
}
