/* The prompts that an engine has read and still knows. */
#include "core/base/memory.h"
#include "pipeline/engine/request/segment.h"

#include <stdlib.h>
#include <string.h>

/* A shorter prefix is read faster than it is restored. */
enum { LEAST_TOKENS = 256 };

bool mp_prefix_restores(const struct mp_engine *e)
{
    int sparse = mp_sparse_layers(&e->graph.placements);
    return !e->lends && e->base == NULL && mp_engine_kept_layers(e) == sparse;
}

/* ---- finding ---- */

static int64_t common_tokens(const struct mp_segment *s, const int32_t *ids, int64_t count)
{
    int64_t most = s->tokens < count ? s->tokens : count;
    int64_t n = 0;
    while (n < most && s->ids[n] == ids[n]) {
        n++;
    }
    return n;
}

/* Tokens of the prompt that the segment has for others: where a method selects, those before the
 * window, in whole granules behind the sink. The prompt's last token is always read: its logits are
 * wanted. */
static int64_t usable_tokens(const struct mp_engine *e, const struct mp_segment *s,
                             const int32_t *ids, int64_t count)
{
    int64_t tokens = common_tokens(s, ids, count - 1);
    if (mp_engine_kept_layers(e) > 0) {
        int64_t last = s->tokens - e->graph.window;
        int64_t offloaded = (tokens < last ? tokens : last) - e->graph.sink;
        tokens = offloaded > 0 ? e->graph.sink + offloaded / KV_GRANULE * KV_GRANULE : 0;
    }
    return tokens >= LEAST_TOKENS && tokens > e->graph.sink ? tokens : 0;
}

/* In place if what follows the prefix fits a static cache of the planned size, and none of it will
 * leave that for the lender's memory. */
static bool shares(const struct mp_engine *e, int64_t rest, int64_t new_tokens)
{
    bool grows = e->attention.method->extend != NULL && mp_engine_kept_layers(e) > 0;
    return rest <= e->graph.window + e->config->generation_budget &&
           (!grows || new_tokens <= e->config->generation_budget);
}

struct mp_prefix mp_prefix_find(const struct mp_engine *e, const struct mp_session *s,
                                const int32_t *ids, int64_t count, int64_t new_tokens)
{
    struct mp_prefix best = {0};
    for (struct mp_segment *p = e->prefixes->first; p != NULL; p = p->next) {
        int64_t tokens = p->owner == NULL || p->owner == s ? usable_tokens(e, p, ids, count) : 0;
        if (tokens > best.tokens) {
            best = (struct mp_prefix){p, tokens, shares(e, count - tokens, new_tokens)};
        }
    }
    /* Two of them are in memory until the prompt has been read: the plan counts that. */
    if (best.segment != NULL && !best.shared && best.segment->bytes > e->prefixes->budget) {
        best = (struct mp_prefix){0};
    }
    e->prefixes->asked += count;
    e->prefixes->found += best.tokens;
    if (best.segment != NULL) {
        best.segment->used = ++e->prefixes->uses;
    }
    return best;
}

/* ---- keeping ---- */

static void withdraw(const struct mp_engine *e, struct mp_segment *s)
{
    struct mp_segment **at = &e->prefixes->first;
    while (*at != s) {
        at = &(*at)->next;
    }
    *at = s->next;
    mp_segment_unref(e, s);
}

/* The one that was used longest ago of those that only the engine holds; NULL: there is none.
 * *bytes gets what all of these take. */
static struct mp_segment *oldest_idle(const struct mp_engine *e, int64_t *bytes)
{
    struct mp_segment *oldest = NULL;
    *bytes = 0;
    for (struct mp_segment *s = e->prefixes->first; s != NULL; s = s->next) {
        if (s->refs > 1) {
            continue;
        }
        *bytes = mp_bytes_add(*bytes, s->bytes);
        oldest = oldest == NULL || s->used < oldest->used ? s : oldest;
    }
    return oldest;
}

/* What no request uses keeps to the budget. */
static void keep_to_budget(const struct mp_engine *e)
{
    int64_t bytes;
    for (;;) {
        struct mp_segment *oldest = oldest_idle(e, &bytes);
        if (oldest == NULL || bytes <= e->prefixes->budget) {
            return;
        }
        withdraw(e, oldest);
    }
}

/* Those whose whole prompt the new one begins with are of no more use, once their request is gone.
 */
static void withdraw_covered(const struct mp_engine *e, const struct mp_segment *by)
{
    struct mp_segment *next;
    for (struct mp_segment *s = e->prefixes->first; s != NULL; s = next) {
        next = s->next;
        if (s != by && s->owner == NULL && s->tokens <= by->tokens &&
            memcmp(s->ids, by->ids, (size_t)s->tokens * sizeof *s->ids) == 0) {
            withdraw(e, s);
        }
    }
}

void mp_kv_count(const struct mp_engine *e, int64_t tokens, int64_t growth, int64_t *counted)
{
    struct mp_allocator counter = {.counted = counted};
    memset(counted, 0, MP_MEMORIES * sizeof *counted);
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        struct mp_layer_kv kv = {0};
        mp_kv_create_static(e, &counter, &kv, l, tokens, growth);
        mp_kv_create_offloaded(e, &counter, &kv, l, tokens, growth);
        mp_kv_create_index(e, &counter, &kv, l);
        mp_kv_destroy_layer(e, &kv, l);
    }
}

void mp_prefix_offer(const struct mp_engine *e, const struct mp_session *s,
                     struct mp_segment *segment, const int32_t *ids, int64_t tokens, int64_t growth)
{
    if (segment->lender != NULL || tokens < LEAST_TOKENS || !mp_prefix_restores(e)) {
        return;
    }
    int64_t counted[MP_MEMORIES];
    mp_kv_count(e, tokens, growth, counted);
    segment->ids = mp_xcalloc((size_t)tokens, sizeof *ids);
    memcpy(segment->ids, ids, (size_t)tokens * sizeof *ids);
    segment->tokens = tokens;
    for (int i = 0; i < MP_MEMORIES; i++) {
        segment->bytes = mp_bytes_add(segment->bytes, counted[i]);
    }
    segment->owner = s;
    segment->used = ++e->prefixes->uses;
    mp_segment_ref(segment);
    segment->next = e->prefixes->first;
    e->prefixes->first = segment;
    withdraw_covered(e, segment);
}

void mp_prefix_retire(const struct mp_engine *e, struct mp_segment *segment)
{
    if (segment != NULL) {
        segment->owner = NULL;
        mp_segment_unref(e, segment);
        keep_to_budget(e);
    }
}

void mp_prefix_clear(const struct mp_engine *e)
{
    while (e->prefixes->first != NULL) {
        withdraw(e, e->prefixes->first);
    }
}
