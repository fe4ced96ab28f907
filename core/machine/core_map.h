/* Which core does what: the teams of the CPU workers, the threads around a GPU. */
#ifndef MP_CORE_CORE_MAP_H
#define MP_CORE_CORE_MAP_H

#include "core/base/error.h"
#include "core/machine/topology.h"

#include <stdbool.h>

/* What cores are wanted for. */
struct mp_core_request {
    int workers;  /* teams; 0: one per NUMA node */
    int threads;  /* of all teams together; 0: every core that is not set aside, or as many as a CPU
                     quota of the control group covers */
    bool gpu;     /* the thread that drives a GPU polls and never sleeps, and the one that submits
                     its tasks must not wait for a core: set aside two of 8 cores or more, one of
                     3 to 7, none of fewer; with `threads` given, up to two that it leaves */
    int gpu_node; /* take them from this node; -1: the last ones there are */
};

/* Who runs where; no core is in two places, but for the two that may share the last. */
struct mp_core_map {
    struct mp_team *teams; /* [num_teams] */
    int num_teams;
    int gpu_core;    /* of the thread that drives the GPU; -1: none is set aside */
    int submit_core; /* of the thread that submits tasks, maybe gpu_core too; -1: none */
};

/* Sets cores aside and splits the others into teams: consecutive cores of one node together, sizes
 * as even as can be. Errors (MP_ERR_USAGE): more workers than threads, more threads than cores
 * (message gives both numbers). Free with mp_core_map_free. */
int mp_core_map_plan(const struct mp_topology *t, const struct mp_core_request *request,
                     struct mp_core_map *out, struct mp_error *err);
void mp_core_map_free(struct mp_core_map *map);

/* One line for people, with hwloc's numbers of the cores this process may use: "cpu worker 0: cores
 * 0-13; GPU driver: core 14; submitting thread: core 15". If threads are not bound to what the map
 * says, the sizes of the teams alone. The caller's: free. */
char *mp_core_map_describe(const struct mp_core_map *map, bool bound);

#endif
