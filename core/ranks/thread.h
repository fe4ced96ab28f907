/* The ranks' thread, and what it shares with those that give it messages. Private to core/ranks. */
#ifndef MP_CORE_RANKS_THREAD_H
#define MP_CORE_RANKS_THREAD_H

#include "core/ranks/driver.h"

#include <pthread.h>
#include <stdint.h>

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

/* Starts messages [count] that go together, watched: nobody waits for them; done(arg) as in
 * mp_ranks_exchange. given_up of what it returns may be set, under the lock, until done has been
 * called. */
struct exchange *mp_ranks_add(struct mp_ranks *r, const struct mp_message *messages, int count,
                              mp_ranks_done *done, void *arg, bool watched);

/* The thread: opens the driver, passes messages until r->leaving, and closes it. */
void *mp_ranks_run(void *ranks);

#endif
