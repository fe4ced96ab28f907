/* peer_copy: the residual stream, from one device's memory to another's. */
#ifndef MP_CODELETS_PEER_COPY_H
#define MP_CODELETS_PEER_COPY_H

#include <stdint.h>

struct mp_buffer;
struct mp_submit;

struct peer_copy_args {
    const float *from; /* [count] */
    float *to;         /* out [count] */
    int64_t count;
};

/* What every variant of the op is. */
typedef void peer_copy_kernel(const struct peer_copy_args *);

void peer_copy_ref(const struct peer_copy_args *a);
/* On the GPU; one of the two may be memory of another one, whether or not it can be reached
 * directly: the driver knows the way. */
void peer_copy_cuda(const struct peer_copy_args *a);

/* The first `count` floats of `from`, which is on the device of *sub, become those of `to`, which
 * is on another one of its kind. Whatever else `to` has held is gone. */
void peer_copy_insert(struct mp_submit *sub, const struct mp_buffer *from,
                      const struct mp_buffer *to, int64_t count);

#endif
