/* elementwise for the instruction set this is compiled for. What is left after the last whole
 * vector is done in plain C. */
#include "codelets/common/elementwise.h"
#include "codelets/common/simd.h"

#include <math.h>

static void rms_norm(float *y, const float *x, const float *gain, int n, float eps)
{
    int whole = n - n % VF_LANES;
    vf squares = vf_zero();
    for (int i = 0; i < whole; i += VF_LANES) {
        vf v = vf_load(x + i);
        squares = vf_fma(v, v, squares);
    }
    float sum = vf_reduce_add(squares);
    for (int i = whole; i < n; i++) {
        sum += x[i] * x[i];
    }
    float scale = 1.0f / sqrtf(sum / (float)n + eps);
    for (int i = 0; i < whole; i += VF_LANES) {
        vf v = vf_mul(vf_load(x + i), vf_set1(scale));
        vf_store(y + i, vf_mul(v, vf_load(gain + i)));
    }
    for (int i = whole; i < n; i++) {
        y[i] = x[i] * scale * gain[i];
    }
}

static void silu_mul(float *y, const float *gate, const float *up, int n)
{
    int whole = n - n % VF_LANES;
    vf one = vf_set1(1.0f);
    for (int i = 0; i < whole; i += VF_LANES) {
        vf g = vf_load(gate + i);
        vf silu = vf_div(g, vf_add(one, vf_exp(vf_sub(vf_zero(), g))));
        vf_store(y + i, vf_mul(silu, vf_load(up + i)));
    }
    elementwise_ref.silu_mul(y + whole, gate + whole, up + whole, n - whole);
}

static void rope(float *x, const float *cosine, const float *sine, int n)
{
    int half = n / 2;
    int whole = half - half % VF_LANES;
    for (int i = 0; i < whole; i += VF_LANES) {
        vf a = vf_load(x + i);
        vf b = vf_load(x + i + half);
        vf c = vf_load(cosine + i);
        vf s = vf_load(sine + i);
        vf_store(x + i, vf_sub(vf_mul(a, c), vf_mul(b, s)));
        vf_store(x + i + half, vf_fma(b, c, vf_mul(a, s)));
    }
    for (int i = whole; i < half; i++) {
        float a = x[i];
        float b = x[i + half];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + half] = b * cosine[i] + a * sine[i];
    }
}

static void blend(float *y, const float *a, float weight_a, const float *b, float weight_b, int n)
{
    int whole = n - n % VF_LANES;
    for (int i = 0; i < whole; i += VF_LANES) {
        vf weighted_b = vf_mul(vf_set1(weight_b), vf_load(b + i));
        vf_store(y + i, vf_fma(vf_set1(weight_a), vf_load(a + i), weighted_b));
    }
    elementwise_ref.blend(y + whole, a + whole, weight_a, b + whole, weight_b, n - whole);
}

static void to_bf16(uint16_t *y, const float *x, int64_t n)
{
    int64_t whole = n - n % VF_LANES;
    for (int64_t i = 0; i < whole; i += VF_LANES) {
        vf_store_bf16(y + i, vf_load(x + i));
    }
    elementwise_ref.to_bf16(y + whole, x + whole, n - whole);
}

static void split_bf16(uint16_t *high, uint16_t *low, const float *x, int64_t n)
{
    int64_t whole = n - n % VF_LANES;
    for (int64_t i = 0; i < whole; i += VF_LANES) {
        vf v = vf_load(x + i);
        vf_store_bf16(high + i, v);
        vf_store_bf16(low + i, vf_sub(v, vf_load_bf16(high + i)));
    }
    elementwise_ref.split_bf16(high + whole, low + whole, x + whole, n - whole);
}

static void from_bf16(float *y, const uint16_t *x, int64_t n)
{
    int64_t whole = n - n % VF_LANES;
    for (int64_t i = 0; i < whole; i += VF_LANES) {
        vf_store(y + i, vf_load_bf16(x + i));
    }
    elementwise_ref.from_bf16(y + whole, x + whole, n - whole);
}

const struct elementwise VF_NAME(elementwise) = {
    .rms_norm = rms_norm,
    .silu_mul = silu_mul,
    .rope = rope,
    .blend = blend,
    .to_bf16 = to_bf16,
    .split_bf16 = split_bf16,
    .from_bf16 = from_bf16,
};
