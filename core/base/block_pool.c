#include "core/base/block_pool.h"

#include "core/base/memory.h"

#include <stdlib.h>

void *mp_block_pool_take(struct mp_block_pool *pool, size_t bytes, const void *kind)
{
    struct mp_block *best = NULL;
    for (size_t i = 0; i < pool->count; i++) {
        struct mp_block *b = &pool->blocks[i];
        bool fits = !b->used && b->kind == kind && b->bytes >= bytes && b->bytes / 2 <= bytes;
        if (fits && (best == NULL || b->bytes < best->bytes)) {
            best = b;
        }
    }
    if (best == NULL) {
        return NULL;
    }
    best->used = true;
    pool->kept -= best->bytes;
    pool->used += best->bytes;
    return best->p;
}

void mp_block_pool_add(struct mp_block_pool *pool, void *p, size_t bytes, const void *kind)
{
    pool->blocks = mp_xrealloc(pool->blocks, pool->count + 1, sizeof *pool->blocks);
    pool->blocks[pool->count++] = (struct mp_block){p, bytes, kind, true};
    pool->used += bytes;
    pool->most = pool->used > pool->most ? pool->used : pool->most;
}

void mp_block_pool_return(struct mp_block_pool *pool, void *p)
{
    for (size_t i = 0; i < pool->count; i++) {
        struct mp_block *b = &pool->blocks[i];
        if (b->p == p) {
            b->used = false;
            pool->used -= b->bytes;
            pool->kept += b->bytes;
            return;
        }
    }
}

/* The largest kept block: as few as possible go. */
void *mp_block_pool_drop(struct mp_block_pool *pool, size_t *bytes)
{
    struct mp_block *largest = NULL;
    for (size_t i = 0; i < pool->count; i++) {
        struct mp_block *b = &pool->blocks[i];
        if (!b->used && (largest == NULL || b->bytes > largest->bytes)) {
            largest = b;
        }
    }
    if (largest == NULL) {
        return NULL;
    }
    void *p = largest->p;
    *bytes = largest->bytes;
    pool->kept -= largest->bytes;
    *largest = pool->blocks[--pool->count];
    if (pool->count == 0) {
        free(pool->blocks);
        *pool = (struct mp_block_pool){0};
    }
    return p;
}

void *mp_block_pool_surplus(struct mp_block_pool *pool, size_t more, size_t *bytes)
{
    size_t needed = pool->used + more;
    size_t most = needed > pool->most ? needed : pool->most;
    return needed + pool->kept > most ? mp_block_pool_drop(pool, bytes) : NULL;
}
