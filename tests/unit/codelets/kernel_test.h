/* What the kernel tests share: random data, and the comparison of a variant with the reference. */
#ifndef MP_TESTS_KERNEL_TEST_H
#define MP_TESTS_KERNEL_TEST_H

#include "codelets/common/attention/support.h"
#include "core/base/dtype.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/machine/cpu.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* Runs the statement that follows for each variant of `variants` (indexed by enum mp_isa) that
 * exists and that this CPU can run; `isa` is its index. */
#define FOR_EACH_VARIANT(isa, variants)                                                            \
    for (enum mp_isa isa = MP_ISA_REF; isa <= mp_isa_detect(); isa++)                              \
        if ((variants)[isa] != NULL)

/* The same, of those that take heads of head_dim channels stored as dtype. */
#define FOR_EACH_SUPPORTED(isa, variants, dtype, head_dim)                                         \
    FOR_EACH_VARIANT(isa, variants)                                                                \
    if (mp_kernels_check(isa, dtype, head_dim, false, NULL) == 0)

/* The statement panics; tried in a process of its own. */
#define ASSERT_PANICS(statement)                                                                   \
    do {                                                                                           \
        fflush(NULL);                                                                              \
        pid_t child_ = fork();                                                                     \
        if (child_ == 0) {                                                                         \
            fclose(stderr);                                                                        \
            statement;                                                                             \
            _exit(0);                                                                              \
        }                                                                                          \
        int status_ = 0;                                                                           \
        assert_true(child_ > 0 && waitpid(child_, &status_, 0) == child_);                         \
        assert_true(WIFSIGNALED(status_) && WTERMSIG(status_) == SIGABRT);                         \
    } while (0)

/* Copies `heads` elements of `size` bytes of each row; a row has from_heads there, to_heads here.
 */
static inline void copy_heads(void *to, int to_heads, const void *from, int from_heads, int heads,
                              size_t size, int64_t rows)
{
    for (int64_t r = 0; r < rows; r++) {
        memcpy((char *)to + (size_t)(r * to_heads) * size,
               (const char *)from + (size_t)(r * from_heads) * size, (size_t)heads * size);
    }
}

/* n numbers from N(0, scale^2). Free with free(). */
static inline float *random_floats(size_t n, float scale, uint64_t seed)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    float *x = mp_xmalloc(n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = scale * (float)mp_rng_normal(&rng);
    }
    return x;
}

/* The same, stored as t. */
static inline void *random_tensor(enum mp_dtype t, size_t n, float scale, uint64_t seed)
{
    float *x = random_floats(n, scale, seed);
    void *out = mp_xmalloc(n * mp_dtype_size(t));
    for (size_t i = 0; i < n; i++) {
        mp_store(out, t, i, x[i]);
    }
    free(x);
    return out;
}

/* |x - expected| / |expected|; NaN or infinite values never compare well. */
static inline double relative_l2(const float *x, const float *expected, size_t n)
{
    double error = 0.0;
    double norm = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = (double)x[i] - (double)expected[i];
        error += d * d;
        norm += (double)expected[i] * (double)expected[i];
    }
    return isfinite(error) ? sqrt(error / (norm > 0.0 ? norm : 1.0)) : INFINITY;
}

/* Fails with a message that says how far x is off. */
static inline void assert_close(const float *x, const float *expected, size_t n, double tolerance,
                                const char *what)
{
    double error = relative_l2(x, expected, n);
    if (!(error <= tolerance)) {
        fail_msg("%s: relative L2 error %g, allowed %g", what, error, tolerance);
    }
}

#endif
