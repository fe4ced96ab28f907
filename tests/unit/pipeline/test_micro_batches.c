/* The search for the number of micro-batches, on steps whose time is a function of it. */
#include "pipeline/engine/session/micro_batches.h"

#include "core/base/rng.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { SEARCH = 100 }; /* steps that suffice to try all counts */

static struct mp_config config_of(int batch, int micro_batches)
{
    return (struct mp_config){.batch = batch, .micro_batches = micro_batches};
}

/* Milliseconds of a step with m micro-batches whose best number is `best`; noise makes it longer.
 */
static double step_time(int m, int best, struct mp_rng *rng)
{
    double noise = mp_rng_uniform(rng);
    return 20.0 + 2.0 * abs(m - best) + (noise > 0.7 ? 10.0 * noise : 0.1 * noise);
}

static int search(struct mp_micro_batches *m, int rows, int best, int steps)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 7, (uint64_t)best);
    int last = 0;
    for (int i = 0; i < steps; i++) {
        last = mp_micro_batches_count(m, rows);
        assert_in_range(last, 1, rows);
        mp_micro_batches_took(m, step_time(last, best, &rng));
    }
    return last;
}

static void test_finds_the_best(void **state)
{
    (void)state;
    struct mp_config config = config_of(6, 0);
    for (int best = 1; best <= 6; best++) {
        struct mp_micro_batches m;
        mp_micro_batches_init(&m, &config, true);
        search(&m, 6, best, SEARCH);
        assert_int_equal(m.best, best);
    }
}

/* What is best changes while running: it is found again, later. */
static void test_adapts(void **state)
{
    (void)state;
    struct mp_config config = config_of(4, 0);
    struct mp_micro_batches m;
    mp_micro_batches_init(&m, &config, true);
    search(&m, 4, 4, SEARCH);
    assert_int_equal(m.best, 4);
    search(&m, 4, 2, 2000);
    assert_int_equal(m.best, 2);
    search(&m, 2, 1, SEARCH); /* requests have left */
    assert_int_equal(m.best, 1);
}

/* Most steps of a long run are with the best number. */
static void test_settles(void **state)
{
    (void)state;
    struct mp_config config = config_of(8, 0);
    struct mp_micro_batches m;
    struct mp_rng rng;
    mp_rng_init(&rng, 1, 1);
    mp_micro_batches_init(&m, &config, true);
    int others = 0;
    for (int i = 0; i < 4000; i++) {
        int count = mp_micro_batches_count(&m, 8);
        others += count != 3;
        mp_micro_batches_took(&m, step_time(count, 3, &rng));
    }
    assert_in_range(others, 1, 400);
}

/* Trials become rarer while they find nothing better, and as frequent as at first once they do. */
static void test_pauses(void **state)
{
    (void)state;
    struct mp_config config = config_of(4, 0);
    struct mp_micro_batches m;
    mp_micro_batches_init(&m, &config, true);
    search(&m, 4, 3, SEARCH);
    int first = m.pause;
    search(&m, 4, 3, 2000);
    int later = m.pause;
    assert_true(later > 4 * first);
    while (m.best == 3) {
        search(&m, 4, 2, 1);
    }
    while (m.direction != 0) {
        search(&m, 4, 2, 1);
    }
    assert_int_equal(m.pause, first);
}

static void test_fixed(void **state)
{
    (void)state;
    struct mp_config config = config_of(5, 3);
    struct mp_micro_batches m;
    mp_micro_batches_init(&m, &config, true);
    assert_int_equal(m.most, 3);
    assert_int_equal(search(&m, 5, 1, SEARCH), 3);
    assert_int_equal(search(&m, 2, 1, SEARCH), 2); /* no more than rows */
    assert_int_equal(search(&m, 5, 1, SEARCH), 3);

    /* Where devices do not take turns one is enough. */
    config = config_of(5, 0);
    mp_micro_batches_init(&m, &config, false);
    assert_int_equal(m.most, 1);
    assert_int_equal(search(&m, 5, 5, SEARCH), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_finds_the_best), cmocka_unit_test(test_adapts),
        cmocka_unit_test(test_settles),        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_fixed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
