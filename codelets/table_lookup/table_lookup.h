/* table_lookup: query codes and tables -> ids of the tokens that collide in at least 2 tables.
 * MagicPIG (arXiv 2410.16179), section 4.2. */
#ifndef MP_CODELETS_TABLE_LOOKUP_H
#define MP_CODELETS_TABLE_LOOKUP_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

struct table_lookup_args {
    const uint16_t *codes;                  /* [rows][row_heads][L] of the query heads */
    const struct lsh_tables *const *tables; /* [rows]; NULL or count 0: nothing offloaded */
    uint32_t *const *ids;                   /* [rows] -> [num_heads][ids_stride[row]], out:
                                               selected tokens, ascending */
    const int64_t *ids_stride;              /* [rows] room per head, >= tables->count */
    int32_t *nnz;                           /* out [rows][row_heads]: tokens selected */
    int64_t rows;
    int num_heads; /* query heads looked up; consecutive
                      num_heads / num_kv_heads share a KV head */
    int row_heads; /* from one row of codes and nnz to the next, >= num_heads; what belongs to
                      other heads is left alone */
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

/* Task on the heads of a share. Buffers, of all heads: 0 codes R, 1 struct lsh_selection RW, 2 nnz
 * W, then one struct lsh_tables R a row. */
struct table_lookup_task {
    const struct mp_shape *shape;
    const struct mp_share *share;
    int64_t rows;
    int L;
    double expected_hits; /* bucket entries the share walks in all, for the cost estimate */
};

extern struct starpu_codelet table_lookup_codelet;

#endif
