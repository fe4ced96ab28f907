/* table_lookup: query codes and tables -> ids of the tokens that collide in at least 2 tables.
 * MagicPIG (arXiv 2410.16179), section 4.2. */
#ifndef MP_CODELETS_TABLE_LOOKUP_H
#define MP_CODELETS_TABLE_LOOKUP_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_submit;

struct table_lookup_args {
    const uint16_t *codes;                  /* [rows][num_heads][L] of the query heads */
    const struct lsh_tables *const *tables; /* [rows]; NULL or count 0: nothing offloaded */
    uint32_t *const *ids;                   /* [rows] -> [num_heads][ids_stride[row]], out:
                                               selected tokens, ascending */
    const int64_t *ids_stride;              /* [rows] room per head, >= tables->count */
    int32_t *nnz;                           /* out [rows][num_heads]: tokens selected */
    int64_t rows;
    int num_heads; /* query heads looked up; consecutive
                      num_heads / num_kv_heads share a KV head */
    int L;         /* of the codes; equals tables[r]->L */
};

/* What every variant of the op is. */
typedef void table_lookup_kernel(const struct table_lookup_args *);

/* Selected iff the code equals the query's in at least 2 of the L tables (L = 1: none). */
void table_lookup_ref(const struct table_lookup_args *a);
void table_lookup_avx2(const struct table_lookup_args *a);
void table_lookup_avx512(const struct table_lookup_args *a);

/* The same ids. Tables and ids[r] in device memory; codes and nnz there or in pinned host memory.
 * Needs no workspace. */
void table_lookup_cuda(const struct table_lookup_args *a);

struct table_lookup_size {
    int64_t rows;
    int num_heads; /* query heads of the shard */
    int L;         /* tables */
};

/* A request's tables and where what they give goes. */
struct table_lookup_row {
    const struct mp_buffer *tables; /* wraps the struct lsh_tables of the shard's KV heads */
    const struct mp_buffer *ids;    /* out [query heads of the shard][room] u32 */
    int64_t room;                   /* >= tokens in the tables */
};

/* The lookup of a shard's query heads: codes [rows][heads of the shard][L] u16 -> ids, and nnz
 * [rows][heads of the shard] i32. expected_hits: ids met in buckets, over all rows and heads, for
 * the cost estimate. */
void table_lookup_insert(struct mp_submit *sub, const struct table_lookup_size *size,
                         const struct mp_buffer *codes, const struct table_lookup_row *list,
                         const struct mp_buffer *nnz, double expected_hits);

#endif
