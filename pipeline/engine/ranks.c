/* An engine that is one of several ranks. */
#include "core/ranks/ranks.h"

#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "pipeline/engine/internal.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static int set_ranks(struct mp_engine *e, int rank, int count, struct mp_error *err)
{
    int heads = e->shape->num_key_value_heads;
    if (count > heads) {
        return mp_fail(
            err, MP_ERR_USAGE,
            "found %d ranks, expected at most %d: each keeps KV heads of its own, and the "
            "model has %d",
            count, heads, heads);
    }
    if (count > 1 && e->parts != NULL) {
        return mp_fail(err, MP_ERR_USAGE,
                       "runtime.parallel: found tensor with %d ranks, expected one process", count);
    }
    e->rank = rank;
    e->num_ranks = count;
    return 0;
}

int mp_engine_join_ranks(struct mp_engine *e, struct mp_ranks *ranks, struct mp_error *err)
{
    e->graph.ranks = ranks;
    return set_ranks(e, mp_ranks_index(ranks), mp_ranks_count(ranks), err);
}

int mp_engine_plan_ranks(struct mp_engine *e, int ranks, struct mp_error *err)
{
    return set_ranks(e, ranks - 1, ranks, err);
}

/* ---- what must be the same ---- */

/* Whether a key may have another value on another machine. */
static bool is_local(const char *path)
{
    bool runtime = strncmp(path, "runtime.", strlen("runtime.")) == 0;
    bool shared = strcmp(path, "runtime.batch") == 0 || strcmp(path, "runtime.micro_batches") == 0;
    return (runtime && !shared) || strncmp(path, "trace.", strlen("trace.")) == 0 ||
           strcmp(path, "model_path") == 0;
}

/* Two configurations as text. MP_ERR_USAGE names the first key in which they differ. */
static int compare_configs(const char *own_text, const char *first_text, struct mp_error *err)
{
    cJSON *own = cJSON_Parse(own_text);
    cJSON *first = cJSON_Parse(first_text);
    int code = 0;
    for (const cJSON *key = own->child; key != NULL && code == 0; key = key->next) {
        char *found = mp_json_key_text(key);
        char *expected = mp_json_key_text(cJSON_GetObjectItemCaseSensitive(first, key->string));
        if (!is_local(key->string) && strcmp(found, expected) != 0) {
            code = mp_fail(err, MP_ERR_USAGE, "%s: found %s, expected %s as on rank 0", key->string,
                           found, expected);
        }
        free(found);
        free(expected);
    }
    cJSON_Delete(first);
    cJSON_Delete(own);
    return code;
}

static int check_config(struct mp_engine *e, struct mp_error *err)
{
    cJSON *json = mp_config_json(e->config);
    char *own = mp_json_key_text(json);
    cJSON_Delete(json);
    char *first = own;
    size_t bytes = strlen(own);
    int code = mp_ranks_tell_all(e->graph.ranks, &first, &bytes, err);
    if (code == 0 && e->rank > 0) {
        code = compare_configs(own, first, err);
        mp_free(first);
    }
    free(own);
    return code;
}

/* What each tells the others. */
enum { MODEL, TOKENS, NEW_TOKENS, GPU_KV_LAYERS, SAME, SHARDS = SAME, NUMBERS };

static int check_numbers(const int64_t own[NUMBERS], const int64_t first[NUMBERS],
                         struct mp_error *err)
{
    static const char *const names[SAME] = {[MODEL] = "fingerprint of the model's weights",
                                            [TOKENS] = "tokens of the longest prompt",
                                            [NEW_TOKENS] = "most new tokens",
                                            [GPU_KV_LAYERS] = "layers with their KV on the GPU"};
    for (int i = 0; i < SAME; i++) {
        if (own[i] != first[i]) {
            return mp_fail(err, MP_ERR_USAGE, "%s: found %lld, expected %lld as on rank 0",
                           names[i], (long long)own[i], (long long)first[i]);
        }
    }
    return 0;
}

/* ---- the start ---- */

/* How many shards each rank cuts its heads into. */
static int keep_shards(struct mp_engine *e, const int64_t (*all)[NUMBERS], struct mp_error *err)
{
    int64_t total = 0;
    e->rank_shards = mp_xcalloc((size_t)e->num_ranks, sizeof *e->rank_shards);
    for (int r = 0; r < e->num_ranks; r++) {
        e->rank_shards[r] = (int)all[r][SHARDS];
        total += all[r][SHARDS];
    }
    if (total > MP_MAX_SHARDS) {
        return mp_fail(err, MP_ERR_USAGE,
                       "found %lld CPU workers with KV heads on %d ranks, expected at most %d: "
                       "runtime.cpu_workers makes them fewer",
                       (long long)total, e->num_ranks, (int)MP_MAX_SHARDS);
    }
    return 0;
}

int mp_engine_meet_ranks(struct mp_engine *e, int64_t tokens, int64_t new_tokens, int gpu_kv_layers,
                         struct mp_error *err)
{
    if (e->graph.ranks == NULL) {
        return 0;
    }
    struct mp_shards cut;
    mp_runtime_cut(e->runtime, mp_heads_of_rank(e, e->rank), &cut);
    const int64_t own[NUMBERS] = {
        [MODEL] = (int64_t)mp_model_fingerprint(e->model),
        [TOKENS] = tokens,
        [NEW_TOKENS] = new_tokens,
        [GPU_KV_LAYERS] = gpu_kv_layers,
        [SHARDS] = cut.count,
    };
    mp_shards_free(&cut);
    int64_t all[e->num_ranks][NUMBERS];
    int code = check_config(e, err);
    if (code == 0) {
        code = mp_ranks_gather(e->graph.ranks, own, sizeof own, all, err);
    }
    if (code == 0) {
        code = check_numbers(own, all[0], err);
    }
    return code == 0 ? keep_shards(e, (const int64_t(*)[NUMBERS])all, err) : code;
}
