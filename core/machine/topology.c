#include "core/machine/topology.h"

#include "core/base/memory.h"
#include "core/machine/control_group.h"

#include <errno.h>
#include <hwloc.h>
#include <omp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mp_topology {
    hwloc_topology_t hwloc;
    int core_depth; /* of physical cores, or of processing units where cores are unknown */
    int num_cores;
    int num_nodes; /* NUMA nodes that have any of them */
    int cpu_quota; /* CPUs' worth of time the control group grants, rounded up; 0: no quota */
};

/* An empty set; NULL with err filled. */
static hwloc_bitmap_t new_set(struct mp_error *err)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    if (set == NULL) {
        mp_fail(err, MP_ERR_MEMORY, "topology: out of memory for a set of processors or nodes");
    }
    return set;
}

static hwloc_obj_t core_at(const struct mp_topology *t, int core)
{
    return hwloc_get_obj_by_depth(t->hwloc, t->core_depth, (unsigned)core);
}

int mp_topology_node_of(const struct mp_topology *t, int core)
{
    return hwloc_bitmap_first(core_at(t, core)->nodeset);
}

static int count_cores_and_nodes(struct mp_topology *t, struct mp_error *err)
{
    t->core_depth = hwloc_get_type_or_below_depth(t->hwloc, HWLOC_OBJ_CORE);
    t->num_cores = (int)hwloc_get_nbobjs_by_depth(t->hwloc, t->core_depth);
    if (t->num_cores < 1) {
        return mp_fail(err, MP_ERR_RUNTIME, "topology: hwloc found no usable core");
    }
    for (int core = 0; core < t->num_cores; core++) {
        t->num_nodes +=
            core == 0 || mp_topology_node_of(t, core) != mp_topology_node_of(t, core - 1);
    }
    return MP_OK;
}

/* The affinity mask this process was started with. OpenMP may have bound the main thread to one
 * core since (OMP_PROC_BIND and the like); its places then still cover the whole mask. */
static void add_allowed_cpus(hwloc_bitmap_t set)
{
    cpu_set_t mask;
    if (sched_getaffinity(0, sizeof mask, &mask) == 0) {
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++) {
            if (CPU_ISSET(cpu, &mask)) {
                hwloc_bitmap_set(set, cpu);
            }
        }
    } else {
        hwloc_bitmap_fill(set); /* more CPUs than the mask holds: leave it to the cgroup */
    }
    for (int place = 0; place < omp_get_num_places(); place++) {
        int count = omp_get_place_num_procs(place);
        int *cpus = mp_xcalloc((size_t)count, sizeof *cpus);
        omp_get_place_proc_ids(place, cpus);
        for (int i = 0; i < count; i++) {
            hwloc_bitmap_set(set, (unsigned)cpus[i]);
        }
        free(cpus);
    }
}

static int restrict_to_allowed(struct mp_topology *t, struct mp_error *err)
{
    hwloc_bitmap_t allowed = new_set(err);
    if (allowed == NULL) {
        return MP_ERR_MEMORY;
    }
    add_allowed_cpus(allowed);
    int failed = hwloc_topology_restrict(t->hwloc, allowed, 0);
    hwloc_bitmap_free(allowed);
    return failed ? mp_fail(err, MP_ERR_RUNTIME,
                            "topology: hwloc cannot restrict it to the affinity mask: %s",
                            strerror(errno))
                  : MP_OK;
}

static int load_hwloc(struct mp_topology *t, const char *synthetic, struct mp_error *err)
{
    if (hwloc_topology_init(&t->hwloc) != 0) {
        t->hwloc = NULL;
        return mp_fail(err, MP_ERR_RUNTIME, "topology: hwloc cannot start: %s", strerror(errno));
    }
    if (synthetic != NULL && hwloc_topology_set_synthetic(t->hwloc, synthetic) != 0) {
        return mp_fail(err, MP_ERR_USAGE, "topology \"%s\": not in hwloc's synthetic notation",
                       synthetic);
    }
    /* GPUs, as Linux tells of them: hwloc's PCI component knows no more that matters, and leaks. */
    hwloc_topology_set_components(t->hwloc, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "pci");
    hwloc_topology_set_type_filter(t->hwloc, HWLOC_OBJ_PCI_DEVICE,
                                   HWLOC_TYPE_FILTER_KEEP_IMPORTANT);
    if (hwloc_topology_load(t->hwloc) != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "topology: hwloc cannot read it: %s", strerror(errno));
    }
    if (synthetic == NULL) {
        /* Threads beyond what a container is granted would spin while the others are throttled. */
        t->cpu_quota = mp_control_group_cpus("");
        int code = restrict_to_allowed(t, err);
        if (code != MP_OK) {
            return code;
        }
    }
    return count_cores_and_nodes(t, err);
}

