/* embed: token ids -> residual stream. */
#ifndef MP_CODELETS_EMBED_H
#define MP_CODELETS_EMBED_H

#include "core/base/shape.h"

#include <stdint.h>

struct mp_buffer;
struct mp_submit;

struct embed_args {
    const int32_t *ids;    /* [rows], each in [0, vocab) */
    const uint16_t *table; /* [vocab][hidden_size], bf16 */
    float *x;              /* out [rows][hidden_size] */
    int64_t rows;
    int hidden_size;
};

/* What every variant of the op is. */
typedef void embed_kernel(const struct embed_args *);

/* x[r] = table[ids[r]], widened to float32. One variant: a copy. */
void embed_ref(const struct embed_args *a);
/* On the GPU. */
void embed_cuda(const struct embed_args *a);

/* ids [rows] int32 -> x [rows][hidden_size] f32; table as in the args. */
void embed_insert(struct mp_submit *sub, const struct mp_shape *shape, const struct mp_buffer *ids,
                  const struct mp_buffer *table, const struct mp_buffer *x, int64_t rows);

#endif
