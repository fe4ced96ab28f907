/* Measuring in a process of its own: there is one StarPU a process, its policies differ in how well
 * they are tried, and one that crashes or hangs must not end the search. This process therefore
 * never touches StarPU or the GPU itself. */
#include "pipeline/tune/tune.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/utf8.h"
#include "core/machine/topology.h"
#include "pipeline/bench/bench.h"
#include "pipeline/cli/interrupt.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- processes ---- */

/* What a process has to say, in one write. */
struct reply {
    int code;
    struct mp_error err;
    union {
        struct mp_tune_machine machine;
        struct mp_tune_sample sample;
    };
};
_Static_assert(sizeof(struct reply) <= PIPE_BUF, "a reply is written in one piece");

struct job {
    int (*run)(const struct job *job, struct reply *reply);
    const struct mp_cli *cli;
    const struct mp_tune_axes *axes;
    const struct mp_tune_request *request;
};

static void run_child(const struct job *job, int pipe_end)
{
    struct reply reply = {0};
    /* An interrupt lets the measurement under way finish, also one that came just before it began;
     * it ends with the process that wants it. */
    mp_interrupt_ignore();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    mp_log_set_level(MP_LOG_WARNING);
    reply.code = job->run(job, &reply);
    ssize_t written = write(pipe_end, &reply, sizeof reply);
    _exit(written == (ssize_t)sizeof reply ? 0 : 1);
}

/* True once there is something to read, or the other end is closed; false after the limit. */
static bool wait_for_reply(int pipe_end, double limit)
{
    double end = mp_clock_seconds() + limit;
    for (;;) {
        double left = limit > 0.0 ? fmax(end - mp_clock_seconds(), 0.0) : -1e-3;
        struct pollfd fd = {.fd = pipe_end, .events = POLLIN};
        int n = poll(&fd, 1, (int)fmin(left * 1e3, INT_MAX));
        if (n > 0) {
            return true;
        }
        if (n == 0 && limit > 0.0) {
            return false;
        }
    }
}

/* Why there was no reply. */
static int explain(int status, bool late, double limit, struct mp_error *err)
{
    if (late) {
        return mp_fail(err, MP_ERR_RUNTIME, "not done after %.0f s", limit);
    }
    if (WIFSIGNALED(status)) {
        return mp_fail(err, MP_ERR_RUNTIME, "ended by signal %d (%s)", WTERMSIG(status),
                       strsignal(WTERMSIG(status)));
    }
    return mp_fail(err, MP_ERR_RUNTIME, "ended with exit status %d", WEXITSTATUS(status));
}

/* Runs the job in a process of its own. limit: seconds; 0: none. Fails if it failed, crashed or
 * took longer. */
static int run_apart(const struct job *job, double limit, struct reply *reply, struct mp_error *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "cannot create a pipe: %s", strerror(errno));
    }
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        close(ends[0]);
        run_child(job, ends[1]);
    }
    close(ends[1]);
    if (child < 0) {
        close(ends[0]);
        return mp_fail(err, MP_ERR_RUNTIME, "cannot start a process: %s", strerror(errno));
    }
    bool late = !wait_for_reply(ends[0], limit);
    bool replied = !late && read(ends[0], reply, sizeof *reply) == (ssize_t)sizeof *reply;
    close(ends[0]);
    if (!replied) {
        kill(child, SIGKILL);
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    if (!replied) {
        return explain(status, late, limit, err);
    }
    *err = reply->err;
    return reply->code;
}

/* ---- the machine and the model ---- */

/* "model name : ..." of the first CPU; empty where there is no such line. */
static void cpu_name(char *out, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "r");
    char line[256];
    out[0] = '\0';
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':') != NULL) {
            line[strcspn(line, "\n")] = '\0';
            snprintf(out, size, "%s", strchr(line, ':') + 2);
            break;
        }
    }
    if (file != NULL) {
        fclose(file);
    }
}

static int describe_machine(const struct mp_engine *e, struct mp_tune_machine *m,
                            struct mp_error *err)
{
    struct mp_topology *topology;
    int code = mp_topology_load(&topology, err);
    if (code != 0) {
        return code;
    }
    char cpu[128];
    char cores[64];
    char gpu[256] = "";
    cpu_name(cpu, sizeof cpu);
    mp_topology_describe(topology, cores, sizeof cores);
    if (m->gpu) {
        code = mp_hook_find_gpu(gpu, sizeof gpu, err);
    }
    snprintf(m->description, sizeof m->description, "%s, %s, %s%s%s", cpu, cores,
             mp_engine_kernels(e), m->gpu ? ", " : "", gpu);
    m->cores = mp_topology_cores(topology);
    m->numa_nodes = mp_topology_numa_nodes(topology);
    mp_topology_free(topology);
    return code;
}

