#include "core/ranks/ranks.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/ranks/driver.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

/* Tags of what the ranks say to each other beside the exchanges of others. */
enum { TELL = MP_RANKS_TAGS, GATHER, REPORT, STOP };

/* MPI counts bytes in an int. */
static const size_t LARGEST = (size_t)64 << 20;

/* How long the others have to come to their ends once one has failed. */
static const uint64_t GRACE_NS = 2000000000;

/* The thread sleeps for an eighth of the time that it has waited already, within these bounds: what
 * it adds to a wait is an eighth of it, and a long one costs next to no time of a core. What nobody
 * waits for is looked at more seldom. */
static const uint64_t SHORTEST_NS = 5000;
static const uint64_t LONGEST_NS = 1000000;
static const uint64_t WATCH_NS = 50000000;

struct exchange {
    struct exchange *next;
    void *started; /* the driver's; NULL: not yet */
    mp_ranks_done *done;
    void *arg;
    bool watched;  /* nobody waits for it */
    bool given_up; /* whoever waited for it does not want it any more */
    int count;
    struct mp_message messages[]; /* [count] */
};

/* How a rank has come to its end. */
struct report {
    int code;
    struct mp_error err;
};

struct mp_ranks {
    const struct mp_ranks_driver *driver;
    int rank;
    int count;
    pthread_t thread;
    pthread_mutex_t lock;   /* of what follows */
    pthread_cond_t work;    /* for the thread: something to start, or to leave */
    pthread_cond_t changed; /* for those who wait for it */
    struct exchange *first; /* under way, or to be started */
    struct report *reports; /* [count] on rank 0: of the others; of any other rank: its own first */
    int missing;            /* rank 0: reports that have not come */
    int failed;             /* rank 0: the first that has failed; -1: none */
    uint64_t deadline;      /* mp_clock_ns for the missing ones, once one has failed; 0: none has */
    bool opened;            /* the driver has been opened */
    bool closing;           /* this rank has come to its end */
    bool stopped;           /* rank 0 has ended the run */
    bool leaving;           /* the thread is to end */
};

int mp_ranks_index(const struct mp_ranks *r)
{
    return r == NULL ? 0 : r->rank;
}

int mp_ranks_count(const struct mp_ranks *r)
{
    return r == NULL ? 1 : r->count;
}

/* ---- the thread ---- */

static struct exchange *add(struct mp_ranks *r, const struct mp_message *messages, int count,
                            mp_ranks_done *done, void *arg)
{
    struct exchange *x = mp_xcalloc(1, sizeof *x + (size_t)count * sizeof *messages);
    x->done = done;
    x->arg = arg;
    x->count = count;
    memcpy(x->messages, messages, (size_t)count * sizeof *messages);
    pthread_mutex_lock(&r->lock);
    struct exchange **last = &r->first;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = x;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->lock);
    return x;
}

/* Starts what has been added and takes out what is done. Whether there was any of either. */
static bool advance(struct mp_ranks *r)
{
    struct exchange *done = NULL;
    struct exchange **last = &done;
    bool any = false;
    for (struct exchange **at = &r->first; *at != NULL;) {
        struct exchange *x = *at;
        if (x->started == NULL) {
            x->started = r->driver->start(x->messages, x->count);
            any = true;
        }
        bool through = r->driver->test(x->started);
        if (!through && x->given_up) {
            r->driver->drop(x->started);
        }
        if (through || x->given_up) {
            *at = x->next;
            x->next = NULL;
            *last = x;
            last = &x->next;
            any = true;
        } else {
            at = &x->next;
        }
    }
    pthread_mutex_unlock(&r->lock); /* those who are told may add others */
    while (done != NULL) {
        struct exchange *x = done;
        done = x->next;
        x->done(x->arg);
        free(x);
    }
    pthread_mutex_lock(&r->lock);
    return any;
}

/* Rank 0, where a rank has failed and others do not come to their ends. */
static void end_if_hopeless(struct mp_ranks *r)
{
    if (r->deadline == 0 || mp_clock_ns() < r->deadline || (r->closing && r->missing == 0)) {
        return;
    }
    const struct report *why = &r->reports[r->failed];
    mp_log(MP_LOG_ERROR, "%s", why->err.message);
    r->driver->abort(why->code == MP_ERR_INTERRUPTED ? 130 : 1);
}

