/* The LSH mathematics: collision probability against values worked out by hand, the tabulated
 * weight against the exact formula, the projection against its definition. */
#include "codelets/common/attention/lsh.h"
#include "core/base/rng.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

static void assert_close(double found, double expected, double tolerance)
{
    if (!(fabs(found - expected) <= tolerance)) {
        fail_msg("found %.9g, expected %.9g within %.1g", found, expected, tolerance);
    }
}

static void test_known_probabilities(void **state)
{
    (void)state;
    static const struct {
        int K, L;
        double cosine, u, tolerance; /* half a unit of the last digit given */
    } rows[] = {
        {10, 150, -0.5, 3.200e-6, 5e-10}, {10, 150, -0.2, 6.691e-4, 5e-8},
        {10, 150, 0.0, 0.009684, 5e-7},   {10, 150, 0.1, 0.030745, 5e-7},
        {10, 150, 0.2, 0.086737, 5e-7},   {10, 150, 0.3, 0.2137, 5e-5},
        {10, 150, 0.5, 0.735551, 5e-7},   {10, 150, 0.9, 1.0, 1e-9},
        {9, 120, 0.0, 0.023390, 5e-7},    {8, 75, 0.0, 0.035083, 5e-7},
        {11, 300, 0.2, 0.106252, 5e-7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        assert_close(lsh_collision_probability(rows[i].cosine, rows[i].K, rows[i].L), rows[i].u,
                     rows[i].tolerance);
    }
}

/* For tiny p, u = L (L - 1) / 2 p^2 to first order: the naive formula gives 0 or noise here. */
static void test_tiny_probabilities_are_accurate(void **state)
{
    (void)state;
    for (double cosine = -0.9999; cosine < -0.98; cosine += 0.001) {
        double t = acos(-cosine) / M_PI;
        double p = pow(t, 16);
        double expected = 150.0 * 149.0 / 2.0 * p * p;
        assert_close(lsh_collision_probability(cosine, 16, 150) / expected, 1.0, 1e-9);
    }
}

/* Where the two ways to compute u meet, neither steps. */
static void test_probability_is_smooth_and_monotonic(void **state)
{
    (void)state;
    static const int shapes[][2] = {{10, 150}, {1, 2}, {1, 1024}, {16, 2}, {4, 10}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        double last = 0.0;
        for (int i = 0; i <= 20000; i++) {
            double u = lsh_collision_probability(-1.0 + i * 1e-4, shapes[s][0], shapes[s][1]);
            assert_true(u >= last - 1e-15 && u <= 1.0);
            last = u;
        }
        assert_close(last, 1.0, 0.0);
    }
}

static void test_probability_edges(void **state)
{
    (void)state;
    assert_true(lsh_collision_probability(-1.0, 10, 150) == 0.0);
    assert_true(lsh_collision_probability(1.0, 10, 150) == 1.0);
    assert_true(lsh_collision_probability(-1.5, 10, 150) == 0.0);
    assert_true(lsh_collision_probability(1.5, 10, 150) == 1.0);
    assert_true(lsh_collision_probability(NAN, 10, 150) == 0.0);
    /* One table can never collide twice. */
    for (double cosine = -1.0; cosine <= 1.0; cosine += 0.125) {
        assert_true(lsh_collision_probability(cosine, 1, 1) == 0.0);
    }
    /* One bit, two tables: both must match, u = t^2. */
    assert_close(lsh_collision_probability(0.0, 1, 2), 0.25, 1e-15);
    assert_close(lsh_collision_probability(0.5, 1, 2), 4.0 / 9.0, 1e-15);
}

static double interpolated(const struct lsh_weight *w, double cosine)
{
    double x = (cosine + 1.0) * 0.5 * LSH_WEIGHT_STEPS;
    int i = (int)x;
    return w->log_u[i] + (x - i) * ((double)w->log_u[i + 1] - w->log_u[i]);
}

/* Largest error of the interpolated ln(u + 1e-4) over a grid that hits no table entry twice. */
static double largest_weight_error(int K, int L)
{
    static struct lsh_weight weight;
    lsh_weight_init(&weight, K, L);
    double largest = 0.0;
    for (int i = 0; i <= 100000; i++) {
        double cosine = fmin(-1.0 + 2e-5 * i, 1.0);
        double exact = log(lsh_collision_probability(cosine, K, L) + 1e-4);
        largest = fmax(largest, fabs(interpolated(&weight, cosine) - exact));
    }
    return largest;
}

/* The bound: 1e-5 wherever L is large enough that u saturates before cos = 1 (every useful shape).
 * With very few tables u keeps the square-root edge of arccos at cos = +-1, and a linear table
 * errs by up to 0.1 in the cell next to it. */
static void test_weight_interpolation_error(void **state)
{
    (void)state;
    static const int shapes[][2] = {{10, 150}, {9, 120}, {8, 75}, {11, 300}, {4, 10}, {16, 1024}};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        assert_true(largest_weight_error(shapes[s][0], shapes[s][1]) < 1e-5);
    }
    assert_true(largest_weight_error(16, 2) < 0.1);
    assert_true(largest_weight_error(1, 2) < 0.1);
    assert_true(largest_weight_error(1, 1) < 1e-6);
}

