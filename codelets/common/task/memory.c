#include "codelets/common/task/memory.h"

#include "core/base/memory.h"

#include <starpu.h>
#include <stdint.h>

unsigned mp_memory_node(enum mp_place place)
{
    if (place != MP_PLACE_GPU) {
        return STARPU_MAIN_RAM;
    }
    int worker = starpu_worker_get_by_type(STARPU_CUDA_WORKER, 0);
    if (worker < 0) {
        mp_panic("memory of a GPU is asked for, but there is no GPU worker");
    }
    return starpu_worker_get_memory_node((unsigned)worker);
}

/* Without a GPU nothing is page-locked. */
static enum mp_place real_place(enum mp_place place)
{
    bool gpu = starpu_cuda_worker_get_count() > 0;
    return place == MP_PLACE_PINNED && !gpu ? MP_PLACE_HOST : place;
}

static void *alloc_host(const struct mp_shares *shares, size_t bytes, const char *what,
                        struct mp_error *err)
{
    void *p = mp_alloc(bytes, 1, what, err);
    if (p != NULL && shares != NULL) {
        mp_shares_bind(shares, p, bytes);
    }
    return p;
}

/* Large blocks have pages of their own, so they can be page-locked where they are and keep their
 * huge pages. Smaller ones come from StarPU, page-locked. */
static bool pinned_in_place(size_t bytes)
{
    return bytes >= MP_LARGE_BLOCK;
}

static void *alloc_pinned(const struct mp_shares *shares, size_t bytes, const char *what,
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
    p = alloc_host(shares, bytes, what, err);
    if (p != NULL && starpu_memory_pin(p, bytes) != 0) {
        mp_fail(err, MP_ERR_MEMORY, "%s: %zu bytes could not be page-locked", what, bytes);
        mp_free(p);
        return NULL;
    }
    return p;
}

void *mp_memory_alloc_shares(enum mp_place place, const struct mp_shares *shares, size_t bytes,
                             const char *what, struct mp_error *err)
{
    bytes = bytes > 0 ? bytes : 1;
    place = real_place(place);
    if (place == MP_PLACE_HOST) {
        return alloc_host(shares, bytes, what, err);
    }
    if (place == MP_PLACE_PINNED) {
        return alloc_pinned(shares, bytes, what, err);
    }
    uintptr_t p = starpu_malloc_on_node(mp_memory_node(place), bytes);
    if (p == 0) {
        mp_fail(err, MP_ERR_MEMORY, "%s: %zu bytes of GPU memory could not be had", what, bytes);
    }
    return (void *)p;
}

void *mp_memory_alloc(enum mp_place place, size_t bytes, const char *what, struct mp_error *err)
{
    return mp_memory_alloc_shares(place, NULL, bytes, what, err);
}

void mp_memory_free(enum mp_place place, void *p, size_t bytes)
{
    bytes = bytes > 0 ? bytes : 1;
    place = real_place(place);
    if (p == NULL) {
        return;
    }
    if (place == MP_PLACE_GPU) {
        starpu_free_on_node(mp_memory_node(place), (uintptr_t)p, bytes);
    } else if (place == MP_PLACE_PINNED && !pinned_in_place(bytes)) {
        starpu_free(p);
    } else {
        if (place == MP_PLACE_PINNED) {
            starpu_memory_unpin(p, bytes);
        }
        mp_free(p);
    }
}

int mp_memory_copy(enum mp_place to_place, void *to, enum mp_place from_place, const void *from,
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
