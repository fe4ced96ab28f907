#include "codelets/sampled_attention/sampled_attention.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

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
    int group = mp_shape_group(t->shape);
    int head_dim = t->shape->head_dim;
    int64_t first_head = (int64_t)t->share->first_kv_head * group;
    struct offloaded_kv parts[t->rows];
    const struct offloaded_kv *kv[t->rows];
    const uint32_t *ids[t->rows];
    for (int64_t r = 0; r < t->rows; r++) {
        parts[r] = offloaded_kv_of(t->share, MP_BUFFER(buffers, 5 + r));
        kv[r] = &parts[r];
        ids[r] = selection->ids[r] + first_head * selection->stride[r];
    }
    kernel(&(struct sampled_attention_args){
        .q = (const float *)MP_BUFFER(buffers, 0) + first_head * head_dim,
        .kv = kv,
        .ids = ids,
        .ids_stride = selection->stride,
        .nnz = (const int32_t *)MP_BUFFER(buffers, 2) + first_head,
        .weight = t->weight,
        .o = (float *)MP_BUFFER(buffers, 3) + first_head * head_dim,
        .lse = (float *)MP_BUFFER(buffers, 4) + first_head,
        .rows = t->rows,
        .num_heads = t->share->num_kv_heads * group,
        .row_heads = t->shape->num_attention_heads,
        .head_dim = head_dim,
        .scale = 1.0f / sqrtf((float)head_dim),
    });
}

MP_OP_FUNCTIONS(sampled_attention, MP_KERNEL(variants), MP_CUDA_KERNEL(sampled_attention_cuda))

static struct mp_work sampled_attention_work(const void *arg)
{
    const struct sampled_attention_task *t = arg;
    double heads = (double)t->rows * t->share->num_kv_heads * mp_shape_group(t->shape);
    double head_dim = t->shape->head_dim;
    return (struct mp_work){
        .flops = 4.0 * t->expected_nnz * head_dim,
        /* A key, a value and an id a token, gathered; q in, o and lse out. */
        .bytes = t->expected_nnz * (4.0 * head_dim + 4.0) + heads * (8.0 * head_dim + 4.0),
    };
}

struct starpu_codelet sampled_attention_codelet =
    MP_CODELET(sampled_attention, 0xe377c2, MP_WORKERS);
