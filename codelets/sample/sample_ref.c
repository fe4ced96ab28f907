#include "codelets/sample/sample.h"

void sample_ref(const struct sample_args *a)
{
    for (int64_t r = 0; r < a->rows; r++) {
        const float *logits = a->logits + r * a->vocab_size;
        a->ids[r] = mp_sample(a->row[r].sampling, a->row[r].rng, logits, a->vocab_size);
    }
}
