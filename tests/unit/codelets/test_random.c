/* random: what the numbers are, that they are random enough for weights, and where they go. */
#include "codelets/random/random.h"
#include "tests/unit/codelets/kernel_test.h"

enum { N = 1 << 20 };

/* Elements [0, n) as floats. Free with free(). */
static float *draw(const struct random_numbers *numbers, size_t n)
{
    float *x = mp_xmalloc(n * sizeof *x);
    random_ref(
        &(struct random_args){.out = x, .dtype = MP_F32, .count = (int64_t)n, .numbers = *numbers});
    return x;
}

static double mean(const float *x, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i];
    }
    return sum / (double)n;
}

/* Of numbers whose mean is 0. */
static double covariance(const float *x, const float *y, size_t n)
{
    double sum = 0.0;
    for (size_t i = 0; i < n; i++) {
        sum += (double)x[i] * (double)y[i];
    }
    return sum / (double)n;
}

/* Numbers uniform in [-s, s) have variance s^2 / 3. Estimates from N of them err by 1 / sqrt(N),
 * here 0.001, of the standard deviation (mean), or less (variance, correlation); 4 times that is
 * allowed. */
static const double variance = 1.0 / 3.0;
static const double tolerance = 0.004;

/* Values from an independent program that follows the definition of SplitMix64. */
static void test_pinned(void **state)
{
    (void)state;
    float *x = draw(&(struct random_numbers){.seed = 7, .spread = 1.0f}, 1000);
    assert_true(x[0] == (15941062 - 8388608) * 0x1p-23f);
    assert_true(x[1] == (14758698 - 8388608) * 0x1p-23f);
    assert_true(x[2] == (15118089 - 8388608) * 0x1p-23f);
    assert_true(x[999] == (753878 - 8388608) * 0x1p-23f);
    free(x);
}

/* Element i is draw i of the project's generator, though no draw before it was made. */
static void test_is_the_generator(void **state)
{
    (void)state;
    enum { COUNT = 1000 };
    float *x = draw(&(struct random_numbers){.seed = 9, .center = 0.3f, .spread = 0.02f}, COUNT);
    struct mp_rng rng;
    mp_rng_init(&rng, 9, 0);
    for (int i = 0; i < COUNT; i++) {
        double u = (double)(mp_rng_next(&rng) >> 40) * 0x1p-23 - 1.0;
        assert_true(x[i] == (float)((double)0.3f + (double)0.02f * u));
    }
    free(x);
}

static void test_moments(void **state)
{
    (void)state;
    float *x = draw(&(struct random_numbers){.seed = 1, .spread = 1.0f}, N);
    float low = x[0];
    float high = x[0];
    for (size_t i = 0; i < N; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    assert_true(low >= -1.0f && low < -0.9999f);
    assert_true(high < 1.0f && high > 0.9999f);
    assert_true(fabs(mean(x, N)) < tolerance * sqrt(variance));
    assert_true(fabs(covariance(x, x, N) / variance - 1.0) < tolerance);
    free(x);
}

static void test_center_and_spread(void **state)
{
    (void)state;
    float *x = draw(&(struct random_numbers){.seed = 2, .center = 3.0f, .spread = 0.5f}, N);
    assert_true(fabs(mean(x, N) - 3.0) < tolerance);
    for (size_t i = 0; i < N; i++) {
        assert_true(x[i] >= 2.5f && x[i] < 3.5f);
    }
    free(x);
    x = draw(&(struct random_numbers){.seed = 2, .center = 1.0f}, 100);
    for (size_t i = 0; i < 100; i++) {
        assert_true(x[i] == 1.0f);
    }
    free(x);
}

/* Neighbours, elements of neighbouring rows of a weight, and parts with neighbouring seeds, in step
 * and shifted. */
static void test_no_correlation(void **state)
{
    (void)state;
    float *x = draw(&(struct random_numbers){.seed = 3, .spread = 1.0f}, N);
    const size_t lags[] = {1, 2, 64, 128, 4096};
    for (size_t k = 0; k < sizeof lags / sizeof lags[0]; k++) {
        assert_true(fabs(covariance(x, x + lags[k], N - lags[k])) < tolerance * variance);
    }
    const uint64_t seeds[] = {2, 4, 3 ^ UINT64_C(1) << 63};
    for (size_t k = 0; k < sizeof seeds / sizeof seeds[0]; k++) {
        float *y = draw(&(struct random_numbers){.seed = seeds[k], .spread = 1.0f}, N);
        assert_true(fabs(covariance(x, y, N)) < tolerance * variance);
        assert_true(fabs(covariance(x, y + 1, N - 1)) < tolerance * variance);
        assert_true(fabs(covariance(x + 1, y, N - 1)) < tolerance * variance);
        free(y);
    }
    free(x);
}

/* Heads of 8 channels, rows of 3 inputs: pairs 0 and 1 are channels 0, 1, 4 and 5. Powers of two
 * scale exactly. */
static void test_pairs(void **state)
{
    (void)state;
    enum { STRIDE = 3, HEAD_DIM = 8, COUNT = STRIDE * HEAD_DIM * 5 };
    const float expected[HEAD_DIM] = {4.0f, 4.0f, 0.5f, 0.5f, 4.0f, 4.0f, 0.5f, 0.5f};
    struct random_numbers numbers = {.seed = 4, .spread = 1.0f};
    float *u = draw(&numbers, COUNT);
    numbers.spread = 0.5f;
    numbers.pairs = 2;
    numbers.pair_spread = 4.0f;
    numbers.head_dim = HEAD_DIM;
    numbers.stride = STRIDE;
    float *x = draw(&numbers, COUNT);
    for (int i = 0; i < COUNT; i++) {
        assert_true(x[i] == expected[i / STRIDE % HEAD_DIM] * u[i]);
    }
    free(u);
    free(x);
}

/* A part in the middle: its elements count from 0, the rest keeps its bytes. */
static void check_part(enum mp_dtype dtype, int64_t count)
{
    enum { SIZE = 100, OFFSET = 37 };
    const struct random_numbers numbers = {.seed = 5, .center = 0.1f, .spread = 0.3f};
    float *x = draw(&numbers, SIZE);
    size_t size = mp_dtype_size(dtype);
    unsigned char *out = mp_xmalloc(SIZE * size);
    unsigned char *expected = mp_xmalloc(SIZE * size);
    memset(out, 0xa5, SIZE * size);
    memset(expected, 0xa5, SIZE * size);
    for (int64_t i = 0; i < count; i++) {
        mp_store(expected, dtype, (size_t)(OFFSET + i), x[i]);
    }
    random_ref(&(struct random_args){out, dtype, OFFSET, count, numbers});
    assert_memory_equal(out, expected, SIZE * size);
    free(x);
    free(out);
    free(expected);
}

static void test_part(void **state)
{
    (void)state;
    for (enum mp_dtype dtype = MP_F32; dtype <= MP_BF16; dtype++) {
        check_part(dtype, 0);
        check_part(dtype, 1);
        check_part(dtype, 51);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pinned),         cmocka_unit_test(test_is_the_generator),
        cmocka_unit_test(test_moments),        cmocka_unit_test(test_center_and_spread),
        cmocka_unit_test(test_no_correlation), cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_part),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
