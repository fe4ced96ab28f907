#include "tasks/runtime.h"

#include "codelets/common/cuda/cuda.h"
#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"
#include "codelets/common/task/codelet.h"
#include "codelets/common/task/task.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/machine/core_map.h"
#include "core/machine/threads.h"
#include "core/machine/topology.h"
#include "core/machine/waiting.h"
#include "core/trace/trace.h"
#include "tasks/fxt.h"
#include "tasks/starpu_folder.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mp_runtime {
    struct mp_topology *topology;
    struct mp_core_map cores;
    char *map;                     /* cores, for people */
    bool bind;                     /* threads are bound to what the map says */
    bool started;                  /* starpu_init succeeded */
    int gpus;                      /* GPU workers */
    double since;                  /* mp_clock_seconds of the start */
    double waited;                 /* mp_waiting_seconds then */
    struct mp_affinity *submitter; /* where the submitting thread could run before it was bound;
                                      NULL: it was not */
    char description[768];
};

/* What every worker does once, on its own thread, before any task. */
struct worker_job {
    const struct mp_runtime *rt;
    size_t gpu_workspace; /* bytes */
    pthread_mutex_t lock;
    int code;            /* first failure */
    struct mp_error err; /* its message */
};

/* Keeps the first failure of any worker. */
static void report(struct worker_job *job, int code, const struct mp_error *err)
{
    pthread_mutex_lock(&job->lock);
    if (code != 0 && job->code == 0) {
        job->code = code;
        job->err = *err;
    }
    pthread_mutex_unlock(&job->lock);
}

static void start_cpu_worker(void *arg)
{
    struct worker_job *job = arg;
    int worker = starpu_worker_get_id();
    int index = starpu_worker_get_devid(worker);
    char name[32];
    snprintf(name, sizeof name, "cpu worker %d", index);
    mp_trace_name_thread(name, MP_TRACK_CPU);

    const struct mp_runtime *rt = job->rt;
    struct mp_error err;
    int code = index >= 0 && index < rt->cores.num_teams
                   ? mp_team_start(rt->topology, &rt->cores.teams[index], rt->bind, &err)
                   : mp_fail(&err, MP_ERR_RUNTIME,
                             "StarPU CPU worker %d has device id %d, expected 0 to %d", worker,
                             index, rt->cores.num_teams - 1);
    report(job, code, &err);
}

/* From 0. The devices that StarPU was left with may not be the machine's first ones. */
static int index_of_gpu_worker(int worker)
{
    int i = 0;
    while (starpu_worker_get_by_type(STARPU_CUDA_WORKER, i) != worker) {
        i++;
    }
    return i;
}

static void start_gpu_worker(void *arg)
{
    struct worker_job *job = arg;
    int device = starpu_worker_get_devid(starpu_worker_get_id());
    char name[32];
    snprintf(name, sizeof name, "gpu worker %d", device);
    mp_trace_name_thread(name, MP_TRACK_GPU);

    const struct mp_runtime *rt = job->rt;
    struct mp_error err;
    int code = cuda_context_create(device, job->gpu_workspace, &err);
    int core = mp_gpu_core(&rt->cores, index_of_gpu_worker(starpu_worker_get_id()));
    /* After that: threads which the driver may have created there stay off the core. */
    if (code == 0 && rt->bind && core >= 0 &&
        (code = mp_thread_bind(rt->topology, core, NULL, &err)) != 0) {
        mp_fail_prefix(&err, "%s", name);
    }
    report(job, code, &err);
}

static void stop_gpu_worker(void *arg)
{
    (void)arg;
    cuda_synchronize();
    mp_task_record_gpu_spans();
    cuda_context_destroy();
}

/* Every thread of the team has scratch of its own; oneDNN is only called by the first. */
static void release_worker_memory(void *arg)
{
    (void)arg;
#pragma omp parallel
    mp_scratch_release();
    linear_release();
}

const char *mp_runtime_scheduler(int index)
{
    const struct starpu_sched_policy *policy = starpu_sched_get_predefined_policies()[index];
    return policy == NULL ? NULL : policy->policy_name;
}

static int check_scheduler(const char *name, struct mp_error *err)
{
    char known[512] = "";
    size_t used = 0;
    const char *policy;
    for (int i = 0; (policy = mp_runtime_scheduler(i)) != NULL; i++) {
        if (strcmp(policy, name) == 0) {
            return 0;
        }
        int n = snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "", policy);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return mp_fail(err, MP_ERR_USAGE, "scheduler: found \"%s\", expected one of StarPU's: %s", name,
                   known);
}

int mp_runtime_find_gpus(int count, struct mp_gpu *out, struct mp_error *err)
{
    const int found = cuda_device_count();
    if (found == 0) {
        return mp_fail(
            err, MP_ERR_UNSUPPORTED,
            "no GPU: this program was built without CUDA, or there is no NVIDIA driver or "
            "device");
    }
    if (found < count) {
        return mp_fail(err, MP_ERR_UNSUPPORTED, "there %s %d that this program can use",
                       found == 1 ? "is" : "are", found);
    }
    struct mp_gpu gpus = {.free_bytes = INT64_MAX};
    int code = 0;
    for (int i = 0; i < count && code == 0; i++) {
        struct cuda_device_info info;
        code = cuda_device_probe(i, &info, err);
        if (code == 0 && i == 0) {
            snprintf(gpus.name, sizeof gpus.name, "%s", info.name);
        }
        if (code == 0 && info.free_bytes < gpus.free_bytes) {
            gpus.free_bytes = info.free_bytes;
        }
    }
    if (code == 0 && out != NULL) {
        *out = gpus;
    }
    return code;
}

