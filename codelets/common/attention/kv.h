/* The memory that attention reads, one set per (request, layer). Plain structs of pointers and
 * sizes: who allocates them and where is the pipeline's business.
 *
 * Key and value layout is head-major: element (h, i, c) of a [num_kv_heads][capacity][head_dim]
 * array is at (h * capacity + i) * head_dim + c, so that one head's tokens are contiguous. */
#ifndef MP_CODELETS_COMMON_KV_H
#define MP_CODELETS_COMMON_KV_H

#include "core/base/dtype.h"

#include <stdbool.h>
#include <stdint.h>

/* Bytes of the keys, or of the values, of `capacity` tokens. */
static inline size_t kv_bytes(int num_kv_heads, int head_dim, enum mp_dtype dtype, int64_t capacity)
{
    return (size_t)num_kv_heads * (size_t)head_dim * (size_t)capacity * mp_dtype_size(dtype);
}

/* What the elements of a token of MP_I8 are multiplied with. Side by side, as they are read. */
struct kv_scale {
    float k;
    float v;
};

/* Bytes of the scales of `capacity` offloaded tokens; 0 unless they are MP_I8. */
static inline size_t kv_scale_bytes(int num_kv_heads, enum mp_dtype dtype, int64_t capacity)
{
    return dtype == MP_I8 ? (size_t)num_kv_heads * (size_t)capacity * sizeof(struct kv_scale) : 0;
}

/* A cache that is always attended as a whole. Three uses: the static cache of a sparse layer
 * (sink, local window, generated tokens; keys centered), the whole KV of a dense layer (its mean is
 * 0), and the staging area of one layer during prefill (not centered). */
struct kv_cache {
    void *k;          /* [num_kv_heads][capacity][head_dim], dtype */
    void *v;          /* the same shape */
    float *k_mean;    /* [num_kv_heads][head_dim], subtracted from each appended key;
                         NULL: not centered */
    int64_t capacity; /* tokens allocated per head */
    int num_kv_heads;
    int head_dim;
    enum mp_dtype dtype; /* of k and v */
};

/* A view of `count` KV heads of a cache from `first` on: the same memory. */
static inline struct kv_cache kv_cache_heads(const struct kv_cache *c, int first, int count)
{
    size_t at = (size_t)(first * c->capacity * c->head_dim) * mp_dtype_size(c->dtype);
    struct kv_cache heads = *c;
    heads.k = (char *)c->k + at;
    heads.v = (char *)c->v + at;
    heads.k_mean = c->k_mean == NULL ? NULL : c->k_mean + first * c->head_dim;
    heads.num_kv_heads = count;
    return heads;
}

/* The offloaded tokens of a sparse layer: of the prompt everything between sink and local window,
 * then tokens that have left the static cache since; renumbered from 0. Keys are centered; never
 * moved once written. */
struct offloaded_kv {
    void *k;                 /* [num_kv_heads][capacity] rows of head_dim, dtype, centered */
    void *v;                 /* the same shape */
    struct kv_scale *scales; /* [num_kv_heads][capacity]; NULL unless MP_I8 */
    int64_t count;           /* tokens, may be 0 */
    int64_t capacity;        /* tokens allocated per head, >= count */
    int num_kv_heads;
    int head_dim;
    enum mp_dtype dtype; /* of k and v */
    bool paired;         /* the value of a token follows its key: both are read at random, and far
                            apart they would miss the TLB twice, and cross a bus as two requests.
                            Then v is k + head_dim elements; otherwise two arrays */
};

/* Elements from the key of a token to that of the next one, and from value to value. */
static inline int64_t kv_pitch(const struct offloaded_kv *kv)
{
    return kv->paired ? 2 * (int64_t)kv->head_dim : kv->head_dim;
}

/* Bytes from the first key to that of token i of KV head h. */
static inline size_t kv_row_at(const struct offloaded_kv *kv, int64_t h, int64_t i)
{
    return (size_t)((h * kv->capacity + i) * kv_pitch(kv)) * mp_dtype_size(kv->dtype);
}

/* What several requests share of the offloaded tokens of one is a multiple of so many: then no unit
 * that the ops look at together, such as a block of codes, is in use in part. */
enum { KV_GRANULE = 64 };

/* Tokens per block of the tables: ids inside a block fit 16 bits. */
enum { LSH_BLOCK_TOKENS = 65536 };

/* The L hash tables of each KV head over the offloaded tokens of one layer. Tokens are cut in
 * blocks of LSH_BLOCK_TOKENS; each (head, block, table) is a counting sort of the block's tokens
 * by code. With B = lsh_num_blocks(count) and n_b the tokens of block b:
 *   bucket c of (h, b, l) is ids[off[c] .. off[c + 1]), ids ascending, token = b * 65536 + id. */
struct lsh_tables {
    uint16_t *ids;     /* [num_kv_heads][L][capacity]: block b's slice starts at b * 65536 */
    uint32_t *offsets; /* [num_kv_heads][blocks of capacity][L][2^K + 1], relative to the slice */
    int64_t count;     /* tokens that can be selected, may be 0: those hashed, or, in a view that
                          another request shares, the first ones of them, a multiple of KV_GRANULE */
    int64_t capacity;  /* tokens allocated per (head, table) */
    int num_kv_heads;
    int K; /* bits per code, 1..16 */
    int L; /* tables */
};

static inline int64_t lsh_num_blocks(int64_t tokens)
{
    return (tokens + LSH_BLOCK_TOKENS - 1) / LSH_BLOCK_TOKENS;
}

/* Ids of table l of head h, block b. */
static inline uint16_t *lsh_ids(const struct lsh_tables *t, int h, int64_t b, int l)
{
    return t->ids + ((int64_t)h * t->L + l) * t->capacity + b * LSH_BLOCK_TOKENS;
}

/* The 2^K + 1 bucket offsets of table l of head h, block b. */
static inline uint32_t *lsh_offsets(const struct lsh_tables *t, int h, int64_t b, int l)
{
    int64_t buckets = ((int64_t)1 << t->K) + 1;
    return t->offsets + (((int64_t)h * lsh_num_blocks(t->capacity) + b) * t->L + l) * buckets;
}

/* Bytes of ids and of offsets. */
static inline size_t lsh_ids_bytes(const struct lsh_tables *t)
{
    return (size_t)t->num_kv_heads * (size_t)t->L * (size_t)t->capacity * sizeof *t->ids;
}

static inline size_t lsh_offsets_bytes(const struct lsh_tables *t)
{
    size_t buckets = ((size_t)1 << t->K) + 1;
    return (size_t)t->num_kv_heads * (size_t)lsh_num_blocks(t->capacity) * (size_t)t->L * buckets *
           sizeof *t->offsets;
}

#endif