static void test_weight_ends(void **state)
{
    (void)state;
    static struct lsh_weight weight;
    lsh_weight_init(&weight, 10, 150);
    float highest = (float)log(1.0 + 1e-4);
    assert_true(weight.log_u[0] == (float)log(1e-4));
    assert_true(weight.log_u[LSH_WEIGHT_STEPS] == highest);
    assert_true(weight.log_u[LSH_WEIGHT_STEPS + 1] == highest);
    assert_int_equal(weight.K, 10);
    assert_int_equal(weight.L, 150);
}

static void test_projection_is_the_generators_normals(void **state)
{
    (void)state;
    enum { HEAD_DIM = 6, K = 3, L = 5, COUNT = HEAD_DIM * K * L };
    float w[COUNT + 1];
    w[COUNT] = 1234.0f;
    lsh_projection_draw(w, HEAD_DIM, K, L, 11, 2);
    struct mp_rng rng;
    mp_rng_init(&rng, 11, 2);
    for (int i = 0; i < COUNT; i++) {
        assert_true(w[i] == (float)mp_rng_normal(&rng));
    }
    assert_true(w[COUNT] == 1234.0f);
}

/* The theory that everything rests on: two vectors at cosine c agree in one bit with probability
 * 1 - arccos(c) / pi. */
static void test_bits_collide_as_often_as_the_angle_says(void **state)
{
    (void)state;
    enum { HEAD_DIM = 32, BITS = 4000 };
    float *w = malloc(sizeof(float) * HEAD_DIM * BITS);
    assert_non_null(w);
    lsh_projection_draw(w, HEAD_DIM, 10, BITS / 10, 3, 0);
    for (double cosine = -0.75; cosine <= 0.75; cosine += 0.25) {
        int equal = 0;
        for (int bit = 0; bit < BITS; bit++) {
            /* x is the first unit vector; y = cos x + sin (second unit vector). */
            double x = w[bit];
            double y = cosine * x + sqrt(1.0 - cosine * cosine) * w[BITS + bit];
            equal += (x > 0.0) == (y > 0.0);
        }
        /* Four standard deviations of a fair coin thrown BITS times. */
        assert_close((double)equal / BITS, 1.0 - acos(cosine) / M_PI, 2.0 / sqrt(BITS));
    }
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_probabilities),
        cmocka_unit_test(test_tiny_probabilities_are_accurate),
        cmocka_unit_test(test_probability_is_smooth_and_monotonic),
        cmocka_unit_test(test_probability_edges),
        cmocka_unit_test(test_weight_interpolation_error),
        cmocka_unit_test(test_weight_ends),
        cmocka_unit_test(test_projection_is_the_generators_normals),
        cmocka_unit_test(test_bits_collide_as_often_as_the_angle_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
