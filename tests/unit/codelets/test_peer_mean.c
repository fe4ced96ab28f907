/* peer_mean: sums of several arrays, scaled, as many floats as there are. */
#include "codelets/peer_mean/peer_mean.h"
#include "tests/unit/codelets/kernel_test.h"

static void check(int num_from, size_t count)
{
    struct peer_mean_args a = {.num_from = num_from, .scale = 0.25f, .count = (int64_t)count};
    float *from[MP_MAX_GPUS];
    float *to = random_floats(count + 1, 1.0f, 99);
    float after = to[count];
    a.to = to;
    for (int s = 0; s < num_from; s++) {
        a.from[s] = from[s] = random_floats(count, 1.0f, (uint64_t)s + 1);
    }
    peer_mean_ref(&a);
    for (size_t i = 0; i < count; i++) {
        double sum = 0.0;
        for (int s = 0; s < num_from; s++) {
            sum += (double)from[s][i];
        }
        assert_float_equal(to[i], 0.25 * sum, 1e-6);
    }
    assert_true(to[count] == after);
    for (int s = 0; s < num_from; s++) {
        free(from[s]);
    }
    free(to);
}

static void test_mean(void **state)
{
    (void)state;
    check(1, 5);
    check(2, 1000);
    check(MP_MAX_GPUS, 4097);
    check(3, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
