/* Memory by place: ordinary, page-locked, or a GPU's. The pipeline decides places and holds the
 * pointers; only kernels follow those of the GPU. */
#ifndef MP_TASKS_MEMORY_H
#define MP_TASKS_MEMORY_H

#include "core/base/error.h"
#include "core/machine/share.h"

#include <stdbool.h>
#include <stddef.h>

enum mp_place {
    MP_PLACE_HOST,   /* ordinary memory, in pages as large as the system gives */
    MP_PLACE_PINNED, /* host memory that GPU tasks use in place; ordinary where there is no GPU */
    MP_PLACE_GPU,    /* the GPU's memory */
};

/* Allocates bytes (may be 0) at a place, not cleared; NULL with MP_ERR_MEMORY in err. The runtime
 * has been started. */
void *mp_memory_alloc(enum mp_place place, size_t bytes, const char *what, struct mp_error *err);

/* The same for an array [KV heads] whose shares are to lie in the memory of their workers, if it is
 * CPU memory. shares NULL: it lies anywhere. */
void *mp_memory_alloc_shares(enum mp_place place, const struct mp_shares *shares, size_t bytes,
                             const char *what, struct mp_error *err);

/* Frees what either gave for the same place and size; NULL is fine. No task uses it. */
void mp_memory_free(enum mp_place place, void *p, size_t bytes);

/* Copies between places and waits. Only between tasks. */
int mp_memory_copy(enum mp_place to_place, void *to, enum mp_place from_place, const void *from,
                   size_t bytes, struct mp_error *err);

/* StarPU's memory node of a place. */
unsigned mp_memory_node(enum mp_place place);

#endif
