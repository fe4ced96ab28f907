/* How the ranks' clocks compare: on several machines they have nothing in common. */
#include "core/base/memory.h"
#include "core/ranks/thread.h"

#include <math.h>

/* Messages there and back. The one that takes the least time tells the most. */
enum { PINGS = 32 };

/* Of rank 0. Nothing can end the run before it has told all others how late it is. */
static void tell_time(struct mp_ranks *r, int rank)
{
    for (int i = 0; i < PINGS; i++) {
        mp_ranks_pass(r, &(struct mp_message){NULL, 0, rank, CLOCK, false}, 1, NULL);
        uint64_t now = mp_clock_ns();
        mp_ranks_pass(r, &(struct mp_message){&now, sizeof now, rank, CLOCK, true}, 1, NULL);
    }
}

/* Of another rank: halfway between asking and the answer it was as late as that says. */
static struct mp_clock_offset ask_time(struct mp_ranks *r)
{
    struct mp_clock_offset best = {.round_trip_ns = INT64_MAX};
    for (int i = 0; i < PINGS; i++) {
        uint64_t there;
        const struct mp_message messages[] = {
            {NULL, 0, 0, CLOCK, true},
            {&there, sizeof there, 0, CLOCK, false},
        };
        uint64_t begin = mp_clock_ns();
        mp_ranks_pass(r, messages, 2, NULL);
        int64_t took = (int64_t)(mp_clock_ns() - begin);
        if (took < best.round_trip_ns) {
            best = (struct mp_clock_offset){(int64_t)(there - begin) - took / 2, took};
        }
    }
    return best;
}

void mp_ranks_set_clocks(struct mp_ranks *r)
{
    struct mp_clock_offset own = {0};
    for (int i = 1; i < r->count && r->rank == 0; i++) {
        tell_time(r, i);
    }
    if (r->rank > 0) {
        own = ask_time(r);
    }
    r->clocks = mp_xcalloc((size_t)r->count, sizeof *r->clocks);
    mp_ranks_gather(r, &own, sizeof own, r->clocks, NULL);
}

struct mp_clock_offset mp_ranks_clock(const struct mp_ranks *r, int rank)
{
    return r->clocks[rank];
}

double mp_ranks_round_trip(const struct mp_ranks *r)
{
    double longest = r == NULL ? NAN : 0.0;
    for (int i = 1; i < mp_ranks_count(r); i++) {
        longest = fmax(longest, 1e-9 * (double)r->clocks[i].round_trip_ns);
    }
    return longest;
}
