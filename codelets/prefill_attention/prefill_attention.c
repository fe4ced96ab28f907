#include "codelets/prefill_attention/prefill_attention.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

#include <math.h>

static prefill_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = prefill_attention_ref,
    [MP_ISA_AVX2] = MP_X86(prefill_attention_avx2),
    [MP_ISA_AVX512] = MP_X86(prefill_attention_avx512),
};

static void prefill_attention_run(void *buffers[], const struct prefill_attention_task *t,
                                  prefill_attention_kernel *kernel)
{
    int64_t o_at = t->first_row * t->num_heads * t->head_dim;
    struct prefill_attention_args args = {
        .q = (const float *)MP_BUFFER(buffers, 0) + o_at,
        .cache = MP_BUFFER(buffers, 2),
        .first = t->first + t->first_row,
        .o = (float *)MP_BUFFER(buffers, 1) + o_at,
        .rows = t->rows,
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
    double rows = (double)t->rows;
    double before = (double)(t->first + t->first_row);
    double pairs = rows * before + 0.5 * rows * (rows + 1.0);
    return (struct mp_work){
        .flops = 4.0 * pairs * t->num_heads * t->head_dim,
        /* Keys and values of all tokens up to the last row; q in, o out. */
        .bytes =
            t->head_dim * (4.0 * (before + rows) * t->num_kv_heads + 8.0 * rows * t->num_heads),
    };
}

struct starpu_codelet prefill_attention_codelet =
    MP_CODELET(prefill_attention, 0x17becf, MP_WORKERS);
