/* KV and tables without a prompt, for benchmarks. */
#include "codelets/random/random.h"
#include "core/base/rng.h"
#include "pipeline/engine/internal.h"

#include <math.h>
#include <stdlib.h>

/* ---- keys that queries meet as often as wanted ----
 *
 * Queries of random weights lie in the first MP_QUERY_PAIRS rotation pairs of their heads, in any
 * direction. A key has a part there and a part elsewhere, which no query sees: from the share of
 * its norm that lies there follows how its cosine with queries spreads, and how often they meet. */

struct key_spread {
    float pairs; /* of the channels that queries lie in */
    float rest;  /* of all others */
};

/* t = 0: nothing in the channels of queries; t = 1: nothing elsewhere. */
static struct key_spread spread_at(double t)
{
    return (struct key_spread){.pairs = (float)t, .rest = (float)(1.0 - t)};
}

/* Sum of the squares of n numbers, uniform in [-1, 1). */
static double square_norm(struct mp_rng *rng, int n)
{
    double sum = 0.0;
    for (int i = 0; i < n; i++) {
        double x = 2.0 * mp_rng_uniform(rng) - 1.0;
        sum += x * x;
    }
    return sum;
}

/* The cosine of a random query and a random key. */
static double draw_cosine(struct mp_rng *rng, int head_dim, struct key_spread spread)
{
    double dot = 0.0, query = 0.0, key = 0.0;
    for (int i = 0; i < 2 * MP_QUERY_PAIRS; i++) {
        double q = mp_rng_normal(rng);
        double k = spread.pairs * (2.0 * mp_rng_uniform(rng) - 1.0);
        dot += q * k;
        query += q * q;
        key += k * k;
    }
    key += spread.rest * spread.rest * square_norm(rng, head_dim - 2 * MP_QUERY_PAIRS);
    return dot / sqrt(query * key);
}

/* Share of the keys that a query selects, by sampling; rises with t. */
static double expected_share(const struct mp_engine *e, double t)
{
    enum { PAIRS = 20000 };
    struct mp_rng rng;
    mp_rng_init(&rng, 0, 0);
    double sum = 0.0;
    for (int i = 0; i < PAIRS; i++) {
        double cosine = draw_cosine(&rng, e->shape->head_dim, spread_at(t));
        sum += e->attention.method->chance(&e->attention, cosine);
    }
    return sum / PAIRS;
}

static int choose_spread(const struct mp_engine *e, double sampled, bool nearest,
                         struct key_spread *out, struct mp_error *err)
{
    double low = 0.0;
    double high = 1.0;
    double least = expected_share(e, low);
    double most = expected_share(e, high);
    if (!nearest && (sampled < least || sampled > most)) {
        char *attention = mp_attention_describe(e->config);
        mp_fail(err, MP_ERR_USAGE,
                "sampled share: found %.4f, but synthetic keys with %s give %.4f to %.4f", sampled,
                attention, least, most);
        free(attention);
        return MP_ERR_USAGE;
    }
    for (int i = 0; i < 24; i++) {
        double middle = (low + high) / 2.0;
        *(expected_share(e, middle) < sampled ? &low : &high) = middle;
    }
    *out = spread_at(high);
    return 0;
}

/* ---- filling ---- */

/* KV heads [first, first + count) of an array [num_key_value_heads][capacity][head_dim]. */
struct part {
    void *data; /* of these heads alone */
    int first;
    int count;
    int64_t capacity;
};

