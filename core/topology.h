/* The machine as hwloc sees it, and teams of OpenMP threads bound to its cores. */
#ifndef MP_CORE_TOPOLOGY_H
#define MP_CORE_TOPOLOGY_H

#include "core/error.h"

#include <stddef.h>

struct mp_topology; /* opaque */

/* Loads the topology, restricted to the cores this process may use (affinity mask, cgroup). */
int mp_topology_load(struct mp_topology **out, struct mp_error *err);
/* A machine that is only imagined, in hwloc's synthetic notation: "numa:2 core:4 pu:2" has two NUMA
 * nodes of four cores with two hyper-threads each. For planning; nothing can be bound to it. */
int mp_topology_load_synthetic(const char *description, struct mp_topology **out,
                               struct mp_error *err);
void mp_topology_free(struct mp_topology *t);

/* Usable cores (one per physical core; hyper-threads are not counted), and NUMA nodes with any. */
int mp_topology_cores(const struct mp_topology *t);
int mp_topology_numa_nodes(const struct mp_topology *t);

/* One line for the log, e.g. "1 NUMA node, 2 cores". */
void mp_topology_describe(const struct mp_topology *t, char *out, size_t size);

/* A team: cores that belong to one fat worker. */
struct mp_team {
    int num_threads; /* >= 1 */
    int *cores;      /* [num_threads] index of each thread's core in the topology */
    int numa_node;   /* node of its first core, as the operating system numbers them */
};

/* Splits `threads` cores (0: all, or as many as a CPU quota of the control group covers) into
 * `workers` teams (0: one per NUMA node), consecutive cores of one node together, sizes as even as
 * can be. Errors: more workers than threads, more threads than cores (message gives both numbers).
 * Free with mp_teams_free. */
int mp_teams_plan(const struct mp_topology *t, int workers, int threads, struct mp_team **teams,
                  int *num_teams, struct mp_error *err);
void mp_teams_free(struct mp_team *teams, int num_teams);

/* Called on the worker's own thread: binds it to the team's first core, creates its OpenMP team
 * with thread i bound to cores[i], makes that size the thread's default, and checks where every
 * thread really runs. MP_ERR_RUNTIME if a thread could not be bound or two threads share a core.
 * Kernels then open parallel regions of the default size (or of one thread), never num_threads(n):
 * libgomp ends the threads that a smaller team leaves out, and those that replace them later would
 * all start on the first core. */
int mp_team_bind_current(const struct mp_topology *t, const struct mp_team *team,
                         struct mp_error *err);

#endif
