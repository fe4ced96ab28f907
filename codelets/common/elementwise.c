#include "codelets/common/elementwise.h"

#include "core/machine/cpu.h"

#include <math.h>
#include <stddef.h>

static const struct elementwise *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = &elementwise_ref,
    [MP_ISA_AVX2] = MP_X86(&elementwise_avx2),
    [MP_ISA_AVX512] = MP_X86(&elementwise_avx512),
};

const struct elementwise *elementwise_current(void)
{
    return MP_KERNEL(variants);
}

void rms_norm_rows(float *y, const float *x, const float *gain, int64_t rows, int n, float eps)
{
    const struct elementwise *e = elementwise_current();
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; r++) {
        e->rms_norm(y + r * n, x + r * n, gain, n, eps);
    }
}

void rope_angles(float *cosine, float *sine, const float *inv_freq, int n, int64_t position,
                 float scale)
{
    for (int i = 0; i < n / 2; i++) {
        float angle = (float)position * inv_freq[i];
        cosine[i] = cosf(angle) * scale;
        sine[i] = sinf(angle) * scale;
    }
}
