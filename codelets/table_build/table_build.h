/* table_build: key codes -> hash tables, by counting sort. */
#ifndef MP_CODELETS_TABLE_BUILD_H
#define MP_CODELETS_TABLE_BUILD_H

#include "codelets/common/attention/kv.h"

#include <stddef.h>

struct table_build_args {
    const uint16_t *codes;     /* [num_kv_heads][L][count], each < 2^K */
    struct lsh_tables *tables; /* out: ids and offsets; count, K, L and num_kv_heads are set */
};

/* What every variant of the op is. */
typedef void table_build_kernel(const struct table_build_args *);

/* One variant: a counting sort has nothing for vectors to do. Heads and tables in parallel. */
void table_build_ref(const struct table_build_args *a);

/* The same tables bit for bit; codes, ids and offsets in device memory. The workspace is used on
 * devices whose shared memory does not hold the ids of a block, whatever the sizes. */
void table_build_cuda(const struct table_build_args *a);
size_t table_build_cuda_workspace(void);

/* Task. Buffers: 0 codes R, 1 struct lsh_tables RW (its count is set by the task). */
struct table_build_task {
    int64_t count; /* tokens */
    int num_kv_heads;
    int L;
};

extern struct starpu_codelet table_build_codelet;

#endif
