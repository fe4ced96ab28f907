/* sample: logits -> next token id, one row per request. */
#ifndef MP_CODELETS_SAMPLE_H
#define MP_CODELETS_SAMPLE_H

#include "core/base/sampling.h"
#include "core/base/shape.h"

#include <stdint.h>

struct mp_buffer;
struct mp_submit;

/* How one request's token is chosen. */
struct sample_row {
    const struct mp_sampling *sampling;
    struct mp_rng *rng;    /* the request's generator */
    const int32_t *barred; /* [num_barred] ids that are never chosen */
    int64_t num_barred;
};

struct sample_args {
    float *logits;                /* [rows][vocab_size]; those of barred ids become NaN */
    const struct sample_row *row; /* [rows] */
    int32_t *ids;                 /* out [rows] */
    int64_t rows;
    int vocab_size;
};

/* What every variant of the op is. */
typedef void sample_kernel(const struct sample_args *);

void sample_ref(const struct sample_args *a);

/* logits [rows][vocab_size] f32, as the kernel leaves them -> ids [rows] int32. *list [rows] is
 * copied, what it points to stays in place. Always on a CPU worker, whatever the context's device.
 */
void sample_insert(struct mp_submit *sub, const struct mp_shape *shape,
                   const struct mp_buffer *logits, const struct sample_row *list,
                   const struct mp_buffer *ids, int64_t rows);

#endif
