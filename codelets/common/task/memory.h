/* Memory by place: ordinary, page-locked, or a GPU's; and its allocation, which a memory plan can
 * run without allocating. */
#ifndef MP_CODELETS_COMMON_MEMORY_H
#define MP_CODELETS_COMMON_MEMORY_H

#include "core/base/error.h"
#include "core/machine/shard.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mp_memory {
    MP_MEMORY_HOST,   /* ordinary memory, in pages as large as the system gives */
    MP_MEMORY_PINNED, /* host memory that GPU tasks use in place; ordinary where there is no GPU */
    MP_MEMORY_GPU,    /* a GPU's memory */
    MP_MEMORIES = MP_MEMORY_GPU + MP_MAX_GPUS, /* where a plan counts: each GPU's by itself */
};

struct mp_place {
    enum mp_memory memory;
    int gpu;                     /* of MP_MEMORY_GPU: which one, from 0 */
    const struct mp_shard *near; /* of host memory: it lies next to this shard's team; NULL:
                                    anywhere. Not needed to free or to copy */
};

#define MP_HOST ((struct mp_place){.memory = MP_MEMORY_HOST})
#define MP_PINNED ((struct mp_place){.memory = MP_MEMORY_PINNED})

/* A device's own memory. */
static inline struct mp_place mp_memory_of(struct mp_device d)
{
    return d.kind == MP_GPU ? (struct mp_place){.memory = MP_MEMORY_GPU, .gpu = d.index} : MP_HOST;
}

/* The device that works on what lies there. */
static inline struct mp_device mp_device_of(struct mp_place p)
{
    return p.memory == MP_MEMORY_GPU ? (struct mp_device){MP_GPU, p.gpu}
                                     : (struct mp_device){MP_CPU, -1};
}

/* Allocations in a row. The first failure stays, and later ones do nothing. */
struct mp_allocator {
    int code;
    struct mp_error *err; /* says why, once code is not 0 */
    int64_t *counted; /* [MP_MEMORIES] a plan: bytes are added up here (mp_bytes_add) and nothing
                         is allocated; NULL: allocates */
    /* Frees something else, of `owner`, before an allocation fails, so that it is tried again.
     * False: there is nothing more to free. NULL: there never is. */
    bool (*make_room)(const void *owner);
    const void *owner;
};

/* Allocates bytes (may be 0), not cleared. NULL where it only counts, and after a failure:
 * MP_ERR_MEMORY, with `what` in the message. The runtime has been started. */
void *mp_allocate(struct mp_allocator *a, struct mp_place place, size_t bytes, const char *what);

/* The same, all zero. */
void *mp_allocate_zeroed(struct mp_allocator *a, struct mp_place place, size_t bytes,
                         const char *what);

/* Whether what was created so far is there to be used: it is not while a plan is made. */
static inline bool mp_allocated(const struct mp_allocator *a)
{
    return a->code == 0 && a->counted == NULL;
}

/* Frees what either gave for the same place and size; NULL is fine. No task uses it. Large blocks
 * of page-locked memory are kept for others, until mp_memory_release, as long as all of them are no
 * more than there were in use at a time. */
void mp_memory_free(struct mp_place place, void *p, size_t bytes);

/* Frees what is kept. Before the runtime stops. */
void mp_memory_release(void);

/* Copies between places and waits. Only between tasks. MP_ERR_RUNTIME. */
int mp_memory_copy(struct mp_place to_place, void *to, struct mp_place from_place, const void *from,
                   size_t bytes, struct mp_error *err);

/* StarPU's memory node of a place. */
unsigned mp_memory_node(struct mp_place place);

#endif
