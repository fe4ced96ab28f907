/* How many units of a prompt go into a step. The time of a step is a model: it is known what share
 * of the time reading then takes. */
#include "pipeline/engine/session/pace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { STEPS = 1000 };

struct outcome {
    double share; /* of the time, that reading took */
    int units;
    int most; /* units in a step */
};

/* Steps of `step` seconds to which each unit adds `unit`. */
static struct outcome run(double share, double step, double unit)
{
    struct mp_pace p = {.share = share};
    struct outcome o = {0};
    double all = 0.0;
    double added = 0.0;
    mp_pace_begin(&p);
    for (int i = 0; i < STEPS; i++) {
        int units = mp_pace_units(&p, 1 << 20);
        mp_pace_took(&p, units, step + units * unit);
        all += step + units * unit;
        added += units * unit;
        o.units += units;
        o.most = units > o.most ? units : o.most;
    }
    o.share = added / all;
    return o;
}

static void test_keeps_to_the_share(void **state)
{
    (void)state;
    static const double shares[] = {0.05, 0.5, 0.9};
    static const double units[] = {0.1, 1.0, 7.0}; /* steps */
    for (int s = 0; s < 3; s++) {
        for (int u = 0; u < 3; u++) {
            struct outcome o = run(shares[s], 0.02, 0.02 * units[u]);
            /* One unit more or less, and at most eight a step. */
            assert_true(o.share <= shares[s] + units[u] / STEPS);
            assert_true(o.share >= shares[s] - 2 * units[u] / STEPS || o.most == 8);
        }
    }
}

static void test_free_units(void **state)
{
    (void)state;
    struct outcome o = run(0.1, 0.02, 0.0);
    assert_int_equal(o.most, 8); /* what costs nothing is bounded all the same */
    assert_true(o.units > 7 * STEPS);
}

static void test_first_steps(void **state)
{
    (void)state;
    struct mp_pace p = {.share = 0.5};
    mp_pace_begin(&p);
    assert_int_equal(mp_pace_units(&p, 10), 0); /* learns how long a step takes */
    mp_pace_took(&p, 0, 0.01);
    assert_int_equal(mp_pace_units(&p, 10), 1); /* and a unit */
    mp_pace_took(&p, 1, 0.02);
    assert_true(mp_pace_units(&p, 1) <= 1); /* no more than are left */
    assert_int_equal(mp_pace_units(&p, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keeps_to_the_share),
        cmocka_unit_test(test_free_units),
        cmocka_unit_test(test_first_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
