/* Shards: the KV heads of a layer dealt out to devices, so that all of them select and attend at
 * once, each over keys, values and an index in the memory next to it. */
#ifndef MP_CORE_SHARD_H
#define MP_CORE_SHARD_H

#include "core/machine/core_map.h"
#include "core/machine/device.h"
#include "core/machine/topology.h"

#include <stddef.h>

/* Of a layer. What a step hands to the shards is passed to kernels by value. */
enum { MP_MAX_SHARDS = 32 };

struct mp_shard {
    struct mp_device device; /* works on it and has its data, .. */
    bool in_host; /* .. but for the keys and values, if it is a GPU that reads them in host
                     memory */
    int first_kv_head;
    int num_kv_heads;                   /* >= 1 */
    const struct mp_team *team;         /* of a CPU worker: its memory is to lie next to it; NULL:
                                           anywhere */
    const struct mp_topology *topology; /* of the team; NULL: memory is not bound */
};

/* Whether its keys and values are in host memory. */
static inline bool mp_shard_in_host(const struct mp_shard *s)
{
    return s->device.kind == MP_CPU || s->in_host;
}

struct mp_shards {
    struct mp_shard *list; /* [count] by their heads, together all of a layer's */
    int count;
};

/* One shard a team of the map, all teams if there are as many KV heads (and no more than
 * MP_MAX_SHARDS); else to teams as far apart as can be. *map and *t, which may be NULL, stay in
 * place. Free with mp_shards_free. */
void mp_shards_of_teams(const struct mp_core_map *map, const struct mp_topology *t,
                        int num_kv_heads, struct mp_shards *out);

/* One shard of all heads on a device. */
void mp_shards_of_device(struct mp_device device, int num_kv_heads, struct mp_shards *out);

void mp_shards_free(struct mp_shards *s);

/* Binds a block of memory to the memory of the shard's team, before it is touched or page-locked.
 * Blocks smaller than MP_LARGE_BLOCK do not have pages of their own and are left alone. If the
 * system refuses, the block lies somewhere else; the first time, a warning says why. */
void mp_shard_bind(const struct mp_shard *s, void *block, size_t bytes);

#endif
