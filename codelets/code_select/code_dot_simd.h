/* Products of queries and codes, for the instruction set this is compiled for. A lane of an
 * accumulator is a token; the four channels of a query that lie side by side in a code's word are
 * broadcast to all lanes. */
#ifndef MP_CODELETS_CODE_DOT_SIMD_H
#define MP_CODELETS_CODE_DOT_SIMD_H

#include "codelets/code_select/code_select.h"
#include "codelets/common/simd.h"

#define CODE_INLINE static inline __attribute__((always_inline))

#if defined(__AVX512F__)

typedef __m512i vi;

CODE_INLINE vi vi_zero(void)
{
    return _mm512_setzero_si512();
}

CODE_INLINE vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

CODE_INLINE void vi_store(void *p, vi x)
{
    _mm512_storeu_si512(p, x);
}

CODE_INLINE vi vi_set1(int32_t x)
{
    return _mm512_set1_epi32(x);
}

CODE_INLINE vi vi_add(vi a, vi b)
{
    return _mm512_add_epi32(a, b);
}

CODE_INLINE vi vi_sub(vi a, vi b)
{
    return _mm512_sub_epi32(a, b);
}

CODE_INLINE vi vi_max(vi a, vi b)
{
    return _mm512_max_epi32(a, b);
}

CODE_INLINE vi vi_and(vi a, vi b)
{
    return _mm512_and_si512(a, b);
}

CODE_INLINE vi vi_shift_right(vi a, int n)
{
    return _mm512_srli_epi32(a, (unsigned)n);
}

CODE_INLINE vf vi_to_float(vi a)
{
    return _mm512_cvtepi32_ps(a);
}

CODE_INLINE vi vf_truncate(vf a)
{
    return _mm512_cvttps_epi32(a);
}

/* Adds the lanes of b, numbers without sign, to sums of 64 bits. */
CODE_INLINE vi vi_add_wide(vi sums, vi b)
{
    vi even = _mm512_and_si512(b, _mm512_set1_epi64(0xffffffff));
    return _mm512_add_epi64(_mm512_add_epi64(sums, even), _mm512_srli_epi64(b, 32));
}

CODE_INLINE uint64_t vi_sum_wide(vi sums)
{
    return (uint64_t)_mm512_reduce_add_epi64(sums);
}

/* The lanes below 1, and 0 in the others, whose bits are set in *others. */
CODE_INLINE vf vf_below_one(vf a, uint32_t *others)
{
    __mmask16 mask = _mm512_cmp_ps_mask(a, _mm512_set1_ps(1.0f), _CMP_GE_OQ);
    *others = mask;
    return _mm512_maskz_mov_ps((__mmask16)~mask, a);
}

/* p[i * stride] for each lane i. */
CODE_INLINE vf vf_load_apart(const float *p, int stride)
{
    vi lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_i32gather_ps(_mm512_mullo_epi32(lanes, vi_set1(stride)), p, sizeof *p);
}

/* Words whose products one sum of vi_dot holds. */
CODE_INLINE int dot_words(int bits)
{
    (void)bits;
    return MP_MAX_HEAD_DIM;
}

/* Adds, lane by lane, the products of four levels and four channels. In assembly because the
 * compiler otherwise copies the sums from register to register. */
CODE_INLINE void vi_dot(vi *sum, vi levels, vi channels)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(levels), "v"(channels));
}

/* The sum in 32 bits. */
CODE_INLINE vi vi_dot_sum(vi sum)
{
    return sum;
}

#else

typedef __m256i vi;

CODE_INLINE vi vi_zero(void)
{
    return _mm256_setzero_si256();
}

CODE_INLINE vi vi_load(const void *p)
{
    return _mm256_loadu_si256(p);
}

CODE_INLINE void vi_store(void *p, vi x)
{
    _mm256_storeu_si256(p, x);
}

CODE_INLINE vi vi_set1(int32_t x)
{
    return _mm256_set1_epi32(x);
}

CODE_INLINE vi vi_add(vi a, vi b)
{
    return _mm256_add_epi32(a, b);
}

CODE_INLINE vi vi_sub(vi a, vi b)
{
    return _mm256_sub_epi32(a, b);
}

