/* table_build: key codes -> hash tables, by counting sort. */
#ifndef MP_CODELETS_TABLE_BUILD_H
#define MP_CODELETS_TABLE_BUILD_H

#include "codelets/common/attention/kv.h"

#include <stddef.h>

struct mp_buffer;
struct mp_submit;

struct table_build_args {
    const uint16_t *codes;     /* [num_kv_heads][L][count], each < 2^K */
    struct lsh_tables *tables; /* out: ids and offsets; all else is set */
};

/* What every variant of the op is. */
typedef void table_build_kernel(const struct table_build_args *);

/* One variant: a counting sort has nothing for vectors to do. Heads and tables in parallel. */
void table_build_ref(const struct table_build_args *a);

/* The same tables bit for bit; codes, ids and offsets in device memory. The workspace is used on
 * devices whose shared memory does not hold the ids of a block, whatever the sizes. */
void table_build_cuda(const struct table_build_args *a);
size_t table_build_cuda_workspace(void);

/* codes [num_kv_heads][L][count] u16 of a shard -> tables, a buffer that wraps a struct lsh_tables
 * of count tokens. */
void table_build_insert(struct mp_submit *sub, const struct mp_buffer *codes,
                        const struct mp_buffer *tables, int num_kv_heads, int L, int64_t count);

/* Bytes of GPU workspace that a task needs; 0 in a program without CUDA. */
size_t table_build_workspace(void);

#endif
