/* Choice of the next token from its logits. */
#ifndef MP_CORE_SAMPLING_H
#define MP_CORE_SAMPLING_H

#include "core/base/rng.h"

#include <stdint.h>

struct mp_sampling {
    float temperature; /* 0: greedy */
    float top_p;       /* (0, 1]; 1: off */
    int top_k;         /* 0: off */
    uint64_t seed;     /* request i draws from stream i */
};

/* Greedy: the largest logit, lowest id on ties. Otherwise softmax(logits / temperature) restricted
 * to the top_k largest, then to the smallest set of largest ones whose mass reaches top_p.
 * NaN logits never win. Returns an id in [0, count). */
int32_t mp_sample(const struct mp_sampling *s, struct mp_rng *rng, const float *logits,
                  int32_t count);

#endif
