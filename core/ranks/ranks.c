#include "core/ranks/ranks.h"

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/ranks/thread.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* How long the others have to come to their ends once one has failed. */
static const uint64_t GRACE_NS = 2000000000;

int mp_ranks_index(const struct mp_ranks *r)
{
    return r == NULL ? 0 : r->rank;
}

int mp_ranks_count(const struct mp_ranks *r)
{
    return r == NULL ? 1 : r->count;
}

/* ---- messages ---- */

void mp_ranks_exchange(struct mp_ranks *r, const struct mp_message *messages, int count,
                       mp_ranks_done *done, void *arg)
{
    mp_ranks_add(r, messages, count, done, arg, false);
}

/* Of an exchange that is waited for. */
struct wait {
    struct mp_ranks *ranks;
    bool done;
};

static void end_wait(void *arg)
{
    struct wait *w = arg;
    pthread_mutex_lock(&w->ranks->lock);
    w->done = true;
    pthread_cond_broadcast(&w->ranks->changed);
    pthread_mutex_unlock(&w->ranks->lock);
}

static void ignore(void *arg)
{
    (void)arg;
}

int mp_ranks_pass(struct mp_ranks *r, const struct mp_message *messages, int count,
                  struct mp_error *err)
{
    struct wait w = {.ranks = r};
    struct exchange *x = mp_ranks_add(r, messages, count, end_wait, &w, false);
    bool stopped = false;
    pthread_mutex_lock(&r->lock);
    while (!w.done) {
        if (r->stopped && !stopped) {
            stopped = x->given_up = true;
            pthread_cond_signal(&r->work);
        }
        pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    return stopped ? mp_fail(err, MP_ERR_INTERRUPTED, "rank 0 has ended the run") : 0;
}

/* A message to every other rank; the copy of what is sent is freed once it is. */
static void send_to_all(struct mp_ranks *r, const void *data, size_t bytes, int tag)
{
    struct mp_message list[r->count - 1];
    void *copy = mp_xmalloc(bytes);
    memcpy(copy, data, bytes);
    for (int i = 0; i < r->count - 1; i++) {
        list[i] = (struct mp_message){copy, bytes, i + 1, tag, true};
    }
    mp_ranks_add(r, list, r->count - 1, free, copy, false);
}

int mp_ranks_tell(struct mp_ranks *r, void *data, size_t bytes, struct mp_error *err)
{
    int code = 0;
    for (size_t at = 0; r != NULL && at < bytes && code == 0; at += LARGEST) {
        size_t part = bytes - at < LARGEST ? bytes - at : LARGEST;
        void *from = (char *)data + at;
        if (r->rank == 0) {
            send_to_all(r, from, part, TELL);
        } else {
            code = mp_ranks_pass(r, &(struct mp_message){from, part, 0, TELL, false}, 1, err);
        }
    }
    return code;
}

int mp_ranks_tell_all(struct mp_ranks *r, char **data, size_t *bytes, struct mp_error *err)
{
    int code = mp_ranks_tell(r, bytes, sizeof *bytes, err);
    if (code != 0 || mp_ranks_index(r) == 0) {
        return code == 0 ? mp_ranks_tell(r, *data, *bytes, err) : code;
    }
    *data = mp_alloc(*bytes + 1, 1, "what rank 0 has read", err);
    if (*data == NULL) {
        return MP_ERR_MEMORY;
    }
    (*data)[*bytes] = '\0';
    code = mp_ranks_tell(r, *data, *bytes, err);
    if (code != 0) {
        mp_free(*data);
    }
    return code;
}

int mp_ranks_gather(struct mp_ranks *r, const void *own, size_t bytes, void *all,
                    struct mp_error *err)
{
    int count = mp_ranks_count(r);
    struct mp_message list[2 * count];
    int n = 0;
    memcpy((char *)all + (size_t)mp_ranks_index(r) * bytes, own, bytes);
    for (int i = 0; i < count; i++) {
        if (i != mp_ranks_index(r)) {
            list[n++] = (struct mp_message){(void *)own, bytes, i, GATHER, true};
            list[n++] =
                (struct mp_message){(char *)all + (size_t)i * bytes, bytes, i, GATHER, false};
        }
    }
    return n == 0 ? 0 : mp_ranks_pass(r, list, n, err);
}

/* ---- the beginning ---- */

static int number(const char *variable)
{
    const char *text = getenv(variable);
    return text == NULL ? 0 : atoi(text);
}

bool mp_ranks_launched(void)
{
    return number("OMPI_COMM_WORLD_SIZE") > 1 || number("PMI_SIZE") > 1 ||
           (getenv("PMIX_RANK") != NULL && number("SLURM_STEP_NUM_TASKS") > 1);
}

bool mp_ranks_share_cores(void)
{
    cpu_set_t cores;
    return (number("OMPI_COMM_WORLD_LOCAL_SIZE") > 1 || number("MPI_LOCALNRANKS") > 1) &&
           sched_getaffinity(0, sizeof cores, &cores) == 0 &&
           CPU_COUNT(&cores) == sysconf(_SC_NPROCESSORS_ONLN);
}

/* The module beside the program or in ../lib of it; NULL: dlerror says why. Not by $ORIGIN: the
 * address sanitizer puts itself between, and the loader then looks beside its library. */
static void *load_module(const char *program)
{
    char *folder = mp_file_folder(program);
    char *beside = mp_xasprintf("%s/" MP_RANKS_MODULE, folder);
    char *installed = mp_xasprintf("%s/../lib/" MP_RANKS_MODULE, folder);
    /* MPI's own modules look for its functions among all that there are. */
    void *module = dlopen(beside, RTLD_NOW | RTLD_GLOBAL);
    if (module == NULL) {
        module = dlopen(installed, RTLD_NOW | RTLD_GLOBAL);
    }
    free(folder);
    free(beside);
    free(installed);
    return module;
}

static const struct mp_ranks_driver *load_driver(struct mp_error *err)
{
    char *program = realpath("/proc/self/exe", NULL);
    if (program == NULL) {
        mp_fail(err, MP_ERR_UNSUPPORTED, "/proc/self/exe: cannot tell where this program is: %s",
                strerror(errno));
        return NULL;
    }
    void *module = load_module(program);
    const struct mp_ranks_driver *driver = module != NULL ? dlsym(module, MP_RANKS_DRIVER) : NULL;
    if (driver == NULL) {
        mp_fail(err, MP_ERR_UNSUPPORTED,
                "this is one of several processes of an MPI launcher, but this program was built "
                "without MPI: %s",
                dlerror());
    }
    free(program);
    return driver;
}

/* Of rank 0: a rank has come to its end. */
static void take_report(void *arg)
{
    struct mp_ranks *r = arg;
    pthread_mutex_lock(&r->lock);
    r->missing--;
    for (int i = 1; i < r->count && r->failed < 0; i++) {
        r->failed = r->reports[i].code != 0 ? i : -1;
    }
    if (r->failed > 0 && r->deadline == 0) {
        r->deadline = mp_clock_ns() + GRACE_NS;
    }
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void take_stop(void *arg)
{
    struct mp_ranks *r = arg;
    pthread_mutex_lock(&r->lock);
    r->stopped = true;
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

/* What can come at any time: rank 0 gets the others' reports, they the end of the run. */
static void watch(struct mp_ranks *r)
{
    for (int i = 1; i < r->count && r->rank == 0; i++) {
        struct mp_message m = {&r->reports[i], sizeof *r->reports, i, REPORT, false};
        mp_ranks_add(r, &m, 1, take_report, r, true);
    }
    if (r->rank > 0) {
        struct mp_message m = {&r->collects, sizeof r->collects, 0, STOP, false};
        mp_ranks_add(r, &m, 1, take_stop, r, true);
    }
}

/* Once there is no thread. */
static void release(struct mp_ranks *r)
{
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r->reports);
    free(r->clocks);
    free(r);
}

int mp_ranks_open(struct mp_ranks **out, struct mp_error *err)
{
    const struct mp_ranks_driver *driver = load_driver(err);
    if (driver == NULL) {
        return MP_ERR_UNSUPPORTED;
    }
    struct mp_ranks *r = mp_xcalloc(1, sizeof *r);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&r->lock, NULL);
    pthread_cond_init(&r->work, &monotonic);
    pthread_cond_init(&r->changed, NULL);
    pthread_condattr_destroy(&monotonic);
    r->driver = driver;
    r->failed = -1;
    int rc = pthread_create(&r->thread, NULL, mp_ranks_run, r);
    if (rc != 0) {
        release(r);
        return mp_fail(err, MP_ERR_RUNTIME, "cannot start the ranks' thread: %s", strerror(rc));
    }
    pthread_mutex_lock(&r->lock);
    while (!r->opened) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    r->missing = r->count - 1;
    r->reports = mp_xcalloc((size_t)r->count, sizeof *r->reports);
    watch(r);
    mp_ranks_set_clocks(r);
    *out = r;
    return 0;
}

/* ---- the end ---- */

void mp_ranks_stop(struct mp_ranks *r, bool collects)
{
    if (!r->told) {
        r->told = true;
        send_to_all(r, &collects, sizeof collects, STOP);
    }
}

void mp_ranks_await_stop(struct mp_ranks *r)
{
    pthread_mutex_lock(&r->lock);
    while (!r->stopped) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
}

/* Of rank 0: tells the others, and waits for what they have to say. */
static int end_run(struct mp_ranks *r, int code, struct mp_error *err)
{
    mp_ranks_stop(r, false);
    pthread_mutex_lock(&r->lock);
    r->closing = true;
    if (code != 0) {
        r->reports[0] = (struct report){code, *err};
        r->failed = 0;
        r->deadline = r->deadline == 0 ? mp_clock_ns() + GRACE_NS : r->deadline;
    }
    pthread_cond_signal(&r->work);
    while (r->missing > 0) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
    if (r->failed > 0) {
        *err = r->reports[r->failed].err;
        code = r->reports[r->failed].code;
    }
    return code;
}

/* Of the others: tells rank 0, and waits for its end. */
static void report_and_wait(struct mp_ranks *r, int code, const struct mp_error *err)
{
    struct report *own = &r->reports[0];
    pthread_mutex_lock(&r->lock);
    /* Who was stopped by rank 0 has not failed. */
    if (code != 0 && !r->stopped) {
        *own = (struct report){code, *err};
        mp_fail_prefix(&own->err, "rank %d", r->rank);
    }
    pthread_mutex_unlock(&r->lock);
    struct mp_message m = {own, sizeof *own, 0, REPORT, true};
    mp_ranks_add(r, &m, 1, ignore, NULL, false);
    mp_ranks_await_stop(r);
}

int mp_ranks_close(struct mp_ranks *r, int code, struct mp_error *err)
{
    if (r == NULL) {
        return code;
    }
    if (r->rank == 0) {
        code = end_run(r, code, err);
    } else {
        report_and_wait(r, code, err);
        code = 0;
    }
    pthread_mutex_lock(&r->lock);
    r->leaving = true;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    pthread_join(r->thread, NULL);
    release(r);
    return code;
}
