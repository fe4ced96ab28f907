/* peer_copy: as many floats as are asked for, and none after them. */
#include "codelets/peer_copy/peer_copy.h"
#include "tests/unit/codelets/kernel_test.h"

static void test_copy(void **state)
{
    (void)state;
    const size_t counts[] = {0, 1, 7, 4096};
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        size_t n = counts[i];
        float *from = random_floats(n + 1, 1.0f, 1);
        float *to = random_floats(n + 1, 1.0f, 2);
        float after = to[n];
        peer_copy_ref(&(struct peer_copy_args){from, to, (int64_t)n});
        assert_memory_equal(to, from, n * sizeof *to);
        assert_true(to[n] == after);
        free(from);
        free(to);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
