#include "codelets/prefill_attention/prefill_attention.h"

#include "codelets/common/codelet.h"
#include "core/cpu.h"

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

static double prefill_attention_cost(struct starpu_task *task, struct starpu_perfmodel_arch *arch,
                                     unsigned n)
{
    (void)n;
    const struct prefill_attention_task *t = task->cl_arg;
    double pairs = (double)t->rows * ((double)(t->first + t->first_row) + 0.5 * (double)t->rows);
    return mp_cost_us(arch, 4.0 * pairs * t->num_heads * t->head_dim, 0.0);
}

static struct starpu_perfmodel prefill_attention_model =
    MP_COST_MODEL("prefill_attention", prefill_attention_cost);

struct starpu_codelet prefill_attention_codelet =
    MP_CODELET(prefill_attention, 0x17becf, MP_WORKERS);
