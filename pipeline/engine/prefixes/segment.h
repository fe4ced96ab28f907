/* The KV of a prompt, which other requests share: those whose prompts begin with the same tokens
 * read only what follows.
 *
 * What is kept of a prompt's tokens never changes once they have been read, so any number of
 * requests may look at the first ones, as many as they have in common with it. A request that
 * follows closely shares them in place: its layers are views of the lender's, and what it adds is
 * its own. One that adds much, or that will grow into what is offloaded, restores them and makes
 * all its KV anew, which costs memory but no arithmetic of the model's. Keys that follow a shared
 * prefix are stored less its mean, not their own: the softmax is the same for any. */
#ifndef MP_PIPELINE_SEGMENT_H
#define MP_PIPELINE_SEGMENT_H

#include "pipeline/engine/internal.h"

struct mp_session;

/* All layers of a request. Freed with the last reference to it. */
struct mp_segment {
    struct mp_layer_kv *layers; /* [num_hidden_layers] */
    int refs;
    struct mp_segment *lender; /* whose first tokens it shares, a reference; NULL: all is its own */
    /* Of one that the engine offers to other requests: */
    struct mp_segment *next; /* in the engine's list */
    int32_t *ids;            /* [tokens] the prompt, as far as it can be shared */
    int64_t tokens;
    int64_t bytes[MP_PLAN_DEVICES]; /* of memory: as it was read, then as its request left it */
    bool writing;                   /* a file of it is being written: a reference */
    int restoring; /* prompts being read that take keys and values over: a reference each */
    uint64_t used; /* the engine's count of uses at its last one; 0: another's prompt begins with
                      all of it, and it goes when nobody uses it */
    const struct mp_session
        *owner; /* its request still decodes there, and may move what it has
                   between two steps: no other session shares it; NULL: nobody */
};

/* First tokens that two prompts have in common. */
static inline int64_t mp_common_tokens(const int32_t *a, int64_t count_a, const int32_t *b,
                                       int64_t count_b)
{
    int64_t most = count_a < count_b ? count_a : count_b;
    int64_t n = 0;
    while (n < most && a[n] == b[n]) {
        n++;
    }
    return n;
}

/* Empty layers, one reference. */
struct mp_segment *mp_segment_create(const struct mp_engine *e);
void mp_segment_ref(struct mp_segment *s);
/* NULL does nothing. */
void mp_segment_unref(const struct mp_engine *e, struct mp_segment *s);

/* What a prompt finds. */
struct mp_prefix {
    struct mp_segment *segment; /* NULL: nothing */
    int64_t tokens;             /* of the prompt that need not be read */
    bool shared;                /* in place; otherwise restored */
};

/* The KV of a layer whose prompt of `tokens` tokens shares the prefix: views of the lender's, and a
 * static cache for the rest. MP_ERR_MEMORY, MP_ERR_RUNTIME: what there is of it is to be destroyed.
 */
int mp_kv_share_layer(const struct mp_engine *e, struct mp_layer_kv *kv,
                      const struct mp_prefix *prefix, int layer, int64_t tokens,
                      struct mp_error *err);

/* The static cache of such a layer, of `rest` prompt tokens that follow the prefix: the plan counts
 * it. */
void mp_kv_create_rest(const struct mp_engine *e, struct mp_allocator *a, struct mp_layer_kv *kv,
                       int layer, int64_t rest);

/* ---- prefix_cache.c: the segments that an engine offers ---- */

/* Whether requests share prefixes: if the configuration wants it and the engine can restore what
 * its requests keep of their prompts. Layers that drop tokens cannot, and the prompts of an engine
 * with variants are taken over by those. */
bool mp_prefix_is_on(const struct mp_engine *e);

/* Most tokens of a prompt that follow a prefix that it shares in place, and most that are generated
 * after it (INT64_MAX: any number). */
int64_t mp_prefix_most_rest(const struct mp_engine *e);
int64_t mp_prefix_most_new(const struct mp_engine *e);

/* The longest prefix that a prompt of `count` tokens, in that session, has in common with one of
 * them. The segment is the engine's: who keeps it takes a reference. files: those are looked at,
 * too, and waited for. */
struct mp_prefix mp_prefix_find(const struct mp_engine *e, const struct mp_session *s,
                                const int32_t *ids, int64_t count, int64_t new_tokens, bool files);

/* Begins to load what a file has of a prompt to come; false: it is still being loaded, and
 * mp_prefix_find would wait for it. */
bool mp_prefix_prepare(const struct mp_engine *e, const struct mp_session *s, const int32_t *ids,
                       int64_t count, int64_t new_tokens);

/* A prompt has been read by a session: others may share its segment. The engine takes a reference,
 * if the segment can be of use. */
void mp_prefix_offer(const struct mp_engine *e, const struct mp_session *s,
                     struct mp_segment *segment, const int32_t *ids, int64_t tokens);

/* What a prompt finds stays from the first to the second: references. Nothing found: nothing. */
void mp_prefix_hold(const struct mp_prefix *p);
void mp_prefix_release(const struct mp_engine *e, const struct mp_prefix *p);

/* Gives back the reference of the segment's own request, which is gone. The engine keeps the
 * segment while there is room in runtime.prefix_cache: those that were not used for the longest
 * time go first. NULL does nothing. */
void mp_prefix_retire(const struct mp_engine *e, struct mp_segment *segment);

/* Offers nothing any more. */
void mp_prefix_clear(const struct mp_engine *e);

#endif
