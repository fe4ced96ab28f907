/* Memory that tasks depend on: a block of host memory and its StarPU handle. */
#ifndef MP_TASKS_BUFFER_H
#define MP_TASKS_BUFFER_H

#include "core/error.h"

#include <stdbool.h>
#include <stddef.h>

struct _starpu_data_state; /* what a starpu_data_handle_t points to */

struct mp_buffer {
    void *host; /* the memory; only touched between tasks */
    size_t bytes;
    struct _starpu_data_state *handle; /* NULL: not registered */
    bool owned;                        /* host is freed on release */
};

/* Allocates and registers. bytes may be 0. */
int mp_buffer_alloc(struct mp_buffer *b, size_t bytes, const char *what, struct mp_error *err);

/* Registers memory that the caller owns and keeps until the release: an array, or a struct that
 * describes memory StarPU never moves (a cache, tables). */
void mp_buffer_wrap(struct mp_buffer *b, void *host, size_t bytes);

/* Waits for the tasks that use it, then unregisters and frees. Fine on a zeroed buffer. */
void mp_buffer_release(struct mp_buffer *b);

/* Between acquire and return the host may read (or, with write, read and write) the buffer; waits
 * for the tasks submitted so far that use it. */
int mp_buffer_acquire(struct mp_buffer *b, bool write, struct mp_error *err);
void mp_buffer_return(struct mp_buffer *b);

#endif
