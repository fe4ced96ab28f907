/* What the dense ops do to single rows between their matrix products. All functions work on
 * vectors of any length n >= 0 of float32; `y` may be the same memory as an input. */
#ifndef MP_CODELETS_COMMON_ELEMENTWISE_H
#define MP_CODELETS_COMMON_ELEMENTWISE_H

#include <stdint.h>

struct elementwise {
    /* y = x / sqrt(mean(x^2) + eps) * gain */
    void (*rms_norm)(float *y, const float *x, const float *gain, int n, float eps);
    /* y = gate * sigmoid(gate) * up */
    void (*silu_mul)(float *y, const float *gate, const float *up, int n);
    /* Rotates x [n] in place, n even, element i with element i + n / 2 by the angle whose cosine
     * and sine (times the rope scale) are cosine[i] and sine[i], [n / 2] each. */
    void (*rope)(float *x, const float *cosine, const float *sine, int n);
    /* y = weight_a * a + weight_b * b */
    void (*blend)(float *y, const float *a, float weight_a, const float *b, float weight_b, int n);
    /* Rounded to nearest, ties to even. */
    void (*to_bf16)(uint16_t *y, const float *x, int64_t n);
    /* x = high + low to about 16 bits: high is x rounded, low the rounded rest. */
    void (*split_bf16)(uint16_t *high, uint16_t *low, const float *x, int64_t n);
    void (*from_bf16)(float *y, const uint16_t *x, int64_t n);
};

extern const struct elementwise elementwise_ref; /* plain C: the oracle */
extern const struct elementwise elementwise_avx2;
extern const struct elementwise elementwise_avx512;

/* The one for the vector variant in force. */
const struct elementwise *elementwise_current(void);

/* rms_norm of rows x [rows][n] into y [rows][n], shared out over the OpenMP team. */
void rms_norm_rows(float *y, const float *x, const float *gain, int64_t rows, int n, float eps);

/* cosine and sine [n / 2] of the angles position * inv_freq[i], times scale. The angle is rounded
 * to float32 as the models were trained with. */
void rope_angles(float *cosine, float *sine, const float *inv_freq, int n, int64_t position,
                 float scale);

#endif
