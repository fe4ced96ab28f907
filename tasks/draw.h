/* Tasks that are not of a model's graph: random weights, and the measurement of bandwidth. */
#ifndef MP_TASKS_DRAW_H
#define MP_TASKS_DRAW_H

#include "codelets/common/task/buffer.h"
#include "core/base/error.h"

struct random_task;

/* Fills the part of b that `what` (copied) describes; the rest keeps its contents. Runs on the GPU
 * if b is there, else on a CPU worker. */
int mp_submit_random(const struct mp_buffer *b, const struct random_task *what,
                     struct mp_error *err);

/* Reads data once, but for the bytes after its last multiple of 64, where it is: on the GPU, or on
 * a CPU worker. sum [1] u64 gets the sum of its 64-bit words. */
int mp_submit_memory_read(const struct mp_buffer *data, const struct mp_buffer *sum,
                          struct mp_error *err);

#endif
