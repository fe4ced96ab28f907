/* The generator: pinned outputs, so that a change of compiler, flags or machine shows, and the
 * distributions it claims. */
#include "core/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* SplitMix64 from state 0, as published with the algorithm. */
static void test_is_splitmix64(void **state)
{
    (void)state;
    struct mp_rng rng = {.state = 0};
    assert_true(mp_rng_next(&rng) == UINT64_C(0xe220a8397b1dcdaf));
    assert_true(mp_rng_next(&rng) == UINT64_C(0x6e789e6aa1b965f4));
    assert_true(mp_rng_next(&rng) == UINT64_C(0x06c45d188009454f));
}

static void test_pinned_integers(void **state)
{
    (void)state;
    struct mp_rng rng;
    mp_rng_init(&rng, 0, 0);
    assert_true(mp_rng_next(&rng) == UINT64_C(0x568a9b0b1a2c05ec));
    assert_true(mp_rng_next(&rng) == UINT64_C(0x44e5b8b147ef718b));
    assert_true(mp_rng_next(&rng) == UINT64_C(0x458563ab55521133));
}

static void test_pinned_normals(void **state)
{
    (void)state;
    static const double expected[] = {
        0x1.0c78480bb3d6bp+0, -0x1.c5981745fep-4,   0x1.bcda7f6136205p-1,
        0x1.453d794464d6bp-2, -0x1.90a262e40bc8p-2, -0x1.0165788700eb4p+0,
    };
    struct mp_rng rng;
    mp_rng_init(&rng, 42, 7);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        assert_true(mp_rng_normal(&rng) == expected[i]);
    }
}

/* The own logarithm inside: Marsaglia's pair with libm's, from the same uniform numbers. */
static void test_normals_match_the_formula(void **state)
{
    (void)state;
    struct mp_rng rng, uniform;
    mp_rng_init(&rng, 5, 5);
    mp_rng_init(&uniform, 5, 5);
    for (int i = 0; i < 10000; i++) {
        double x, y, square;
        do {
            x = 2.0 * mp_rng_uniform(&uniform) - 1.0;
            y = 2.0 * mp_rng_uniform(&uniform) - 1.0;
            square = x * x + y * y;
        } while (square >= 1.0 || square == 0.0);
        double scale = sqrt(-2.0 * log(square) / square);
        assert_true(fabs(mp_rng_normal(&rng) - x * scale) <= 1e-14 * fabs(x * scale));
        assert_true(fabs(mp_rng_normal(&rng) - y * scale) <= 1e-14 * fabs(y * scale));
    }
}

static void test_uniform_fills_the_unit_interval(void **state)
{
    (void)state;
    enum { DRAWS = 200000, BINS = 20 };
    int bins[BINS] = {0};
    struct mp_rng rng;
    mp_rng_init(&rng, 1, 0);
    for (int i = 0; i < DRAWS; i++) {
        double u = mp_rng_uniform(&rng);
        assert_true(u >= 0.0 && u < 1.0);
        bins[(int)(u * BINS)]++;
    }
    for (int b = 0; b < BINS; b++) {
        assert_true(abs(bins[b] - DRAWS / BINS) < 500); /* five standard deviations */
    }
}

static void test_normal_moments(void **state)
{
    (void)state;
    enum { DRAWS = 200000 };
    double sum = 0.0, squares = 0.0, fourths = 0.0;
    struct mp_rng rng;
    mp_rng_init(&rng, 2, 0);
    for (int i = 0; i < DRAWS; i++) {
        double x = mp_rng_normal(&rng);
        sum += x;
        squares += x * x;
        fourths += x * x * x * x;
    }
    /* Five standard errors: 1, sqrt(2) and sqrt(96) over sqrt(DRAWS). */
    assert_true(fabs(sum / DRAWS) < 5.0 / sqrt(DRAWS));
    assert_true(fabs(squares / DRAWS - 1.0) < 5.0 * sqrt(2.0 / DRAWS));
    assert_true(fabs(fourths / DRAWS - 3.0) < 5.0 * sqrt(96.0 / DRAWS));
}

static void test_streams_and_seeds_differ(void **state)
{
    (void)state;
    enum { SIDE = 40 };
    uint64_t first[SIDE * SIDE];
    for (int i = 0; i < SIDE * SIDE; i++) {
        struct mp_rng rng;
        mp_rng_init(&rng, (uint64_t)(i / SIDE), (uint64_t)(i % SIDE));
        first[i] = mp_rng_next(&rng);
        for (int j = 0; j < i; j++) {
            assert_true(first[i] != first[j]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_is_splitmix64),
        cmocka_unit_test(test_pinned_integers),
        cmocka_unit_test(test_pinned_normals),
        cmocka_unit_test(test_normals_match_the_formula),
        cmocka_unit_test(test_uniform_fills_the_unit_interval),
        cmocka_unit_test(test_normal_moments),
        cmocka_unit_test(test_streams_and_seeds_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
