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
    float min_p;       /* [0, 1]: tokens less likely than this times the likeliest are left out */
};

/* Greedy: the largest logit, lowest id on ties. Otherwise softmax(logits / temperature) restricted
 * by min_p, to the top_k largest, then to the smallest set of largest ones whose mass reaches
 * top_p. NaN logits never win. Returns an id in [0, count). */
int32_t mp_sample(const struct mp_sampling *s, struct mp_rng *rng, const float *logits,
                  int32_t count);

/* Natural logarithms of probabilities, softmax(logits [count]): first that of token id, then those
 * of the `top` likeliest, lowest id on ties. ids and logprobs get [1 + top] values; top is at most
 * count. NaN logits have none: minus infinity. */
void mp_logprobs(const float *logits, int32_t count, int32_t id, int top, int32_t *ids,
                 float *logprobs);

#endif
