/* StarPU: start, workers with their own thread teams, stop. One runtime a process. */
#ifndef MP_TASKS_RUNTIME_H
#define MP_TASKS_RUNTIME_H

#include "core/base/error.h"
#include "core/machine/shard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_runtime; /* opaque */

struct mp_runtime_options {
    const char *scheduler; /* a StarPU policy name, e.g. "prio" */
    int cpu_workers;       /* fat CPU workers; 0: one per NUMA node */
    int threads;           /* OpenMP threads over all workers; 0: every core, but for those that a
                              GPU needs (core/machine/core_map.h) */
    bool bind;             /* bind threads to their cores; false: bind none */
    int gpus;              /* a worker on each of so many, the machine's first ones; 0: on none */
    size_t gpu_workspace;  /* bytes of each one's memory for its kernels */
    int64_t gpu_memory;    /* most bytes for data on each; 0: no limit of ours */
    const char *fxt_dir;   /* folder of StarPU's own trace (tasks/fxt.h); NULL: none */
    int fxt_steps;         /* decode steps in it */
};

/* What the machine's first GPUs are. */
struct mp_gpu {
    char name[256];     /* of the first */
    int64_t free_bytes; /* device memory that nobody uses now: on the one that has the least */
};

/* Whether there are so many GPUs, at least 1, that this program and its StarPU can use; *out may be
 * NULL. Works before the runtime is started. MP_ERR_UNSUPPORTED or MP_ERR_RUNTIME says why there
 * are not, or how many there are. */
int mp_runtime_find_gpus(int count, struct mp_gpu *out, struct mp_error *err);

/* Whether each of so many GPUs can read the others' memory. MP_ERR_UNSUPPORTED says which cannot.
 */
int mp_runtime_check_peers(int gpus, struct mp_error *err);

/* Name of StarPU's scheduling policy `index`, from 0; NULL past the last. Works before the runtime
 * is started. */
const char *mp_runtime_scheduler(int index);

/* Starts StarPU and binds each CPU worker's team to its own cores and the threads that drive GPUs
 * to those set aside for them, which is verified. Errors: an unknown policy (the message lists
 * the known ones), more workers or threads than there are cores or than this StarPU was built for,
 * a thread that does not run where it was bound, a GPU that does not start, a trace that StarPU
 * cannot write. */
int mp_runtime_start(const struct mp_runtime_options *options, struct mp_runtime **out,
                     struct mp_error *err);

/* Binds the calling thread, which is to submit tasks and to stop the runtime, to the core set aside
 * for it, if there is one, until then. Threads that it creates inherit that: it must have run its
 * OpenMP loops before. MP_ERR_RUNTIME if it does not run where it was bound. */
int mp_runtime_bind_submitter(struct mp_runtime *rt, struct mp_error *err);

/* Deals this rank's KV heads of layers in CPU memory out to the CPU workers. *rt stays in place. */
void mp_runtime_cut(const struct mp_runtime *rt, struct mp_kv_heads heads, struct mp_shards *out);

/* Waits for every task, then shuts StarPU down. All buffers must have been released. */
void mp_runtime_stop(struct mp_runtime *rt);

/* While no task is under way: the workers sleep instead of looking for tasks, until they are
 * resumed. Meanwhile nothing may be submitted or released. */
void mp_runtime_pause(void);
void mp_runtime_resume(void);

/* CPU workers, and threads of all of them together. */
int mp_runtime_cpu_workers(const struct mp_runtime *rt);
int mp_runtime_threads(const struct mp_runtime *rt);

/* Share of the time since the start for which the thread that waited longest was ready to run
 * without a core; 0 where the system does not say. */
double mp_runtime_waited(const struct mp_runtime *rt);

/* One line for people: "StarPU 1.3.10, prio, 1 CPU worker with 2 threads in all (1 NUMA node, 2
 * cores)". */
const char *mp_runtime_description(const struct mp_runtime *rt);

/* Another: which cores they run on, as mp_core_map_describe says it. */
const char *mp_runtime_map(const struct mp_runtime *rt);

#endif
