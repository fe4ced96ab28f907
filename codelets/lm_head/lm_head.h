/* lm_head: final RMSNorm and vocabulary projection. */
#ifndef MP_CODELETS_LM_HEAD_H
#define MP_CODELETS_LM_HEAD_H

#include "core/base/shape.h"

#include <stdint.h>

struct mp_buffer;
struct mp_submit;

struct lm_head_args {
    const struct mp_shape *shape;
    const float *norm; /* [hidden_size] final RMSNorm gain */
    const uint16_t *w; /* [vocab_size][hidden_size] bf16: the LM head or the tied embedding */
    const float *x;    /* [rows][hidden_size] */
    float *logits;     /* out [rows][vocab_size] */
    int64_t rows;
};

/* What every variant of the op is. */
typedef void lm_head_kernel(const struct lm_head_args *);

void lm_head_ref(const struct lm_head_args *a);
void lm_head_fast(const struct lm_head_args *a);
/* On the GPU; logits may lie in pinned host memory: each is written once. Needs no workspace. */
void lm_head_cuda(const struct lm_head_args *a);

/* Some rows of x [..][hidden_size] f32 -> logits [rows.count][vocab_size] f32; norm and w as in the
 * args. */
void lm_head_insert(struct mp_submit *sub, const struct mp_shape *shape,
                    const struct mp_buffer *norm, const struct mp_buffer *w,
                    const struct mp_buffer *x, struct mp_rows rows, const struct mp_buffer *logits);

#endif
