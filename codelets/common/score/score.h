/* Scores by which tokens or pages are selected: the dot product of a query with each row of an
 * array, and the rows that have the largest ones.
 *
 * Every variant adds in one order and rounds each step as IEEE 754 says, so that all of them get
 * the same bits and select the same rows, however close two scores are: the product of channel c is
 * added to sum c % SCORE_LANES by a fused multiply-add, channel after channel; then sum i + 8 is
 * added to sum i, then i + 4, i + 2 and i + 1; then the result is multiplied, of an int8 row, by
 * the row's own scale, and by the scale of all. */
#ifndef MP_CODELETS_COMMON_SCORE_H
#define MP_CODELETS_COMMON_SCORE_H

#include "codelets/common/attention/kv.h"

#include <stddef.h>
#include <stdint.h>

enum { SCORE_LANES = 16 };

/* Floats between the scores of two query heads over `rows` rows: whole vectors, so that kernels
 * need no remainder. */
static inline int64_t score_stride(int64_t rows)
{
    return (rows + SCORE_LANES - 1) / SCORE_LANES * SCORE_LANES;
}

/* Rows of one KV head, and the queries that read them. */
struct score_args {
    const void *rows; /* [count] of `width` elements, `pitch` elements apart */
    enum mp_dtype dtype;
    const struct kv_scale *row_scales; /* [count] of keys of MP_I8; otherwise not looked at */
    int64_t count;
    int width;      /* elements of a row */
    int64_t pitch;  /* from a row to the next, >= width */
    const float *q; /* [heads][width] */
    int heads;
    float scale;
    float *scores;  /* out [heads][stride]; what is beyond count stays as it is */
    int64_t stride; /* >= count */
};

/* The reference; the fast variants are in score_simd.h and score_cuda.cuh. */
void score_ref(const struct score_args *a);

/* A number that orders scores as they are: the larger the score, the larger. -0 counts as 0. */
static inline uint32_t score_order(float score)
{
    union {
        float f;
        uint32_t bits;
    } u = {score + 0.0f};
    return u.bits >> 31 != 0 ? ~u.bits : u.bits | UINT32_C(0x80000000);
}

/* The rows with the `selected` largest of `count` scores, ascending, into rows[0 .. selected).
 * Among equal scores the lower row goes first. 0 <= selected <= count. */
void score_select(const float *scores, int64_t count, int64_t selected, uint32_t *rows);

/* The same by sorting all of them: the reference. Takes scratch. */
void score_select_ref(const float *scores, int64_t count, int64_t selected, uint32_t *rows);

#endif
