/* The matrix product of every dense op: y = x W^T, optionally + bias, optionally added to y. */
#ifndef MP_CODELETS_COMMON_LINEAR_H
#define MP_CODELETS_COMMON_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

struct linear_args {
    const float *x;    /* [rows][x_stride], the first `in` of each row */
    int64_t x_stride;  /* elements, >= in */
    const uint16_t *w; /* [out][in] bf16 */
    const float *bias; /* [out] or NULL */
    float *y;          /* out [rows][y_stride], the first `out` of each row */
    int64_t y_stride;  /* elements, >= out */
    int64_t rows;
    int in;
    int out;
    bool accumulate; /* y += x W^T + bias: the residual connection */
};

/* Up to this many rows the product is bound by reading W, and our own kernels stream it once. */
enum { LINEAR_GEMV_MAX_ROWS = 16 };

/* In how many bf16 parts the activations of more rows go into products with bf16 weights: 2 keep
 * some 16 bits of them, 1 rounds them as is usual, in half the time. For the whole program; 2 at
 * first. Not while a product is under way. linear_ref and our own kernels for few rows do not
 * round. */
void linear_set_parts(int parts);
int linear_num_parts(void);

/* Plain C, float32: the oracle. */
void linear_ref(const struct linear_args *a);

/* The best way for the rows and the vector variant in force, on the calling thread's OpenMP team:
 * own kernel up to LINEAR_GEMV_MAX_ROWS rows, oneDNN above. Takes scratch without resetting it: the
 * calling kernel resets. */
void linear_fast(const struct linear_args *a);

/* Frees what linear_fast keeps for the calling thread (oneDNN primitives by shape). */
void linear_release(void);

/* The parts of linear_fast. */

/* rows <= LINEAR_GEMV_MAX_ROWS, float32 arithmetic. */
void linear_gemv_avx2(const struct linear_args *a);
void linear_gemv_avx512(const struct linear_args *a);

/* bf16 x bf16 -> float32 through oneDNN (AVX-512 BF16 or AMX); bias must be NULL. x is split into
 * linear_num_parts() bf16 parts, which are multiplied one after the other. */
void linear_matmul_bf16(const struct linear_args *a);

#endif