static int probe(const struct job *job, struct reply *reply)
{
    struct mp_config config = mp_bench_config(job->cli);
    struct mp_tune_machine *m = &reply->machine;
    struct mp_engine *e = NULL;
    struct mp_plan plan;
    int code = mp_cli_open_engine(job->cli, &config, &e, &reply->err);
    if (code == 0) {
        code = mp_engine_check_length(e, job->cli->context, &reply->err);
    }
    if (code == 0) {
        config.gpu_kv_layers = -1;
        mp_engine_plan(e, job->cli->context, 1, &plan);
        code = mp_plan_check(&plan, &config, &reply->err);
    }
    if (code == 0) {
        snprintf(m->model, sizeof m->model, "%s", mp_engine_model(e));
        m->batch = config.batch;
        m->join_tokens = mp_bench_join_tokens(job->cli, &config);
        m->gpu = plan.gpus > 0;
        m->gpu_kv_layers = plan.gpu_kv_layers;
        code = describe_machine(e, m, &reply->err);
    }
    mp_engine_close(e);
    return code;
}

int mp_tune_probe(const struct mp_cli *cli, struct mp_tune_machine *out, struct mp_error *err)
{
    struct reply reply;
    int code = run_apart(&(struct job){.run = probe, .cli = cli}, 0.0, &reply, err);
    if (code == 0) {
        *out = reply.machine;
    }
    return code;
}

/* ---- a point ---- */

static int measure_steps(const struct mp_bench_options *options, struct mp_tune_sample *out,
                         struct mp_error *err)
{
    struct mp_bench_result r = {0};
    int code = mp_bench_decode(options, &r, err);
    if (code == 0) {
        struct mp_overlap o = mp_profile_typical(&r.profile);
        out->step = mp_median(r.seconds, r.count);
        out->cpu_busy = o.busy[MP_TRACK_CPU] / o.seconds;
        out->gpu_busy = o.busy[MP_TRACK_GPU] / o.seconds;
        out->both = o.both / o.seconds;
    }
    return code;
}

static int measure_join(const struct mp_bench_options *options, struct mp_tune_sample *out,
                        struct mp_error *err)
{
    struct mp_bench_join join;
    int code = mp_bench_join(options->cli, options->config, &join, err);
    if (code == 0) {
        out->step = join.step;
        out->first_token = join.first_token;
    }
    return code;
}

static int measure(const struct job *job, struct reply *reply)
{
    struct mp_config config = mp_bench_config(job->cli);
    const struct mp_tune_request *request = job->request;
    /* This process's copy: the strings that are replaced are nobody else's. No measurement may
     * change the estimates of the next one. */
    int code = mp_config_set_flag(&config, "calibration", "off", &reply->err);
    for (size_t a = 0; a < job->axes->count && code == 0; a++) {
        const struct mp_tune_axis *axis = &job->axes->items[a];
        const char *value = axis->values[request->point.at[a]];
        code = mp_config_set_flag(&config, axis->flag, value, &reply->err);
    }
    if (code == 0) {
        code = mp_config_check(&config, &reply->err);
    }
    if (code == 0) {
        const struct mp_bench_options options = {.cli = job->cli,
                                                 .config = &config,
                                                 .slow_step = request->slow_step,
                                                 .no_bandwidth = true};
        code = request->joins ? measure_join(&options, &reply->sample, &reply->err)
                              : measure_steps(&options, &reply->sample, &reply->err);
    }
    return code;
}

int mp_tune_measure_point(const struct mp_cli *cli, const struct mp_tune_axes *axes,
                          const struct mp_tune_request *request, struct mp_tune_sample *out,
                          struct mp_error *err)
{
    struct job job = {.run = measure, .cli = cli, .axes = axes, .request = request};
    struct reply reply;
    double begin = mp_clock_seconds();
    *out = (struct mp_tune_sample){.step = INFINITY};
    /* A point that cannot be measured is an answer too. */
    if (run_apart(&job, request->limit, &reply, err) == 0) {
        *out = reply.sample;
    } else {
        snprintf(out->why, sizeof out->why, "%.*s", (int)sizeof out->why - 1, err->message);
        mp_utf8_repair(out->why);
    }
    out->wall = mp_clock_seconds() - begin;
    return 0;
}
