/* GPU memory that kernels need for themselves. */
#ifndef MP_TASKS_WORKSPACE_H
#define MP_TASKS_WORKSPACE_H

#include "tasks/methods/method.h"

/* Bytes that serve every op of a run, one at a time; 0 in a program without CUDA.
 * prefill_rows: tokens of a chunk; decode_rows: requests of a step; selects: there are layers for
 * the method to select in. */
size_t mp_workspace_bytes(const struct mp_attention *a, int64_t prefill_rows, int64_t decode_rows,
                          bool selects);

#endif
