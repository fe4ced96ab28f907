/* Blocks that are kept for the next: which fit, and how many are held. */
#include "core/base/block_pool.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static char memory[64];
static const int kinds[2];

static void test_take(void **state)
{
    (void)state;
    struct mp_block_pool pool = {0};
    assert_null(mp_block_pool_take(&pool, 10, NULL));
    mp_block_pool_add(&pool, memory, 100, &kinds[0]);
    mp_block_pool_add(&pool, memory + 1, 60, &kinds[0]);
    assert_null(mp_block_pool_take(&pool, 60, &kinds[0])); /* both are in use */
    mp_block_pool_return(&pool, memory);
    mp_block_pool_return(&pool, memory + 1);
    assert_int_equal(pool.used, 0);
    assert_int_equal(pool.kept, 160);
    assert_null(mp_block_pool_take(&pool, 60, &kinds[1]));
    assert_null(mp_block_pool_take(&pool, 101, &kinds[0]));
    assert_null(mp_block_pool_take(&pool, 29, &kinds[0])); /* too large both */
    assert_ptr_equal(mp_block_pool_take(&pool, 55, &kinds[0]), memory + 1);
    assert_ptr_equal(mp_block_pool_take(&pool, 55, &kinds[0]), memory);
    assert_int_equal(pool.used, 160);
    size_t bytes;
    assert_null(mp_block_pool_drop(&pool, &bytes));
    mp_block_pool_return(&pool, memory);
    mp_block_pool_return(&pool, memory + 1);
    assert_ptr_equal(mp_block_pool_drop(&pool, &bytes), memory);
    assert_int_equal(bytes, 100);
    assert_ptr_equal(mp_block_pool_drop(&pool, &bytes), memory + 1);
    assert_int_equal(bytes, 60);
    assert_null(pool.blocks);
}

/* No more is held than was ever in use at a time, unless it is in use. */
static void test_surplus(void **state)
{
    (void)state;
    struct mp_block_pool pool = {0};
    size_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        assert_null(mp_block_pool_surplus(&pool, 10, &bytes));
        mp_block_pool_add(&pool, memory + i, 10, NULL);
    }
    mp_block_pool_return(&pool, memory);
    mp_block_pool_return(&pool, memory + 2);
    /* 10 used, 20 kept: of 5 new ones one kept block is too much. */
    assert_non_null(mp_block_pool_surplus(&pool, 5, &bytes));
    assert_int_equal(bytes, 10);
    assert_null(mp_block_pool_surplus(&pool, 5, &bytes));
    mp_block_pool_add(&pool, memory + 5, 5, NULL);
    /* 15 used, 10 kept: of 50 all. */
    assert_non_null(mp_block_pool_surplus(&pool, 50, &bytes));
    assert_null(mp_block_pool_surplus(&pool, 50, &bytes));
    mp_block_pool_add(&pool, memory + 6, 50, NULL);
    assert_int_equal(pool.most, 65);
    mp_block_pool_return(&pool, memory + 1);
    mp_block_pool_return(&pool, memory + 5);
    mp_block_pool_return(&pool, memory + 6);
    while (mp_block_pool_drop(&pool, &bytes) != NULL) {
    }
    assert_null(pool.blocks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_take), cmocka_unit_test(test_surplus)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