int mp_runtime_check_peers(int gpus, struct mp_error *err)
{
    for (int i = 0; i < gpus; i++) {
        for (int j = 0; j < gpus; j++) {
            if (i != j && !cuda_device_reads(i, j)) {
                return mp_fail(err, MP_ERR_UNSUPPORTED,
                               "runtime.parallel: tensor needs GPUs that read each other's memory, "
                               "but GPU %d cannot read that of GPU %d",
                               i, j);
            }
        }
    }
    return 0;
}

/* StarPU takes the limit in MiB from its environment. */
static int limit_gpu_memory(int64_t bytes, struct mp_error *err)
{
    char mib[32];
    snprintf(mib, sizeof mib, "%lld", (long long)(bytes >> 20));
    if (bytes > 0 && setenv("STARPU_LIMIT_CUDA_MEM", mib, 1) != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "cannot set StarPU's environment variables");
    }
    return 0;
}

/* StarPU, OpenMP and CUDA end the program where they get no thread or no memory for it. */
static int check_threads(const struct mp_runtime *rt, int gpus, struct mp_error *err)
{
    enum { OF_CUDA = 4 };
    static const size_t OWN = (size_t)32 << 20; /* what StarPU takes at its start, and more */
    return mp_threads_check(mp_runtime_threads(rt) + gpus * (1 + OF_CUDA), OWN, err);
}

static int call_starpu_init(const struct mp_runtime_options *options, int workers,
                            struct mp_error *err)
{
    struct starpu_conf conf;
    starpu_conf_init(&conf);
    conf.precedence_over_environment_variables = 1;
    conf.sched_policy_name = options->scheduler;
    conf.ncpus = workers;
    conf.ncuda = options->gpus;
    conf.nopencl = 0;
    conf.catch_signals = 0;
    int lock = -1;
    int code = mp_starpu_folder_open(&lock, err);
    if (code != 0) {
        return code;
    }
    int rc = starpu_init(&conf);
    mp_starpu_folder_close(lock);
    if (rc != 0) {
        return mp_fail(err, MP_ERR_RUNTIME,
                       "starpu_init with %d CPU workers and scheduler %s failed: %s", workers,
                       options->scheduler, strerror(-rc));
    }
    return 0;
}

static int init_starpu(struct mp_runtime *rt, const struct mp_runtime_options *options,
                       struct mp_error *err)
{
    int code = limit_gpu_memory(options->gpu_memory, err);
    if (code != 0) {
        return code;
    }
    int workers = rt->cores.num_teams;
    if (workers > STARPU_MAXCPUS) {
        return mp_fail(err, MP_ERR_USAGE,
                       "cpu_workers: found %d, but this StarPU was built for at most %d", workers,
                       STARPU_MAXCPUS);
    }
    code = check_threads(rt, options->gpus, err);
    if (code != 0) {
        return code;
    }
    /* Workers are bound by us, with their whole team: StarPU would pin each to a single core. */
    if (setenv("STARPU_WORKERS_NOBIND", "1", 1) != 0 ||
        /* No chatter about calibration and no FxT trace, unless the user has set it otherwise. */
        setenv("STARPU_SILENT", "1", 0) != 0 || setenv("STARPU_FXT_TRACE", "0", 0) != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "cannot set StarPU's environment variables");
    }

    code = call_starpu_init(options, workers, err);
    if (code != 0) {
        return code;
    }
    rt->started = true;
    mp_fxt_pause();
    if ((int)starpu_cpu_worker_get_count() != workers) {
        return mp_fail(err, MP_ERR_RUNTIME, "StarPU started %u CPU workers, %d were asked for",
                       starpu_cpu_worker_get_count(), workers);
    }
    if ((int)starpu_cuda_worker_get_count() != options->gpus) {
        return mp_fail(err, MP_ERR_RUNTIME, "StarPU started %u GPU workers, %d were asked for",
                       starpu_cuda_worker_get_count(), options->gpus);
    }
    rt->gpus = options->gpus;
    return 0;
}

static int start_workers(struct mp_runtime *rt, size_t gpu_workspace, struct mp_error *err)
{
    struct worker_job job = {
        .rt = rt, .gpu_workspace = gpu_workspace, .lock = PTHREAD_MUTEX_INITIALIZER};
    starpu_execute_on_each_worker(start_cpu_worker, &job, STARPU_CPU);
    if (rt->gpus > 0) {
        starpu_execute_on_each_worker(start_gpu_worker, &job, STARPU_CUDA);
    }
    if (job.code != 0 && err != NULL) {
        *err = job.err;
    }
    return job.code;
}

