/* pps: tokens drawn with probability proportional to size, by what low-bit codes of the keys say of
 * their attention: one selection a KV head for all of its query heads, as large for long prompts as
 * for short ones, each token weighed by one over its probability. */
#include "codelets/code_select/code_select.h"
#include "codelets/encode_keys/encode_keys.h"
#include "core/base/memory.h"
#include "tasks/methods/method.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

static int check(const struct mp_config *c, struct mp_error *err)
{
    if (c->code_bits == 3) {
        return mp_fail(err, MP_ERR_USAGE, "attention.code_bits: expected 1, 2 or 4, found 3");
    }
    return 0;
}

static void describe(const struct mp_config *c, char *out, size_t size)
{
    const char *plural = c->code_bits == 1 ? "" : "s";
    if (c->epsilon > 0.0f) {
        snprintf(out, size, "error %g, codes of %d bit%s", (double)c->epsilon, c->code_bits,
                 plural);
    } else {
        snprintf(out, size, "%" PRId64 " samples, codes of %d bit%s", c->samples, c->code_bits,
                 plural);
    }
}

/* Tokens that a KV head is to draw, at most. */
static int64_t most_samples(const struct mp_attention *a)
{
    return a->config->epsilon > 0.0f ? MP_MOST_SAMPLES : a->config->samples;
}

/* Tokens that a KV head selects at most: systematic sampling draws one more than it is to at
 * times. */
static int64_t room(const struct mp_attention *a, const struct mp_shard_size *size)
{
    int64_t most = most_samples(a) + 1;
    return size->tokens < most ? size->tokens : most;
}

static double expected_share(const struct mp_attention *a, int64_t offloaded)
{
    int64_t samples = a->config->samples;
    return samples < offloaded ? (double)samples / (double)offloaded : 1.0;
}

/* ---- the rotation of keys and queries, the same in all layers ---- */

static void create_shared(struct mp_attention *a, struct mp_allocator *alloc, struct mp_place place)
{
    size_t floats = key_rotation_size(a->shape->head_dim);
    struct mp_buffer *rotation = mp_xcalloc(1, sizeof *rotation);
    a->shared = rotation;
    mp_buffer_create(alloc, rotation, place, floats * sizeof(float), "rotation of keys");
    if (mp_allocated(alloc)) {
        float *data = mp_xcalloc(floats, sizeof *data);
        key_rotation_draw(a->shape->head_dim, a->config->lsh_seed, data);
        alloc->code = mp_buffer_fill(rotation, data, alloc->err);
        free(data);
    }
}

static void destroy_shared(struct mp_attention *a)
{
    mp_buffer_release(a->shared);
    free(a->shared);
    a->shared = NULL;
}

/* ---- codes of a layer's keys ---- */

static struct key_codes codes_of(const struct mp_attention *a, const struct mp_shard_size *size)
{
    return (struct key_codes){
        .count = size->tokens,
        .capacity = size->capacity,
        .num_kv_heads = size->kv_heads,
        .head_dim = a->shape->head_dim,
        .bits = a->config->code_bits,
    };
}

static size_t bytes_of(const struct key_codes *c)
{
    return codes_bytes(c->num_kv_heads, c->capacity, c->head_dim, c->bits);
}

static void *create_index(const struct mp_attention *a, struct mp_allocator *alloc,
                          struct mp_place place, const struct mp_shard_size *size,
                          struct mp_buffer *wrap)
{
    struct key_codes *c = mp_xcalloc(1, sizeof *c);
    *c = codes_of(a, size);
    c->words = mp_allocate(alloc, place, bytes_of(c), "codes of keys");
    if (c->words != NULL) {
        size_t words = (size_t)c->num_kv_heads * (size_t)codes_blocks(c->capacity) * CODES_BLOCK *
                       (size_t)codes_words(c->head_dim, c->bits);
        c->factors = (float *)(void *)(c->words + words);
    }
    mp_buffer_wrap(alloc, wrap, MP_HOST, c, sizeof *c);
    return c;
}

static void destroy_index(struct mp_place place, void *index)
{
    struct key_codes *c = index;
    mp_memory_free(place, c->words, bytes_of(c));
    free(c);
}

