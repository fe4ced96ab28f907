/* Attention methods: which offloaded tokens a step attends to, and with which weight. Exact
 * attention over what is selected, the static cache and the merge are common to all.
 *
 * A method is one file: a struct of functions that name sizes and insert ops. What it computes is
 * in the ops. */
#ifndef MP_TASKS_METHOD_H
#define MP_TASKS_METHOD_H

#include "core/config/config.h"
#include "tasks/graph.h"

#include <stdbool.h>
#include <stddef.h>

/* The method of a run. */
struct mp_attention {
    const struct mp_method *method;
    const struct mp_config *config;
    const struct mp_shape *shape; /* of a part of every layer: the part's */
    int first_kv_head;            /* .. and the number of its first KV head, .. */
    int model_kv_heads;           /* .. of so many */
    void *shared;                 /* what create_shared has made; NULL: nothing */
};

/* Sizes of a shard's parts, in bytes. query_heads: of the shard; kv_heads: likewise. */
struct mp_shard_size {
    int kv_heads;
    int query_heads;
    int64_t tokens;      /* offloaded, of one request */
    int64_t capacity;    /* tokens that there is to be room for, >= tokens */
    enum mp_dtype dtype; /* of their keys as an index is made of them */
};

/* Memory that an index takes for one KV head. */
struct mp_index_part {
    void *data;
    size_t bytes;
};

enum { MP_INDEX_PARTS = 2 }; /* of a head, at most */

/* The struct of an index: another request's view of it is a copy with fewer tokens, of the same
 * memory. */
struct mp_index_view {
    size_t bytes; /* of the struct */
    size_t count; /* offset of the number of its tokens, an int64_t, in it */
};

struct mp_method {
    const char *name;        /* of attention.method */
    const char *summary;     /* a line for the help */
    const char *const *keys; /* configuration keys that act for it, by path; ends with NULL */
    /* MP_ERR_USAGE says which of its keys cannot be. NULL: any values will do. */
    int (*check)(const struct mp_config *c, struct mp_error *err);
    /* Its settings, for people: "(K, L) = (10, 150)". NULL: it has none. */
    void (*describe)(const struct mp_config *c, char *out, size_t size);

    bool sparse; /* layers that are not in cache_layers keep only sink, window and generated tokens
                    in their static cache; otherwise every layer is dense */
    bool keeps;  /* what such layers offload is kept, to be selected from; otherwise it is dropped.
                    What follows is for methods that keep it, and used if there is such a layer */

    bool on_dense; /* if the layer's dense device is a GPU, its index and its selecting are there,
                      though the offloaded tokens may not be; otherwise with the shard's device */
    bool shared_rows; /* the query heads of a KV head attend to one selection: there is one a KV
                         head instead of one a query head */

    /* ---- what all layers of a run share, e.g. hash functions ---- */
    const char *shared_name; /* for the memory plan; NULL: nothing is shared */
    void (*create_shared)(struct mp_attention *a, struct mp_allocator *alloc,
                          struct mp_place place);
    void (*destroy_shared)(struct mp_attention *a);

    /* ---- the index of a layer's offloaded keys, a shard of a request ---- */
    const char *index_name; /* for the memory plan; NULL: there is no index */
    void *(*create_index)(const struct mp_attention *a, struct mp_allocator *alloc,
                          struct mp_place place, const struct mp_shard_size *size,
                          struct mp_buffer *wrap);
    void (*destroy_index)(struct mp_place place, void *index);
    struct mp_index_view index_view; /* a view has a multiple of KV_GRANULE of its tokens; 0: there
                                        is no index */
    /* What an index holds of KV head `head` and its first `tokens` tokens, which are all there were
     * when it was built. Returns the number of parts. NULL: there is no index. */
    int (*index_parts)(const void *index, int head, int64_t tokens,
                       struct mp_index_part parts[MP_INDEX_PARTS]);
    /* Whether the layer's dense device reads the keys to build it; otherwise the shard's does. */
    bool keys_on_dense;
    /* Bytes that building it needs in memory that the layer's dense device and the shard see. */
    size_t (*scratch_bytes)(const struct mp_attention *a, const struct mp_shard_size *size);
    /* Inserts what builds the index of kv->shards[shard]. */
    void (*build)(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                  struct mp_shard_kv *kv, const struct mp_index_scratch *scratch);

