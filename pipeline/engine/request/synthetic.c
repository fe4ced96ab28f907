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

/* Keys or values of a whole prompt, [num_key_value_heads][capacity][head_dim]. */
static void draw(struct mp_submit *sub, const struct mp_engine *e, struct mp_place place,
                 const struct kv_cache *to, void *data, struct key_spread spread, uint64_t seed)
{
    const struct mp_shape *s = e->shape;
    struct mp_allocator a = {.err = sub->err};
    struct mp_buffer whole;
    mp_buffer_wrap(&a, &whole, place, data,
                   kv_bytes(to->num_kv_heads, to->head_dim, to->dtype, to->capacity));
    random_insert(sub, &whole,
                  &(struct random_part){
                      .dtype = to->dtype,
                      .count = to->num_kv_heads * to->capacity * to->head_dim,
                      .numbers = {.seed = seed,
                                  .spread = spread.rest,
                                  .pairs = MP_QUERY_PAIRS,
                                  .pair_spread = spread.pairs,
                                  .head_dim = s->head_dim,
                                  .stride = 1},
                  });
    mp_buffer_release(&whole);
}

static const struct key_spread ANY = {.pairs = 1.0f, .rest = 1.0f};

/* Draws a layer of a prompt where its prefill would leave it, and keeps what that would. */
static void fill_layer(struct mp_submit *sub, const struct mp_engine *e, const struct mp_keep *keep,
                       int layer, int64_t growth, struct kv_cache *staging,
                       const struct mp_buffer *wrap, struct key_spread keys)
{
    const struct mp_place place = mp_memory_of(e->graph.placements.layers[layer].dense);
    sub->code = mp_kv_create_layer(e, &keep->kv[layer], layer, keep->tokens, growth, sub->err);
    /* Tasks see the staging area through its struct, not through what is drawn into. */
    mp_task_group_wait(sub->group, 0);
    uint64_t seed = 2 * (uint64_t)(e->part * e->shape->num_hidden_layers + layer);
    draw(sub, e, place, staging, staging->k, keys, seed);
    draw(sub, e, place, staging, staging->v, ANY, seed + 1);
    mp_task_group_wait(sub->group, 0);
    mp_submit_keep(sub, &e->graph, keep, layer, &wrap, 1);
}

/* The layers of one device. */
static void fill_stage(struct mp_submit *sub, const struct mp_engine *e, const struct mp_keep *keep,
                       int stage, int64_t growth, struct key_spread keys)
{
    const struct mp_placements *p = &e->graph.placements;
    const struct mp_place place = mp_memory_of(p->devices[stage]);
    struct mp_allocator a = {.code = sub->code, .err = sub->err};
    struct kv_cache staging;
    struct mp_buffer wrap = {0};
    mp_kv_cache_create(e, &a, place, &staging, keep->tokens, false);
    mp_buffer_wrap(&a, &wrap, MP_HOST, &staging, sizeof staging);
    sub->code = a.code;
    for (int l = 0; l < p->num_layers && sub->code == 0; l++) {
        if (p->layers[l].stage == stage) {
            fill_layer(sub, e, keep, l, growth, &staging, &wrap, keys);
        }
    }
    mp_task_group_wait(sub->group, 0);
    mp_buffer_release(&wrap);
    mp_kv_cache_destroy(place, &staging);
}

static void fill_part(struct mp_submit *sub, const struct mp_engine *e, struct mp_layer_kv *kv,
                      int64_t tokens, int64_t growth, struct key_spread keys)
{
    struct mp_allocator a = {.code = sub->code, .err = sub->err};
    struct mp_keep keep = {.request = -1, .tokens = tokens, .kv = kv};
    keep.scratch = mp_index_scratch_create(e, &a, tokens - mp_static_tokens(&e->graph, tokens));
    sub->code = a.code;
    for (int s = 0; s < e->graph.placements.num_devices; s++) {
        fill_stage(sub, e, &keep, s, growth, keys);
    }
    mp_index_scratch_destroy(e, keep.scratch);
}

int mp_synthetic_fill(const struct mp_engine *e, struct mp_layer_kv *kv, int64_t tokens,
                      int64_t growth, double sampled, bool nearest, struct mp_error *err)
{
    struct key_spread keys = ANY;
    if (sampled > 0.0 && e->attention.method->chance != NULL &&
        mp_sparse_layers(&e->graph.placements) > 0) {
        int code = choose_spread(e, sampled, nearest, &keys, err);
        if (code != 0) {
            return code;
        }
    }
    struct mp_task_group *group = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(group, err);
    for (int p = 0; p < mp_num_parts(e); p++) {
        const struct mp_engine *part = mp_part(e, p);
        fill_part(&sub, part, mp_part_layers(part, kv), tokens, growth, keys);
    }
    mp_task_group_destroy(group);
    return sub.code;
}
