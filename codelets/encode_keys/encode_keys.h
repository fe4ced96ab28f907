/* encode_keys: offloaded keys -> low-bit codes (codelets/common/attention/codes.h). */
#ifndef MP_CODELETS_ENCODE_KEYS_H
#define MP_CODELETS_ENCODE_KEYS_H

#include "codelets/common/attention/codes.h"
#include "codelets/common/attention/kv.h"

struct mp_buffer;
struct mp_submit;

/* The rotation R of a layer group, drawn from a seed: for a head_dim that is a power of two, a
 * Hadamard matrix of random signs, R = H D / sqrt(d); else any orthogonal matrix. */
struct key_rotation {
    const float *data; /* power of two: [head_dim] signs, 1 or -1; else [head_dim][head_dim] rows of
                          R */
    int head_dim;
};

/* Floats of data. */
size_t key_rotation_size(int head_dim);

/* Draws it; the same everywhere. */
void key_rotation_draw(int head_dim, uint64_t seed, float *data);

/* y = R x, [head_dim] each, y not x. The same bits on every device: sums in the order of a fast
 * Walsh-Hadamard transform with strides 1, 2, 4, ..., then times 1 / sqrtf(d); or, row by row,
 * fused multiply-adds from channel 0 on. */
void key_rotate(const struct key_rotation *r, const float *x, float *y);

struct encode_keys_args {
    const struct offloaded_kv *kv; /* keys of tokens 0 .. count - 1, centered or not */
    struct key_rotation rotation;
    struct key_codes *codes; /* out; count, shape and bits are there */
};

/* What every variant of the op is. All give the same bits: |k|^2 and <y, c> are added as
 * encode_sum does. */
typedef void encode_keys_kernel(const struct encode_keys_args *);

void encode_keys_ref(const struct encode_keys_args *a);
/* Keys are MP_BF16. */
void encode_keys_avx2(const struct encode_keys_args *a);
void encode_keys_avx512(const struct encode_keys_args *a);
/* Keys are MP_BF16 in device or pinned host memory; codes and rotation in device memory. */
void encode_keys_cuda(const struct encode_keys_args *a);

/* Sum of x[0 .. n): x[j] + x[j + h] for h = p/2, p/4, ..., 1, p the power of two at or above n, and
 * 0 beyond n. */
float encode_sum(const float *x, int n);

/* kv wraps a struct offloaded_kv, codes a struct key_codes; rotation: [key_rotation_size] f32. */
void encode_keys_insert(struct mp_submit *sub, const struct mp_buffer *kv,
                        const struct mp_buffer *rotation, const struct mp_buffer *codes,
                        const struct key_codes *shape);

#endif
