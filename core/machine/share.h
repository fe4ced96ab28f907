/* Shares of what the CPU does for sampled attention: the KV heads of a layer dealt out to the CPU
 * workers, so that all of them work on it at once, each on keys, values and tables in the memory
 * next to its cores. */
#ifndef MP_CORE_SHARE_H
#define MP_CORE_SHARE_H

#include "core/machine/core_map.h"
#include "core/machine/topology.h"

#include <stddef.h>

struct mp_share {
    int first_kv_head;
    int num_kv_heads;           /* >= 1 */
    int worker;                 /* the one CPU worker that works on it; -1: any */
    const struct mp_team *team; /* whose memory it is to lie in; NULL: anyone's */
};

struct mp_shares {
    struct mp_share *list; /* [count] by their heads, together all of a layer's */
    int count;
    int num_kv_heads;
    const struct mp_topology *topology; /* of the teams; NULL: memory is not bound */
};

/* One share a team of the map, all teams if there are as many KV heads; else to teams as far apart
 * as can be. *map and *t, which may be NULL, stay in place. map NULL: one share, nobody's in
 * particular. Free with mp_shares_free. */
void mp_shares_plan(const struct mp_core_map *map, const struct mp_topology *t, int num_kv_heads,
                    struct mp_shares *out);
void mp_shares_free(struct mp_shares *s);

/* The byte at which share i begins in a large block of mp_alloc that is an array [KV heads] of so
 * many bytes, rounded down to a huge page; i = count: the end. */
size_t mp_shares_begin(const struct mp_shares *s, int i, size_t bytes);

/* Binds the parts of such a block to the memory of their teams, before it is touched or
 * page-locked. Smaller blocks do not have pages of their own and are left alone. If the system
 * refuses, the block lies somewhere else; the first time, a warning says why. */
void mp_shares_bind(const struct mp_shares *s, void *block, size_t bytes);

#endif
