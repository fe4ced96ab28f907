#include "codelets/hashing/hashing.h"

#include "codelets/common/attention/kv.h"
#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static hashing_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = hashing_ref,
    [MP_ISA_AVX2] = MP_X86(hashing_avx2),
    [MP_ISA_AVX512] = MP_X86(hashing_avx512),
};

static void hashing_run(void *buffers[], const struct hashing_task *t, hashing_kernel *kernel)
{
    int heads = t->shape->num_attention_heads;
    kernel(&(struct hashing_args){
        .x = MP_BUFFER(buffers, 0),
        .dtype = MP_F32,
        .x_head_stride = t->shape->head_dim,
        .x_vec_stride = mp_shape_q_width(t->shape),
        .count = t->rows,
        .num_heads = heads,
        .head_dim = t->shape->head_dim,
        .K = t->K,
        .L = t->L,
        .w = MP_BUFFER(buffers, 1),
        .heads_per_projection = t->heads_per_projection,
        .codes = MP_BUFFER(buffers, 2),
        .code_head_stride = t->L,
        .code_vec_stride = (int64_t)heads * t->L,
        .code_table_stride = 1,
    });
}

static void hashing_keys_run(void *buffers[], const struct hashing_keys_task *t,
                             hashing_kernel *kernel)
{
    const struct offloaded_kv *kv = MP_BUFFER(buffers, 0);
    kernel(&(struct hashing_args){
        .x = kv->k,
        .dtype = kv->dtype,
        .x_head_stride = kv->capacity * kv->head_dim,
        .x_vec_stride = kv->head_dim,
        .count = kv->count,
        .num_heads = kv->num_kv_heads,
        .head_dim = kv->head_dim,
        .K = t->K,
        .L = t->L,
        .w = MP_BUFFER(buffers, 1),
        .heads_per_projection = t->heads_per_projection,
        .codes = MP_BUFFER(buffers, 2),
        .code_head_stride = t->L * kv->count,
        .code_vec_stride = 1,
        .code_table_stride = kv->count,
    });
}

MP_OP_FUNCTIONS(hashing, MP_KERNEL(variants), MP_CUDA_KERNEL(hashing_cuda))

MP_OP_FUNCTIONS(hashing_keys, MP_KERNEL(variants), MP_CUDA_KERNEL(hashing_cuda))

/* Of vectors with elements of `element` bytes that are hashed by `projections` matrices W. */
static struct mp_work hash_work(double vectors, double element, double projections, int head_dim,
                                int K, int L)
{
    double w = (double)head_dim * K * L;
    return (struct mp_work){
        .flops = 2.0 * vectors * w,
        /* The matrices; a vector in, its codes out. */
        .bytes = 4.0 * projections * w + vectors * (element * head_dim + 2.0 * L),
    };
}

static struct mp_work hashing_work(const void *arg)
{
    const struct hashing_task *t = arg;
    int heads = t->shape->num_attention_heads;
    return hash_work((double)t->rows * heads, 4.0, (double)heads / t->heads_per_projection,
                     t->shape->head_dim, t->K, t->L);
}

static struct mp_work hashing_keys_work(const void *arg)
{
    const struct hashing_keys_task *t = arg;
    int heads = t->shape->num_key_value_heads;
    return hash_work((double)t->count * heads, 2.0, (double)heads / t->heads_per_projection,
                     t->shape->head_dim, t->K, t->L);
}

struct starpu_codelet hashing_codelet = MP_CODELET(hashing, 0xff7f0e, MP_WORKERS);
struct starpu_codelet hashing_keys_codelet = MP_CODELET(hashing_keys, 0xffbb78, MP_WORKERS);
