/* A vector of floats under one name for each instruction set, so that a kernel is written once and
 * compiled twice. Include it only from *_avx2.c and *_avx512.c (or private headers of theirs): the
 * compiler's target decides which half is used. */
#ifndef MP_CODELETS_COMMON_SIMD_H
#define MP_CODELETS_COMMON_SIMD_H

#include <immintrin.h>
#include <stdint.h>

#if defined(__AVX512F__)

/* VF_NAME(hashing) is hashing_avx512 or hashing_avx2. */
#define VF_NAME(op) op##_avx512
enum { VF_LANES = 16 };
typedef __m512 vf;

static inline vf vf_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

static inline void vf_store(float *p, vf x)
{
    _mm512_storeu_ps(p, x);
}

/* VF_LANES bfloat16 numbers, widened. */
static inline vf vf_load_bf16(const uint16_t *p)
{
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

/* VF_LANES 8-bit integers. */
static inline vf vf_load_i8(const int8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

/* The nearest integers, ties to even, all in -127 .. 127. */
static inline void vf_store_i8(int8_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}

/* Per lane the larger of m and |x|, NaN if either is; m >= 0. */
static inline vf vf_max_magnitude(vf m, vf x)
{
    __m512i magnitude = _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff));
    return _mm512_castsi512_ps(_mm512_max_epi32(_mm512_castps_si512(m), magnitude));
}

static inline vf vf_add(vf a, vf b)
{
    return _mm512_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm512_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm512_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c */
static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Per lane a > b ? a : b, so b where a is NaN. */
static inline vf vf_max(vf a, vf b)
{
    return _mm512_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm512_min_ps(a, b);
}

static inline vf vf_sqrt(vf a)
{
    return _mm512_sqrt_ps(a);
}

/* To the nearest integer, ties to even. */
static inline vf vf_round(vf a)
{
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for integral n, result within the normal numbers. */
static inline vf vf_scale2(vf x, vf n)
{
    return _mm512_scalef_ps(x, n);
}

/* Per lane, between table[i] and table[i + 1] for i <= x < i + 1, linearly. x >= 0; both entries
 * are read even where x is i. */
static inline vf vf_interpolate(const float *table, vf x)
{
    __m512i i = _mm512_cvttps_epi32(x);
    vf low = _mm512_i32gather_ps(i, table, sizeof *table);
    vf high = _mm512_i32gather_ps(i, table + 1, sizeof *table);
    return vf_fma(vf_sub(x, _mm512_cvtepi32_ps(i)), vf_sub(high, low), low);
}

/* Bit i: lane i > 0. */
static inline uint32_t vf_positive_mask(vf a)
{
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_GT_OQ);
}

/* Lanes i and i + 8 added. */
static inline __m256 vf_fold(vf a)
{
    return _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
}

/* As mp_f32_to_bf16, but NaN keeps no payload guarantee and subnormals become zero. */
static inline void vf_store_bf16(uint16_t *p, vf x)
{
    _mm256_storeu_si256((__m256i *)p, (__m256i)_mm512_cvtneps_pbh(x));
}

/* The upper halves: for numbers that are bfloat16 already, which stay as they are. */
static inline void vf_cut_bf16(uint16_t *p, vf x)
{
    __m512i high = _mm512_srli_epi32(_mm512_castps_si512(x), 16);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(high));
}

static inline float vf_reduce_max(vf a)
{
    return _mm512_reduce_max_ps(a);
}

#elif defined(__AVX2__)

#define VF_NAME(op) op##_avx2
enum { VF_LANES = 8 };
typedef __m256 vf;

static inline vf vf_zero(void)
{
    return _mm256_setzero_ps();
}

static inline vf vf_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vf vf_load(const float *p)
{
    return _mm256_loadu_ps(p);
}

static inline void vf_store(float *p, vf x)
{
    _mm256_storeu_ps(p, x);
}

static inline vf vf_load_bf16(const uint16_t *p)
{
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline vf vf_load_i8(const int8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

static inline void vf_store_i8(int8_t *p, vf x)
{
    __m256i i = _mm256_cvtps_epi32(x);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(words, words));
}

static inline vf vf_max_magnitude(vf m, vf x)
{
    __m256i magnitude = _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fffffff));
    return _mm256_castsi256_ps(_mm256_max_epi32(_mm256_castps_si256(m), magnitude));
}

static inline vf vf_add(vf a, vf b)
{
    return _mm256_add_ps(a, b);
}

