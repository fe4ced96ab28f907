#include "tasks/placement.h"

#include <stdlib.h>

bool mp_ends_stage(const struct mp_placements *p, int layer)
{
    return layer + 1 < p->num_layers && p->layers[layer + 1].stage != p->layers[layer].stage;
}

bool mp_handed_to_cpu(const struct mp_placements *p, int layer)
{
    const struct mp_shards *shards = mp_shards_of(p, layer);
    return p->layers[layer].dense.kind == MP_GPU && shards != NULL &&
           shards->list[0].device.kind == MP_CPU;
}

bool mp_takes_turns(const struct mp_placements *p)
{
    for (int l = 0; l < p->num_layers; l++) {
        if (mp_handed_to_cpu(p, l)) {
            return true;
        }
    }
    return p->num_devices > 1;
}

int mp_sparse_layers(const struct mp_placements *p)
{
    int n = 0;
    for (int l = 0; l < p->num_layers; l++) {
        n += p->layers[l].sparse;
    }
    return n;
}

struct mp_place mp_exchange_place(const struct mp_shard *shard)
{
    return mp_same_device(shard->dense, shard->device) ? mp_memory_of(shard->device) : MP_PINNED;
}

struct mp_place mp_offloaded_place(const struct mp_shard *shard)
{
    struct mp_place place = mp_memory_of(shard->device);
    if (mp_shard_in_host(shard)) {
        place = shard->dense.kind == MP_GPU ? MP_PINNED : MP_HOST;
        place.near = shard;
    }
    return place;
}

struct mp_place mp_scale_place(const struct mp_shard *shard)
{
    return shard->device.kind == MP_GPU ? mp_memory_of(shard->device) : mp_offloaded_place(shard);
}

struct mp_place mp_index_place(const struct mp_shard *shard)
{
    struct mp_place place = mp_memory_of(shard->device);
    place.near = place.memory == MP_MEMORY_HOST ? shard : NULL;
    return place;
}

void mp_placements_free(struct mp_placements *p)
{
    for (int i = 0; i < p->num_cuts; i++) {
        mp_shards_free(&p->cuts[i]);
    }
    free(p->cuts);
    free(p->layers);
    *p = (struct mp_placements){0};
}
