/* Checked allocation: overflow-safe sizes, 64-byte alignment, zeroed or not, and an error that
 * says how much was asked for and what for. */
#ifndef MP_CORE_MEMORY_H
#define MP_CORE_MEMORY_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A block of this many bytes or more starts on a huge page, and no other block lies in its last
 * one.
 */
enum { MP_HUGE_PAGE = 2 << 20, MP_LARGE_BLOCK = 2 * MP_HUGE_PAGE };

/* a * b in *out; false on overflow. */
bool mp_size_mul(size_t a, size_t b, size_t *out);

/* Sums and products of sizes in bytes, none below 0, that stay INT64_MAX once they are more. */
static inline int64_t mp_bytes_add(int64_t a, int64_t b)
{
    int64_t sum;
    return __builtin_add_overflow(a, b, &sum) ? INT64_MAX : sum;
}

static inline int64_t mp_bytes_mul(int64_t a, int64_t b)
{
    int64_t product;
    return __builtin_mul_overflow(a, b, &product) ? INT64_MAX : product;
}

/* Allocates count * size bytes, 64-byte aligned, not cleared (pages of large blocks are first
 * touched by whoever writes them). `what` names the thing in the error message.
 * count * size == 0 gives a valid non-NULL pointer. NULL on failure, with err filled. */
void *mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err);

/* Frees what mp_alloc gave; NULL is fine. Part of the public interface, which gives out what is
 * below too. */
MP_API void mp_free(void *p);

/* For small bookkeeping memory (strings, tables, configuration), where running out is not
 * something a caller can handle: panics instead of returning NULL. Free with free(). */
void *mp_xmalloc(size_t bytes);
void *mp_xcalloc(size_t count, size_t size);
void *mp_xrealloc(void *p, size_t count, size_t size);
char *mp_xstrdup(const char *s);
char *mp_xstrndup(const char *s, size_t n);
/* printf into a fresh string. */
char *mp_xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
