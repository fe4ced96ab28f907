/* Choice of kernel variants. */
#include "core/machine/cpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(mp_isa_name(MP_ISA_REF), "ref");
    assert_string_equal(mp_isa_name(MP_ISA_AVX2), "avx2");
    assert_string_equal(mp_isa_name(MP_ISA_AVX512), "avx512");
}

/* Runs first: nothing has been selected yet. */
static void test_default_is_the_best(void **state)
{
    (void)state;
    assert_int_equal(mp_isa_current(), mp_isa_detect());
}

static void test_select(void **state)
{
    (void)state;
    for (enum mp_isa isa = MP_ISA_REF; isa < MP_ISA_COUNT; isa++) {
        struct mp_error err = {0};
        enum mp_isa before = mp_isa_current();
        if (isa <= mp_isa_detect()) {
            assert_int_equal(mp_isa_select(mp_isa_name(isa), &err), MP_OK);
            assert_int_equal(mp_isa_current(), isa);
        } else {
            assert_int_equal(mp_isa_select(mp_isa_name(isa), &err), MP_ERR_USAGE);
            assert_non_null(strstr(err.message, mp_isa_name(isa)));
            assert_non_null(strstr(err.message, mp_isa_name(mp_isa_detect())));
            assert_int_equal(mp_isa_current(), before);
        }
    }
    assert_int_equal(mp_isa_select("auto", NULL), MP_OK);
    assert_int_equal(mp_isa_current(), mp_isa_detect());
}

static void test_unknown_name(void **state)
{
    (void)state;
    struct mp_error err = {0};
    assert_int_equal(mp_isa_select("sse9", &err), MP_ERR_USAGE);
    assert_string_equal(err.message, "isa \"sse9\": expected auto, ref, avx2 or avx512");
    assert_int_equal(mp_isa_select("", &err), MP_ERR_USAGE);
    assert_int_equal(mp_isa_select("AVX2", &err), MP_ERR_USAGE);
}

static int ref_kernel(void)
{
    return 0;
}

static int avx2_kernel(void)
{
    return 2;
}

/* The variant in force, or the next lower one that is there. */
static void test_kernel_table(void **state)
{
    (void)state;
    static int (*const only_ref[MP_ISA_COUNT])(void) = {ref_kernel};
    static int (*const up_to_avx2[MP_ISA_COUNT])(void) = {ref_kernel, avx2_kernel};

    assert_int_equal(mp_isa_select("ref", NULL), MP_OK);
    assert_int_equal(MP_KERNEL(only_ref)(), 0);
    assert_int_equal(MP_KERNEL(up_to_avx2)(), 0);
    assert_int_equal(mp_isa_pick(true, true), MP_ISA_REF);

    assert_int_equal(mp_isa_select("auto", NULL), MP_OK);
    assert_int_equal(MP_KERNEL(only_ref)(), 0);
    assert_int_equal(MP_KERNEL(up_to_avx2)(), mp_isa_detect() >= MP_ISA_AVX2 ? 2 : 0);
    assert_int_equal(mp_isa_pick(true, true), mp_isa_detect());
    assert_int_equal(mp_isa_pick(false, false), MP_ISA_REF);
}

/* Nothing to compare with: it must be stable, and never true on a CPU without vectors. */
static void test_amx(void **state)
{
    (void)state;
    bool amx = mp_cpu_has_amx_bf16();
    assert_int_equal(mp_cpu_has_amx_bf16(), amx);
    assert_true(!amx || mp_isa_detect() != MP_ISA_REF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default_is_the_best),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_select),
        cmocka_unit_test(test_unknown_name),
        cmocka_unit_test(test_kernel_table),
        cmocka_unit_test(test_amx),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
