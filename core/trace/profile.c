#include "core/trace/profile.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* A span begins (by 1) or ends (by -1) on a track of this kind. */
struct edge {
    uint64_t ns;
    enum mp_track_kind kind;
    int by;
};

/* One interval while it is added to a profile. */
struct interval {
    struct mp_profile *profile;
    uint64_t begin_ns;
    uint64_t end_ns;
    struct edge *edges; /* [num_edges] */
    size_t num_edges;
    size_t room;
};

static struct mp_profile_op *find_op(struct mp_profile *p, const char *name,
                                     enum mp_track_kind kind)
{
    for (size_t i = 0; i < p->num_ops; i++) {
        if (p->ops[i].kind == kind && strcmp(p->ops[i].name, name) == 0) {
            return &p->ops[i];
        }
    }
    p->ops = mp_xrealloc(p->ops, p->num_ops + 1, sizeof *p->ops);
    p->ops[p->num_ops] = (struct mp_profile_op){.name = name, .kind = kind};
    return &p->ops[p->num_ops++];
}

static void add_edge(struct interval *in, uint64_t ns, enum mp_track_kind kind, int by)
{
    if (in->num_edges == in->room) {
        in->room = in->room == 0 ? 1024 : 2 * in->room;
        in->edges = mp_xrealloc(in->edges, in->room, sizeof *in->edges);
    }
    in->edges[in->num_edges++] = (struct edge){ns, kind, by};
}

/* The part of a span in the interval, with its share of the work. */
static void add_span(struct interval *in, enum mp_track_kind kind, const struct mp_span *s)
{
    uint64_t begin = s->begin_ns > in->begin_ns ? s->begin_ns : in->begin_ns;
    uint64_t end = s->end_ns < in->end_ns ? s->end_ns : in->end_ns;
    if (begin >= end) {
        return;
    }
    double share = (double)(end - begin) / (double)(s->end_ns - s->begin_ns);
    struct mp_profile_op *op = find_op(in->profile, s->info.op, kind);
    op->calls++;
    op->seconds += 1e-9 * (double)(end - begin);
    op->flops += share * (double)s->info.flops;
    op->bytes += share * (double)s->info.bytes;
    add_edge(in, begin, kind, 1);
    add_edge(in, end, kind, -1);
}

static void add_track(void *arg, const struct mp_track *track)
{
    struct interval *in = arg;
    if (track->kind == MP_TRACK_HOST || track->rank > 0) {
        return;
    }
    for (int64_t i = mp_track_first_span(track, in->begin_ns);
         i < track->count && track->spans[i].begin_ns < in->end_ns; i++) {
        add_span(in, track->kind, &track->spans[i]);
    }
}

static int compare_edges(const void *a, const void *b)
{
    const struct edge *x = a, *y = b;
    return (x->ns > y->ns) - (x->ns < y->ns);
}

/* Adds a time in which nothing began or ended. running: spans under way on each kind. */
static void add_stretch(struct mp_overlap *o, double seconds, const int64_t *running)
{
    bool cpu = running[MP_TRACK_CPU] > 0;
    bool gpu = running[MP_TRACK_GPU] > 0;
    o->seconds += seconds;
    o->busy[MP_TRACK_CPU] += cpu ? seconds : 0.0;
    o->busy[MP_TRACK_GPU] += gpu ? seconds : 0.0;
    o->both += cpu && gpu ? seconds : 0.0;
    o->idle += cpu || gpu ? 0.0 : seconds;
}

void mp_profile_add(struct mp_profile *p, uint64_t begin_ns, uint64_t end_ns)
{
    struct interval in = {.profile = p, .begin_ns = begin_ns, .end_ns = end_ns};
    mp_trace_each(add_track, &in);
    if (in.num_edges > 0) {
        qsort(in.edges, in.num_edges, sizeof *in.edges, compare_edges);
    }
    struct mp_overlap overlap = {0};
    int64_t running[MP_TRACK_KINDS] = {0};
    uint64_t now = begin_ns;
    for (size_t i = 0; i < in.num_edges; i++) {
        add_stretch(&overlap, 1e-9 * (double)(in.edges[i].ns - now), running);
        now = in.edges[i].ns;
        running[in.edges[i].kind] += in.edges[i].by;
    }
    add_stretch(&overlap, 1e-9 * (double)(end_ns - now), running);
    free(in.edges);

    p->seconds += overlap.seconds;
    p->intervals = mp_xrealloc(p->intervals, p->num_intervals + 1, sizeof *p->intervals);
    p->intervals[p->num_intervals++] = overlap;
}

void mp_profile_count(struct mp_profile *p, const char *op, enum mp_track_kind kind, double flops,
                      double bytes)
{
    struct mp_profile_op *of = find_op(p, op, kind);
    of->calls++;
    of->flops += flops;
    of->bytes += bytes;
}

static int compare_lengths(const void *a, const void *b)
{
    const struct mp_overlap *x = a, *y = b;
    return (x->seconds > y->seconds) - (x->seconds < y->seconds);
}

struct mp_overlap mp_profile_typical(const struct mp_profile *p)
{
    struct mp_overlap typical = {0};
    if (p->num_intervals > 0) {
        struct mp_overlap *sorted = mp_xcalloc(p->num_intervals, sizeof *sorted);
        memcpy(sorted, p->intervals, p->num_intervals * sizeof *sorted);
        qsort(sorted, p->num_intervals, sizeof *sorted, compare_lengths);
        typical = sorted[(p->num_intervals - 1) / 2];
        free(sorted);
    }
    return typical;
}

void mp_profile_free(struct mp_profile *p)
{
    free(p->ops);
    free(p->intervals);
    *p = (struct mp_profile){0};
}
