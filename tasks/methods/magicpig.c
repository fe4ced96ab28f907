/* magicpig: L hash tables of K-bit codes; a token is selected if its code equals the query's in at
 * least two of them (arXiv 2410.16179). */
#include "codelets/common/attention/lsh.h"
#include "codelets/hashing/hashing.h"
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "core/base/memory.h"
#include "tasks/methods/method.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

/* The hash functions of a run. */
struct hash_functions {
    struct lsh_weight weight; /* ln(u + 1e-4) over the cosine */
    int layers_per_group;     /* consecutive layers that share their W */
    int kv_heads_per_w;       /* 1: one W per KV head; num_key_value_heads: one for all */
    int num_groups;
    struct mp_buffer *groups; /* [num_groups] of [KV heads / kv_heads_per_w][head_dim][K * L] f32 */
};

static int check(const struct mp_config *c, struct mp_error *err)
{
    if (c->lsh_K < 1) {
        return mp_fail(err, MP_ERR_USAGE, "lsh_K: magicpig expects at least 1, found %d", c->lsh_K);
    }
    if (c->lsh_L < 2) {
        return mp_fail(err, MP_ERR_USAGE,
                       "lsh_L: expected at least 2, since a token is selected when 2 tables agree, "
                       "found %d",
                       c->lsh_L);
    }
    return 0;
}

static void describe(const struct mp_config *c, char *out, size_t size)
{
    snprintf(out, size, "(K, L) = (%d, %d)", c->lsh_K, c->lsh_L);
}

/* ---- hash functions ---- */

static void create_shared(struct mp_attention *a, struct mp_allocator *alloc, struct mp_place place)
{
    const struct mp_config *c = a->config;
    const struct mp_shape *shape = a->shape;
    int layers = shape->num_hidden_layers;
    bool one = c->lsh_projection == MP_LSH_SHARED;
    struct hash_functions *f = mp_xcalloc(1, sizeof *f);
    a->shared = f;
    lsh_weight_init(&f->weight, c->lsh_K, c->lsh_L);
    f->layers_per_group = one ? layers : c->lsh_layer_group;
    f->kv_heads_per_w = one ? shape->num_key_value_heads : 1;
    f->num_groups = (layers + f->layers_per_group - 1) / f->layers_per_group;
    f->groups = mp_xcalloc((size_t)f->num_groups, sizeof *f->groups);

    int per_group = shape->num_key_value_heads / f->kv_heads_per_w;
    size_t floats = lsh_projection_size(shape->head_dim, c->lsh_K, c->lsh_L);
    size_t bytes = (size_t)per_group * floats * sizeof(float);
    for (int g = 0; g < f->num_groups; g++) {
        mp_buffer_create(alloc, &f->groups[g], place, bytes, "hash functions");
        if (mp_allocated(alloc)) {
            uint64_t first =
                one ? (uint64_t)g
                    : (uint64_t)g * (uint64_t)a->model_kv_heads + (uint64_t)a->first_kv_head;
            float *w = lsh_projections_draw(shape->head_dim, c->lsh_K, c->lsh_L, c->lsh_seed, first,
                                            per_group);
            alloc->code = mp_buffer_fill(&f->groups[g], w, alloc->err);
            free(w);
        }
    }
}

static void destroy_shared(struct mp_attention *a)
{
    struct hash_functions *f = a->shared;
    for (int g = 0; g < f->num_groups; g++) {
        mp_buffer_release(&f->groups[g]);
    }
    free(f->groups);
    free(f);
    a->shared = NULL;
}

static struct hashing_functions functions_of(const struct mp_attention *a, int layer)
{
    const struct hash_functions *f = a->shared;
    return (struct hashing_functions){
        .K = a->config->lsh_K,
        .L = a->config->lsh_L,
        .kv_heads_per_w = f->kv_heads_per_w,
        .w = &f->groups[layer / f->layers_per_group],
    };
}

/* ---- tables ---- */

static void *create_index(const struct mp_attention *a, struct mp_allocator *alloc,
                          struct mp_place place, const struct mp_shard_size *size,
                          struct mp_buffer *wrap)
{
    struct lsh_tables *t = mp_xcalloc(1, sizeof *t);
    *t = (struct lsh_tables){
        .count = size->tokens,
        .capacity = size->tokens,
        .num_kv_heads = size->kv_heads,
        .K = a->config->lsh_K,
        .L = a->config->lsh_L,
    };
    t->ids = mp_allocate(alloc, place, lsh_ids_bytes(t), "hash tables");
    t->offsets = mp_allocate(alloc, place, lsh_offsets_bytes(t), "hash table offsets");
    mp_buffer_wrap(alloc, wrap, MP_HOST, t, sizeof *t);
    return t;
}

static void destroy_index(struct mp_place place, void *index)
{
    struct lsh_tables *t = index;
    mp_memory_free(place, t->ids, lsh_ids_bytes(t));
    mp_memory_free(place, t->offsets, lsh_offsets_bytes(t));
    free(t);
}

static int index_parts(const void *index, int head, int64_t tokens,
                       struct mp_index_part parts[MP_INDEX_PARTS])
{
    const struct lsh_tables *t = index;
    size_t heads = (size_t)t->num_kv_heads;
    (void)tokens; /* a table has all of its tokens or none */
    parts[0] = (struct mp_index_part){lsh_ids(t, head, 0, 0), lsh_ids_bytes(t) / heads};
    parts[1] = (struct mp_index_part){lsh_offsets(t, head, 0, 0), lsh_offsets_bytes(t) / heads};
    return 2;
}

