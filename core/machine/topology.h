/* The machine as hwloc sees it, and teams of OpenMP threads bound to its cores. */
#ifndef MP_CORE_TOPOLOGY_H
#define MP_CORE_TOPOLOGY_H

#include "core/base/error.h"

#include <stdbool.h>
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

/* As many of the cores as a CPU quota of the control group covers; all where there is none. */
int mp_topology_cores_granted(const struct mp_topology *t);

/* Node of a core, as the operating system numbers them; the first one where it has several kinds of
 * memory. */
int mp_topology_node_of(const struct mp_topology *t, int core);

/* One line for the log, e.g. "1 NUMA node, 2 cores". */
void mp_topology_describe(const struct mp_topology *t, char *out, size_t size);

/* Node, as the operating system numbers them, that the NVIDIA GPUs are attached to; -1 if they are
 * attached to several, or if hwloc sees none near the cores this process may use. */
int mp_topology_gpu_node(const struct mp_topology *t);

/* A team: cores that belong to one fat worker. */
struct mp_team {
    int num_threads; /* >= 1 */
    int *cores;      /* [num_threads] index of each thread's core in the topology */
};

/* Called on the worker's own thread: makes the team's size the thread's default and creates its
 * OpenMP team. With `bind`, thread i is bound to cores[i], this one to the first, and where every
 * thread really runs is checked. MP_ERR_RUNTIME if a thread did not start, could not be bound, or
 * shares a core with another.
 * Kernels then open parallel regions of the default size (or of one thread), never num_threads(n):
 * libgomp ends the threads that a smaller team leaves out, and those that replace them later would
 * all start on the first core. */
int mp_team_start(const struct mp_topology *t, const struct mp_team *team, bool bind,
                  struct mp_error *err);

/* Asks the system to keep [p, p + bytes), which starts on a page, in the memory next to the team's
 * cores: shared out evenly if they are on several NUMA nodes, and elsewhere where that memory is
 * full. Pages that have been touched move there. Nothing is done on a machine of one node.
 * MP_ERR_RUNTIME if the system refuses. */
int mp_team_bind_memory(const struct mp_topology *t, const struct mp_team *team, void *p,
                        size_t bytes, struct mp_error *err);

/* Where a thread may run. */
struct mp_affinity; /* opaque */

/* Binds the calling thread to a core, which is checked; threads that it creates from then on
 * inherit that. *before, unless `before` is NULL, gets what it was bound to, also on failure:
 * restore it. */
int mp_thread_bind(const struct mp_topology *t, int core, struct mp_affinity **before,
                   struct mp_error *err);
/* Called on the same thread. Frees *before. */
void mp_thread_restore(const struct mp_topology *t, struct mp_affinity *before);

#endif
