#include "core/ranks/thread.h"

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/trace/trace.h"

#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

/* The thread sleeps for an eighth of the time that it has waited already, within these bounds: what
 * it adds to a wait is an eighth of it, and a long one costs next to no time of a core. What nobody
 * waits for is looked at more seldom. */
static const uint64_t SHORTEST_NS = 5000;
static const uint64_t LONGEST_NS = 1000000;
static const uint64_t WATCH_NS = 50000000;

struct exchange *mp_ranks_add(struct mp_ranks *r, const struct mp_message *messages, int count,
                              mp_ranks_done *done, void *arg, bool watched)
{
    struct exchange *x = mp_xcalloc(1, sizeof *x + (size_t)count * sizeof *messages);
    x->done = done;
    x->arg = arg;
    x->watched = watched;
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

void *mp_ranks_run(void *ranks)
{
    struct mp_ranks *r = ranks;
    uint64_t since = 0;
    mp_trace_name_thread("messages to ranks", MP_TRACK_HOST);
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
