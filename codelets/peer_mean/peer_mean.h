/* peer_mean: what several devices have each added their part to -> its sum over them, shared out
 * evenly again: to = scale * (from[0] + from[1] + ..). */
#ifndef MP_CODELETS_PEER_MEAN_H
#define MP_CODELETS_PEER_MEAN_H

#include "core/base/shape.h"
#include "core/machine/device.h"

struct mp_buffer;
struct mp_submit;

struct peer_mean_args {
    const float *from[MP_MAX_GPUS]; /* [num_from] of [count] */
    int num_from;
    float *to; /* out [count], none of these */
    float scale;
    int64_t count;
};

/* What every variant of the op is. */
typedef void peer_mean_kernel(const struct peer_mean_args *);

void peer_mean_ref(const struct peer_mean_args *a);
/* On the GPU: reads the memory of the others, to which it has access. */
void peer_mean_cuda(const struct peer_mean_args *a);

/* On some rows of arrays [..][width] f32: from [num_from], on devices of the kind of *sub's, to
 * `to`, on that one. */
void peer_mean_insert(struct mp_submit *sub, const struct mp_buffer *const *from, int num_from,
                      const struct mp_buffer *to, struct mp_rows rows, int width, float scale);

#endif
