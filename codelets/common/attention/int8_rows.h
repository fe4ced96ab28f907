/* Rows of MP_I8: x = scale * (an integer in -127 .. 127) to half a step. */
#ifndef MP_CODELETS_COMMON_INT8_ROWS_H
#define MP_CODELETS_COMMON_INT8_ROWS_H

#include "core/base/dtype.h"

#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __CUDACC__
#define INT8_FUNCTION static inline __host__ __device__
#else
#define INT8_FUNCTION static inline
#endif

/* The scale of a row whose largest magnitude is `largest`; not a number if that is none. Rows too
 * small for a normal scale count as 0. */
INT8_FUNCTION float int8_scale(float largest)
{
    float scale = largest / 127.0f;
    return scale < FLT_MIN ? 0.0f : scale;
}

/* Whether rint(x / scale) is stored. Otherwise 0 is: the row is 0, or the scale alone makes
 * whatever is computed from it not a number. */
INT8_FUNCTION bool int8_is_regular(float scale)
{
    return scale > 0.0f && scale <= FLT_MAX;
}

/* On the CPU: writes row `from` of x - mean, of d channels, as MP_I8; mean NULL: 0. Returns its
 * scale. */
float int8_store_row(const void *x, enum mp_dtype dtype, size_t from, const float *mean, size_t d,
                     int8_t *out);

#endif
