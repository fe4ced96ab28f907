/* Storage types of tensors, and bfloat16 conversion. Arithmetic is always float32. */
#ifndef MP_CORE_DTYPE_H
#define MP_CORE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum mp_dtype {
    MP_F32,  /* float: the reference path */
    MP_BF16, /* uint16_t holding the upper half of a float: the fast path */
    MP_I8,   /* int8_t in -127 .. 127, to be multiplied with a scale that is kept elsewhere: only of
                offloaded keys and values */
};

static inline size_t mp_dtype_size(enum mp_dtype t)
{
    return t == MP_F32 ? sizeof(float) : t == MP_BF16 ? sizeof(uint16_t) : sizeof(int8_t);
}

static inline float mp_bf16_to_f32(uint16_t h)
{
    uint32_t bits = (uint32_t)h << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

/* Round to nearest, ties to even; NaN stays NaN (quiet). */
static inline uint16_t mp_f32_to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if ((bits & 0x7fffffffU) > 0x7f800000U) {
        return (uint16_t)((bits >> 16) | 0x40U);
    }
    return (uint16_t)((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16);
}

/* Element i of a tensor stored as t; of MP_I8, before it is multiplied with its scale. For
 * reference code; fast kernels know their type. */
static inline float mp_load(const void *p, enum mp_dtype t, size_t i)
{
    switch (t) {
    case MP_F32:
        return ((const float *)p)[i];
    case MP_BF16:
        return mp_bf16_to_f32(((const uint16_t *)p)[i]);
    default:
        return (float)((const int8_t *)p)[i];
    }
}

/* Of MP_I8, value is an integer. */
static inline void mp_store(void *p, enum mp_dtype t, size_t i, float value)
{
    switch (t) {
    case MP_F32:
        ((float *)p)[i] = value;
        break;
    case MP_BF16:
        ((uint16_t *)p)[i] = mp_f32_to_bf16(value);
        break;
    default:
        ((int8_t *)p)[i] = (int8_t)value;
    }
}

#endif
