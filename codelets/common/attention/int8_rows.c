#include "codelets/common/attention/int8_rows.h"

#include <math.h>

float int8_store_row(const void *x, enum mp_dtype dtype, size_t from, const float *mean, size_t d,
                     int8_t *out)
{
    float largest = 0.0f;
    for (size_t c = 0; c < d; c++) {
        float magnitude = fabsf(mp_load(x, dtype, from * d + c) - (mean != NULL ? mean[c] : 0.0f));
        if (!(magnitude <= largest) && !isnan(largest)) {
            largest = magnitude; /* NaN too */
        }
    }
    float scale = int8_scale(largest);
    for (size_t c = 0; c < d; c++) {
        float y = mp_load(x, dtype, from * d + c) - (mean != NULL ? mean[c] : 0.0f);
        out[c] = int8_is_regular(scale) ? (int8_t)rintf(y / scale) : 0;
    }
    return scale;
}
