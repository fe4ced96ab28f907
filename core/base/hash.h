/* FNV-1a, 64 bits: the same on every machine. */
#ifndef MP_CORE_HASH_H
#define MP_CORE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* The hash of nothing. */
#define MP_HASH_START UINT64_C(0xcbf29ce484222325)

/* The hash of what `hash` is that of, and these bytes after it. */
static inline uint64_t mp_hash_bytes(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ at[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#endif
