#include "codelets/common/scratch.h"

#include "core/base/memory.h"

#include <string.h>

/* Blocks are never moved while in use: when one is full a larger one is added, and the next reset
 * replaces them all by a single block of the total size. */
enum { MAX_BLOCKS = 16 };

struct arena {
    char *blocks[MAX_BLOCKS];
    size_t sizes[MAX_BLOCKS];
    int count;   /* blocks allocated */
    size_t used; /* bytes taken from the last one */
};

static _Thread_local struct arena arena;

static void add_block(size_t bytes)
{
    struct mp_error err;
    if (arena.count == MAX_BLOCKS) {
        mp_panic("kernel scratch: more than %d blocks", MAX_BLOCKS);
    }
    char *block = mp_alloc(bytes, 1, "kernel scratch", &err);
    if (block == NULL) {
        mp_give_up("%s", err.message);
    }
    arena.blocks[arena.count] = block;
    arena.sizes[arena.count] = bytes;
    arena.count++;
    arena.used = 0;
}

void mp_scratch_release(void)
{
    for (int i = 0; i < arena.count; i++) {
        mp_free(arena.blocks[i]);
    }
    memset(&arena, 0, sizeof arena);
}

void mp_scratch_reset(void)
{
    if (arena.count > 1) {
        size_t total = 0;
        for (int i = 0; i < arena.count; i++) {
            total += arena.sizes[i];
        }
        mp_scratch_release();
        add_block(total);
    }
    arena.used = 0;
}

void *mp_scratch(size_t count, size_t size)
{
    size_t bytes;
    if (!mp_size_mul(count, size, &bytes)) {
        mp_panic("kernel scratch: %zu x %zu bytes", count, size);
    }
    bytes = (bytes + 63) / 64 * 64;
    if (arena.count == 0 || arena.sizes[arena.count - 1] - arena.used < bytes) {
        add_block(bytes < 65536 ? 65536 : bytes);
    }
    void *p = arena.blocks[arena.count - 1] + arena.used;
    arena.used += bytes;
    return p;
}
