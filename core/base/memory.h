/* Checked allocation: overflow-safe sizes, 64-byte alignment, zeroed or not, and an error that
 * says how much was asked for and what for. */
#ifndef MP_CORE_MEMORY_H
#define MP_CORE_MEMORY_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

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

/* For bookkeeping memory (strings, tables, configuration), where running out is not something a
 * caller can handle: it ends the program instead of returning NULL. Free with free(). */
#define mp_xmalloc(bytes) mp_xmalloc_for(bytes, __func__)
#define mp_xcalloc(count, size) mp_xcalloc_for(count, size, __func__)
#define mp_xrealloc(p, count, size) mp_xrealloc_for(p, count, size, __func__)
#define mp_xstrdup(s) mp_xstrdup_for(s, __func__)
#define mp_xstrndup(s, n) mp_xstrndup_for(s, n, __func__)
/* printf into a fresh string. */
#define mp_xasprintf(...) mp_xasprintf_for(__func__, __VA_ARGS__)

/* The same with the name of the function that asks, which the message has. */
void *mp_xmalloc_for(size_t bytes, const char *what);
void *mp_xcalloc_for(size_t count, size_t size, const char *what);
void *mp_xrealloc_for(void *p, size_t count, size_t size, const char *what);
char *mp_xstrdup_for(const char *s, const char *what);
char *mp_xstrndup_for(const char *s, size_t n, const char *what);
char *mp_xasprintf_for(const char *what, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* A stream into a fresh string, which is whole once it is closed: it too is there or the program
 * ends. */
#define mp_xstream_open(text, length) mp_xstream_open_for(text, length, __func__)
#define mp_xstream_close(stream) mp_xstream_close_for(stream, __func__)
FILE *mp_xstream_open_for(char **text, size_t *length, const char *what);
void mp_xstream_close_for(FILE *stream, const char *what);

#endif
