/* The ranks' thread, and what it shares with those that give it messages. Private to core/ranks. */
#ifndef MP_CORE_RANKS_THREAD_H
#define MP_CORE_RANKS_THREAD_H

#include "core/ranks/driver.h"

#include <pthread.h>
#include <stdint.h>

/* Tags of what the ranks say to each other beside the exchanges of others. */
enum { TELL = MP_RANKS_TAGS, GATHER, REPORT, STOP, CLOCK, COLLECT };

/* Bytes of a message at most: MPI counts them in an int. */
enum { LARGEST = 64 << 20 };

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
    struct mp_clock_offset *clocks; /* [count] */
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
    bool told;              /* rank 0: the others know that the run has ended */
    bool closing;           /* this rank has come to its end */
    bool stopped;           /* rank 0 has ended the run, */
    bool collects;          /* and wants what the others hand in */
    bool leaving;           /* the thread is to end */
};

/* Starts messages [count] that go together, watched: nobody waits for them; done(arg) as in
 * mp_ranks_exchange. given_up of what it returns may be set, under the lock, until done has been
 * called. */
struct exchange *mp_ranks_add(struct mp_ranks *r, const struct mp_message *messages, int count,
                              mp_ranks_done *done, void *arg, bool watched);

/* The same, and waits until they are through, unless rank 0 ends the run: MP_ERR_INTERRUPTED. */
int mp_ranks_pass(struct mp_ranks *r, const struct mp_message *messages, int count,
                  struct mp_error *err);

/* Of rank 0: tells the others that the run has ended, if they have not been told. */
void mp_ranks_stop(struct mp_ranks *r, bool collects);

/* Of the others: waits for that. */
void mp_ranks_await_stop(struct mp_ranks *r);

/* Finds out how the clocks compare; all do it, before anything else. */
void mp_ranks_set_clocks(struct mp_ranks *r);

/* The thread: opens the driver, passes messages until r->leaving, and closes it. */
void *mp_ranks_run(void *ranks);

#endif
