/* Whether threads and address space are there, asked before they are needed. */
#include "core/machine/threads.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>
#include <sys/resource.h>

static void test_enough(void **state)
{
    (void)state;
    struct mp_error err;
    assert_int_equal(mp_threads_check(16, 1 << 20, &err), 0);
    assert_int_equal(mp_threads_check(0, 0, &err), 0);
}

static void test_no_address_space(void **state)
{
    (void)state;
    struct mp_error err;
    assert_int_equal(mp_threads_check(1, SIZE_MAX / 2, &err), MP_ERR_MEMORY);
    assert_non_null(strstr(err.message, "MiB more of address space: Cannot allocate memory"));
}

/* Every thread has a stack. */
static void test_no_threads(void **state)
{
    (void)state;
    if (MP_SANITIZED) {
        skip(); /* a sanitizer needs memory of its own then */
    }
    struct rlimit before;
    assert_int_equal(getrlimit(RLIMIT_AS, &before), 0);
    struct rlimit small = {.rlim_cur = 1 << 20, .rlim_max = before.rlim_max};
    struct mp_error err;
    assert_int_equal(setrlimit(RLIMIT_AS, &small), 0);
    int code = mp_threads_check(64, 0, &err);
    assert_int_equal(setrlimit(RLIMIT_AS, &before), 0);
    assert_int_equal(code, MP_ERR_RUNTIME);
    assert_non_null(strstr(err.message, " of the 64 threads that it needs: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_enough),
        cmocka_unit_test(test_no_address_space),
        cmocka_unit_test(test_no_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
