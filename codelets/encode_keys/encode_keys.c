#include "codelets/encode_keys/encode_keys.h"

#include "codelets/common/task/codelet.h"
#include "core/machine/cpu.h"

static encode_keys_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = encode_keys_ref,
    [MP_ISA_AVX2] = MP_X86(encode_keys_avx2),
    [MP_ISA_AVX512] = MP_X86(encode_keys_avx512),
};

/* Buffers: struct offloaded_kv R, rotation R, struct key_codes RW. */
struct encode_keys_task {
    int num_kv_heads; /* of the shard */
    int head_dim;
    int bits;
    int64_t first;
    int64_t tokens;
};

static void encode_keys_run(void *buffers[], const struct encode_keys_task *t,
                            encode_keys_kernel *kernel)
{
    const struct offloaded_kv *kv = MP_BUFFER(buffers, 0);
    struct key_codes *codes = MP_BUFFER(buffers, 2);
    codes->count = t->first + kv->count;
    kernel(&(struct encode_keys_args){
        .kv = kv,
        .rotation = {.data = MP_BUFFER(buffers, 1), .head_dim = t->head_dim},
        .codes = codes,
        .first = t->first,
    });
}

MP_OP_FUNCTIONS(encode_keys, MP_KERNEL(variants), MP_CUDA_KERNEL(encode_keys_cuda))

static struct mp_work encode_keys_work(const void *arg)
{
    const struct encode_keys_task *t = arg;
    double keys = (double)t->tokens * t->num_kv_heads;
    double d = t->head_dim;
    /* A sum a channel for each channel of the rotation, or for each doubling of the stride. */
    double sums = d;
    if (key_rotation_is_hadamard(t->head_dim)) {
        sums = 0.0;
        for (int stride = 1; stride < t->head_dim; stride *= 2) {
            sums += 1.0;
        }
    }
    /* Then some ten operations a channel: its square, its level, its product with that. */
    return (struct mp_work){
        .flops = keys * d * (sums + 10.0),
        .bytes = keys * (2.0 * d + 4.0 * (codes_words(t->head_dim, t->bits) + 1)),
    };
}

static struct starpu_codelet encode_keys_codelet = MP_CODELET(encode_keys, 0x8c6d31, MP_WORKERS);

void encode_keys_insert(struct mp_submit *sub, const struct mp_buffer *kv,
                        const struct mp_buffer *rotation, const struct mp_buffer *codes,
                        const struct key_codes *shape, int64_t first, int64_t tokens)
{
    struct mp_task *t = mp_task_new(sub, &encode_keys_codelet, 3);
    struct encode_keys_task *arg = mp_task_argument(t, sizeof *arg);
    *arg = (struct encode_keys_task){
        .num_kv_heads = shape->num_kv_heads,
        .head_dim = shape->head_dim,
        .bits = shape->bits,
        .first = first,
        .tokens = tokens,
    };
    mp_task_reads(t, kv);
    mp_task_reads(t, rotation);
    mp_task_updates(t, codes);
    mp_task_submit(t);
}
