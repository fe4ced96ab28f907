#include "codelets/common/linear/linear.h"

#include "codelets/common/elementwise.h"
#include "codelets/common/scratch.h"
#include "core/base/error.h"
#include "core/machine/cpu.h"

#include <dnnl.h>
#include <stddef.h>

/* Elements of W that are widened to float32 at a time where there is no bf16 product. */
enum { WIDEN_ELEMENTS = 1 << 20 };

static int num_parts = 2;

void linear_set_parts(int parts)
{
    num_parts = parts;
}

int linear_num_parts(void)
{
    return num_parts;
}

static void (*const gemv[MP_ISA_COUNT])(const struct linear_args *) = {
    [MP_ISA_REF] = linear_ref,
    [MP_ISA_AVX2] = MP_X86(linear_gemv_avx2),
    [MP_ISA_AVX512] = MP_X86(linear_gemv_avx512),
};

/* Puts the bias into y, so that the product can be added to it. */
static void apply_bias(const struct linear_args *a)
{
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        float *y = a->y + r * a->y_stride;
        for (int o = 0; o < a->out; o++) {
            y[o] = a->bias[o] + (a->accumulate ? y[o] : 0.0f);
        }
    }
}

/* float32 x float32 through oneDNN, a block of rows of W at a time. */
static void matmul_f32(const struct linear_args *a)
{
    const struct elementwise *e = elementwise_current();
    int block = a->in < WIDEN_ELEMENTS ? WIDEN_ELEMENTS / a->in : 1;
    float *wide = mp_scratch((size_t)block * (size_t)a->in, sizeof *wide);
    for (int o = 0; o < a->out; o += block) {
        int outputs = a->out - o < block ? a->out - o : block;
#pragma omp parallel for schedule(static)
        for (int i = 0; i < outputs; i++) {
            e->from_bf16(wide + (int64_t)i * a->in, a->w + (int64_t)(o + i) * a->in, a->in);
        }
        dnnl_status_t status =
            dnnl_sgemm('N', 'T', a->rows, outputs, a->in, 1.0f, a->x, a->x_stride, wide, a->in,
                       a->accumulate ? 1.0f : 0.0f, a->y + o, a->y_stride);
        if (status != dnnl_success) {
            mp_panic("dnnl_sgemm of %lld x %d x %d: status %d", (long long)a->rows, outputs, a->in,
                     (int)status);
        }
    }
}

void linear_fast(const struct linear_args *a)
{
    if (a->rows <= LINEAR_GEMV_MAX_ROWS) {
        MP_KERNEL(gemv)(a);
        return;
    }
    struct linear_args product = *a;
    if (a->bias != NULL) {
        apply_bias(a);
        product.bias = NULL;
        product.accumulate = true;
    }
    if (mp_isa_current() == MP_ISA_AVX512) {
        linear_matmul_bf16(&product);
    } else {
        matmul_f32(&product);
    }
}
