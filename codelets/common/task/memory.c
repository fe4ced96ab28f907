#include "codelets/common/task/memory.h"

#include "core/base/block_pool.h"
#include "core/base/memory.h"

#include <pthread.h>
#include <starpu.h>
#include <stdint.h>
#include <stdlib.h>

unsigned mp_memory_node(struct mp_place place)
{
    if (place.memory != MP_MEMORY_GPU) {
        return STARPU_MAIN_RAM;
    }
    int worker = starpu_worker_get_by_type(STARPU_CUDA_WORKER, place.gpu);
    if (worker < 0) {
        mp_panic("memory of GPU %d is asked for, but no worker drives it", place.gpu);
    }
    return starpu_worker_get_memory_node((unsigned)worker);
}

/* Without a GPU nothing is page-locked. */
static enum mp_memory real_memory(struct mp_place place)
{
    bool gpu = starpu_cuda_worker_get_count() > 0;
    return place.memory == MP_MEMORY_PINNED && !gpu ? MP_MEMORY_HOST : place.memory;
}

static void *alloc_host(struct mp_place place, size_t bytes, const char *what, struct mp_error *err)
{
    void *p = mp_alloc(bytes, 1, what, err);
    if (p != NULL && place.near != NULL) {
        mp_shard_bind(place.near, p, bytes);
    }
    return p;
}

/* Large blocks have pages of their own, so they can be page-locked where they are and keep their
 * huge pages. Smaller ones come from StarPU, page-locked. */
static bool pinned_in_place(size_t bytes)
{
    return bytes >= MP_LARGE_BLOCK;
}

/* Page-locking takes longer than to fill the memory: what one request has had the next one gets. */
static struct mp_block_pool pinned;
static pthread_mutex_t pinned_lock = PTHREAD_MUTEX_INITIALIZER;

/* Memory next to one team does not serve another. */
static const void *pinned_kind(struct mp_place place)
{
    return place.near != NULL ? place.near->team : NULL;
}

static void unpin(void *p, size_t bytes)
{
    starpu_memory_unpin(p, bytes);
    mp_free(p);
}

static void *pin_block(struct mp_place place, size_t bytes, const char *what, struct mp_error *err)
{
    size_t size;
    void *old;
    while ((old = mp_block_pool_surplus(&pinned, bytes, &size)) != NULL) {
        unpin(old, size);
    }
    void *p = alloc_host(place, bytes, what, err);
    if (p != NULL && starpu_memory_pin(p, bytes) != 0) {
        mp_fail(err, MP_ERR_MEMORY, "%s: %zu bytes could not be page-locked", what, bytes);
        mp_free(p);
        return NULL;
    }
    if (p != NULL) {
        mp_block_pool_add(&pinned, p, bytes, pinned_kind(place));
    }
    return p;
}

static void *alloc_pinned(struct mp_place place, size_t bytes, const char *what,
                          struct mp_error *err)
{
    void *p = NULL;
    if (!pinned_in_place(bytes)) {
        if (starpu_malloc(&p, bytes) != 0) {
            mp_fail(err, MP_ERR_MEMORY, "%s: %zu bytes of page-locked memory could not be had",
                    what, bytes);
            return NULL;
        }
        return p;
    }
    pthread_mutex_lock(&pinned_lock);
    p = mp_block_pool_take(&pinned, bytes, pinned_kind(place));
    p = p != NULL ? p : pin_block(place, bytes, what, err);
    pthread_mutex_unlock(&pinned_lock);
    return p;
}

void mp_memory_release(void)
{
    size_t bytes;
    void *p;
    pthread_mutex_lock(&pinned_lock);
    while ((p = mp_block_pool_drop(&pinned, &bytes)) != NULL) {
        unpin(p, bytes);
    }
    pthread_mutex_unlock(&pinned_lock);
}

static void *alloc_gpu(struct mp_place place, size_t bytes, const char *what, struct mp_error *err)
{
    uintptr_t p = starpu_malloc_on_node(mp_memory_node(place), bytes);
    if (p == 0) {
        mp_fail(err, MP_ERR_MEMORY, "%s: %zu bytes of GPU memory could not be had", what, bytes);
    }
    return (void *)p;
}

static void *allocate(struct mp_place place, size_t bytes, const char *what, struct mp_error *err)
{
    enum mp_memory memory = real_memory(place);
    return memory == MP_MEMORY_HOST     ? alloc_host(place, bytes, what, err)
           : memory == MP_MEMORY_PINNED ? alloc_pinned(place, bytes, what, err)
                                        : alloc_gpu(place, bytes, what, err);
}

void *mp_allocate(struct mp_allocator *a, struct mp_place place, size_t bytes, const char *what)
{
    if (a->counted != NULL) {
        int64_t added = bytes < INT64_MAX ? (int64_t)bytes : INT64_MAX;
        int gpu = place.memory == MP_MEMORY_GPU ? place.gpu : 0;
        int64_t *counted = &a->counted[(int)place.memory + gpu];
        *counted = mp_bytes_add(*counted, added);
        return NULL;
    }
    if (a->code != 0) {
        return NULL;
    }
    bytes = bytes > 0 ? bytes : 1;
    void *p = allocate(place, bytes, what, a->err);
    while (p == NULL && a->make_room != NULL && a->make_room(a->owner)) {
        p = allocate(place, bytes, what, a->err);
    }
    a->code = p == NULL ? MP_ERR_MEMORY : 0;
    return p;
}

void *mp_allocate_zeroed(struct mp_allocator *a, struct mp_place place, size_t bytes,
                         const char *what)
{
    void *p = mp_allocate(a, place, bytes, what);
    if (p != NULL) {
        void *zeros = mp_xcalloc(1, bytes > 0 ? bytes : 1);
        a->code = mp_memory_copy(place, p, MP_HOST, zeros, bytes, a->err);
        free(zeros);
    }
    return p;
}

void mp_memory_free(struct mp_place place, void *p, size_t bytes)
{
    if (p == NULL) {
        return;
    }
    bytes = bytes > 0 ? bytes : 1;
    enum mp_memory memory = real_memory(place);
    if (memory == MP_MEMORY_GPU) {
        starpu_free_on_node(mp_memory_node(place), (uintptr_t)p, bytes);
    } else if (memory == MP_MEMORY_PINNED && !pinned_in_place(bytes)) {
        starpu_free(p);
    } else if (memory == MP_MEMORY_PINNED) {
        pthread_mutex_lock(&pinned_lock);
        mp_block_pool_return(&pinned, p);
        pthread_mutex_unlock(&pinned_lock);
    } else {
        mp_free(p);
    }
}

int mp_memory_copy(struct mp_place to_place, void *to, struct mp_place from_place, const void *from,
                   size_t bytes, struct mp_error *err)
{
    int rc = starpu_interface_copy((uintptr_t)from, 0, mp_memory_node(from_place), (uintptr_t)to, 0,
                                   mp_memory_node(to_place), bytes, NULL);
    if (rc != 0) {
        return mp_fail(err, MP_ERR_RUNTIME, "copying %zu bytes between memories failed: %d", bytes,
                       rc);
    }
    return 0;
}
