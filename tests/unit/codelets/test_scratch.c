/* Kernels' scratch: blocks that grow, and the most of them. */
#include "codelets/common/scratch.h"
#include "tests/unit/codelets/kernel_test.h"

enum { BLOCK = 65536, BLOCKS = 16 };

/* Takes so many blocks and fills them. */
static void take(int count)
{
    for (int i = 0; i < count; i++) {
        char *p = mp_scratch(1, BLOCK);
        assert_int_equal((uintptr_t)p % 64, 0);
        memset(p, i, BLOCK);
    }
}

/* What has been taken stays in place until the next reset, after which the same fits into one block
 * and leaves room for more. */
static void test_growth(void **state)
{
    (void)state;
    mp_scratch_reset();
    char *first = mp_scratch(3, 1);
    char *second = mp_scratch(0, 8);
    assert_int_equal(second - first, 64);
    memset(first, 77, 3);
    take(BLOCKS - 1);
    assert_true(first[0] == 77 && first[2] == 77);
    mp_scratch_reset();
    take(BLOCKS - 1);
    take(BLOCKS - 1);
    mp_scratch_release();
}

static void test_too_many_blocks(void **state)
{
    (void)state;
    take(BLOCKS);
    ASSERT_PANICS(take(1));
    mp_scratch_release();
    ASSERT_PANICS(mp_scratch(SIZE_MAX / 2, 3));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_growth),
        cmocka_unit_test(test_too_many_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
