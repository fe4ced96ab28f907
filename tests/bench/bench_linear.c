/* Times linear_fast, the matrix product of every dense op, at the shapes of the demo model and of
 * Llama-3.1-8B: decode sizes in GB/s of weights beside a plain read of the same bytes, and prefill
 * sizes in GFLOP/s beside the float32 multiply-add peak (AMX goes beyond it).
 *
 *     bench_linear [threads] [isa]
 *
 * Each repetition multiplies with the next of 16 matrices, or of those that fit in 256 MiB: the
 * demo's stay in the last-level cache, the large ones come from memory. The shortest time counts.
 */
#include "codelets/common/linear/linear.h"
#include "codelets/common/scratch.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/machine/cpu.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    REPEATS = 64,
    MATRICES = 16,
    GEMM_REPEATS = 3,
    PEAK_STEPS = 1 << 22,
    POOL_BYTES = 256 << 20,
    MAX_ROWS = 2048,
    MAX_IN = 14336,
    MAX_OUT = 14336,
};

struct size {
    int in;
    int out;
};

static const struct size sizes[] = {
    {256, 704}, {704, 256}, {256, 768}, {4096, 4096}, {4096, 14336}, {14336, 4096},
};
static const int64_t row_counts[] = {1, 4, 16, 2048};

static volatile double sink; /* results that nothing else uses */

static void *allocate(size_t bytes)
{
    struct mp_error err;
    void *p = mp_alloc(bytes, 1, "benchmark", &err);
    if (p == NULL) {
        mp_panic("%s", err.message);
    }
    return p;
}

/* The matrix of repetition i. */
static const uint16_t *matrix(const uint16_t *pool, struct size s, int i)
{
    size_t bytes = (size_t)s.in * (size_t)s.out * sizeof *pool;
    return pool + (size_t)i % MATRICES % (POOL_BYTES / bytes) * (bytes / sizeof *pool);
}

/* Shortest time of reading one matrix and doing nothing with it. */
static double time_read(const uint16_t *pool, struct size s)
{
    double best = INFINITY;
    int64_t n = (int64_t)s.in * s.out / 4;
    for (int i = 0; i < REPEATS; i++) {
        const uint64_t *w = (const uint64_t *)matrix(pool, s, i);
        uint64_t total = 0;
        double start = mp_clock_seconds();
#pragma omp parallel for simd reduction(+ : total) schedule(static)
        for (int64_t j = 0; j < n; j++) {
            total += w[j];
        }
        best = fmin(best, mp_clock_seconds() - start);
        sink = (double)total;
    }
    return best;
}

/* Shortest time of a product; the first one also makes what is kept for the others. */
static double time_linear(const uint16_t *pool, struct size s, const float *x, float *y,
                          int64_t rows)
{
    double best = INFINITY;
    int repeats = rows <= LINEAR_GEMV_MAX_ROWS ? REPEATS : GEMM_REPEATS;
    for (int i = 0; i < repeats; i++) {
        mp_scratch_reset();
        double start = mp_clock_seconds();
        linear_fast(&(struct linear_args){
            .x = x,
            .x_stride = s.in,
            .w = matrix(pool, s, i),
            .y = y,
            .y_stride = s.out,
            .rows = rows,
            .in = s.in,
            .out = s.out,
        });
        best = fmin(best, mp_clock_seconds() - start);
    }
    return best;
}

/* Independent chains of multiply-adds on vectors of `bytes`, as many as registers hold; returns the
 * number of floating-point operations. */
