#include "codelets/sample/sample.h"

#include <math.h>

void sample_ref(const struct sample_args *a)
{
    /* The rows are independent of each other, their generators too. */
#pragma omp parallel for if (a->rows > 1) schedule(dynamic)
    for (int64_t r = 0; r < a->rows; r++) {
        const struct sample_row *row = &a->row[r];
        float *logits = a->logits + r * a->vocab_size;
        for (int64_t i = 0; i < row->num_barred; i++) {
            logits[row->barred[i]] = NAN;
        }
        a->ids[r] = mp_sample(row->sampling, row->rng, logits, a->vocab_size);
    }
}
