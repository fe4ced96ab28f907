/* sample: logits -> next token id, one row per request. */
#ifndef MP_CODELETS_SAMPLE_H
#define MP_CODELETS_SAMPLE_H

#include "core/base/sampling.h"

#include <stdint.h>

struct sample_args {
    const float *logits;                /* [rows][vocab_size] */
    const struct mp_sampling *sampling; /* the same for all rows */
    struct mp_rng *const *rng;          /* [rows] one generator per request */
    int32_t *ids;                       /* out [rows] */
    int64_t rows;
    int vocab_size;
};

/* What every variant of the op is. */
typedef void sample_kernel(const struct sample_args *);

void sample_ref(const struct sample_args *a);

/* Task. Buffers: 0 logits R, 1 ids W. */
struct sample_task {
    const struct mp_sampling *sampling;
    int64_t rows;
    int vocab_size;
    struct mp_rng *rng[]; /* [rows] */
};

extern struct starpu_codelet sample_codelet;

#endif
