/* encode_keys: offloaded keys -> low-bit codes (codelets/common/attention/codes.h). */
#ifndef MP_CODELETS_ENCODE_KEYS_H
#define MP_CODELETS_ENCODE_KEYS_H

#include "codelets/common/attention/codes.h"
#include "codelets/common/attention/key_rotation.h"
#include "codelets/common/attention/kv.h"

struct mp_buffer;
struct mp_submit;

struct encode_keys_args {
    const struct offloaded_kv *kv; /* keys of tokens first .. codes->count - 1, centered or not */
    struct key_rotation rotation;
    struct key_codes *codes; /* out; count, shape and bits are there */
    int64_t first;           /* tokens before it keep their codes */
};

/* What every variant of the op is. All give the same bits: |k|^2, of k as it is stored, and <y, c>
 * are added as encode_sum does, over products that are rounded each. Of the tokens that fill the
 * last block the words are 0, as the factors. */
typedef void encode_keys_kernel(const struct encode_keys_args *);

void encode_keys_ref(const struct encode_keys_args *a);
/* Keys are MP_BF16, head_dim a multiple of 8 (AVX2) or 16 (AVX-512). */
void encode_keys_avx2(const struct encode_keys_args *a);
void encode_keys_avx512(const struct encode_keys_args *a);
/* Keys are MP_BF16 in device or pinned host memory; codes and rotation in device memory. */
void encode_keys_cuda(const struct encode_keys_args *a);

/* Sum of x[0 .. n): x[j] + x[j + h] for h = p/2, p/4, ..., 1, p the power of two at or above n, and
 * 0 beyond n. */
float encode_sum(const float *x, int n);

/* kv wraps a struct offloaded_kv, whose tokens become tokens `first` on of the struct key_codes
 * that codes wraps, and its last ones: its count follows. rotation: [key_rotation_size] f32.
 * shape: of the codes; tokens: of kv, for the cost estimate. */
void encode_keys_insert(struct mp_submit *sub, const struct mp_buffer *kv,
                        const struct mp_buffer *rotation, const struct mp_buffer *codes,
                        const struct key_codes *shape, int64_t first, int64_t tokens);

#endif
