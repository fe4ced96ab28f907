/* score_ref for the instruction set this is compiled for: bf16 or int8 rows of a multiple of
 * VF_LANES elements, four of them at a time. */
#ifndef MP_CODELETS_COMMON_SCORE_SIMD_H
#define MP_CODELETS_COMMON_SCORE_SIMD_H

#include "codelets/common/score/score.h"
#include "codelets/common/simd.h"

#include <stdbool.h>

enum {
    SCORE_VECTORS = SCORE_LANES / VF_LANES, /* that hold the sums of a row */
    SCORE_ROWS = 4,
    SCORE_HEADS = VF_LANES == 16 ? 4 : 1, /* that share a row once loaded; registers bound it */
};

/* The sums of `heads` queries with SCORE_ROWS rows. */
typedef vf score_sums[SCORE_HEADS][SCORE_ROWS][SCORE_VECTORS];

/* Adds the products of the channels from c on, `vectors` vectors of them. */
static inline __attribute__((always_inline)) void
score_add(score_sums sums, const void *const row[SCORE_ROWS], const bool int8, const float *q,
          int width, const int heads, int c, const int vectors)
{
    for (int v = 0; v < vectors; v++, c += VF_LANES) {
        vf k[SCORE_ROWS];
        for (int i = 0; i < SCORE_ROWS; i++) {
            k[i] = int8 ? vf_load_i8((const int8_t *)row[i] + c)
                        : vf_load_bf16((const uint16_t *)row[i] + c);
        }
        for (int g = 0; g < heads; g++) {
            vf qc = vf_load(q + g * width + c);
            for (int i = 0; i < SCORE_ROWS; i++) {
                sums[g][i][v] = vf_fma(qc, k[i], sums[g][i][v]);
            }
        }
    }
}

/* Of the sums of one row: those of lanes i, i + 4, i + 8 and i + 12 added, for i = 0 .. 3. */
static inline __m128 score_fold(const vf sums[SCORE_VECTORS])
{
    __m256 half = SCORE_VECTORS == 1
                      ? vf_fold(sums[0])
                      : _mm256_add_ps(vf_fold(sums[0]), vf_fold(sums[SCORE_VECTORS - 1]));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
}

/* The scores of `heads` queries from q on with the rows from `first` on, of which the last stands
 * in for those beyond the end. scores: of the first head. */
static inline __attribute__((always_inline)) void score_tile(const struct score_args *a,
                                                             int64_t first, const bool int8,
                                                             const float *q, const int heads,
                                                             float *scores)
{
    const void *row[SCORE_ROWS];
    float by[SCORE_ROWS]; /* scales of int8 rows */
    score_sums sums;
    for (int i = 0; i < SCORE_ROWS; i++) {
        int64_t at = first + i < a->count ? first + i : a->count - 1;
        row[i] = (const char *)a->rows + at * a->pitch * (int)(int8 ? 1 : sizeof(uint16_t));
        by[i] = int8 ? a->row_scales[at].k : 1.0f;
        for (int g = 0; g < heads; g++) {
            for (int v = 0; v < SCORE_VECTORS; v++) {
                sums[g][i][v] = vf_zero();
            }
        }
    }
    int c = 0;
    for (; c + SCORE_LANES <= a->width; c += SCORE_LANES) {
        score_add(sums, row, int8, q, a->width, heads, c, SCORE_VECTORS);
    }
    if (c < a->width) {
        score_add(sums, row, int8, q, a->width, heads, c, 1);
    }
    for (int g = 0; g < heads; g++) {
        __m128 x0 = score_fold(sums[g][0]);
        __m128 x1 = score_fold(sums[g][1]);
        __m128 x2 = score_fold(sums[g][2]);
        __m128 x3 = score_fold(sums[g][3]);
        _MM_TRANSPOSE4_PS(x0, x1, x2, x3);
        __m128 dots = _mm_add_ps(_mm_add_ps(x0, x2), _mm_add_ps(x1, x3));
        dots = int8 ? _mm_mul_ps(_mm_loadu_ps(by), dots) : dots;
        _mm_storeu_ps(scores + g * a->stride + first, _mm_mul_ps(_mm_set1_ps(a->scale), dots));
    }
}

static inline __attribute__((always_inline)) void score_tiles(const struct score_args *a,
                                                              const bool int8)
{
    for (int64_t first = 0; first < a->count; first += SCORE_ROWS) {
        int g = 0;
        for (; SCORE_HEADS > 1 && g + SCORE_HEADS <= a->heads; g += SCORE_HEADS) {
            score_tile(a, first, int8, a->q + g * a->width, SCORE_HEADS, a->scores + g * a->stride);
        }
        for (; g < a->heads; g++) {
            score_tile(a, first, int8, a->q + g * a->width, 1, a->scores + g * a->stride);
        }
    }
}

/* As score_ref, but it may write the scores of up to SCORE_ROWS - 1 rows beyond the last: stride is
 * score_stride(count) at least. */
static inline void score_simd(const struct score_args *a)
{
    if (a->dtype == MP_I8) {
        score_tiles(a, true);
    } else {
        score_tiles(a, false);
    }
}

#endif
