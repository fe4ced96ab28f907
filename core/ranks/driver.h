/* What the ranks need of MPI, in a module that is loaded only where a launcher has started several
 * processes: a program by itself neither loads nor starts MPI. */
#ifndef MP_CORE_RANKS_DRIVER_H
#define MP_CORE_RANKS_DRIVER_H

#include "core/ranks/ranks.h"

/* All functions are called by one thread. MPI ends all ranks if one of its calls fails. */
struct mp_ranks_driver {
    void (*open)(int *rank, int *count);
    /* Messages under way, until test or drop has returned true or anything. */
    void *(*start)(const struct mp_message *messages, int count);
    bool (*test)(void *started);
    void (*drop)(void *started);
    void (*abort)(int status); /* ends all ranks */
    void (*close)(void);
};

/* The module's file, beside the program or in ../lib of it, and the driver's name in there. */
#define MP_RANKS_MODULE "libmagicpig-mpi.so"
#define MP_RANKS_DRIVER "mp_ranks_mpi"

#endif