    /* Inserts what adds the tokens of kv->leaving to the index of kv->shards[shard], after its
     * `first` ones. NULL: generated tokens stay in the static cache. */
    void (*extend)(struct mp_submit *sub, const struct mp_graph *g, int layer, int shard,
                   struct mp_shard_kv *kv, int64_t first, int64_t count);

    /* ---- a step ---- */
    bool log_weights;     /* it gives one to each selected token; otherwise see weight */
    bool estimates_error; /* these are -ln of the probability with which the token was drawn, so
                             that what was drawn tells the error of the output */
    /* ln of the inverse weight as a function of the cosine; NULL: every token weighs 1. */
    const struct lsh_weight *(*weight)(const struct mp_attention *a);
    /* Most tokens that a head selects of those of one request; NULL: all of them. */
    int64_t (*room)(const struct mp_attention *a, const struct mp_shard_size *size);
    /* Bytes that selecting from them needs beside the selection, in the memory of the device that
     * selects; NULL: none. Each layer that is cut so uses them in turn. */
    size_t (*selection_scratch)(const struct mp_attention *a, const struct mp_shard_size *size);
    /* Bytes a row of what it makes of the queries, by a task on the layer's dense device, in memory
     * that this and the shard see; if the layer is handed to the CPU, that task is not in_stream.
     * NULL: it makes nothing of them, and the shards read the queries themselves. */
    size_t (*query_bytes)(const struct mp_attention *a, int query_heads);
    /* Inserts what fills nnz and the selections of every shard of the layer. */
    void (*select)(struct mp_submit *sub, const struct mp_graph *g, const struct mp_decode_step *s,
                   int layer);
    /* Share of so many offloaded tokens, > 0, that a head is expected to select, before the first
     * step. */
    double (*expected_share)(const struct mp_attention *a, int64_t offloaded);
    /* Probability that a token at this cosine to the query is selected; NULL: it does not depend on
     * that alone. */
    double (*chance)(const struct mp_attention *a, double cosine);

    /* Bytes of GPU workspace that its ops need, one at a time; NULL: none. */
    size_t (*workspace)(const struct mp_attention *a);
};

/* Where attention.epsilon says how many tokens to sample, it is within these. */
enum { MP_LEAST_SAMPLES = 64, MP_MOST_SAMPLES = 4096 };

/* Selections of a shard: one a KV head or one a query head. */
static inline int mp_selections_of(const struct mp_method *m, const struct mp_shard_size *size)
{
    return m->shared_rows ? size->kv_heads : size->query_heads;
}

/* Where an index of a shard's keys reads them. */
static inline const struct mp_buffer *mp_indexed_keys(const struct mp_shard_kv *kv,
                                                      const struct mp_index_scratch *scratch)
{
    return scratch->keys.k != NULL ? &scratch->keys_buffer : &kv->offloaded_buffer;
}

/* Who selects for a shard; where its index is; and where a selection is, which the shard reads. */
struct mp_device mp_selecting_device(const struct mp_method *m, const struct mp_shard *shard);
struct mp_place mp_selecting_place(const struct mp_method *m, const struct mp_shard *shard);
struct mp_place mp_selection_place(const struct mp_method *m, const struct mp_shard *shard);

/* Seed of what is drawn for a row in a layer: of attention.seed, the request's stream, and the
 * position. */
uint64_t mp_draw_seed(const struct mp_graph *g, const struct mp_decode_row *row, int layer);

/* Method `index`, from 0; NULL past the last. */
const struct mp_method *mp_method_at(int index);

/* The one that attends to every token exactly. */
const struct mp_method *mp_method_exact(void);

/* The method that a configuration asks for: by attention.method, or by the original's key, where
 * lsh_K 0 means full attention. MP_ERR_USAGE lists the known ones, or says what is wrong with the
 * method's settings. */
int mp_method_choose(const struct mp_config *c, const struct mp_method **out, struct mp_error *err);

/* ---- the methods ---- */

/* A line each; the first one is the default. */
#define MP_METHODS(X)                                                                              \
    X(magicpig)                                                                                    \
    X(full)                                                                                        \
    X(streaming)                                                                                   \
    X(quest)                                                                                       \
    X(topk)                                                                                        \
    X(oracle)                                                                                      \
    X(pps)

#define MP_DECLARE_METHOD(name) extern const struct mp_method mp_method_##name;
MP_METHODS(MP_DECLARE_METHOD)

#endif
