/* Where the time of decode steps went, from the recorder's spans: per op and device, and how much
 * of it the devices worked at the same time. */
#ifndef MP_CORE_PROFILE_H
#define MP_CORE_PROFILE_H

#include "core/trace/trace.h"

#include <stddef.h>

/* Sums over all spans of one op on one kind of device. */
struct mp_profile_op {
    const char *name; /* static: the spans' op */
    enum mp_track_kind kind;
    int64_t calls;  /* spans, a span in two intervals counted in both */
    double seconds; /* sum of the spans */
    double flops;   /* sum of their estimates; of a cut span, in proportion */
    double bytes;
};

/* How the devices shared a time. */
struct mp_overlap {
    double seconds;              /* wall time */
    double busy[MP_TRACK_KINDS]; /* seconds in which at least one track of the kind had a span;
                                    HOST stays 0 */
    double both;                 /* seconds in which CPU and GPU had */
    double idle;                 /* seconds in which neither had: hand-over */
};

struct mp_profile {
    struct mp_profile_op *ops; /* [num_ops], in order of first appearance */
    size_t num_ops;
    double seconds;               /* wall time of all intervals */
    struct mp_overlap *intervals; /* [num_intervals], in order of addition */
    size_t num_intervals;
};

/* Adds the interval [begin_ns, end_ns) of mp_clock_ns and this process's spans in it, cut to it.
 * *p is zeroed before the first. Only while nobody records. Spans on a track of a device do not
 * overlap. */
void mp_profile_add(struct mp_profile *p, uint64_t begin_ns, uint64_t end_ns);

/* Counts the work of one call that has not run, and takes no time. op: static. */
void mp_profile_count(struct mp_profile *p, const char *op, enum mp_track_kind kind, double flops,
                      double bytes);

/* The interval of median length (of an even number the shorter of the two); all 0 if there is none.
 * Now and then a system takes the cores away in the middle of a step: a mean would show that as
 * hand-over. */
struct mp_overlap mp_profile_typical(const struct mp_profile *p);

void mp_profile_free(struct mp_profile *p);

#endif
