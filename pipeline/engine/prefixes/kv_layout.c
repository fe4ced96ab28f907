#include "pipeline/engine/prefixes/kv_layout.h"

#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "pipeline/engine/prefixes/kv_file.h"

#include <cjson/cJSON.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_OF_A_LAYER = 5 + MP_INDEX_PARTS }; /* k, v, k_mean, rows, scales, the index */

size_t kv_tensor_bytes(const struct kv_tensor *t)
{
    size_t bytes = mp_st_dtype_size(t->dtype);
    for (int i = 0; i < t->rank; i++) {
        bytes *= (size_t)t->shape[i];
    }
    return bytes;
}

/* ---- the list ---- */

/* A new tensor at the end, whose extents are to be filled in. */
static struct kv_tensor *add_tensor(struct kv_layout *l, int layer, const char *what,
                                    enum mp_st_dtype dtype, int rank, const int64_t *shape,
                                    int num_extents)
{
    struct kv_tensor *t = &l->tensors[l->count++];
    *t = (struct kv_tensor){.dtype = dtype, .rank = rank, .num_extents = num_extents};
    t->name = layer < 0 ? mp_xstrdup(what) : mp_xasprintf("layers.%d.%s", layer, what);
    memcpy(t->shape, shape, (size_t)rank * sizeof *shape);
    t->extents = mp_xcalloc((size_t)num_extents, sizeof *t->extents);
    return t;
}

static enum mp_st_dtype st_dtype(enum mp_dtype dtype)
{
    return dtype == MP_I8 ? MP_ST_I8 : dtype == MP_BF16 ? MP_ST_BF16 : MP_ST_F32;
}

/* The first `tokens` slots of a static cache: keys, then values. */
static void add_cache(struct kv_layout *l, const struct mp_engine *e, int layer,
                      const struct kv_cache *c, int64_t tokens)
{
    const int64_t shape[] = {c->num_kv_heads, tokens, c->head_dim};
    void *const arrays[] = {c->k, c->v};
    size_t row = (size_t)c->head_dim * mp_dtype_size(c->dtype);
    for (int i = 0; i < 2; i++) {
        struct kv_tensor *t =
            add_tensor(l, layer, i == 0 ? "k" : "v", st_dtype(c->dtype), 3, shape, c->num_kv_heads);
        for (int h = 0; h < c->num_kv_heads; h++) {
            t->extents[h] = (struct kv_extent){mp_cache_place(e, layer),
                                               (char *)arrays[i] + (size_t)(h * c->capacity) * row,
                                               (size_t)tokens * row};
        }
    }
}

static void add_mean(struct kv_layout *l, const struct mp_engine *e, int layer,
                     const struct kv_cache *c)
{
    const int64_t shape[] = {c->num_kv_heads, c->head_dim};
    struct kv_tensor *t = add_tensor(l, layer, "k_mean", MP_ST_F32, 2, shape, 1);
    t->extents[0] = (struct kv_extent){mp_cache_place(e, layer), c->k_mean, kv_tensor_bytes(t)};
}

/* Keys and values side by side, and their scales. */
static void add_offloaded(struct kv_layout *l, const struct mp_engine *e, int layer,
                          const struct mp_layer_kv *kv, int64_t tokens)
{
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    const struct offloaded_kv *first = &kv->shards[0].offloaded;
    const int heads = e->shape->num_key_value_heads;
    const bool int8 = first->dtype == MP_I8;
    const int64_t rows_shape[] = {heads, tokens, 2, first->head_dim};
    struct kv_tensor *rows =
        add_tensor(l, layer, "rows", st_dtype(first->dtype), 4, rows_shape, heads);
    struct kv_tensor *scales = int8 ? add_tensor(l, layer, "scales", MP_ST_F32, 3,
                                                 (const int64_t[]){heads, tokens, 2}, heads)
                                    : NULL;
    for (int i = 0; i < shards->count; i++) {
        const struct mp_shard *shard = &shards->list[i];
        const struct offloaded_kv *off = &kv->shards[i].offloaded;
        for (int h = 0; h < shard->num_kv_heads; h++) {
            int at = shard->first_kv_head + h;
            rows->extents[at] =
                (struct kv_extent){mp_offloaded_place(shard), (char *)off->k + kv_row_at(off, h, 0),
                                   kv_tensor_bytes(rows) / (size_t)heads};
            if (int8) {
                scales->extents[at] =
                    (struct kv_extent){mp_scale_place(shard), off->scales + h * off->capacity,
                                       kv_tensor_bytes(scales) / (size_t)heads};
            }
        }
    }
}

