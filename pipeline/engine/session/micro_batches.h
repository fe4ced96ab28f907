/* How many micro-batches a decode step is split into: found by trying while decoding. More of them
 * overlap GPU and CPU better; fewer read the weights less often and start fewer tasks. */
#ifndef MP_PIPELINE_MICRO_BATCHES_H
#define MP_PIPELINE_MICRO_BATCHES_H

#include "core/config/config.h"
#include "pipeline/engine/hooks.h"

#include <stdbool.h>

/* Micro-batches that a session may use, unless the configuration sets their number: one, or where
 * it searches, because GPU and CPU work alternate in a layer, more. */
int mp_most_micro_batches(const struct mp_config *config, bool searches);

/* Rows that micro-batch m needs room for: those it has when m + 1 are in use, which is its most. */
static inline int mp_micro_batch_rows(int batch, int m)
{
    return (batch + m) / (m + 1);
}

struct mp_micro_batches {
    int most;            /* that can be used */
    int count;           /* in use */
    int best;            /* the best so far */
    int settled;         /* the best when these trials began */
    double best_seconds; /* of its step; 0: not measured for these rows */
    int rows;            /* of the steps measured */
    double
        tried[MP_MOST_MICRO_BATCHES + 1]; /* seconds of the shortest step by count; 0: not tried */
    double least;                         /* seconds of the shortest step of this trial */
    int steps;                            /* of this trial; or since the last */
    int direction;                        /* of the search: 1 more, -1 fewer, 0: between trials */
    int pause; /* steps between trials; doubles as long as they find nothing better */
};

/* Searches among 1 to most, or uses as many as the configuration sets. */
void mp_micro_batches_init(struct mp_micro_batches *m, const struct mp_config *config,
                           bool searches);

/* For a step of this many rows; at most one a row. */
int mp_micro_batches_count(struct mp_micro_batches *m, int rows);

/* That step has taken so long, with nothing beside it. */
void mp_micro_batches_took(struct mp_micro_batches *m, double seconds);

#endif
