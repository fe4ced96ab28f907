/* Blocks of memory that are dear to make, kept for those who want blocks next. The pool knows their
 * addresses and sizes; making and destroying them is its user's business. */
#ifndef MP_CORE_BLOCK_POOL_H
#define MP_CORE_BLOCK_POOL_H

#include <stdbool.h>
#include <stddef.h>

struct mp_block {
    void *p;
    size_t bytes;
    const void *kind; /* blocks of one kind replace each other */
    bool used;        /* somebody has it; otherwise it is kept */
};

/* All zero at first. Not to be used by two threads at once. */
struct mp_block_pool {
    struct mp_block *blocks; /* [count] */
    size_t count;
    size_t used; /* bytes that somebody has */
    size_t kept; /* bytes that nobody has */
    size_t most; /* the largest `used` so far: no more than that is held, unless it is used */
};

/* The smallest kept block of the kind that has room for so many bytes, and not twice as much; NULL:
 * there is none. */
void *mp_block_pool_take(struct mp_block_pool *pool, size_t bytes, const void *kind);

/* Adds a new block, which somebody has. */
void mp_block_pool_add(struct mp_block_pool *pool, void *p, size_t bytes, const void *kind);

/* Whoever had a block needs it no more. */
void mp_block_pool_return(struct mp_block_pool *pool, void *p);

/* Takes a kept block out of the pool, for its user to destroy: one that is too much once `more` new
 * bytes are used. NULL: none is. *bytes: its size. */
void *mp_block_pool_surplus(struct mp_block_pool *pool, size_t more, size_t *bytes);

/* The same of any kept block; after the last one the pool is all zero if nobody has any. */
void *mp_block_pool_drop(struct mp_block_pool *pool, size_t *bytes);

#endif
