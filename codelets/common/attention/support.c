#include "codelets/common/attention/support.h"

#include "core/base/shape.h"

/* What kernels of one kind demand. Of the CPU's, the attention of decode and offload make head_dim
 * a multiple of their vectors; prefill's attention, hashing and the matrix products pad or have
 * remainders. On the GPU it is the 16 bytes that a thread loads at once. */
struct demand {
    bool bf16;    /* of keys and values; otherwise any type */
    int multiple; /* head_dim is one of it, up to MP_MAX_HEAD_DIM */
};

static const struct demand on_cpu[MP_ISA_COUNT] = {
    [MP_ISA_REF] = {.bf16 = false, .multiple = 1},
    [MP_ISA_AVX2] = {.bf16 = true, .multiple = 8},
    [MP_ISA_AVX512] = {.bf16 = true, .multiple = 16},
};

static const struct demand on_gpu = {.bf16 = true, .multiple = 8};

static const char *dtype_name(enum mp_dtype t)
{
    return t == MP_F32 ? "float32" : t == MP_BF16 ? "bfloat16" : "int8";
}

static bool meets(const struct demand *d, enum mp_dtype kv, int head_dim)
{
    return (!d->bf16 || kv == MP_BF16) && head_dim > 0 && head_dim <= MP_MAX_HEAD_DIM &&
           head_dim % d->multiple == 0;
}

/* The fastest CPU variant below isa that takes them, whose name is what to use instead. */
static const char *lower_isa(enum mp_isa isa, enum mp_dtype kv, int head_dim)
{
    while (isa > MP_ISA_REF && !meets(&on_cpu[isa], kv, head_dim)) {
        isa--;
    }
    return mp_isa_name(isa);
}

int mp_kernels_check(enum mp_isa isa, enum mp_dtype kv, int head_dim, bool gpu,
                     struct mp_error *err)
{
    if (!meets(&on_cpu[MP_ISA_REF], kv, head_dim)) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "head_dim %d: the kernels expect 1 to %d, and there are no others", head_dim,
                       MP_MAX_HEAD_DIM);
    }
    if (!meets(&on_cpu[isa], kv, head_dim)) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "head_dim %d with keys and values of %s: the %s kernels expect a multiple "
                       "of %d with bfloat16; use runtime.isa %s",
                       head_dim, dtype_name(kv), mp_isa_name(isa), on_cpu[isa].multiple,
                       lower_isa(isa, kv, head_dim));
    }
    if (gpu && !meets(&on_gpu, kv, head_dim)) {
        return mp_fail(err, MP_ERR_UNSUPPORTED,
                       "head_dim %d with keys and values of %s: the GPU kernels expect a multiple "
                       "of %d with bfloat16; use runtime.devices cpu",
                       head_dim, dtype_name(kv), on_gpu.multiple);
    }
    return 0;
}

void mp_kernel_demand(const char *op, enum mp_dtype kv, int head_dim, int multiple)
{
    const struct demand demand = {.bf16 = true, .multiple = multiple};
    if (!meets(&demand, kv, head_dim)) {
        mp_panic("%s: head_dim %d with keys and values of %s: expected a multiple of %d up to %d "
                 "with bfloat16",
                 op, head_dim, dtype_name(kv), multiple, MP_MAX_HEAD_DIM);
    }
}

void mp_kernel_demand_rows(const char *op, enum mp_dtype kv, int head_dim, int multiple)
{
    mp_kernel_demand(op, kv == MP_I8 ? MP_BF16 : kv, head_dim, multiple);
}
