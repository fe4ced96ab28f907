#include "core/machine/shard.h"

#include "core/base/log.h"
#include "core/base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>

static int least(int a, int b)
{
    return a < b ? a : b;
}

struct mp_kv_heads mp_kv_heads_of_rank(int heads, int rank, int ranks)
{
    int first = rank * heads / ranks;
    return (struct mp_kv_heads){rank, first, (rank + 1) * heads / ranks - first};
}

void mp_shards_add_rank(struct mp_shards *s, struct mp_kv_heads heads, int count)
{
    s->list = mp_xrealloc(s->list, (size_t)(s->total + count), sizeof *s->list);
    for (int i = 0; i < count; i++) {
        struct mp_kv_heads part = mp_kv_heads_of_rank(heads.count, i, count);
        s->list[s->total++] = (struct mp_shard){
            .rank = heads.rank,
            .device = {MP_CPU, -1},
            .first_kv_head = heads.first + part.first,
            .num_kv_heads = part.count,
        };
    }
}

void mp_shards_of_teams(const struct mp_core_map *map, const struct mp_topology *t,
                        struct mp_kv_heads heads, struct mp_shards *out)
{
    int workers = map->num_teams;
    *out = (struct mp_shards){.count = least(least(workers, heads.count), MP_MAX_SHARDS)};
    mp_shards_add_rank(out, heads, out->count);
    for (int i = 0; i < out->count; i++) {
        int worker = i * workers / out->count;
        out->list[i].device.index = workers > 1 ? worker : -1;
        out->list[i].team = &map->teams[worker];
        out->list[i].topology = t;
    }
}

void mp_shards_of_device(struct mp_device device, struct mp_kv_heads heads, struct mp_shards *out)
{
    *out = (struct mp_shards){.count = 1};
    mp_shards_add_rank(out, heads, 1);
    out->list[0].device = device;
}

void mp_shards_free(struct mp_shards *s)
{
    free(s->list);
    *s = (struct mp_shards){0};
}

void mp_shard_bind(const struct mp_shard *s, void *block, size_t bytes)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (s->topology == NULL || s->team == NULL || bytes < MP_LARGE_BLOCK) {
        return;
    }
    struct mp_error err;
    int code = mp_team_bind_memory(s->topology, s->team, block, bytes, &err);
    if (code != MP_OK && !atomic_flag_test_and_set(&warned)) {
        mp_log(MP_LOG_WARNING, "%s; sampled attention may read memory of another node",
               err.message);
    }
}
