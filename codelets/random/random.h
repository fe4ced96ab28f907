/* random: fills part of a buffer with uniform random numbers, for weights whose values do not
 * matter but whose sizes do. */
#ifndef MP_CODELETS_RANDOM_H
#define MP_CODELETS_RANDOM_H

#include "core/base/dtype.h"

#include <stdint.h>

struct mp_buffer;
struct mp_submit;

/* What the numbers of a part are: element i, counted from the first of the part, is
 * center + spread * u, with u uniform in [-1, 1) a function of (seed, first + i) alone.
 *
 * A plain fill sets pairs = 0 and leaves out what follows it. With pairs > 0 the elements belong to
 * the channels of attention heads, in turn: element i to channel (i / stride) % head_dim. Channels
 * c and c + head_dim / 2 make one pair of RoPE; those of pairs 0 .. pairs - 1, the ones that turn
 * fastest, spread by pair_spread, and all others by spread. */
struct random_numbers {
    uint64_t seed;
    int64_t first; /* counts on from here: the part is one of a larger fill */
    float center;
    float spread;
    int pairs;         /* 0 .. head_dim / 2 */
    float pair_spread; /* spread of the first `pairs` pairs */
    int head_dim;      /* channels a head, even */
    int64_t stride;    /* consecutive elements of one channel, e.g. the inputs of a weight's row */
};

struct random_args {
    void *out; /* dtype; only elements [offset, offset + count) are written */
    enum mp_dtype dtype;
    int64_t offset; /* first element of the part */
    int64_t count;  /* elements, may be 0 */
    struct random_numbers numbers;
};

/* What every variant of the op is. */
typedef void random_kernel(const struct random_args *);

/* One variant: drawing is done once, before anything is timed. */
void random_ref(const struct random_args *a);
/* On the GPU: the same numbers bit for bit. */
void random_cuda(const struct random_args *a);

/* A part of a buffer; the rest of it keeps its contents. */
struct random_part {
    enum mp_dtype dtype;
    int64_t offset; /* elements */
    int64_t count;
    struct random_numbers numbers;
};

/* Fills the part of `out` that *part (copied) describes, where the buffer is. */
void random_insert(struct mp_submit *sub, const struct mp_buffer *out,
                   const struct random_part *part);

#endif