#define MULTIPLY_ADD(name, attributes, bytes, chains)                                              \
    attributes static double name(void)                                                            \
    {                                                                                              \
        typedef float vector __attribute__((vector_size(bytes)));                                  \
        vector x[chains] = {0};                                                                    \
        vector factor = {0.5f};                                                                    \
        for (int i = 0; i < PEAK_STEPS; i++) {                                                     \
            _Pragma("GCC unroll 16") for (int c = 0; c < (chains); c++)                            \
            {                                                                                      \
                x[c] = x[c] * factor + factor;                                                     \
            }                                                                                      \
        }                                                                                          \
        for (int c = 0; c < (chains); c++) {                                                       \
            sink = (double)x[c][0];                                                                \
        }                                                                                          \
        return 2.0 * (bytes) / sizeof(float) * (chains)*PEAK_STEPS;                                \
    }

MULTIPLY_ADD(multiply_add_ref, , 16, 12)
#ifdef __x86_64__
MULTIPLY_ADD(multiply_add_avx2, __attribute__((target("avx2,fma"))), 32, 12)
MULTIPLY_ADD(multiply_add_avx512, __attribute__((target("avx512f"))), 64, 16)
#endif

/* float32 operations per second of the whole team. */
static double measure_peak(void)
{
    static double (*const variants[MP_ISA_COUNT])(void) = {
        [MP_ISA_REF] = multiply_add_ref,
#ifdef __x86_64__
        [MP_ISA_AVX2] = multiply_add_avx2,
        [MP_ISA_AVX512] = multiply_add_avx512,
#endif
    };
    double best = 0.0;
    for (int i = 0; i < 5; i++) {
        double flop = 0.0;
        double start = mp_clock_seconds();
#pragma omp parallel reduction(+ : flop)
        flop += MP_KERNEL(variants)();
        double rate = flop / (mp_clock_seconds() - start);
        best = rate > best ? rate : best;
    }
    return best;
}

static void print_line(const uint16_t *pool, struct size s, const float *x, float *y, int64_t rows,
                       double peak)
{
    double seconds = time_linear(pool, s, x, y, rows);
    printf("%5d -> %5d  %5lld rows  %10.3f ms", s.in, s.out, (long long)rows, seconds * 1e3);
    if (rows <= LINEAR_GEMV_MAX_ROWS) {
        double bytes = (double)s.in * s.out * sizeof *pool;
        double read = time_read(pool, s);
        printf("  %8.1f GB/s     %5.2f of a plain read (%.1f GB/s)\n", bytes / seconds * 1e-9,
               read / seconds, bytes / read * 1e-9);
    } else {
        double rate = 2.0 * s.in * s.out * (double)rows / seconds;
        printf("  %8.1f GFLOP/s  %5.2f of the multiply-add peak\n", rate * 1e-9, rate / peak);
    }
}

int main(int argc, char **argv)
{
    int threads = argc > 1 ? atoi(argv[1]) : omp_get_max_threads();
    struct mp_error err;
    if (threads < 1 || (argc > 2 && mp_isa_select(argv[2], &err) != 0)) {
        fprintf(stderr, "%s\n", threads < 1 ? "threads: not a positive number" : err.message);
        return 2;
    }
    omp_set_num_threads(threads);
    double peak = measure_peak();
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("%d threads, %s, peak %.0f GFLOP/s\n", threads, mp_isa_name(mp_isa_current()),
           peak * 1e-9);

    uint16_t *pool = allocate(POOL_BYTES);
    float *x = allocate((size_t)MAX_ROWS * MAX_IN * sizeof *x);
    float *y = allocate((size_t)MAX_ROWS * MAX_OUT * sizeof *y);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < POOL_BYTES / sizeof *pool; i++) {
        pool[i] = (uint16_t)(0x3c00 + i % 97);
    }
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < (size_t)MAX_ROWS * MAX_IN; i++) {
        x[i] = (float)(i % 89) * 0.01f - 0.4f;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        for (size_t r = 0; r < sizeof row_counts / sizeof row_counts[0]; r++) {
            print_line(pool, sizes[i], x, y, row_counts[r], peak);
        }
    }
    linear_release();
    mp_scratch_release();
    mp_free(pool);
    mp_free(x);
    mp_free(y);
    return 0;
}
