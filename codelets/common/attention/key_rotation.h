/* The rotation that keys and queries go through before their codes are made (codes.h). */
#ifndef MP_CODELETS_COMMON_KEY_ROTATION_H
#define MP_CODELETS_COMMON_KEY_ROTATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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

/* Whether R is a Hadamard matrix of random signs. */
static inline bool key_rotation_is_hadamard(int head_dim)
{
    return (head_dim & (head_dim - 1)) == 0;
}

#endif
