#include "core/base/memory.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* Cache lines for small blocks. Large ones ask for huge pages: gathers over gigabytes of keys and
 * tables would otherwise miss the TLB at every access. */
enum { ALIGNMENT = 64 };

bool mp_size_mul(size_t a, size_t b, size_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}

void *mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err)
{
    size_t bytes;
    if (!mp_size_mul(count, size, &bytes) || bytes > SIZE_MAX - MP_HUGE_PAGE) {
        mp_fail(err, MP_ERR_MEMORY, "%s: %zu x %zu bytes is more than can be addressed", what,
                count, size);
        return NULL;
    }
    /* aligned_alloc wants a multiple of the alignment, and at least one. */
    bool large = bytes >= MP_LARGE_BLOCK;
    size_t alignment = large ? MP_HUGE_PAGE : ALIGNMENT;
    size_t rounded = bytes == 0 ? alignment : (bytes + alignment - 1) / alignment * alignment;
    void *p = aligned_alloc(alignment, rounded);
    if (p != NULL && large) {
        madvise(p, rounded, MADV_HUGEPAGE); /* a hint: kernels without it say no */
    }
    if (p == NULL) {
        mp_fail(err, MP_ERR_MEMORY, "%s: out of memory, %.1f MiB asked for", what,
                (double)bytes / (1024.0 * 1024.0));
    }
    return p;
}

void mp_free(void *p)
{
    free(p);
}

void *mp_xmalloc(size_t bytes)
{
    void *p = malloc(bytes == 0 ? 1 : bytes);
    if (p == NULL) {
        mp_panic("out of memory: %zu bytes", bytes);
    }
    return p;
}

void *mp_xcalloc(size_t count, size_t size)
{
    void *p = calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);
    if (p == NULL) {
        mp_panic("out of memory: %zu x %zu bytes", count, size);
    }
    return p;
}

void *mp_xrealloc(void *p, size_t count, size_t size)
{
    size_t bytes;
    if (!mp_size_mul(count, size, &bytes)) {
        mp_panic("out of memory: %zu x %zu bytes", count, size);
    }
    void *q = realloc(p, bytes == 0 ? 1 : bytes);
    if (q == NULL) {
        mp_panic("out of memory: %zu bytes", bytes);
    }
    return q;
}

char *mp_xstrndup(const char *s, size_t n)
{
    char *copy = mp_xmalloc(n + 1);
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *mp_xstrdup(const char *s)
{
    return mp_xstrndup(s, strlen(s));
}

char *mp_xasprintf(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0) {
        mp_panic("out of memory while formatting a message");
    }
    va_end(args);
    return text;
}