static int index_parts(const void *index, int head, int64_t tokens,
                       struct mp_index_part parts[MP_INDEX_PARTS])
{
    const struct key_codes *c = index;
    size_t slots = (size_t)codes_blocks(tokens) * CODES_BLOCK;
    size_t own = (size_t)codes_blocks(c->capacity) * CODES_BLOCK * (size_t)head;
    size_t words = (size_t)codes_words(c->head_dim, c->bits);
    parts[0] = (struct mp_index_part){c->words + own * words, slots * words * sizeof *c->words};
    parts[1] = (struct mp_index_part){c->factors + own, slots * sizeof *c->factors};
    return 2;
}

/* The tokens of `keys` become tokens `first` on of the index. */
static void encode(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                   const struct mp_shard_kv *kv, const struct mp_buffer *keys, int64_t first,
                   int64_t count)
{
    sub->device = mp_selecting_device(g->attention->method,
                                      &mp_shards_of(&g->placements, layer)->list[shard]);
    encode_keys_insert(sub, keys, g->attention->shared, &kv->index_buffer, kv->index, first, count);
}

static void build(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                  struct mp_shard_kv *kv, const struct mp_index_scratch *scratch)
{
    encode(sub, g, layer, shard, kv, mp_indexed_keys(kv, scratch), 0, kv->offloaded.count);
}

static void extend(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                   struct mp_shard_kv *kv, int64_t first, int64_t count)
{
    encode(sub, g, layer, shard, kv, &kv->leaving_buffer, first, count);
}

/* ---- a step ---- */

static size_t scratch(const struct mp_attention *a, const struct mp_shard_size *size)
{
    return code_select_scratch(size->query_heads, size->kv_heads, size->tokens, most_samples(a));
}

static void draw(struct mp_submit *sub, const struct mp_graph *g, const struct mp_decode_step *s,
                 int layer)
{
    const struct mp_shards *shards = mp_shards_of(&g->placements, layer);
    const struct mp_config *c = g->attention->config;
    int cut = g->placements.layers[layer].cut;
    /* The CPU attends to what is selected as soon as it is there. */
    sub->in_stream = !mp_handed_to_cpu(&g->placements, layer);
    for (int i = 0; i < shards->count; i++) {
        struct code_select_row rows[s->num_rows];
        for (int r = 0; r < s->num_rows; r++) {
            const struct mp_layer_kv *kv = &s->rows[r].kv[layer];
            const struct mp_selection *to = &s->rows[r].selections[cut][i];
            rows[r] = (struct code_select_row){
                .codes = &kv->shards[i].index_buffer,
                .tokens = kv->offloaded,
                .ids = &to->ids,
                .log_weights = &to->log_weights,
                .room = to->room,
                .scratch = &to->scratch,
                .samples = s->rows[r].samples[layer],
                .seed = mp_draw_seed(g, &s->rows[r], layer),
            };
        }
        sub->device = mp_selecting_device(g->attention->method, &shards->list[i]);
        code_select_insert(sub, g->shape, &shards->list[i], &mp_dense_buffers_of(g, s, layer)->q,
                           g->attention->shared, rows, s->num_rows, c->code_bits,
                           &s->buffers->shards[cut][i].nnz[layer]);
    }
    sub->in_stream = true;
}

const struct mp_method mp_method_pps = {
    .name = "pps",
    .summary = "tokens drawn by low-bit codes of their keys, as many for any length",
    .keys = (const char *const[]){"attention.samples", "attention.epsilon", "attention.code_bits",
                                  "attention.seed", "attention.center", "attention.kv_dtype", NULL},
    .sparse = true,
    .keeps = true,
    .on_dense = true,
    .shared_rows = true,
    .check = check,
    .describe = describe,
    .shared_name = "rotation of keys",
    .create_shared = create_shared,
    .destroy_shared = destroy_shared,
    .index_name = "codes of keys",
    .create_index = create_index,
    .destroy_index = destroy_index,
    .index_view = {sizeof(struct key_codes), offsetof(struct key_codes, count)},
    .index_parts = index_parts,
    .keys_on_dense = true,
    .build = build,
    .extend = extend,
    .log_weights = true,
    .estimates_error = true,
    .room = room,
    .selection_scratch = scratch,
    .select = draw,
    .expected_share = expected_share,
};
