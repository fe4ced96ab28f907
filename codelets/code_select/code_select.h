/* code_select: queries and codes of keys -> ids and log-weights, one selection a KV head for all of
 * its query heads. Tokens are drawn with inclusion probabilities pi that follow from the codes and
 * sum to the number of samples, by one uniform number a KV head (systematic sampling): an expected
 * value of the sum of e^z / pi over them is the sum of e^z over all, likewise with v.
 * codelets/common/attention/codes.h has every formula. */
#ifndef MP_CODELETS_CODE_SELECT_H
#define MP_CODELETS_CODE_SELECT_H

#include "codelets/common/attention/codes.h"
#include "codelets/common/attention/key_rotation.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct code_select_args {
    const float *q;                       /* [rows][num_heads][head_dim], rows q_stride apart */
    int64_t q_stride;                     /* floats from a row of q to the next */
    const struct key_codes *const *codes; /* [rows]; NULL or count 0: nothing is selected */
    struct key_rotation rotation;         /* that the codes were made with */
    const int64_t *samples;               /* [rows] S >= 1: all tokens, with log-weight 0, if there
                                             are no more */
    const uint64_t *seed;                 /* [rows] of U: KV head h of a row takes the upper 30 bits
                                             of random_draw(random_state(seed, first_kv_head + h),
                                             0) */
    uint32_t *const *ids;                 /* [rows] -> [num_kv_heads][ids_stride[row]], out:
                                             selected tokens, ascending */
    float *const *log_weights;            /* the same, out: -ln pi */
    const int64_t *ids_stride;            /* [rows] room per KV head, >= the lesser of S + 1 and
                                             codes->count */
    void *const *scratch;                 /* [rows] of code_select_scratch bytes, 64-byte aligned;
                                             the reference does without */
    int32_t *nnz;                         /* out [rows][num_kv_heads]: tokens selected */
    int64_t rows;
    int num_heads; /* query heads; consecutive num_heads / num_kv_heads share a KV head */
    int num_kv_heads;
    int first_kv_head; /* number of the first one in its layer */
    int head_dim;
};

/* What every variant of the op is. All select the same ids; log-weights may be rounded
 * differently. */
typedef void code_select_kernel(const struct code_select_args *);

void code_select_ref(const struct code_select_args *a);
void code_select_avx2(const struct code_select_args *a);
void code_select_avx512(const struct code_select_args *a);
/* Codes, rotation and scratch in device memory; q, ids, log_weights and nnz there or in pinned host
 * memory. */
void code_select_cuda(const struct code_select_args *a);

/* Bytes of scratch that a row of so many offloaded tokens needs, on any device. */
size_t code_select_scratch(int num_heads, int num_kv_heads, int64_t tokens, int64_t samples);

/* A request's codes and where what is selected of them goes. */
struct code_select_row {
    const struct mp_buffer *codes;       /* wraps the struct key_codes of the shard's KV heads */
    int64_t tokens;                      /* in it */
    const struct mp_buffer *ids;         /* out [KV heads of the shard][room] u32 */
    const struct mp_buffer *log_weights; /* out, the same of f32 */
    int64_t room;                        /* tokens */
    const struct mp_buffer *scratch;     /* for one task at a time */
    int64_t samples;                     /* as in the args */
    uint64_t seed;                       /* as in the args */
};

/* The selection for a shard's KV heads, on the context's device: q [rows][query heads of the
 * layer][head_dim] f32, of which the shard's are used -> ids, log_weights and nnz [rows][KV heads
 * of the shard] i32. bits: of all rows' codes, for the cost estimate. */
void code_select_insert(struct mp_submit *sub, const struct mp_shape *shape,
                        const struct mp_shard *shard, const struct mp_buffer *q,
                        const struct mp_buffer *rotation, const struct code_select_row *list,
                        int64_t rows, int bits, const struct mp_buffer *nnz);

#endif
