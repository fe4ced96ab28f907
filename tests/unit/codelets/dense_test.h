/* What the tests of the dense ops share: a small model shape, its weights, and the tolerances of
 * the fast kernels against the reference. */
#ifndef MP_TESTS_DENSE_TEST_H
#define MP_TESTS_DENSE_TEST_H

#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"
#include "core/base/shape.h"
#include "tests/unit/codelets/kernel_test.h"

/* Runs the statement that follows once for each instruction set this CPU has, with that variant in
 * force. */
#define FOR_EACH_ISA(isa)                                                                          \
    for (enum mp_isa isa = MP_ISA_REF; isa <= mp_isa_detect() && select_isa(isa); isa++)

static inline bool select_isa(enum mp_isa isa)
{
    struct mp_error err;
    assert_int_equal(mp_isa_select(mp_isa_name(isa), &err), MP_OK);
    return true;
}

/* Relative L2 error allowed to a float32 result: on AVX-512 more than 16 rows go through a product
 * with activations split into two bf16 parts, 16 bits in all. */
static inline double f32_tolerance(enum mp_isa isa, int64_t rows)
{
    return isa == MP_ISA_AVX512 && rows > LINEAR_GEMV_MAX_ROWS ? 1e-4 : 1e-5;
}

/* Row counts on both sides of the kernels' limits: a vector tile, own kernel or oneDNN, a block. */
static const int64_t row_counts[] = {1, 2, 15, 16, 17, 513};
enum { NUM_ROW_COUNTS = sizeof row_counts / sizeof row_counts[0] };

/* Group teardown: gives back what the kernels keep for this thread. */
static inline int release_kernels(void **state)
{
    (void)state;
    linear_release();
    mp_scratch_release();
    return 0;
}

/* A copy of n floats. Free with free(). */
static inline float *copy_floats(const float *x, size_t n)
{
    float *copy = mp_xmalloc(n * sizeof *copy);
    memcpy(copy, x, n * sizeof *copy);
    return copy;
}

/* Random values in memory that was laid out by a *_weights_at function. */
static inline void fill_f32(const float *at, size_t n, float mean, float scale, uint64_t seed)
{
    float *values = random_floats(n, scale, seed);
    for (size_t i = 0; at != NULL && i < n; i++) {
        ((float *)at)[i] = mean + values[i];
    }
    free(values);
}

static inline void fill_bf16(const uint16_t *at, size_t n, float scale, uint64_t seed)
{
    void *values = random_tensor(MP_BF16, n, scale, seed);
    memcpy((uint16_t *)at, values, n * sizeof *at);
    free(values);
}

/* A weight block of `bytes`, zeroed. Free with mp_free. */
static inline void *alloc_block(size_t bytes)
{
    void *block = mp_alloc(bytes, 1, "weights", NULL);
    assert_non_null(block);
    memset(block, 0, bytes);
    return block;
}

/* What an attention op needs to know of a model. */
static inline struct mp_shape make_shape(int hidden, int heads, int kv_heads, int head_dim)
{
    return (struct mp_shape){
        .hidden_size = hidden,
        .num_attention_heads = heads,
        .num_key_value_heads = kv_heads,
        .head_dim = head_dim,
        .rms_norm_eps = 1e-5f,
        .qk_norm_eps = 2e-5f,
    };
}

#endif