/* Draws a part, wherever it is: the same numbers however the array is cut. */
static void draw(struct mp_submit *sub, const struct mp_engine *e, struct mp_place place,
                 const struct part *to, struct key_spread spread, uint64_t seed)
{
    const struct mp_shape *s = e->shape;
    int64_t head = to->capacity * s->head_dim;
    struct mp_allocator a = {.err = sub->err};
    struct mp_buffer whole;
    mp_buffer_wrap(&a, &whole, place, to->data,
                   kv_bytes(to->count, s->head_dim, e->dtype, to->capacity));
    struct random_part what = {
        .dtype = e->dtype,
        .count = to->count * head,
        .numbers = {.seed = seed,
                    .first = to->first * head,
                    .spread = spread.rest,
                    .pairs = MP_QUERY_PAIRS,
                    .pair_spread = spread.pairs,
                    .head_dim = s->head_dim,
                    .stride = 1},
    };
    random_insert(sub, &whole, &what);
    mp_buffer_release(&whole);
}

static const struct key_spread ANY = {.pairs = 1.0f, .rest = 1.0f};

static void fill_shard(struct mp_submit *sub, const struct mp_engine *e,
                       const struct mp_shard *shard, const struct offloaded_kv *kv,
                       struct key_spread keys, uint64_t seed)
{
    struct mp_place place = mp_offloaded_place(&e->graph.placements, shard);
    struct part k = {kv->k, shard->first_kv_head, shard->num_kv_heads, kv->capacity};
    struct part v = {kv->v, shard->first_kv_head, shard->num_kv_heads, kv->capacity};
    if (kv->count > 0) {
        draw(sub, e, place, &k, keys, seed);
        draw(sub, e, place, &v, ANY, seed + 1);
    }
}

static void fill_layer(struct mp_submit *sub, const struct mp_engine *e, struct mp_layer_kv *kv,
                       int layer, struct key_spread keys)
{
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    const struct kv_cache *cache = &kv->static_cache;
    struct part k = {cache->k, 0, cache->num_kv_heads, cache->capacity};
    struct part v = {cache->v, 0, cache->num_kv_heads, cache->capacity};
    uint64_t seed = (uint64_t)layer * 4;
    draw(sub, e, mp_memory_of(mp_dense(e)), &k, ANY, seed);
    draw(sub, e, mp_memory_of(mp_dense(e)), &v, ANY, seed + 1);
    for (int i = 0; shards != NULL && i < shards->count; i++) {
        fill_shard(sub, e, &shards->list[i], &kv->shards[i].offloaded, keys, seed + 2);
    }
}

/* Builds the index of every layer. */
static void build_index(struct mp_submit *sub, const struct mp_engine *e, struct mp_layer_kv *kv,
                        int64_t tokens)
{
    struct mp_allocator a = {.err = sub->err};
    int64_t offloaded = tokens - mp_static_tokens(&e->graph, tokens);
    struct mp_keep keep = {.request = -1,
                           .tokens = tokens,
                           .kv = kv,
                           .scratch = mp_prefill_create_scratch(e, &a, offloaded)};
    sub->code = sub->code == 0 ? a.code : sub->code;
    for (int l = 0; l < e->shape->num_hidden_layers && sub->code == 0; l++) {
        mp_submit_index(sub, &e->graph, &keep, l);
    }
    mp_task_group_wait(sub->group, 0);
    mp_prefill_destroy_scratch(e, keep.scratch);
}

int mp_synthetic_fill(const struct mp_engine *e, struct mp_layer_kv *kv, int64_t tokens,
                      double sampled, bool nearest, struct mp_error *err)
{
    struct key_spread keys = ANY;
    struct mp_task_group *group = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(group, err);
    if (sampled > 0.0 && e->attention.method->chance != NULL &&
        mp_sparse_layers(&e->graph.placements) > 0) {
        sub.code = choose_spread(e, sampled, nearest, &keys, err);
    }
    for (int l = 0; l < e->shape->num_hidden_layers && sub.code == 0; l++) {
        sub.code = mp_kv_create_layer(e, &kv[l], l, tokens, err);
        if (sub.code == 0) {
            fill_layer(&sub, e, &kv[l], l, keys);
        }
    }
    build_index(&sub, e, kv, tokens);
    mp_task_group_destroy(group);
    return sub.code;
}
