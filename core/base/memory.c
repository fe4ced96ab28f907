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

/* ---- memory that is there or the program ends ---- */

static void __attribute__((noreturn)) exhausted(size_t count, size_t size, const char *what)
{
    mp_give_up("out of memory: %zu x %zu bytes asked for in %s", count, size, what);
}

void *mp_xmalloc_for(size_t bytes, const char *what)
{
    void *p = malloc(bytes == 0 ? 1 : bytes);
    if (p == NULL) {
        exhausted(1, bytes, what);
    }
    return p;
}

void *mp_xcalloc_for(size_t count, size_t size, const char *what)
{
    void *p = calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);
    if (p == NULL) {
        exhausted(count, size, what);
    }
    return p;
}

void *mp_xrealloc_for(void *p, size_t count, size_t size, const char *what)
{
    size_t bytes;
    void *q = mp_size_mul(count, size, &bytes) ? realloc(p, bytes == 0 ? 1 : bytes) : NULL;
    if (q == NULL) {
        exhausted(count, size, what);
    }
    return q;
}

char *mp_xstrndup_for(const char *s, size_t n, const char *what)
{
    char *copy = mp_xmalloc_for(n + 1, what);
    memcpy(copy, s, n);
    copy[n] = '\0';
    return copy;
}

char *mp_xstrdup_for(const char *s, const char *what)
{
    return mp_xstrndup_for(s, strlen(s), what);
}

char *mp_xasprintf_for(const char *what, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    char *text = NULL;
    if (vasprintf(&text, format, args) < 0) {
        exhausted(1, strlen(format), what);
    }
    va_end(args);
    return text;
}

FILE *mp_xstream_open_for(char **text, size_t *length, const char *what)
{
    FILE *stream = open_memstream(text, length);
    if (stream == NULL) {
        exhausted(1, sizeof *stream, what);
    }
    return stream;
}

void mp_xstream_close_for(FILE *stream, const char *what)
{
    long length = ftell(stream);
    bool failed = ferror(stream) != 0;
    if (fclose(stream) != 0 || failed) {
        exhausted(1, length > 0 ? (size_t)length : 0, what);
    }
}
