#include "core/base/sampling.h"

#include "core/base/memory.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>

enum { LANES = 32 }; /* largest values so far, side by side, as vector units find them */

/* -INFINITY where there is no number above it: NaN compares false with everything. */
static float largest(const float *logits, int32_t count)
{
    float lanes[LANES];
    for (int j = 0; j < LANES; j++) {
        lanes[j] = -INFINITY;
    }
    int32_t i = 0;
    for (; i + LANES <= count; i += LANES) {
        for (int j = 0; j < LANES; j++) {
            lanes[j] = logits[i + j] > lanes[j] ? logits[i + j] : lanes[j];
        }
    }
    for (; i < count; i++) {
        lanes[0] = logits[i] > lanes[0] ? logits[i] : lanes[0];
    }
    for (int j = 1; j < LANES; j++) {
        lanes[0] = lanes[j] > lanes[0] ? lanes[j] : lanes[0];
    }
    return lanes[0];
}

/* The first of the largest; 0 if all are NaN. */
static int32_t argmax(const float *logits, int32_t count)
{
    float max = largest(logits, count);
    for (int32_t i = 0; i < count; i++) {
        if (logits[i] == max) {
            return i;
        }
    }
    return 0;
}

/* Mass of a token relative to the most likely one, whose logit is max; 0 for NaN and for what min_p
 * leaves out. The largest is compared first because it may be infinite. */
static double mass_of(const struct mp_sampling *s, float logit, float max)
{
    if (logit == max) {
        return 1.0;
    }
    float mass = isnan(logit) ? 0.0f : expf((logit - max) / s->temperature);
    return mass < s->min_p ? 0.0 : (double)mass;
}

/* Draws from all tokens. */
static int32_t draw_any(const struct mp_sampling *s, struct mp_rng *rng, const float *logits,
                        int32_t count, float max)
{
    double total = 0.0;
    for (int32_t i = 0; i < count; i++) {
        total += mass_of(s, logits[i], max);
    }
    double point = mp_rng_uniform(rng) * total;
    int32_t last = 0; /* with any mass: rounding may leave a rest of point */
    for (int32_t i = 0; i < count; i++) {
        double mass = mass_of(s, logits[i], max);
        if (mass > 0.0) {
            last = i;
            if (point < mass) {
                break;
            }
            point -= mass;
        }
    }
    return last;
}

struct candidate {
    float logit;
    int32_t id;
};

/* A binary heap, most likely token on top, that is sorted only as far as it is read: items[0 ..
 * unsorted) is the heap, behind it come those taken off it, the largest last. */
struct ranking {
    struct candidate *items;
    int32_t count;
    int32_t unsorted;
};

static bool ranks_before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static void sift_down(struct candidate *items, int32_t size, int32_t root)
{
    struct candidate moved = items[root];
    for (int32_t child; (child = 2 * root + 1) < size; root = child) {
        if (child + 1 < size && ranks_before(items[child + 1], items[child])) {
            child++;
        }
        if (!ranks_before(items[child], moved)) {
            break;
        }
        items[root] = items[child];
    }
    items[root] = moved;
}

/* NaN logits are left out. */
static struct ranking ranking_new(const float *logits, int32_t count)
{
    struct ranking r = {.items = mp_xmalloc((size_t)count * sizeof *r.items)};
    for (int32_t i = 0; i < count; i++) {
        if (!isnan(logits[i])) {
            r.items[r.count++] = (struct candidate){logits[i], i};
        }
    }
    r.unsorted = r.count;
    for (int32_t i = r.count / 2 - 1; i >= 0; i--) {
        sift_down(r.items, r.count, i);
    }
    return r;
}

/* The candidate at a rank, 0 being the most likely. */
static struct candidate ranking_at(struct ranking *r, int32_t rank)
{
    int32_t place = r->count - 1 - rank;
    while (r->unsorted > place) {
        struct candidate top = r->items[0];
        r->unsorted--;
        r->items[0] = r->items[r->unsorted];
        sift_down(r->items, r->unsorted, 0);
        r->items[r->unsorted] = top;
    }
    return r->items[place];
}

/* Draws from the top_k largest, cut to the smallest set whose mass reaches top_p. */
static int32_t draw_top(const struct mp_sampling *s, struct mp_rng *rng, const float *logits,
                        int32_t count, float max)
{
    struct ranking r = ranking_new(logits, count);
    bool cut = s->top_k > 0 && s->top_k < r.count;
    int32_t most = cut ? s->top_k : r.count;
    double total = 0.0;
    for (int32_t i = 0; i < most; i++) {
        float logit = cut ? ranking_at(&r, i).logit : r.items[i].logit;
        total += mass_of(s, logit, max);
    }

    double kept_mass = 0.0;
    int32_t kept = 0;
    while (kept < most && (kept == 0 || kept_mass < s->top_p * total)) {
        double mass = mass_of(s, ranking_at(&r, kept).logit, max);
        if (mass == 0.0) {
            break; /* nor has any token after it: rounding has left a rest of the total */
        }
        kept_mass += mass;
        kept++;
    }

    double point = mp_rng_uniform(rng) * kept_mass;
    int32_t rank = 0;
    for (; rank < kept - 1; rank++) {
        point -= mass_of(s, ranking_at(&r, rank).logit, max);
        if (point < 0.0) {
            break;
        }
    }
    int32_t id = ranking_at(&r, rank).id;
    free(r.items);
    return id;
}

int32_t mp_sample(const struct mp_sampling *s, struct mp_rng *rng, const float *logits,
                  int32_t count)
{
    int32_t best = argmax(logits, count);
    if (s->temperature == 0.0f || isnan(logits[best])) {
        return best;
    }
    bool restricted = s->top_p < 1.0f || (s->top_k > 0 && s->top_k < count);
    return restricted ? draw_top(s, rng, logits, count, logits[best])
                      : draw_any(s, rng, logits, count, logits[best]);
}

/* Puts a token into its place among the likeliest so far, *found of them. */
static void keep_likeliest(float logit, int32_t id, int top, int *found, int32_t *ids, float *kept)
{
    int at = *found < top ? (*found)++ : top;
    for (; at > 0 && kept[at - 1] < logit; at--) {
        if (at < top) {
            kept[at] = kept[at - 1];
            ids[at] = ids[at - 1];
        }
    }
    if (at < top) {
        kept[at] = logit;
        ids[at] = id;
    }
}

void mp_logprobs(const float *logits, int32_t count, int32_t id, int top, int32_t *ids,
                 float *logprobs)
{
    float max = logits[argmax(logits, count)];
    double total = 0.0;
    int found = 0;
    max = isnan(max) ? -INFINITY : max;
    for (int32_t i = 0; i < count; i++) {
        float logit = isnan(logits[i]) ? -INFINITY : logits[i];
        total += logit == max ? 1.0 : (double)expf(logit - max);
        if (found < top || (top > 0 && logit > logprobs[top])) {
            keep_likeliest(logit, i, top, &found, ids + 1, logprobs + 1);
        }
    }
    ids[0] = id;
    logprobs[0] = isnan(logits[id]) ? -INFINITY : logits[id];
    for (int i = 0; i <= top; i++) {
        double above = logprobs[i] == max ? 0.0 : (double)logprobs[i] - (double)max;
        logprobs[i] = (float)(above - log(total));
    }
}