/* What the method has made of the keys. */
static void add_index(struct kv_layout *l, const struct mp_engine *e, int layer,
                      const struct mp_layer_kv *kv, int64_t tokens)
{
    const struct mp_method *method = e->attention.method;
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    const int heads = e->shape->num_key_value_heads;
    if (method->index_parts == NULL) {
        return;
    }
    struct mp_index_part parts[MP_INDEX_PARTS];
    const int count = method->index_parts(kv->shards[0].index, 0, tokens, parts);
    struct kv_tensor *first = &l->tensors[l->count];
    for (int i = 0; i < count; i++) {
        char name[24];
        snprintf(name, sizeof name, "index.%d", i);
        add_tensor(l, layer, name, MP_ST_U8, 2, (const int64_t[]){heads, (int64_t)parts[i].bytes},
                   heads);
    }
    for (int s = 0; s < shards->count; s++) {
        const struct mp_shard *shard = &shards->list[s];
        for (int h = 0; h < shard->num_kv_heads; h++) {
            method->index_parts(kv->shards[s].index, h, tokens, parts);
            for (int i = 0; i < count; i++) {
                first[i].extents[shard->first_kv_head + h] = (struct kv_extent){
                    mp_selecting_place(method, shard), parts[i].data, parts[i].bytes};
            }
        }
    }
}

void kv_layout_make(const struct mp_engine *e, const struct mp_layer_kv *layers, int32_t *ids,
                    int64_t tokens, struct kv_layout *out)
{
    size_t most = 1 + MOST_OF_A_LAYER * (size_t)e->shape->num_hidden_layers;
    *out = (struct kv_layout){.tensors = mp_xcalloc(most, sizeof *out->tensors)};
    struct kv_tensor *first =
        add_tensor(out, -1, "ids", MP_ST_I32, 1, (const int64_t[]){tokens}, 1);
    first->extents[0] = (struct kv_extent){MP_HOST, ids, kv_tensor_bytes(first)};
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        const struct mp_layer_kv *kv = &layers[l];
        if (!e->graph.placements.layers[l].sparse) {
            add_cache(out, e, l, &kv->static_cache, tokens);
            continue;
        }
        add_cache(out, e, l, &kv->static_cache, e->graph.sink);
        add_mean(out, e, l, &kv->static_cache);
        add_offloaded(out, e, l, kv, tokens - e->graph.sink);
        add_index(out, e, l, kv, tokens - e->graph.sink);
    }
}

void kv_layout_free(struct kv_layout *l)
{
    for (int i = 0; i < l->count; i++) {
        free(l->tensors[i].name);
        free(l->tensors[i].extents);
    }
    free(l->tensors);
    *l = (struct kv_layout){0};
}

/* ---- the header ---- */

char *kv_settings(const struct mp_engine *e)
{
    /* How many tokens a step selects changes nothing of what is kept. */
    static const char *const of_steps[] = {"attention.samples", "attention.epsilon",
                                           "attention.budget"};
    static const char *const also[] = {"cache_layers", "device_budget", "window_size"};
    cJSON *json = mp_attention_json(e->config);
    cJSON *all = mp_config_json(e->config);
    for (size_t i = 0; i < sizeof of_steps / sizeof of_steps[0]; i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(json, of_steps[i]);
    }
    for (size_t i = 0; i < sizeof also / sizeof also[0] && mp_engine_kept_layers(e) > 0; i++) {
        cJSON_AddItemToObject(json, also[i], cJSON_DetachItemFromObjectCaseSensitive(all, also[i]));
    }
    char *text = mp_json_key_text(json);
    cJSON_Delete(json);
    cJSON_Delete(all);
    return text;
}

static void add_entry(cJSON *header, const char *name, enum mp_st_dtype dtype, const int64_t *shape,
                      int rank, size_t begin, size_t end)
{
    cJSON *entry = cJSON_AddObjectToObject(header, name);
    cJSON_AddStringToObject(entry, "dtype", mp_st_dtype_name(dtype));
    cJSON *dims = cJSON_AddArrayToObject(entry, "shape");
    for (int i = 0; i < rank; i++) {
        cJSON_AddItemToArray(dims, cJSON_CreateNumber((double)shape[i]));
    }
    cJSON *offsets = cJSON_AddArrayToObject(entry, "data_offsets");
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)begin));
    cJSON_AddItemToArray(offsets, cJSON_CreateNumber((double)end));
}

char *kv_layout_header(const struct mp_engine *e, const struct kv_layout *l, int64_t tokens)
{
    char count[32];
    snprintf(count, sizeof count, "%lld", (long long)tokens);
    cJSON *header = cJSON_CreateObject();
    cJSON *about = cJSON_AddObjectToObject(header, "__metadata__");
    cJSON_AddStringToObject(about, "format", MP_KV_FORMAT);
    cJSON_AddStringToObject(about, "model", e->prefixes->model);
    cJSON_AddStringToObject(about, "settings", e->prefixes->settings);
    cJSON_AddStringToObject(about, "tokens", count);
    size_t at = 0;
    for (int i = 0; i < l->count; i++) {
        const struct kv_tensor *t = &l->tensors[i];
        add_entry(header, t->name, t->dtype, t->shape, t->rank, at, at + kv_tensor_bytes(t));
        at += kv_tensor_bytes(t);
    }
    const int64_t sums = 1 + l->count;
    add_entry(header, "checksums", MP_ST_U64, &sums, 1, at, at + 8 * (size_t)sums);
    char *text = mp_json_key_text(header);
    size_t length = strlen(text);
    char *padded = mp_xasprintf("%s%*s", text, (int)((8 - length % 8) % 8), "");
    cJSON_Delete(header);
    free(text);
    return padded;
}
