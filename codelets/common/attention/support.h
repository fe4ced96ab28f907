/* What the kernels that work on keys and values can do. A fast kernel never hands over to the
 * reference: what it does not support is refused when a model is opened, by mp_kernels_check, and a
 * bug if it comes to a kernel nevertheless. */
#ifndef MP_CODELETS_COMMON_SUPPORT_H
#define MP_CODELETS_COMMON_SUPPORT_H

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/machine/cpu.h"

#include <stdbool.h>

/* Whether every op has kernels of variant isa, and, if gpu, kernels on the GPU too, for heads of
 * head_dim channels whose keys and values are stored as kv. If not, MP_ERR_UNSUPPORTED: what was
 * found, what is expected, and what to use instead. */
int mp_kernels_check(enum mp_isa isa, enum mp_dtype kv, int head_dim, bool gpu,
                     struct mp_error *err);

/* For a fast CPU kernel of `op`: panics unless kv is MP_BF16 and head_dim a multiple of `multiple`
 * up to MP_MAX_HEAD_DIM. */
void mp_kernel_demand(const char *op, enum mp_dtype kv, int head_dim, int multiple);

/* The same for one that reads or writes offloaded tokens, which may be MP_I8 as well. */
void mp_kernel_demand_rows(const char *op, enum mp_dtype kv, int head_dim, int multiple);

#endif
