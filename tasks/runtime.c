#include "tasks/runtime.h"

#include "codelets/common/codelet.h"
#include "codelets/common/linear.h"
#include "codelets/common/scratch.h"
#include "core/memory.h"
#include "core/topology.h"
#include "core/trace.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct mp_runtime {
    struct mp_topology *topology;
    struct mp_team *teams;
    int num_teams;
    bool started; /* starpu_init succeeded */
    char description[256];
};

/* What every worker does once, on its own thread, before any task. */
struct bind_job {
    const struct mp_runtime *rt;
    pthread_mutex_t lock;
    int code;            /* first failure */
    struct mp_error err; /* its message */
};

static void bind_worker(void *arg)
{
    struct bind_job *job = arg;
    int worker = starpu_worker_get_id();
    int index = starpu_worker_get_devid(worker);
    char name[32];
    snprintf(name, sizeof name, "cpu worker %d", index);
    mp_trace_name_thread(name);

    struct mp_error err;
    int code = index >= 0 && index < job->rt->num_teams
                   ? mp_team_bind_current(job->rt->topology, &job->rt->teams[index], &err)
                   : mp_fail(&err, MP_ERR_RUNTIME,
                             "StarPU CPU worker %d has device id %d, expected 0 to %d", worker,
                             index, job->rt->num_teams - 1);
    if (code != 0) {
        pthread_mutex_lock(&job->lock);
        if (job->code == 0) {
            job->code = code;
            job->err = err;
        }
        pthread_mutex_unlock(&job->lock);
    }
}

/* Every thread of the team has scratch of its own; oneDNN is only called by the first. */
static void release_worker_memory(void *arg)
{
    (void)arg;
#pragma omp parallel
    mp_scratch_release();
    linear_release();
}

static int check_scheduler(const char *name, struct mp_error *err)
{
    char known[512] = "";
    size_t used = 0;
    struct starpu_sched_policy **policies = starpu_sched_get_predefined_policies();
    for (int i = 0; policies[i] != NULL; i++) {
        if (strcmp(policies[i]->policy_name, name) == 0) {
            return 0;
        }
        int n = snprintf(known + used, sizeof known - used, "%s%s", used > 0 ? ", " : "",
                         policies[i]->policy_name);
        used += n > 0 && (size_t)n < sizeof known - used ? (size_t)n : 0;
    }
    return mp_fail(err, MP_ERR_USAGE, "scheduler: found \"%s\", expected one of StarPU's: %s", name,
                   known);
}

static int init_starpu(struct mp_runtime *rt, const char *scheduler, struct mp_error *err)
{
    if (rt->num_teams > STARPU_MAXCPUS) {
        return mp_fail(err, MP_ERR_USAGE,
                       "cpu_workers: found %d, but this StarPU was built for at most %d",
                       rt->num_teams, STARPU_MAXCPUS);
    }
    /* Workers are bound by us, with their whole team: StarPU would pin each to a single core. */
    if (setenv("STARPU_WORKERS_NOBIND", "1", 1) != 0 ||
        /* No chatter about calibration, unless the user has set it otherwise. */
        setenv("STARPU_SILENT", "1", 0) != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "cannot set StarPU's environment variables");
    }

    struct starpu_conf conf;
    starpu_conf_init(&conf);
    conf.precedence_over_environment_variables = 1;
    conf.sched_policy_name = scheduler;
    conf.ncpus = rt->num_teams;
    conf.ncuda = 0;
    conf.nopencl = 0;
    conf.catch_signals = 0;
    int rc = starpu_init(&conf);
    if (rc != 0) {
        return mp_fail(err, MP_ERR_RUNTIME,
                       "starpu_init with %d CPU workers and scheduler %s failed: %s", rt->num_teams,
                       scheduler, strerror(-rc));
    }
    rt->started = true;
    if ((int)starpu_cpu_worker_get_count() != rt->num_teams) {
        return mp_fail(err, MP_ERR_RUNTIME, "StarPU started %u CPU workers, %d were asked for",
                       starpu_cpu_worker_get_count(), rt->num_teams);
    }
    return 0;
}

static int bind_workers(struct mp_runtime *rt, struct mp_error *err)
{
    struct bind_job job = {.rt = rt, .lock = PTHREAD_MUTEX_INITIALIZER};
    starpu_execute_on_each_worker(bind_worker, &job, STARPU_CPU);
    if (job.code != 0 && err != NULL) {
        *err = job.err;
    }
    return job.code;
}

static void describe(struct mp_runtime *rt, const char *scheduler)
{
    char machine[128];
    mp_topology_describe(rt->topology, machine, sizeof machine);
    int major, minor, release;
    starpu_get_version(&major, &minor, &release);

    int threads = 0;
    for (int i = 0; i < rt->num_teams; i++) {
        threads += rt->teams[i].num_threads;
    }
    snprintf(rt->description, sizeof rt->description,
             "StarPU %d.%d.%d, %s, %d CPU worker%s with %d thread%s in all (%s)", major, minor,
             release, scheduler, rt->num_teams, rt->num_teams == 1 ? "" : "s", threads,
             threads == 1 ? "" : "s", machine);

    /* Nominal rates of a core: model-based policies need ratios between tasks, not absolutes. */
    double per_worker = (double)threads / rt->num_teams;
    mp_cost_set_cpu_rates(per_worker * 80e9, per_worker * 8e9);
}

int mp_runtime_start(const struct mp_runtime_options *options, struct mp_runtime **out,
                     struct mp_error *err)
{
    struct mp_runtime *rt = mp_xcalloc(1, sizeof *rt);
    int code = mp_topology_load(&rt->topology, err);
    if (code == 0) {
        int workers = options->cpu_workers;
        if (workers == 0 && mp_topology_numa_nodes(rt->topology) > STARPU_MAXCPUS) {
            workers = STARPU_MAXCPUS; /* the default is one a node: here a team spans several */
        }
        code =
            mp_teams_plan(rt->topology, workers, options->threads, &rt->teams, &rt->num_teams, err);
    }
    if (code == 0) {
        code = check_scheduler(options->scheduler, err);
    }
    if (code == 0) {
        code = init_starpu(rt, options->scheduler, err);
    }
    if (code == 0) {
        code = bind_workers(rt, err);
    }
    if (code != 0) {
        mp_runtime_stop(rt);
        return code;
    }
    describe(rt, options->scheduler);
    *out = rt;
    return 0;
}

void mp_runtime_stop(struct mp_runtime *rt)
{
    if (rt == NULL) {
        return;
    }
    if (rt->started) {
        starpu_task_wait_for_all();
        starpu_execute_on_each_worker(release_worker_memory, NULL, STARPU_CPU);
        starpu_shutdown();
    }
    mp_teams_free(rt->teams, rt->num_teams);
    mp_topology_free(rt->topology);
    free(rt);
}

int mp_runtime_wait(struct mp_error *err)
{
    int rc = starpu_task_wait_for_all();
    if (rc != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "waiting for StarPU tasks failed: %s", strerror(-rc));
    }
    return 0;
}

int mp_runtime_pending(void)
{
    return starpu_task_nsubmitted();
}

int mp_runtime_wait_until(int limit, struct mp_error *err)
{
    int rc = starpu_task_wait_for_n_submitted((unsigned)limit);
    if (rc != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "waiting for StarPU tasks failed: %s", strerror(-rc));
    }
    return 0;
}

const char *mp_runtime_description(const struct mp_runtime *rt)
{
    return rt->description;
}