/* Codes of the keys. */
static size_t scratch_bytes(const struct mp_attention *a, const struct mp_shard_size *size)
{
    return (size_t)size->tokens * (size_t)size->kv_heads * (size_t)a->config->lsh_L *
           sizeof(uint16_t);
}

static void build(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                  struct mp_shard_kv *kv, const struct mp_index_scratch *scratch)
{
    const struct mp_shard *s = &mp_shards_of(&g->placements, layer)->list[shard];
    struct hashing_functions f = functions_of(g->attention, layer);
    int64_t count = kv->offloaded.count;
    sub->device = g->placements.layers[layer].dense;
    hashing_keys_insert(sub, g->shape, &f, s, mp_indexed_keys(kv, scratch), count, &scratch->work);
    sub->device = s->device;
    table_build_insert(sub, &scratch->work, &kv->index_buffer, s->num_kv_heads, f.L, count);
}

/* ---- a step ---- */

static const struct lsh_weight *weight(const struct mp_attention *a)
{
    return &((const struct hash_functions *)a->shared)->weight;
}

/* Codes of the queries. */
static size_t query_bytes(const struct mp_attention *a, int query_heads)
{
    return (size_t)query_heads * (size_t)a->config->lsh_L * sizeof(uint16_t);
}

static void select_by_lookup(struct mp_submit *sub, const struct mp_graph *g,
                             const struct mp_decode_step *s, int layer)
{
    const struct mp_placement *at = &g->placements.layers[layer];
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const struct mp_step_shard *parts = s->buffers->shards[at->cut];
    struct hashing_functions f = functions_of(g->attention, layer);
    int group = mp_shape_group(g->shape);

    struct mp_head_buffer codes[MP_MAX_SHARDS];
    for (int i = 0; i < shards->count; i++) {
        const struct mp_shard *shard = &shards->list[i];
        codes[i] = (struct mp_head_buffer){&parts[i].query, shard->first_kv_head * group,
                                           shard->num_kv_heads * group};
    }
    sub->device = at->dense;
    /* A lookup on the CPU reads the codes as soon as they are there. */
    sub->in_stream = !mp_handed_to_cpu(&g->placements, layer);
    hashing_insert(sub, g->shape, &f, &mp_dense_buffers_of(g, s, layer)->q, s->num_rows, codes,
                   shards->count);
    sub->in_stream = true;

    for (int i = 0; i < shards->count; i++) {
        struct table_lookup_row rows[s->num_rows];
        for (int r = 0; r < s->num_rows; r++) {
            const struct mp_selection *to = &s->rows[r].selections[at->cut][i];
            rows[r] = (struct table_lookup_row){
                .tables = &s->rows[r].kv[layer].shards[i].index_buffer,
                .ids = &to->ids,
                .room = to->room,
            };
        }
        struct table_lookup_size size = {s->num_rows, codes[i].num_heads, f.L};
        /* A selected token was met at least twice; the tail met once is of the same order. */
        double hits = 4.0 * mp_expected_nnz(g, s, layer, &shards->list[i]);
        sub->device = shards->list[i].device;
        table_lookup_insert(sub, &size, &parts[i].query, rows, &parts[i].nnz[layer], hits);
    }
}

/* The paper's usual two percent. */
static double expected_share(const struct mp_attention *a, int64_t offloaded)
{
    (void)a;
    (void)offloaded;
    return 0.02;
}

static double chance(const struct mp_attention *a, double cosine)
{
    return lsh_collision_probability(cosine, a->config->lsh_K, a->config->lsh_L);
}

static size_t workspace(const struct mp_attention *a)
{
    const struct mp_config *c = a->config;
    int heads = a->shape->num_key_value_heads;
    int sharing = c->lsh_projection == MP_LSH_SHARED ? heads : 1;
    size_t hashing = hashing_workspace(heads, sharing, a->shape->head_dim, c->lsh_K, c->lsh_L);
    size_t building = table_build_workspace();
    return hashing > building ? hashing : building;
}

const struct mp_method mp_method_magicpig = {
    .name = "magicpig",
    .summary = "tokens that collide with the query in two of L hash tables (arXiv 2410.16179)",
    .keys = (const char *const[]){"lsh_K", "lsh_L", "attention.lsh_projection",
                                  "attention.lsh_layer_group", "attention.seed", "attention.center",
                                  "attention.kv_dtype", NULL},
    .sparse = true,
    .keeps = true,
    .check = check,
    .describe = describe,
    .shared_name = "hash functions",
    .create_shared = create_shared,
    .destroy_shared = destroy_shared,
    .index_name = "hash tables",
    .create_index = create_index,
    .destroy_index = destroy_index,
    .index_view = {sizeof(struct lsh_tables), offsetof(struct lsh_tables, count)},
    .index_parts = index_parts,
    .keys_on_dense = true,
    .scratch_bytes = scratch_bytes,
    .build = build,
    .weight = weight,
    .query_bytes = query_bytes,
    .select = select_by_lookup,
    .expected_share = expected_share,
    .chance = chance,
    .workspace = workspace,
};
