/* Copies of a row's queries. Private to the variants of projection on the CPU. */
#ifndef MP_CODELETS_PROJECTION_COPY_H
#define MP_CODELETS_PROJECTION_COPY_H

#include "codelets/projection/projection.h"

#include <string.h>

/* q [num_attention_heads][head_dim] of a row -> its place in every copy. */
static inline void copy_queries(const struct projection_args *a, int64_t row, const float *q)
{
    size_t head_dim = (size_t)a->shape->head_dim;
    for (int i = 0; i < a->num_copies; i++) {
        const struct projection_copy *c = &a->copies[i];
        size_t floats = (size_t)c->num_heads * head_dim;
        memcpy(c->q + (size_t)row * floats, q + (size_t)c->first_head * head_dim,
               floats * sizeof *q);
    }
}

#endif
