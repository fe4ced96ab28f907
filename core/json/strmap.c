#include "core/json/strmap.h"

#include "core/base/hash.h"
#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

/* FNV-1a, with its high bits folded into the low ones that pick the slot. */
static uint64_t hash_string(const char *s)
{
    uint64_t h = mp_hash_bytes(MP_HASH_START, s, strlen(s));
    return h ^ (h >> 32);
}

/* The entry that holds key, or the free one where it belongs. capacity > count. */
static struct mp_strmap_entry *slot(struct mp_strmap_entry *entries, size_t capacity,
                                    const char *key, uint64_t hash)
{
    size_t i = hash & (capacity - 1);
    while (entries[i].key != NULL &&
           (entries[i].hash != hash || strcmp(entries[i].key, key) != 0)) {
        i = (i + 1) & (capacity - 1);
    }
    return &entries[i];
}

static void grow(struct mp_strmap *map)
{
    size_t capacity = map->capacity == 0 ? 16 : 2 * map->capacity;
    struct mp_strmap_entry *entries = mp_xcalloc(capacity, sizeof *entries);
    for (size_t i = 0; i < map->capacity; i++) {
        const struct mp_strmap_entry *e = &map->entries[i];
        if (e->key != NULL) {
            *slot(entries, capacity, e->key, e->hash) = *e;
        }
    }
    free(map->entries);
    map->entries = entries;
    map->capacity = capacity;
}

bool mp_strmap_add(struct mp_strmap *map, const char *key, const void *value)
{
    if (2 * (map->count + 1) > map->capacity) {
        grow(map);
    }
    uint64_t hash = hash_string(key);
    struct mp_strmap_entry *e = slot(map->entries, map->capacity, key, hash);
    if (e->key != NULL) {
        return false;
    }
    *e = (struct mp_strmap_entry){.key = key, .hash = hash, .value = value};
    map->count++;
    return true;
}

const void *mp_strmap_get(const struct mp_strmap *map, const char *key)
{
    if (map->count == 0) {
        return NULL;
    }
    return slot(map->entries, map->capacity, key, hash_string(key))->value;
}

void mp_strmap_free(struct mp_strmap *map)
{
    free(map->entries);
    *map = (struct mp_strmap){0};
}
