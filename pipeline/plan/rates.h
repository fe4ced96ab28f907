/* How fast a machine's ops are: what `bench decode --json` has measured there. */
#ifndef MP_PIPELINE_RATES_H
#define MP_PIPELINE_RATES_H

#include "core/base/error.h"
#include "core/config/config.h"
#include "core/trace/profile.h"

struct mp_json;

/* One op on one kind of device. */
struct mp_op_rate {
    const char *op;
    enum mp_track_kind kind;
    double seconds; /* its part of a median step, for .. */
    double bytes;   /* .. so much memory moved; 0: none */
    double flops;   /* .. so many floating-point operations; 0: none */
    double calls;   /* .. so many calls, > 0 */
};

struct mp_step_rates {
    struct mp_json *doc;    /* owns what follows as text */
    const char *machine;    /* where the first op was measured: workers .. */
    const char *kernels;    /* .. and kernels */
    struct mp_op_rate *ops; /* [num_ops] */
    size_t num_ops;
    double sampled; /* share of the offloaded tokens that was selected; NAN: all were attended to */
    double hand_over;  /* seconds without any op, for each task of a step; NAN: not measured */
    double round_trip; /* seconds of a message to another rank and its answer; likewise */
};

/* Reads results of `bench decode`, one or several: an op's rate, the share sampled and the
 * hand-over are of the first one with the batch and the attention of *config, the hand-over of one
 * process, the round trip of the first of several ranks. MP_ERR_IO, MP_ERR_FORMAT; MP_ERR_USAGE:
 * none has that batch and attention. */
int mp_rates_read(const char *path, const struct mp_config *config, struct mp_step_rates *out,
                  struct mp_error *err);
void mp_rates_free(struct mp_step_rates *r);

/* Seconds that the work of an op takes, as much longer than what was measured as it moves more
 * memory or does more operations, whichever is more: which of them bounds it is not known. NAN: it
 * was not measured. */
double mp_rates_seconds(const struct mp_step_rates *r, const struct mp_profile_op *work);

#endif
