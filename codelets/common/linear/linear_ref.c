#include "codelets/common/linear/linear.h"

#include "core/base/dtype.h"

void linear_ref(const struct linear_args *a)
{
#pragma omp parallel for collapse(2) schedule(static)
    for (int64_t r = 0; r < a->rows; r++) {
        for (int o = 0; o < a->out; o++) {
            const float *x = a->x + r * a->x_stride;
            const uint16_t *w = a->w + (int64_t)o * a->in;
            float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
            for (int i = 0; i < a->in; i++) {
                sum += x[i] * mp_bf16_to_f32(w[i]);
            }
            float *y = a->y + r * a->y_stride + o;
            *y = (a->accumulate ? *y : 0.0f) + (a->bias != NULL ? a->bias[o] : 0.0f) + sum;
        }
    }
}
