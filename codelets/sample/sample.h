/* sample: logits -> next token id, one row per request. */
#ifndef MP_CODELETS_SAMPLE_H
#define MP_CODELETS_SAMPLE_H

#include "core/base/sampling.h"

#include <stdint.h>

/* How the token of a request is drawn, and the request's generator. */
struct sample_row {
    const struct mp_sampling *sampling;
    struct mp_rng *rng;
};

struct sample_args {
    const float *logits;          /* [rows][vocab_size] */
    const struct sample_row *row; /* [rows] */
    int32_t *ids;                 /* out [rows] */
    int64_t rows;
    int vocab_size;
};

/* What every variant of the op is. */
typedef void sample_kernel(const struct sample_args *);

void sample_ref(const struct sample_args *a);

/* Task. Buffers: 0 logits R, 1 ids W. */
struct sample_task {
    int64_t rows;
    int vocab_size;
    struct sample_row row[]; /* [rows] */
};

extern struct starpu_codelet sample_codelet;

#endif
