/* A hash map from strings to pointers. Keys and values belong to the caller. */
#ifndef MP_CORE_STRMAP_H
#define MP_CORE_STRMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct mp_strmap_entry {
    const char *key; /* NULL: free */
    uint64_t hash;
    const void *value;
};

/* Start from {0}. */
struct mp_strmap {
    struct mp_strmap_entry *entries; /* [capacity], open addressing */
    size_t capacity;                 /* a power of two, or 0 */
    size_t count;
};

/* Adds key -> value. If the key is there already, returns false and changes nothing. */
bool mp_strmap_add(struct mp_strmap *map, const char *key, const void *value);
/* The value, or NULL. */
const void *mp_strmap_get(const struct mp_strmap *map, const char *key);
void mp_strmap_free(struct mp_strmap *map);

#endif
