/* Memory that tasks depend on: a block of memory and its StarPU handle. */
#ifndef MP_CODELETS_COMMON_BUFFER_H
#define MP_CODELETS_COMMON_BUFFER_H

#include "codelets/common/task/memory.h"

#include <stdbool.h>

struct _starpu_data_state; /* what a starpu_data_handle_t points to */

struct mp_buffer {
    void *data; /* the memory; only touched between tasks, and only if it is host memory */
    size_t bytes;
    struct mp_place place;
    struct _starpu_data_state *handle; /* NULL: not registered */
    bool owned;                        /* data is freed on release */
    bool in_place; /* GPU tasks use the host memory itself; otherwise StarPU keeps copies where
                      the tasks run */
};

/* The part of an array [rows][heads][...] that belongs to some query heads, in a buffer of its
 * own: [rows][num_heads][...]. */
struct mp_head_buffer {
    const struct mp_buffer *buffer;
    int first_head;
    int num_heads;
};

/* Allocates bytes (may be 0) at a place and registers them. */
void mp_buffer_create(struct mp_allocator *a, struct mp_buffer *b, struct mp_place place,
                      size_t bytes, const char *what);

/* Registers memory that the caller owns and keeps until the release, and that StarPU never moves:
 * part of a cache, or a host struct that describes memory (a cache, an index). */
void mp_buffer_wrap(struct mp_allocator *a, struct mp_buffer *b, struct mp_place place, void *data,
                    size_t bytes);

/* Waits for the tasks that use it, then unregisters and frees. Fine on a zeroed buffer. */
void mp_buffer_release(struct mp_buffer *b);

/* Fills a buffer, wherever it is, from host memory. Before any task uses it. MP_ERR_RUNTIME. */
int mp_buffer_fill(struct mp_buffer *b, const void *from, struct mp_error *err);

/* Between acquire and return the host may read (or, with write, read and write) a buffer in host
 * memory; waits for the tasks submitted so far that use it. MP_ERR_RUNTIME. */
int mp_buffer_acquire(struct mp_buffer *b, bool write, struct mp_error *err);
void mp_buffer_return(struct mp_buffer *b);

#endif