static int load(struct mp_topology **out, const char *synthetic, struct mp_error *err)
{
    struct mp_topology *t = mp_xcalloc(1, sizeof *t);
    int code = load_hwloc(t, synthetic, err);
    if (code != MP_OK) {
        mp_topology_free(t);
        return code;
    }
    *out = t;
    return MP_OK;
}

int mp_topology_load(struct mp_topology **out, struct mp_error *err)
{
    return load(out, NULL, err);
}

int mp_topology_load_synthetic(const char *description, struct mp_topology **out,
                               struct mp_error *err)
{
    return load(out, description, err);
}

void mp_topology_free(struct mp_topology *t)
{
    if (t == NULL) {
        return;
    }
    if (t->hwloc != NULL) {
        hwloc_topology_destroy(t->hwloc);
    }
    free(t);
}

int mp_topology_cores(const struct mp_topology *t)
{
    return t->num_cores;
}

int mp_topology_cores_granted(const struct mp_topology *t)
{
    return t->cpu_quota > 0 && t->cpu_quota < t->num_cores ? t->cpu_quota : t->num_cores;
}

int mp_topology_numa_nodes(const struct mp_topology *t)
{
    return t->num_nodes;
}

void mp_topology_describe(const struct mp_topology *t, char *out, size_t size)
{
    snprintf(out, size, "%d NUMA node%s, %d core%s", t->num_nodes, t->num_nodes == 1 ? "" : "s",
             t->num_cores, t->num_cores == 1 ? "" : "s");
}

static bool is_gpu(const struct hwloc_obj *device)
{
    enum { DISPLAY_CONTROLLER = 0x03, NVIDIA = 0x10de };
    const struct hwloc_pcidev_attr_s *pci = &device->attr->pcidev;
    return pci->class_id >> 8 == DISPLAY_CONTROLLER && pci->vendor_id == NVIDIA;
}

int mp_topology_gpu_node(const struct mp_topology *t)
{
    hwloc_bitmap_t near = new_set(NULL);
    if (near == NULL) {
        return -1;
    }
    hwloc_obj_t device = NULL;
    while ((device = hwloc_get_next_pcidev(t->hwloc, device)) != NULL) {
        if (is_gpu(device)) {
            hwloc_bitmap_or(near, near, hwloc_get_non_io_ancestor_obj(t->hwloc, device)->cpuset);
        }
    }
    int node = -1;
    bool several = false;
    for (int core = 0; core < t->num_cores; core++) {
        if (hwloc_bitmap_intersects(core_at(t, core)->cpuset, near)) {
            int own = mp_topology_node_of(t, core);
            several |= node >= 0 && node != own;
            node = own;
        }
    }
    hwloc_bitmap_free(near);
    return several ? -1 : node;
}

/* ---- binding ---- */

/* Binds the calling thread to a core and returns the CPU it runs on then; -1 if refused. */
static int bind_thread(const struct mp_topology *t, int core)
{
    if (hwloc_set_cpubind(t->hwloc, core_at(t, core)->cpuset, HWLOC_CPUBIND_THREAD) != 0) {
        return -1;
    }
    return sched_getcpu();
}

static bool is_on(const struct mp_topology *t, int core, int cpu)
{
    return cpu >= 0 && hwloc_bitmap_isset(core_at(t, core)->cpuset, (unsigned)cpu);
}

