/* Which core does what: the teams of the CPU workers, the threads around a GPU. */
#ifndef MP_CORE_CORE_MAP_H
#define MP_CORE_CORE_MAP_H

#include "core/base/error.h"
#include "core/machine/device.h"
#include "core/machine/topology.h"

#include <stdbool.h>

/* What cores are wanted for. */
struct mp_core_request {
    int workers;  /* teams; 0: one per NUMA node */
    int threads;  /* of all teams together; 0: every core that is not set aside, or as many as a CPU
                     quota of the control group covers */
    int gpus;     /* the thread that drives a GPU polls and never sleeps, and the one that submits
                     tasks to them must not wait for a core: set aside one for each, but no more
                     than a quarter of the cores, or one of 3 to 7; with `threads` given, up to as
                     many that it leaves */
    int gpu_node; /* take them from this node; -1: the last ones there are */
};

/* Who runs where; no core is in two places, but for those that may share one that is set aside. */
struct mp_core_map {
    struct mp_team *teams; /* [num_teams] */
    int num_teams;
    int num_gpus;
    int aside[MP_MAX_GPUS + 1]; /* [num_aside] of the threads that drive GPUs, then of the one that
                                   submits tasks, which share them where they are too few */
    int num_aside;
};

/* Those of the threads; -1: none is set aside. */
static inline int mp_gpu_core(const struct mp_core_map *map, int gpu)
{
    return map->num_aside > 0 ? map->aside[gpu % map->num_aside] : -1;
}

static inline int mp_submit_core(const struct mp_core_map *map)
{
    return map->num_aside > 0 ? map->aside[map->num_aside - 1] : -1;
}

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