int mp_runtime_cpu_workers(const struct mp_runtime *rt)
{
    return rt->cores.num_teams;
}

int mp_runtime_threads(const struct mp_runtime *rt)
{
    int threads = 0;
    for (int i = 0; i < rt->cores.num_teams; i++) {
        threads += rt->cores.teams[i].num_threads;
    }
    return threads;
}

static void describe(struct mp_runtime *rt, const char *scheduler)
{
    char machine[128];
    mp_topology_describe(rt->topology, machine, sizeof machine);
    int major, minor, release;
    starpu_get_version(&major, &minor, &release);

    int workers = mp_runtime_cpu_workers(rt);
    int threads = mp_runtime_threads(rt);
    struct mp_gpu gpu = {0};
    char several[16] = "";
    if (rt->gpus > 0 && mp_runtime_find_gpus(rt->gpus, &gpu, NULL) != 0) {
        mp_give_up("the GPU has failed: it is not found any more");
    }
    if (rt->gpus > 1) {
        snprintf(several, sizeof several, "%d x ", rt->gpus);
    }
    snprintf(rt->description, sizeof rt->description,
             "StarPU %d.%d.%d, %s, %d CPU worker%s with %d thread%s in all (%s)%s%s%s", major,
             minor, release, scheduler, workers, workers == 1 ? "" : "s", threads,
             threads == 1 ? "" : "s", machine, rt->gpus > 0 ? ", " : "", several, gpu.name);
}

static int plan_cores(struct mp_runtime *rt, const struct mp_runtime_options *options,
                      struct mp_error *err)
{
    int code = mp_topology_load(&rt->topology, err);
    if (code != 0) {
        return code;
    }
    int workers = options->cpu_workers;
    if (workers == 0 && mp_topology_numa_nodes(rt->topology) > STARPU_MAXCPUS) {
        workers = STARPU_MAXCPUS; /* the default is one a node: here a team spans several */
    }
    struct mp_core_request request = {
        .workers = workers,
        .threads = options->threads,
        .gpus = options->gpus,
        .gpu_node = mp_topology_gpu_node(rt->topology),
    };
    code = mp_core_map_plan(rt->topology, &request, &rt->cores, err);
    if (code == 0) {
        rt->map = mp_core_map_describe(&rt->cores, options->bind);
        rt->bind = options->bind;
    }
    return code;
}

int mp_runtime_start(const struct mp_runtime_options *options, struct mp_runtime **out,
                     struct mp_error *err)
{
    struct mp_runtime *rt = mp_xcalloc(1, sizeof *rt);
    int code = plan_cores(rt, options, err);
    if (code == 0) {
        code = check_scheduler(options->scheduler, err);
    }
    if (code == 0) {
        code = mp_fxt_configure(options->fxt_dir, options->fxt_steps, err);
    }
    if (code == 0) {
        code = init_starpu(rt, options, err);
    }
    if (code == 0) {
        code = start_workers(rt, options->gpu_workspace, err);
    }
    if (code != 0) {
        mp_runtime_stop(rt);
        return code;
    }
    describe(rt, options->scheduler);
    rt->since = mp_clock_seconds();
    rt->waited = mp_waiting_seconds();
    *out = rt;
    return 0;
}

int mp_runtime_bind_submitter(struct mp_runtime *rt, struct mp_error *err)
{
    if (!rt->bind || mp_submit_core(&rt->cores) < 0) {
        return 0;
    }
    int code = mp_thread_bind(rt->topology, mp_submit_core(&rt->cores), &rt->submitter, err);
    return code == 0 ? 0 : mp_fail_prefix(err, "submitting thread");
}

void mp_runtime_cut(const struct mp_runtime *rt, struct mp_kv_heads heads, struct mp_shards *out)
{
    /* Where threads run anywhere, no memory is near. */
    mp_shards_of_teams(&rt->cores, rt->bind ? rt->topology : NULL, heads, out);
}

void mp_runtime_stop(struct mp_runtime *rt)
{
    if (rt == NULL) {
        return;
    }
    if (rt->submitter != NULL) {
        mp_thread_restore(rt->topology, rt->submitter);
    }
    if (rt->started) {
        starpu_task_wait_for_all();
        starpu_execute_on_each_worker(release_worker_memory, NULL, STARPU_CPU);
        mp_memory_release();
        if (rt->gpus > 0) {
            starpu_execute_on_each_worker(stop_gpu_worker, NULL, STARPU_CUDA);
        }
        starpu_shutdown();
        mp_fxt_convert();
        mp_task_release();
    }
    mp_core_map_free(&rt->cores);
    free(rt->map);
    mp_topology_free(rt->topology);
    free(rt);
}

void mp_runtime_pause(void)
{
    starpu_pause();
}

void mp_runtime_resume(void)
{
    starpu_resume();
}

double mp_runtime_waited(const struct mp_runtime *rt)
{
    return (mp_waiting_seconds() - rt->waited) / (mp_clock_seconds() - rt->since);
}

const char *mp_runtime_description(const struct mp_runtime *rt)
{
    return rt->description;
}

const char *mp_runtime_map(const struct mp_runtime *rt)
{
    return rt->map;
}
