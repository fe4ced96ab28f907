#include "codelets/common/score/score.h"
#include "codelets/common/scratch.h"

#include <math.h>
#include <stdlib.h>

/* The dot product of q with a row. */
static float score_row(const struct score_args *a, size_t row, const float *q)
{
    const size_t first = row * (size_t)a->pitch;
    float sums[SCORE_LANES] = {0.0f};
    for (int c = 0; c < a->width; c++) {
        float *sum = &sums[c % SCORE_LANES];
        *sum = fmaf(q[c], mp_load(a->rows, a->dtype, first + (size_t)c), *sum);
    }
    for (int half = SCORE_LANES / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            sums[i] += sums[i + half];
        }
    }
    return a->dtype == MP_I8 ? a->row_scales[row].k * sums[0] : sums[0];
}

void score_ref(const struct score_args *a)
{
    for (int g = 0; g < a->heads; g++) {
        for (int64_t i = 0; i < a->count; i++) {
            a->scores[g * a->stride + i] = a->scale * score_row(a, (size_t)i, a->q + g * a->width);
        }
    }
}

struct scored_row {
    float score;
    uint32_t row;
};

/* The larger score first, and of equal ones the lower row. */
static int compare_scores(const void *a, const void *b)
{
    const struct scored_row *x = a;
    const struct scored_row *y = b;
    if (x->score != y->score) {
        return x->score > y->score ? -1 : 1;
    }
    return x->row < y->row ? -1 : 1;
}

static int compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return x < y ? -1 : x > y;
}

void score_select_ref(const float *scores, int64_t count, int64_t selected, uint32_t *rows)
{
    struct scored_row *sorted = mp_scratch((size_t)count, sizeof *sorted);
    for (int64_t i = 0; i < count; i++) {
        sorted[i] = (struct scored_row){scores[i], (uint32_t)i};
    }
    qsort(sorted, (size_t)count, sizeof *sorted, compare_scores);
    for (int64_t i = 0; i < selected; i++) {
        rows[i] = sorted[i].row;
    }
    qsort(rows, (size_t)selected, sizeof *rows, compare_rows);
}
