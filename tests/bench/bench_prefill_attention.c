/* Speed of prefill_attention, per variant:
 *   bench_prefill_attention [rows first num_heads num_kv_heads head_dim [repeats]]
 * Defaults: the last 4096-token chunk of a 32K prompt of the demo model. Prints the median time,
 * the rate counting 4 * head_dim operations for each visible (query, key) pair, and that rate over
 * the float32 multiply-add peak measured here with as many threads. */
#include "codelets/prefill_attention/prefill_attention.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/base/shape.h"
#include "core/machine/cpu.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { MAX_REPEATS = 99 };

typedef void kernel(const struct prefill_attention_args *a);

/* Multiply-adds per iteration: enough independent chains of 8 lanes to hide the latency. */
enum { CHAINS = 12, LANES = 8, ITERATIONS = 20000000 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

__attribute__((target("avx2,fma"))) static float multiply_add_loop(void)
{
    lanes sum[CHAINS];
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++) {
        sum[j] = (lanes){0} + (float)j;
    }
    lanes factor = (lanes){0} + 0.999f;
    for (int i = 0; i < ITERATIONS; i++) {
#pragma GCC unroll 12
        for (int j = 0; j < CHAINS; j++) {
            sum[j] = sum[j] * factor + factor;
        }
    }
    float total = 0.0f;
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++) {
        total += sum[j][0];
    }
    return total;
}

/* Float32 GFLOP/s of all threads with AVX2 instructions. */
static double measure_peak(void)
{
    volatile float sink = 0.0f;
    double begin = mp_clock_seconds();
#pragma omp parallel
    sink = multiply_add_loop();
    double seconds = mp_clock_seconds() - begin;
    (void)sink;
    return 2.0 * CHAINS * LANES * ITERATIONS * omp_get_max_threads() / seconds * 1e-9;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median_seconds(kernel *run, const struct prefill_attention_args *a, int repeats)
{
    double seconds[MAX_REPEATS];
    for (int i = 0; i < repeats; i++) {
        double begin = mp_clock_seconds();
        run(a);
        seconds[i] = mp_clock_seconds() - begin;
    }
    qsort(seconds, (size_t)repeats, sizeof *seconds, compare_doubles);
    return seconds[repeats / 2];
}

static void report(const char *name, kernel *run, const struct prefill_attention_args *a,
                   double operations, int repeats)
{
    double seconds = median_seconds(run, a, repeats);
    double peak = measure_peak();
    double rate = operations / seconds * 1e-9;
    printf("%-4s %9.1f ms  %7.1f GFLOP/s  %.2f of the AVX2 float32 peak (%.1f)\n", name,
           seconds * 1e3, rate, rate / peak, peak);
}

static uint16_t *random_bf16(size_t count, uint64_t seed)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    uint16_t *x = mp_xcalloc(count, sizeof *x);
    for (size_t i = 0; i < count; i++) {
        x[i] = mp_f32_to_bf16((float)mp_rng_normal(&rng));
    }
    return x;
}

static float *random_floats(size_t count, uint64_t seed)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    float *x = mp_xcalloc(count, sizeof *x);
    for (size_t i = 0; i < count; i++) {
        x[i] = (float)mp_rng_normal(&rng);
    }
    return x;
}

static void report_variants(const struct prefill_attention_args *a, int repeats)
{
    double pairs = ((double)a->first + (double)(a->rows + 1) / 2) * (double)a->rows * a->num_heads;
    double operations = 4.0 * pairs * a->head_dim;
    printf("%lld rows at %lld, %d/%d heads of %d, %d threads, %.1f GFLOP\n", (long long)a->rows,
           (long long)a->first, a->num_heads, a->cache->num_kv_heads, a->head_dim,
           omp_get_max_threads(), operations * 1e-9);
    /* The reference is far too slow for these sizes. */
    enum mp_isa isa = mp_isa_detect();
    if (isa >= MP_ISA_AVX2) {
        report("avx2", prefill_attention_avx2, a, operations, repeats);
    }
    if (isa >= MP_ISA_AVX512 && __builtin_cpu_supports("avx512vnni")) {
        report("vnni", prefill_attention_vnni, a, operations, repeats);
    }
    if (isa >= MP_ISA_AVX512 && mp_cpu_has_amx_bf16()) {
        report("amx", prefill_attention_amx, a, operations, repeats);
    }
}

int main(int argc, char **argv)
{
    int64_t size[6] = {4096, 28672, 8, 2, 64, 5};
    for (int i = 1; i < argc && i <= 6; i++) {
        size[i - 1] = strtoll(argv[i], NULL, 10);
    }
    int64_t rows = size[0];
    int64_t first = size[1];
    int num_heads = (int)size[2];
    int num_kv_heads = (int)size[3];
    int head_dim = (int)size[4];
    int repeats = (int)size[5];
    if (rows < 1 || first < 0 || num_kv_heads < 1 || num_heads < 1 ||
        num_heads % num_kv_heads != 0 || head_dim < 2 || head_dim > MP_MAX_HEAD_DIM ||
        repeats < 1 || repeats > MAX_REPEATS) {
        fprintf(stderr, "usage: %s [rows first num_heads num_kv_heads head_dim [repeats]]\n",
                argv[0]);
        return 1;
    }

    size_t kv_size = (size_t)((first + rows) * num_kv_heads * head_dim);
    size_t q_size = (size_t)(rows * num_heads * head_dim);
    struct kv_cache cache = {.k = random_bf16(kv_size, 1),
                             .v = random_bf16(kv_size, 2),
                             .capacity = first + rows,
                             .num_kv_heads = num_kv_heads,
                             .head_dim = head_dim,
                             .dtype = MP_BF16};
    float *q = random_floats(q_size, 3);
    float *o = mp_xcalloc(q_size, sizeof *o);
    report_variants(&(struct prefill_attention_args){.q = q,
                                                     .cache = &cache,
                                                     .first = first,
                                                     .o = o,
                                                     .rows = rows,
                                                     .num_heads = num_heads,
                                                     .head_dim = head_dim,
                                                     .scale = 1.0f / sqrtf((float)head_dim)},
                    repeats);
    free(cache.k);
    free(cache.v);
    free(q);
    free(o);
    return 0;
}
