/* Ranks: the processes of one run, which a launcher such as mpirun has started beside each other,
 * on one machine or on several. All of them run the same program with the same arguments; rank 0
 * decides what depends on time or on the user, and tells the others. Without a launcher there is
 * one rank, and a NULL for it does here what one rank does: nothing has to be sent.
 *
 * A thread of its own makes all calls of MPI: it sleeps between its looks at what is under way, for
 * longer the longer that takes, and nobody else waits but by sleeping. */
#ifndef MP_CORE_RANKS_H
#define MP_CORE_RANKS_H

#include "core/base/clock.h"
#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>

struct mp_ranks; /* opaque */

/* Whether a launcher has started this process as one of several. */
bool mp_ranks_launched(void);

/* Whether others run on this machine too, and the launcher has not given each of them cores of its
 * own. */
bool mp_ranks_share_cores(void);

/* Joins the others, which must do the same. MP_ERR_UNSUPPORTED: this program has no MPI. */
int mp_ranks_open(struct mp_ranks **out, struct mp_error *err);

/* Which of them this process is, and how many there are; 0 and 1 for NULL. */
int mp_ranks_index(const struct mp_ranks *r);
int mp_ranks_count(const struct mp_ranks *r);

/* How the clock of one of them compares with rank 0's. */
struct mp_clock_offset mp_ranks_clock(const struct mp_ranks *r, int rank);

/* Seconds that a message to rank 0 and the answer take, at least, from the rank that is farthest;
 * NAN for NULL. */
double mp_ranks_round_trip(const struct mp_ranks *r);

/* One message from this rank or to it. Those of a tag between two ranks arrive in the order in
 * which they were sent. */
struct mp_message {
    void *data; /* in place until the exchange is done */
    size_t bytes;
    int peer; /* the other rank */
    int tag;  /* in [0, MP_RANKS_TAGS) */
    bool send;
};

enum { MP_RANKS_TAGS = 1024 };

/* Starts messages [count] and returns. done(arg) is called once all of them have been sent and
 * received, on the ranks' thread: it must not wait. */
typedef void mp_ranks_done(void *arg);
void mp_ranks_exchange(struct mp_ranks *r, const struct mp_message *messages, int count,
                       mp_ranks_done *done, void *arg);

/* What rank 0 has in data [bytes] gets into data of all others; all of them call this in the same
 * order. MP_ERR_INTERRUPTED: rank 0 has ended the run. */
int mp_ranks_tell(struct mp_ranks *r, void *data, size_t bytes, struct mp_error *err);

/* The same for memory whose size only rank 0 knows: the others get theirs, malloc'ed. */
int mp_ranks_tell_all(struct mp_ranks *r, char **data, size_t *bytes, struct mp_error *err);

/* Every rank's own [bytes] to all of them: all [count][bytes]. Like mp_ranks_tell in its errors. */
int mp_ranks_gather(struct mp_ranks *r, const void *own, size_t bytes, void *all,
                    struct mp_error *err);

/* What a rank hands in. */
struct mp_piece {
    char *data; /* [bytes] malloc'ed */
    size_t bytes;
};

/* The end of the run, and what every other rank hands in to rank 0: to be called by all that have
 * come to it. *own is taken over; rank 0, which ends the run for those that wait for it, hands in
 * nothing and gets all [count]. Nobody waits for a rank 0 that does not ask. */
void mp_ranks_collect(struct mp_ranks *r, const struct mp_piece *own, struct mp_piece *all);

/* The end, for a rank that has come to it with code (0, or what *err says): waits for the others.
 * Rank 0 gets its own code or that of the first other rank that has failed, with a message that
 * names it; the others get 0. If a rank fails and the others do not come to their ends within two
 * seconds, because they wait for it, rank 0 writes the message and ends all of them. NULL: returns
 * code. */
int mp_ranks_close(struct mp_ranks *r, int code, struct mp_error *err);

#endif
