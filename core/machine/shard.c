#include "core/machine/shard.h"

#include "core/base/log.h"
#include "core/base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>

static int least(int a, int b)
{
    return a < b ? a : b;
}

void mp_shards_of_teams(const struct mp_core_map *map, const struct mp_topology *t,
                        int num_kv_heads, struct mp_shards *out)
{
    int workers = map->num_teams;
    int count = least(least(workers, num_kv_heads), MP_MAX_SHARDS);
    *out = (struct mp_shards){
        .list = mp_xcalloc((size_t)count, sizeof *out->list),
        .count = count,
    };
    for (int i = 0; i < count; i++) {
        int first = i * num_kv_heads / count;
        int worker = i * workers / count;
        out->list[i] = (struct mp_shard){
            .device = {MP_CPU, workers > 1 ? worker : -1},
            .first_kv_head = first,
            .num_kv_heads = (i + 1) * num_kv_heads / count - first,
            .team = &map->teams[worker],
            .topology = t,
        };
    }
}

void mp_shards_of_device(struct mp_device device, int num_kv_heads, struct mp_shards *out)
{
    *out = (struct mp_shards){.list = mp_xcalloc(1, sizeof *out->list), .count = 1};
    out->list[0] = (struct mp_shard){.device = device, .num_kv_heads = num_kv_heads};
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
