/* KV and tables without a prompt, for benchmarks. */
#include "codelets/common/attention/lsh.h"
#include "codelets/random/random.h"
#include "core/base/rng.h"
#include "pipeline/engine/internal.h"
#include "tasks/draw.h"

#include <math.h>

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

/* Share of the keys that a query meets in at least two tables, by sampling; rises with t. */
static double expected_share(const struct mp_engine *e, double t)
{
    enum { PAIRS = 20000 };
    struct mp_rng rng;
    mp_rng_init(&rng, 0, 0);
    double sum = 0.0;
    for (int i = 0; i < PAIRS; i++) {
        double cosine = draw_cosine(&rng, e->shape->head_dim, spread_at(t));
        sum += lsh_collision_probability(cosine, e->lsh.K, e->lsh.L);
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
        return mp_fail(err, MP_ERR_USAGE,
                       "sampled share: found %.4f, but synthetic keys with (K, L) = (%d, %d) give "
                       "%.4f to %.4f",
                       sampled, e->lsh.K, e->lsh.L, least, most);
    }
    for (int i = 0; i < 24; i++) {
        double middle = (low + high) / 2.0;
        *(expected_share(e, middle) < sampled ? &low : &high) = middle;
    }
    *out = spread_at(high);
    return 0;
}

/* ---- filling ---- */

/* Draws all of [num_kv_heads][capacity][head_dim], wherever it is. */
static int draw(const struct mp_engine *e, enum mp_place place, void *data, int64_t capacity,
                struct key_spread spread, uint64_t seed, struct mp_error *err)
{
    const struct mp_shape *s = e->shape;
    int64_t count = s->num_key_value_heads * capacity * s->head_dim;
    struct mp_buffer whole;
    mp_buffer_wrap(&whole, place, data, (size_t)count * mp_dtype_size(e->dtype));
    struct random_task what = {
        .dtype = e->dtype,
        .count = count,
        .numbers = {.seed = seed,
                    .spread = spread.rest,
                    .pairs = MP_QUERY_PAIRS,
                    .pair_spread = spread.pairs,
                    .head_dim = s->head_dim,
                    .stride = 1},
    };
    int code = mp_submit_random(&whole, &what, err);
    mp_buffer_release(&whole);
    return code;
}

static int fill_layer(const struct mp_engine *e, struct mp_layer_kv *kv, struct key_spread keys,
                      uint64_t seed, struct mp_error *err)
{
    const struct key_spread any = {.pairs = 1.0f, .rest = 1.0f};
    struct offloaded_kv *offloaded = &kv->offloaded;
    int64_t fixed = kv->fixed.capacity;
    int code = draw(e, e->dense_place, kv->fixed.k, fixed, any, seed, err);
    if (code == 0) {
        code = draw(e, e->dense_place, kv->fixed.v, fixed, any, seed + 1, err);
    }
    if (code == 0 && offloaded->capacity > 0) {
        enum mp_place place = mp_offloaded_place(kv->place);
        code = draw(e, place, offloaded->k, offloaded->capacity, keys, seed + 2, err);
        if (code == 0) {
            code = draw(e, place, offloaded->v, offloaded->capacity, any, seed + 3, err);
        }
        offloaded->count = offloaded->capacity;
    }
    return code;
}

/* Hashes the offloaded keys of every layer and builds its tables. */
static int build_tables(const struct mp_engine *e, struct mp_layer_kv *kv, int64_t offloaded,
                        struct mp_error *err)
{
    struct mp_prefill p = {.request = -1, .kv = kv};
    size_t codes = (size_t)offloaded * (size_t)e->shape->num_key_value_heads * (size_t)e->lsh.L;
    int code =
        mp_buffer_alloc(&p.codes, mp_shared_place(e), codes * sizeof(uint16_t), "key codes", err);
    for (int l = 0; l < e->shape->num_hidden_layers && code == 0; l++) {
        if (kv[l].offloaded.count > 0) {
            code = mp_submit_prefill_tables(&e->graph, &p, l, err);
        }
    }
    mp_buffer_release(&p.codes);
    return code;
}

int mp_synthetic_fill(const struct mp_engine *e, struct mp_layer_kv *kv, int64_t tokens,
                      double sampled, bool nearest, struct mp_error *err)
{
    struct key_spread keys = {.pairs = 1.0f, .rest = 1.0f};
    int64_t offloaded = 0;
    int code = 0;
    if (sampled > 0.0 && e->num_sparse_layers > 0) {
        code = choose_spread(e, sampled, nearest, &keys, err);
    }
    for (int l = 0; l < e->shape->num_hidden_layers && code == 0; l++) {
        code = mp_kv_create_layer(e, kv, l, tokens, err);
        if (code == 0) {
            code = fill_layer(e, &kv[l], keys, (uint64_t)l * 4, err);
        }
        offloaded = kv[l].offloaded.count > offloaded ? kv[l].offloaded.count : offloaded;
    }
    if (code == 0 && offloaded > 0) {
        code = build_tables(e, kv, offloaded, err);
    }
    int wait_code = mp_runtime_wait(code == 0 ? err : NULL);
    return code != 0 ? code : wait_code;
}
