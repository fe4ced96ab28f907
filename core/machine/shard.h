/* Shards: the KV heads of a layer dealt out to ranks and to their devices, so that all of them
 * select and attend at once, each over keys, values and an index in the memory next to it. */
#ifndef MP_CORE_SHARD_H
#define MP_CORE_SHARD_H

#include "core/machine/core_map.h"
#include "core/machine/device.h"
#include "core/machine/topology.h"

#include <stddef.h>

/* Of a layer. What a step hands to the shards is passed to kernels by value. */
enum { MP_MAX_SHARDS = 32 };

struct mp_shard {
    int rank;                /* whose shard it is: of another rank's only the heads are known */
    struct mp_device dense;  /* does the dense work of its layers */
    struct mp_device device; /* works on it and has its data, .. */
    bool in_host; /* .. but for the keys and values, if it is a GPU that reads them in host
                     memory */
    int first_kv_head;
    int num_kv_heads;                   /* >= 1 */
    int heads_before;                   /* KV heads of the model before those of the layer, if that
                                           is a part of one */
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
    struct mp_shard *list; /* [total] together all heads of a layer: this rank's shards, by their
                              heads, then those of the others, by theirs */
    int count;             /* this rank's: what it keeps, selects from and attends to; >= 1 */
    int total;
};

/* The KV heads of a rank: consecutive ones. */
struct mp_kv_heads {
    int rank;
    int first;
    int count; /* >= 1 */
};

/* Of `heads` that are dealt out to so many ranks, no more than there are heads. */
struct mp_kv_heads mp_kv_heads_of_rank(int heads, int rank, int ranks);

/* One shard a team of the map, all teams if there are as many KV heads (and no more than
 * MP_MAX_SHARDS); else to teams as far apart as can be. *map and *t, which may be NULL, stay in
 * place. Free with mp_shards_free. */
void mp_shards_of_teams(const struct mp_core_map *map, const struct mp_topology *t,
                        struct mp_kv_heads heads, struct mp_shards *out);

/* One shard of these heads on a device. */
void mp_shards_of_device(struct mp_device device, struct mp_kv_heads heads, struct mp_shards *out);

/* Adds another rank's heads, which it has cut into so many shards. */
void mp_shards_add_rank(struct mp_shards *s, struct mp_kv_heads heads, int count);

void mp_shards_free(struct mp_shards *s);

/* Binds a block of memory to the memory of the shard's team, before it is touched or page-locked.
 * Blocks smaller than MP_LARGE_BLOCK do not have pages of their own and are left alone. If the
 * system refuses, the block lies somewhere else; the first time, a warning says why. */
void mp_shard_bind(const struct mp_shard *s, void *block, size_t bytes);

#endif
