#include "codelets/common/elementwise.h"

#include "core/base/dtype.h"

#include <math.h>

static void rms_norm(float *y, const float *x, const float *gain, int n, float eps)
{
    float sum = 0.0f;
    for (int i = 0; i < n; i++) {
        sum += x[i] * x[i];
    }
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (int i = 0; i < n; i++) {
        y[i] = x[i] * scale * gain[i];
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    for (int i = 0; i < n; i++) {
        y[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
    }
}

static void rope(float *x, const float *cosine, const float *sine, int n)
{
    int half = n / 2;
    for (int i = 0; i < half; i++) {
        float a = x[i];
        float b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

static void blend(float *y, const float *a, float weight_a, const float *b, float weight_b, int n)
{
    for (int i = 0; i < n; i++) {
        y[i] = weight_a * a[i] + weight_b * b[i];
    }
}

static void to_bf16(uint16_t *y, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = mp_f32_to_bf16(x[i]);
    }
}

static void split_bf16(uint16_t *high, uint16_t *low, const float *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        high[i] = mp_f32_to_bf16(x[i]);
        low[i] = mp_f32_to_bf16(x[i] - mp_bf16_to_f32(high[i]));
    }
}

static void from_bf16(float *y, const uint16_t *x, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        y[i] = mp_bf16_to_f32(x[i]);
    }
}

const struct elementwise elementwise_ref = {
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .rope = rope,
    .blend = blend,
    .to_bf16 = to_bf16,
    .split_bf16 = split_bf16,
    .from_bf16 = from_bf16,
};
