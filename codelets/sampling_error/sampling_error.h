/* sampling_error: how far the attention's output of a step is from that over all tokens, estimated
 * from the tokens that were drawn, each with a probability pi_i of its own:
 *   error^2 = sum_i (1 - pi_i) |r_i|^2 / (D^2 |o|^2),  r_i = e^{z_i} (v_i - o) / pi_i,
 * with z_i = q.k_i / sqrt(d), o and D the output and the denominator of all that is attended to.
 * The variance of a Horvitz-Thompson quotient, linearised, over independent draws. */
#ifndef MP_CODELETS_SAMPLING_ERROR_H
#define MP_CODELETS_SAMPLING_ERROR_H

#include "codelets/common/attention/kv.h"
#include "core/base/shape.h"

struct mp_buffer;
struct mp_shard;
struct mp_submit;

struct sampling_error_args {
    const float *q;                       /* [rows][num_heads][head_dim] */
    const float *o;                       /* [rows][layer_heads][head_dim] the merged output */
    const float *lse;                     /* [rows][layer_heads] ln D */
    const struct offloaded_kv *const *kv; /* [rows]; NULL or count 0: nothing was drawn */
    const uint32_t *const *ids;           /* [rows] -> [num_kv_heads][ids_stride[row]]: drawn */
    const float *const *log_weights;      /* the same: -ln pi */
    const int64_t *ids_stride;            /* [rows] */
    const int32_t *nnz;                   /* [rows][num_kv_heads]: tokens drawn */
    float *error; /* out [rows][num_heads] relative to |o|; 0 where nothing was drawn, or o is 0 */
    int64_t rows;
    int layer_heads; /* query heads of the layer */
    int first_head;  /* of the num_heads that this is about */
    int num_heads;   /* consecutive num_heads / num_kv_heads share a KV head */
    int num_kv_heads;
    int head_dim;
    float scale; /* 1 / sqrt(head_dim) */
};

/* What every variant of the op is. */
typedef void sampling_error_kernel(const struct sampling_error_args *);

void sampling_error_ref(const struct sampling_error_args *a);
/* The fast ones need kv dtype MP_BF16 or MP_I8 and head_dim a multiple of 8 (AVX2) or 16 (AVX-512).
 */
void sampling_error_avx2(const struct sampling_error_args *a);
void sampling_error_avx512(const struct sampling_error_args *a);
/* kv dtype MP_BF16 or MP_I8, head_dim a multiple of 8 up to 256, 16-byte aligned arrays. All in
 * device or in pinned host memory. */
void sampling_error_cuda(const struct sampling_error_args *a);

/* A request's offloaded tokens, and which of them were drawn. */
struct sampling_error_row {
    const struct mp_buffer *kv;          /* wraps the struct offloaded_kv of the shard's KV heads */
    const struct mp_buffer *ids;         /* [KV heads of the shard][room] u32 */
    const struct mp_buffer *log_weights; /* the same of f32 */
    int64_t room;
};

struct sampling_error_buffers {
    const struct mp_buffer *q;     /* [rows][query heads of the shard][head_dim] f32 */
    const struct mp_buffer *nnz;   /* [rows][KV heads of the shard] i32 */
    const struct mp_buffer *o;     /* [rows][query heads of the layer][head_dim] f32 */
    const struct mp_buffer *lse;   /* [rows][query heads of the layer] f32 */
    const struct mp_buffer *error; /* out [rows][query heads of the shard] f32 */
};

/* The errors of a shard's query heads. drawn: tokens over all rows and KV heads, for the cost
 * estimate. */
void sampling_error_insert(struct mp_submit *sub, const struct mp_shape *shape,
                           const struct mp_shard *shard, const struct sampling_error_buffers *b,
                           const struct sampling_error_row *list, int64_t rows, double drawn);

#endif