/* cpus[i]: where thread i ran after it was bound. */
static int check_team(const struct mp_topology *t, const struct mp_team *team, const int *cpus,
                      struct mp_error *err)
{
    for (int i = 0; i < team->num_threads; i++) {
        if (!is_on(t, team->cores[i], cpus[i])) {
            return mp_fail(err, MP_ERR_RUNTIME, "thread %d of %d could not be bound to core %d", i,
                           team->num_threads, team->cores[i]);
        }
        for (int j = 0; j < i; j++) {
            if (team->cores[j] == team->cores[i]) {
                return mp_fail(err, MP_ERR_RUNTIME, "threads %d and %d share core %d", j, i,
                               team->cores[i]);
            }
        }
    }
    return MP_OK;
}

int mp_team_start(const struct mp_topology *t, const struct mp_team *team, bool bind,
                  struct mp_error *err)
{
    int *cpus = mp_xcalloc((size_t)team->num_threads, sizeof *cpus);
    int started = 0;
    omp_set_dynamic(0);
    omp_set_num_threads(team->num_threads);
#pragma omp parallel
    {
        int thread = omp_get_thread_num();
        if (bind) {
            cpus[thread] = bind_thread(t, team->cores[thread]);
        }
        if (thread == 0) {
            started = omp_get_num_threads();
        }
    }
    int code = MP_OK;
    if (started != team->num_threads) {
        code = mp_fail(err, MP_ERR_RUNTIME, "OpenMP started %d of %d threads (OMP_THREAD_LIMIT?)",
                       started, team->num_threads);
    } else if (bind) {
        code = check_team(t, team, cpus, err);
    }
    free(cpus);
    return code;
}

int mp_team_bind_memory(const struct mp_topology *t, const struct mp_team *team, void *p,
                        size_t bytes, struct mp_error *err)
{
    if (t->num_nodes == 1 || bytes == 0) {
        return MP_OK;
    }
    hwloc_bitmap_t nodes = new_set(err);
    if (nodes == NULL) {
        return MP_ERR_MEMORY;
    }
    for (int i = 0; i < team->num_threads; i++) {
        hwloc_bitmap_set(nodes, (unsigned)mp_topology_node_of(t, team->cores[i]));
    }
    bool several = hwloc_bitmap_weight(nodes) > 1;
    /* Not strict: a full node is no reason to fail. The allocator may hand out pages that it had
     * before, so they are moved. */
    int failed = hwloc_set_area_membind(t->hwloc, p, bytes, nodes,
                                        several ? HWLOC_MEMBIND_INTERLEAVE : HWLOC_MEMBIND_BIND,
                                        HWLOC_MEMBIND_BYNODESET | HWLOC_MEMBIND_MIGRATE);
    int code = MP_OK;
    if (failed) {
        int why = errno;
        char list[64];
        hwloc_bitmap_list_snprintf(list, sizeof list, nodes);
        code = mp_fail(err, MP_ERR_RUNTIME, "%zu bytes could not be bound to NUMA node%s %s: %s",
                       bytes, several ? "s" : "", list, strerror(why));
    }
    hwloc_bitmap_free(nodes);
    return code;
}

struct mp_affinity {
    hwloc_bitmap_t cpus;
};

int mp_thread_bind(const struct mp_topology *t, int core, struct mp_affinity **before,
                   struct mp_error *err)
{
    if (before != NULL) {
        hwloc_bitmap_t cpus = new_set(err);
        if (cpus == NULL) {
            return MP_ERR_MEMORY;
        }
        *before = mp_xcalloc(1, sizeof **before);
        (*before)->cpus = cpus;
        if (hwloc_get_cpubind(t->hwloc, (*before)->cpus, HWLOC_CPUBIND_THREAD) != 0) {
            hwloc_bitmap_copy((*before)->cpus, hwloc_topology_get_topology_cpuset(t->hwloc));
        }
    }
    if (!is_on(t, core, bind_thread(t, core))) {
        return mp_fail(err, MP_ERR_RUNTIME, "a thread could not be bound to core %d", core);
    }
    return MP_OK;
}

void mp_thread_restore(const struct mp_topology *t, struct mp_affinity *before)
{
    hwloc_set_cpubind(t->hwloc, before->cpus, HWLOC_CPUBIND_THREAD);
    hwloc_bitmap_free(before->cpus);
    free(before);
}
