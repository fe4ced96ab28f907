/* GPU memory that kernels need for themselves. */
#ifndef MP_TASKS_WORKSPACE_H
#define MP_TASKS_WORKSPACE_H

#include "core/base/shape.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most that one task of a run may have to work with. */
struct mp_workspace_run {
    const struct mp_shape *shape;
    int64_t prefill_rows; /* tokens of a chunk */
    int64_t decode_rows;  /* requests */
    int K;                /* bits per code; 0: nothing is hashed */
    int L;                /* tables */
    bool shared;          /* one projection for all heads */
};

/* Bytes that serve every op of the run, one at a time; 0 in a program without CUDA. */
size_t mp_workspace_bytes(const struct mp_workspace_run *run);

#endif
