/* The arena of a compilation or a rendering, and how errors leave it. */
#include "core/base/memory.h"
#include "core/jinja/internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_BYTES = 64 << 10 };

struct mpj_block {
    struct mpj_block *next;
    size_t used;
    size_t size;
    _Alignas(max_align_t) char data[];
};

static struct mpj_block *add_block(struct mpj_work *w, size_t bytes)
{
    size_t size = bytes > BLOCK_BYTES / 4 ? bytes : BLOCK_BYTES;
    if (size > w->max_bytes - w->bytes) {
        mpj_fail(w, MP_ERR_RUNTIME, "the template takes more than %zu bytes of memory",
                 w->max_bytes);
    }
    struct mp_error err;
    struct mpj_block *block = mp_alloc(1, sizeof *block + size, "a chat template's values", &err);
    if (block == NULL) {
        mpj_fail(w, MP_ERR_MEMORY, "%s", err.message);
    }
    w->bytes += size;
    block->used = 0;
    block->size = size;
    /* A block of its own does not end the one that is being filled. */
    if (w->blocks != NULL && bytes == size) {
        block->next = w->blocks->next;
        w->blocks->next = block;
    } else {
        block->next = w->blocks;
        w->blocks = block;
    }
    return block;
}

void *mpj_alloc(struct mpj_work *w, size_t count, size_t size)
{
    size_t bytes;
    if (!mp_size_mul(count, size, &bytes) || bytes > SIZE_MAX / 2) {
        mpj_fail(w, MP_ERR_RUNTIME, "the template takes more than %zu bytes of memory",
                 w->max_bytes);
    }
    bytes = (bytes + _Alignof(max_align_t) - 1) / _Alignof(max_align_t) * _Alignof(max_align_t);
    struct mpj_block *block = w->blocks;
    if (block == NULL || bytes > block->size - block->used) {
        block = add_block(w, bytes);
    }
    void *p = block->data + block->used;
    block->used += bytes;
    return memset(p, 0, bytes);
}

char *mpj_copy(struct mpj_work *w, const char *data, size_t length)
{
    char *copy = mpj_alloc(w, length + 1, 1);
    if (length > 0) {
        memcpy(copy, data, length);
    }
    return copy;
}

void mpj_free(struct mpj_work *w)
{
    while (w->blocks != NULL) {
        struct mpj_block *next = w->blocks->next;
        mp_free(w->blocks);
        w->blocks = next;
    }
}

void mpj_fail(struct mpj_work *w, enum mp_code code, const char *format, ...)
{
    char message[sizeof w->err->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    mp_fail(w->err, code, "%s:%zu: %s", w->name, w->line, message);
    longjmp(w->leave, 1);
}

void mpj_step(struct mpj_work *w, size_t steps)
{
    if (steps > w->max_steps - w->steps) {
        mpj_fail(w, MP_ERR_RUNTIME, "the template does not end after %zu steps", w->max_steps);
    }
    w->steps += steps;
}

void mpj_enter(struct mpj_work *w)
{
    mpj_step(w, 1);
    if (w->depth == MPJ_MAX_DEPTH) {
        mpj_fail(w, MP_ERR_RUNTIME, "more than %d calls, expressions and values in each other",
                 MPJ_MAX_DEPTH);
    }
    w->depth++;
}
