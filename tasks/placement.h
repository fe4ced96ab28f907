/* Where the layers of a run are: asked for by whoever submits, allocates or plans. */
#ifndef MP_TASKS_PLACEMENT_H
#define MP_TASKS_PLACEMENT_H

#include "codelets/common/task/memory.h"
#include "core/machine/shard.h"

#include <stdbool.h>

/* One layer. */
struct mp_placement {
    struct mp_device dense; /* runs its dense ops; its weights, activations and static caches are
                               there */
    int stage;              /* which one that is, an index into the devices of mp_placements */
    bool sparse;            /* only sink, window and generated tokens are in its static cache;
                               otherwise every token is */
    int cut;                /* of a sparse layer whose offloaded tokens are kept: how its KV heads
                               are dealt out, an index into the cuts of mp_placements; -1: nothing
                               is offloaded and kept */
};

struct mp_placements {
    struct mp_placement *layers; /* [num_layers] */
    int num_layers;
    struct mp_device devices[MP_MAX_GPUS]; /* of dense work, all of one kind; each has the layers
                                              that follow those of the one before. The first one
                                              has the embedding, too, and the last one the LM
                                              head */
    int num_devices;                       /* >= 1 */
    struct mp_shards *cuts; /* [num_cuts] different ways in which layers are cut into shards */
    int num_cuts;
};

/* The shards of a layer; NULL if nothing of it is offloaded and kept. */
static inline const struct mp_shards *mp_shards_of(const struct mp_placements *p, int layer)
{
    int cut = p->layers[layer].cut;
    return cut < 0 ? NULL : &p->cuts[cut];
}

/* Does what follows the last layer. */
static inline struct mp_device mp_last_device(const struct mp_placements *p)
{
    return p->devices[p->num_devices - 1];
}

/* Whether the next layer is on another device. */
bool mp_ends_stage(const struct mp_placements *p, int layer);

/* Whether a GPU hands part of the layer's attention to CPU workers. */
bool mp_handed_to_cpu(const struct mp_placements *p, int layer);

/* The same of any layer, or layers are on several devices: then these take turns. */
bool mp_takes_turns(const struct mp_placements *p);

/* Layers that are sparse. */
int mp_sparse_layers(const struct mp_placements *p);

/* Where a step exchanges data with a shard: memory that both the layers' dense device and the
 * shard's see. */
struct mp_place mp_exchange_place(const struct mp_shard *shard);

/* Where a shard's offloaded keys and values are: in CPU memory they are written by the GPU, if
 * there is one; and where its index is. */
struct mp_place mp_offloaded_place(const struct mp_shard *shard);
struct mp_place mp_index_place(const struct mp_shard *shard);

/* Where the scales of its 8-bit rows are: with the device that reads them. A GPU asks for a line of
 * host memory at a time, however little of it is wanted. */
struct mp_place mp_scale_place(const struct mp_shard *shard);

void mp_placements_free(struct mp_placements *p);

#endif
