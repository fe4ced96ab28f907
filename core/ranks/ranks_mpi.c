/* The module: messages by MPI. */
#include "core/base/code.h"
#include "core/ranks/driver.h"

#include <mpi.h>
#include <stdlib.h>

struct started {
    int count;
    MPI_Request requests[];
};

static void open_mpi(int *rank, int *count)
{
    int level;
    MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &level);
    MPI_Comm_rank(MPI_COMM_WORLD, rank);
    MPI_Comm_size(MPI_COMM_WORLD, count);
}

static void *start(const struct mp_message *messages, int count)
{
    struct started *s = malloc(sizeof *s + (size_t)count * sizeof s->requests[0]);
    if (s == NULL) {
        MPI_Abort(MPI_COMM_WORLD, 1);
    }
    s->count = count;
    for (int i = 0; i < count; i++) {
        const struct mp_message *m = &messages[i];
        if (m->send) {
            MPI_Isend(m->data, (int)m->bytes, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD,
                      &s->requests[i]);
        } else {
            MPI_Irecv(m->data, (int)m->bytes, MPI_BYTE, m->peer, m->tag, MPI_COMM_WORLD,
                      &s->requests[i]);
        }
    }
    return s;
}

static bool test(void *started)
{
    struct started *s = started;
    int done;
    MPI_Testall(s->count, s->requests, &done, MPI_STATUSES_IGNORE);
    if (done) {
        free(s);
    }
    return done != 0;
}

static void drop(void *started)
{
    struct started *s = started;
    for (int i = 0; i < s->count; i++) {
        if (s->requests[i] != MPI_REQUEST_NULL) {
            MPI_Cancel(&s->requests[i]);
            MPI_Request_free(&s->requests[i]);
        }
    }
    free(s);
}

static void abort_all(int status)
{
    MPI_Abort(MPI_COMM_WORLD, status);
}

static void close_mpi(void)
{
    MPI_Finalize();
}

extern MP_API const struct mp_ranks_driver mp_ranks_mpi;
const struct mp_ranks_driver mp_ranks_mpi = {
    .open = open_mpi,
    .start = start,
    .test = test,
    .drop = drop,
    .abort = abort_all,
    .close = close_mpi,
};