static inline vf vf_sub(vf a, vf b)
{
    return _mm256_sub_ps(a, b);
}

static inline vf vf_mul(vf a, vf b)
{
    return _mm256_mul_ps(a, b);
}

static inline vf vf_div(vf a, vf b)
{
    return _mm256_div_ps(a, b);
}

static inline vf vf_fma(vf a, vf b, vf c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vf vf_max(vf a, vf b)
{
    return _mm256_max_ps(a, b);
}

static inline vf vf_min(vf a, vf b)
{
    return _mm256_min_ps(a, b);
}

static inline vf vf_sqrt(vf a)
{
    return _mm256_sqrt_ps(a);
}

static inline vf vf_round(vf a)
{
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline vf vf_scale2(vf x, vf n)
{
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), exponent));
}

static inline vf vf_interpolate(const float *table, vf x)
{
    __m256i i = _mm256_cvttps_epi32(x);
    vf low = _mm256_i32gather_ps(table, i, sizeof *table);
    vf high = _mm256_i32gather_ps(table + 1, i, sizeof *table);
    return vf_fma(vf_sub(x, _mm256_cvtepi32_ps(i)), vf_sub(high, low), low);
}

static inline uint32_t vf_positive_mask(vf a)
{
    return (uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, _mm256_setzero_ps(), _CMP_GT_OQ));
}

static inline __m256 vf_fold(vf a)
{
    return a;
}

/* Adds half a unit in the last place kept, less one if that bit is even: ties go to even. NaN
 * becomes the quiet NaN. */
static inline void vf_store_bf16(uint16_t *p, vf x)
{
    __m256i bits = _mm256_castps_si256(x);
    __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc00000), nan);
    __m256i high = _mm256_srli_epi32(rounded, 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(high),
                                                    _mm256_extracti128_si256(high, 1)));
}

static inline void vf_cut_bf16(uint16_t *p, vf x)
{
    __m256i high = _mm256_srli_epi32(_mm256_castps_si256(x), 16);
    _mm_storeu_si128((__m128i *)p, _mm_packus_epi32(_mm256_castsi256_si128(high),
                                                    _mm256_extracti128_si256(high, 1)));
}

static inline float vf_reduce_max(vf a)
{
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    m = _mm_max_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

#else
#error "simd.h is for files compiled with AVX2 or AVX-512"
#endif

/* The sums over the lanes of four vectors. */
static inline __m128 vf_sum4(vf a, vf b, vf c, vf d)
{
    __m256 ab = _mm256_hadd_ps(vf_fold(a), vf_fold(b));
    __m256 cd = _mm256_hadd_ps(vf_fold(c), vf_fold(d));
    __m256 abcd = _mm256_hadd_ps(ab, cd);
    return _mm_add_ps(_mm256_castps256_ps128(abcd), _mm256_extractf128_ps(abcd, 1));
}

/* The sum over the lanes. */
static inline float vf_reduce_add(vf a)
{
    __m256 half = vf_fold(a);
    __m128 m = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    m = _mm_add_ps(m, _mm_movehl_ps(m, m));
    m = _mm_add_ss(m, _mm_movehdup_ps(m));
    return _mm_cvtss_f32(m);
}

/* e^x to about 2 units in the last place; x is first clamped to [-87, 88], so that the result is
 * a normal number (NaN counts as -87). e^x = 2^n * e^r with |r| <= ln(2) / 2, e^r by its Taylor
 * polynomial of degree 7. */
static inline vf vf_exp(vf x)
{
    x = vf_min(vf_max(x, vf_set1(-87.0f)), vf_set1(88.0f));
    vf n = vf_round(vf_mul(x, vf_set1(1.44269504f)));
    vf r = vf_fma(n, vf_set1(-0.693359375f), x); /* ln 2 in two parts: the first is exact */
    r = vf_fma(n, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.0f / 5040);
    p = vf_fma(p, r, vf_set1(1.0f / 720));
    p = vf_fma(p, r, vf_set1(1.0f / 120));
    p = vf_fma(p, r, vf_set1(1.0f / 24));
    p = vf_fma(p, r, vf_set1(1.0f / 6));
    p = vf_fma(p, r, vf_set1(0.5f));
    p = vf_fma(p, r, vf_set1(1.0f));
    p = vf_fma(p, r, vf_set1(1.0f));
    return vf_scale2(p, n);
}

#endif
