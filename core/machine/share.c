#include "core/machine/share.h"

#include "core/base/log.h"
#include "core/base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>

void mp_shares_plan(const struct mp_core_map *map, const struct mp_topology *t, int num_kv_heads,
                    struct mp_shares *out)
{
    int workers = map == NULL ? 1 : map->num_teams;
    int count = workers < num_kv_heads ? workers : num_kv_heads;
    *out = (struct mp_shares){
        .list = mp_xcalloc((size_t)count, sizeof *out->list),
        .count = count,
        .num_kv_heads = num_kv_heads,
        .topology = t,
    };
    for (int i = 0; i < count; i++) {
        int first = i * num_kv_heads / count;
        int worker = i * workers / count;
        out->list[i] = (struct mp_share){
            .first_kv_head = first,
            .num_kv_heads = (i + 1) * num_kv_heads / count - first,
            .worker = workers > 1 ? worker : -1,
            .team = map == NULL ? NULL : &map->teams[worker],
        };
    }
}

void mp_shares_free(struct mp_shares *s)
{
    free(s->list);
    *s = (struct mp_shares){0};
}

size_t mp_shares_begin(const struct mp_shares *s, int i, size_t bytes)
{
    if (i == s->count) {
        return bytes;
    }
    size_t heads = (size_t)s->num_kv_heads;
    size_t begin = bytes / heads * (size_t)s->list[i].first_kv_head;
    return begin / MP_HUGE_PAGE * MP_HUGE_PAGE;
}

void mp_shares_bind(const struct mp_shares *s, void *block, size_t bytes)
{
    static atomic_flag warned = ATOMIC_FLAG_INIT;
    if (s->topology == NULL || bytes < MP_LARGE_BLOCK) {
        return;
    }
    for (int i = 0; i < s->count; i++) {
        size_t begin = mp_shares_begin(s, i, bytes);
        size_t end = mp_shares_begin(s, i + 1, bytes);
        struct mp_error err;
        int code = mp_team_bind_memory(s->topology, s->list[i].team, (char *)block + begin,
                                       end - begin, &err);
        if (code != MP_OK && !atomic_flag_test_and_set(&warned)) {
            mp_log(MP_LOG_WARNING, "%s; sampled attention may read memory of another node",
                   err.message);
        }
    }
}
