/* Loaded before the C library (LD_PRELOAD): makes one allocation of a program fail, or that one and
 * all after it.
 *
 * Allocations are counted by the place they come from: a place is a chain of callers, and only the
 * first allocation of each is counted, so that a program which makes a million of them in some
 * hundred places is tried in some hundred runs. Counted from 1 in the order in which they come.
 *
 *   MP_FAIL_PLACE=N     the place whose first allocation fails; 0 or nothing: none
 *   MP_FAIL_ONWARDS=1   every allocation after that one fails too
 *   MP_FAIL_LOG=FILE    gets, in the end, a line with the number of places, and at the failure one
 *                       with the object (the program or a library) and the offset of the caller
 */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The C library's own, under names that this file does not take. */
extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

int posix_memalign(void **out, size_t alignment, size_t bytes);

enum { DEPTH = 10, SKIPPED = 2, SLOTS = 1 << 16 };

static atomic_uint_fast64_t seen[SLOTS]; /* hashes of places; 0: free */
static atomic_long num_places;
static atomic_bool failed;
static long wanted;
static bool onwards;
static const char *log_path;
static _Thread_local bool busy __attribute__((tls_model("initial-exec")));

static void write_log(const char *text, int length)
{
    int file = log_path != NULL ? open(log_path, O_WRONLY | O_CREAT | O_APPEND, 0666) : -1;
    if (file >= 0) {
        ssize_t ignored = write(file, text, (size_t)length);
        (void)ignored;
        close(file);
    }
}

__attribute__((constructor)) static void start(void)
{
    void *frames[DEPTH];
    busy = true;
    backtrace(frames, DEPTH); /* loads what it needs now */
    const char *place = getenv("MP_FAIL_PLACE");
    wanted = place != NULL ? atol(place) : 0;
    onwards = getenv("MP_FAIL_ONWARDS") != NULL;
    log_path = getenv("MP_FAIL_LOG");
    /* The programs that this one may start are left alone. */
    unsetenv("LD_PRELOAD");
    busy = false;
}

__attribute__((destructor)) static void finish(void)
{
    char text[64];
    write_log(text, snprintf(text, sizeof text, "places %ld\n", atomic_load(&num_places)));
}

/* The object that asked: the first that is neither the C nor the C++ library, which do so for
 * others. */
static void log_failure(void *const *frames, int count)
{
    char text[256];
    Dl_info info = {0};
    int i = SKIPPED;
    for (; i < count; i++) {
        if (dladdr(frames[i], &info) != 0 && strstr(info.dli_fname, "/libc.so") == NULL &&
            strstr(info.dli_fname, "/libstdc++") == NULL) {
            break;
        }
    }
    const char *slash = i < count ? strrchr(info.dli_fname, '/') : NULL;
    write_log(text,
              snprintf(text, sizeof text, "failed %s %#lx\n",
                       i == count      ? "unknown"
                       : slash != NULL ? slash + 1
                                       : info.dli_fname,
                       i < count ? (unsigned long)((uintptr_t)frames[i] - (uintptr_t)info.dli_fbase)
                                 : 0));
}

/* Whether the place was not there before. */
static bool add_place(uint64_t hash)
{
    for (uint64_t slot = hash % SLOTS;; slot = (slot + 1) % SLOTS) {
        uint_fast64_t there = 0;
        if (atomic_compare_exchange_strong(&seen[slot], &there, hash)) {
            return true;
        }
        if (there == hash) {
            return false;
        }
    }
}

static __attribute__((noinline)) bool must_fail(void)
{
    if (wanted <= 0 || busy) {
        return false;
    }
    if (atomic_load(&failed)) {
        return onwards;
    }
    busy = true;
    void *frames[DEPTH];
    int count = backtrace(frames, DEPTH);
    uint64_t hash = 14695981039346656037u;
    for (int i = SKIPPED; i < count; i++) {
        hash = (hash ^ (uintptr_t)frames[i]) * 1099511628211u;
    }
    bool fails = add_place(hash | 1) && atomic_fetch_add(&num_places, 1) + 1 == wanted;
    if (fails) {
        atomic_store(&failed, true);
        log_failure(frames, count);
    }
    busy = false;
    return fails;
}

static void *none(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t bytes)
{
    return must_fail() ? none() : __libc_malloc(bytes);
}

void *calloc(size_t count, size_t size)
{
    return must_fail() ? none() : __libc_calloc(count, size);
}

void *realloc(void *p, size_t bytes)
{
    return must_fail() ? none() : __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes)
{
    return must_fail() ? none() : __libc_memalign(alignment, bytes);
}

void *memalign(size_t alignment, size_t bytes)
{
    return must_fail() ? none() : __libc_memalign(alignment, bytes);
}

int posix_memalign(void **out, size_t alignment, size_t bytes)
{
    void *p = must_fail() ? NULL : __libc_memalign(alignment, bytes);
    if (p == NULL) {
        return ENOMEM;
    }
    *out = p;
    return 0;
}
