/* exchange: arrays that ranks have computed parts of -> all of them on every rank. */
#ifndef MP_CODELETS_EXCHANGE_H
#define MP_CODELETS_EXCHANGE_H

#include "core/ranks/ranks.h"

struct mp_buffer;
struct mp_submit;

/* What every variant of the op is: mp_ranks_exchange. */
typedef void exchange_kernel(struct mp_ranks *ranks, const struct mp_message *messages, int count,
                             mp_ranks_done *done, void *arg);

/* The first bytes of a buffer in host memory, as long as all ranks know of it. */
struct exchange_part {
    const struct mp_buffer *buffer;
    size_t bytes;
    int rank; /* that has computed it: it goes from there to all others */
};

/* parts [count]: the same ones in the same order on all ranks. Two tasks with the same tag, in
 * [0, MP_RANKS_TAGS), are in the same order on all ranks. The task is on no worker while the
 * messages are under way. */
void exchange_insert(struct mp_submit *sub, struct mp_ranks *ranks,
                     const struct exchange_part *parts, int count, int tag);

#endif