static bool is_waited_for(const struct mp_ranks *r)
{
    const struct exchange *x = r->first;
    while (x != NULL && x->watched) {
        x = x->next;
    }
    return x != NULL;
}

static void sleep_until_work(struct mp_ranks *r, uint64_t since)
{
    bool waited_for = is_waited_for(r);
    if (r->first == NULL && r->deadline == 0) {
        pthread_cond_wait(&r->work, &r->lock);
        return;
    }
    uint64_t now = mp_clock_ns();
    uint64_t pause = waited_for ? (now - since) / 8 : WATCH_NS;
    pause = pause < SHORTEST_NS ? SHORTEST_NS : pause;
    pause = waited_for && pause > LONGEST_NS ? LONGEST_NS : pause;
    struct timespec until = {.tv_sec = (time_t)((now + pause) / 1000000000),
                             .tv_nsec = (long)((now + pause) % 1000000000)};
    pthread_cond_timedwait(&r->work, &r->lock, &until);
}

static void *run(void *arg)
{
    struct mp_ranks *r = arg;
    uint64_t since = 0;
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL); /* ns; 50,000 otherwise */
    pthread_mutex_lock(&r->lock);
    r->driver->open(&r->rank, &r->count);
    r->opened = true;
    pthread_cond_broadcast(&r->changed);
    for (;;) {
        if (advance(r)) {
            since = mp_clock_ns();
        }
        /* What others still wait for is sent, unless one of them has failed. */
        if (r->leaving && (r->failed >= 0 || !is_waited_for(r))) {
            break;
        }
        end_if_hopeless(r);
        sleep_until_work(r, since);
    }
    for (struct exchange *x = r->first; x != NULL; x = x->next) {
        x->given_up = true;
    }
    advance(r);
    pthread_mutex_unlock(&r->lock);
    r->driver->close();
    return NULL;
}

/* ---- messages ---- */

void mp_ranks_exchange(struct mp_ranks *r, const struct mp_message *messages, int count,
                       mp_ranks_done *done, void *arg)
{
    add(r, messages, count, done, arg);
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

/* Waits until the messages are through, unless rank 0 ends the run. */
static int exchange_and_wait(struct mp_ranks *r, const struct mp_message *messages, int count,
                             struct mp_error *err)
{
    struct wait w = {.ranks = r};
    struct exchange *x = add(r, messages, count, end_wait, &w);
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
    add(r, list, r->count - 1, free, copy);
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
            code = exchange_and_wait(r, &(struct mp_message){from, part, 0, TELL, false}, 1, err);
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
    return n == 0 ? 0 : exchange_and_wait(r, list, n, err);
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

static const struct mp_ranks_driver *load_driver(struct mp_error *err)
{
    /* MPI's own modules look for its functions among all that there are. */
    void *module = dlopen("$ORIGIN/" MP_RANKS_MODULE, RTLD_NOW | RTLD_GLOBAL);
    if (module == NULL) {
        module = dlopen("$ORIGIN/../lib/" MP_RANKS_MODULE, RTLD_NOW | RTLD_GLOBAL);
    }
    const struct mp_ranks_driver *driver = module != NULL ? dlsym(module, MP_RANKS_DRIVER) : NULL;
    if (driver == NULL) {
        mp_fail(err, MP_ERR_UNSUPPORTED,
                "this is one of several processes of an MPI launcher, but this program was built "
                "without MPI: %s",
                dlerror());
    }
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
        add(r, &m, 1, take_report, r)->watched = true;
    }
    if (r->rank > 0) {
        struct mp_message m = {NULL, 0, 0, STOP, false};
        add(r, &m, 1, take_stop, r)->watched = true;
    }
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
    int rc = pthread_create(&r->thread, NULL, run, r);
    if (rc != 0) {
        free(r);
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
    *out = r;
    return 0;
}

/* ---- the end ---- */

/* Of rank 0: tells the others, and waits for what they have to say. */
static int end_run(struct mp_ranks *r, int code, struct mp_error *err)
{
    send_to_all(r, "", 0, STOP);
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
    add(r, &m, 1, ignore, NULL);
    pthread_mutex_lock(&r->lock);
    while (!r->stopped) {
        pthread_cond_wait(&r->changed, &r->lock);
    }
    pthread_mutex_unlock(&r->lock);
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
    pthread_cond_destroy(&r->work);
    pthread_cond_destroy(&r->changed);
    pthread_mutex_destroy(&r->lock);
    free(r->reports);
    free(r);
    return code;
}