CODE_INLINE vi vi_max(vi a, vi b)
{
    return _mm256_max_epi32(a, b);
}

CODE_INLINE vi vi_and(vi a, vi b)
{
    return _mm256_and_si256(a, b);
}

CODE_INLINE vi vi_shift_right(vi a, int n)
{
    return _mm256_srli_epi32(a, n);
}

CODE_INLINE vf vi_to_float(vi a)
{
    return _mm256_cvtepi32_ps(a);
}

CODE_INLINE vi vf_truncate(vf a)
{
    return _mm256_cvttps_epi32(a);
}

CODE_INLINE vi vi_add_wide(vi sums, vi b)
{
    vi even = _mm256_and_si256(b, _mm256_set1_epi64x(0xffffffff));
    return _mm256_add_epi64(_mm256_add_epi64(sums, even), _mm256_srli_epi64(b, 32));
}

CODE_INLINE uint64_t vi_sum_wide(vi sums)
{
    uint64_t lanes[4];
    vi_store(lanes, sums);
    return lanes[0] + lanes[1] + lanes[2] + lanes[3];
}

CODE_INLINE vf vf_below_one(vf a, uint32_t *others)
{
    __m256 mask = _mm256_cmp_ps(a, _mm256_set1_ps(1.0f), _CMP_GE_OQ);
    *others = (uint32_t)_mm256_movemask_ps(mask);
    return _mm256_andnot_ps(mask, a);
}

CODE_INLINE vf vf_load_apart(const float *p, int stride)
{
    vi lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_i32gather_ps(p, _mm256_mullo_epi32(lanes, vi_set1(stride)), sizeof *p);
}

/* A sum of 16 bits holds two products at a time, each at most 127 times the highest level: 15 of
 * them for 4 bits, in 8 steps; 3 in 32 for 2 bits; 1 in 64 for 1 bit. */
CODE_INLINE int dot_words(int bits)
{
    return bits == 4 ? 4 : 8;
}

CODE_INLINE void vi_dot(vi *sum, vi levels, vi channels)
{
    *sum = _mm256_add_epi16(*sum, _mm256_maddubs_epi16(levels, channels));
}

CODE_INLINE vi vi_dot_sum(vi sum)
{
    return _mm256_madd_epi16(sum, _mm256_set1_epi16(1));
}

#endif

/* Tokens that are worked on at a time, in two vectors. */
enum { CODE_TILE = 2 * VF_LANES };

/* Sums over the channels of query * level, of a tile of tokens and some heads of a group. words: of
 * the first token, those of a token CODES_BLOCK apart. q: [num_words * 8 / bits][group] of four
 * channels each, from the first of the heads on. */
CODE_INLINE void code_dot(const uint32_t *words, int num_words, int bits, int heads,
                          const int32_t *q, int group, vi (*sums)[2])
{
    int slots = 8 / bits;
    vi mask = vi_set1(0x01010101 * ((1 << bits) - 1));
    for (int g = 0; g < heads; g++) {
        sums[g][0] = sums[g][1] = vi_zero();
    }
    for (int first = 0; first < num_words; first += dot_words(bits)) {
        int end = first + dot_words(bits) < num_words ? first + dot_words(bits) : num_words;
        vi dots[4][2];
        for (int g = 0; g < heads; g++) {
            dots[g][0] = dots[g][1] = vi_zero();
        }
        for (int m = first; m < end; m++) {
            vi a = vi_load(words + m * CODES_BLOCK);
            vi b = vi_load(words + m * CODES_BLOCK + VF_LANES);
            for (int s = 0; s < slots; s++) {
                vi level_a = vi_and(vi_shift_right(a, s * bits), mask);
                vi level_b = vi_and(vi_shift_right(b, s * bits), mask);
                for (int g = 0; g < heads; g++) {
                    vi channels = vi_set1(q[(m * slots + s) * group + g]);
                    vi_dot(&dots[g][0], level_a, channels);
                    vi_dot(&dots[g][1], level_b, channels);
                }
            }
        }
        for (int g = 0; g < heads; g++) {
            sums[g][0] = vi_add(sums[g][0], vi_dot_sum(dots[g][0]));
            sums[g][1] = vi_add(sums[g][1], vi_dot_sum(dots[g][1]));
        }
    }
}

#endif
