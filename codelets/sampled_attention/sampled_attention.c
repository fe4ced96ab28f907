#include "codelets/sampled_attention/sampled_attention.h"

#include "codelets/common/codelet.h"
#include "core/cpu.h"

#include <math.h>

static sampled_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = sampled_attention_ref,
    [MP_ISA_AVX2] = MP_X86(sampled_attention_avx2),
    [MP_ISA_AVX512] = MP_X86(sampled_attention_avx512),
};

static void sampled_attention_run(void *buffers[], const struct sampled_attention_task *t,
                                  sampled_attention_kernel *kernel)
{
    const struct lsh_selection *selection = MP_BUFFER(buffers, 1);
    const struct offloaded_kv *kv[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        kv[r] = MP_BUFFER(buffers, 5 + r);
    }
    kernel(&(struct sampled_attention_args){
        .q = MP_BUFFER(buffers, 0),
        .kv = kv,
        .ids = (const uint32_t *const *)selection->ids,
        .ids_stride = selection->stride,
        .nnz = MP_BUFFER(buffers, 2),
        .weight = t->weight,
        .o = MP_BUFFER(buffers, 3),
        .lse = MP_BUFFER(buffers, 4),
        .rows = t->rows,
        .num_heads = t->num_heads,
        .head_dim = t->head_dim,
        .scale = 1.0f / sqrtf((float)t->head_dim),
    });
}

MP_OP_FUNCTIONS(sampled_attention, MP_KERNEL(variants), MP_CUDA_KERNEL(sampled_attention_cuda))

static struct mp_work sampled_attention_work(const void *arg)
{
    const struct sampled_attention_task *t = arg;
    double heads = (double)t->rows * t->num_heads;
    return (struct mp_work){
        .flops = 4.0 * t->expected_nnz * t->head_dim,
        /* A key, a value and an id a token, gathered; q in, o and lse out. */
        .bytes = t->expected_nnz * (4.0 * t->head_dim + 4.0) + heads * (8.0 * t->head_dim + 4.0),
    };
}

struct starpu_codelet sampled_attention_codelet =
    MP_CODELET(sampled_attention, 0xe377c2, MP_WORKERS);
