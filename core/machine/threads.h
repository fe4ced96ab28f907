/* Whether the system gives this process as many threads as it is going to start. */
#ifndef MP_CORE_THREADS_H
#define MP_CORE_THREADS_H

#include "core/base/error.h"

#include <stddef.h>

/* Starts `count` threads at once, reserves `bytes` of address space beside them, and ends them: the
 * libraries that start them later end the program if they cannot. MP_ERR_RUNTIME says how many
 * started and which limits there are, MP_ERR_MEMORY that the address space is too small. */
int mp_threads_check(int count, size_t bytes, struct mp_error *err);

#endif
