/* memory_read: the sum of the words, each counted once. */
#include "codelets/memory_read/memory_read.h"
#include "tests/unit/codelets/kernel_test.h"

/* Random words: a sum that wraps, and that changes with every word left out. */
static void check(int64_t bytes)
{
    size_t count = (size_t)bytes / sizeof(uint64_t);
    struct mp_error err;
    uint64_t *data = mp_alloc(count + 1, sizeof *data, "data", &err);
    assert_non_null(data);
    struct mp_rng rng;
    mp_rng_init(&rng, (uint64_t)bytes, 0);
    uint64_t expected = 0;
    for (size_t i = 0; i < count; i++) {
        data[i] = mp_rng_next(&rng);
        expected += data[i];
    }
    data[count] = 1; /* not to be read */
    uint64_t sum = 99;
    memory_read_ref(&(struct memory_read_args){data, bytes, &sum});
    assert_true(sum == expected);
    mp_free(data);
}

static void test_sum(void **state)
{
    (void)state;
    const int64_t lines[] = {0, 1, 2, 3, 7, 1001, 65537};
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        check(64 * lines[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
