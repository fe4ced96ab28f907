/* What the kernels support: the check when a model is opened, what its messages say, and that a
 * fast kernel called nevertheless panics instead of handing over to the reference. */
#include "codelets/common/attention/support.h"
#include "codelets/offload/offload.h"
#include "codelets/prefill_attention/prefill_attention.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"
#include "tests/unit/codelets/kernel_test.h"

static void assert_supported(enum mp_isa isa, enum mp_dtype kv, int head_dim, bool gpu)
{
    struct mp_error err;
    if (mp_kernels_check(isa, kv, head_dim, gpu, &err) != 0) {
        fail_msg("%s", err.message);
    }
}

static void assert_refused(enum mp_isa isa, enum mp_dtype kv, int head_dim, bool gpu,
                           const char *message)
{
    struct mp_error err;
    assert_int_equal(mp_kernels_check(isa, kv, head_dim, gpu, &err), MP_ERR_UNSUPPORTED);
    assert_string_equal(err.message, message);
}

static void test_supported(void **state)
{
    (void)state;
    const int usual[] = {32, 64, 80, 96, 128, 256};
    for (size_t i = 0; i < sizeof usual / sizeof usual[0]; i++) {
        for (enum mp_isa isa = MP_ISA_REF; isa < MP_ISA_COUNT; isa++) {
            assert_supported(isa, MP_BF16, usual[i], true);
        }
        assert_supported(MP_ISA_REF, MP_F32, usual[i], false);
    }
    assert_supported(MP_ISA_REF, MP_F32, 18, false);
    assert_supported(MP_ISA_REF, MP_BF16, 2, false);
    assert_supported(MP_ISA_AVX2, MP_BF16, 24, true);
}

static void test_messages(void **state)
{
    (void)state;
    assert_refused(MP_ISA_AVX512, MP_BF16, 24, false,
                   "head_dim 24 with keys and values of bfloat16: the avx512 kernels expect a "
                   "multiple of 16 with bfloat16; use runtime.isa avx2");
    assert_refused(MP_ISA_AVX512, MP_BF16, 18, true,
                   "head_dim 18 with keys and values of bfloat16: the avx512 kernels expect a "
                   "multiple of 16 with bfloat16; use runtime.isa ref");
    assert_refused(
        MP_ISA_AVX2, MP_F32, 64, false,
        "head_dim 64 with keys and values of float32: the avx2 kernels expect a multiple "
        "of 8 with bfloat16; use runtime.isa ref");
    assert_refused(
        MP_ISA_REF, MP_BF16, 20, true,
        "head_dim 20 with keys and values of bfloat16: the GPU kernels expect a multiple "
        "of 8 with bfloat16; use runtime.devices cpu");
    assert_refused(MP_ISA_REF, MP_F32, 64, true,
                   "head_dim 64 with keys and values of float32: the GPU kernels expect a multiple "
                   "of 8 with bfloat16; use runtime.devices cpu");
    assert_refused(MP_ISA_REF, MP_F32, 512, false,
                   "head_dim 512: the kernels expect 1 to 256, and there are no others");
    assert_refused(MP_ISA_REF, MP_F32, 0, true,
                   "head_dim 0: the kernels expect 1 to 256, and there are no others");
}

/* The ops on one cache, which they do not get to read. */
struct ops {
    offload_kernel *offload;
    prefill_attention_kernel *prefill_attention;
    sampled_attention_kernel *sampled_attention;
    static_attention_kernel *static_attention;
};

#ifdef __x86_64__
static const struct ops fast[MP_ISA_COUNT] = {
    [MP_ISA_AVX2] = {offload_avx2, prefill_attention_avx2, sampled_attention_avx2,
                     static_attention_avx2},
    [MP_ISA_AVX512] = {offload_avx512, prefill_attention_avx512, sampled_attention_avx512,
                       static_attention_avx512},
};
#else
static const struct ops fast[MP_ISA_COUNT];
#endif

static void assert_attention_panics(const struct ops *ops, enum mp_dtype dtype, int head_dim)
{
    struct kv_cache cache = {
        .capacity = 4, .num_kv_heads = 1, .head_dim = head_dim, .dtype = dtype};
    struct offloaded_kv kv = {
        .count = 1, .capacity = 4, .num_kv_heads = 1, .head_dim = head_dim, .dtype = dtype};
    ASSERT_PANICS(ops->static_attention(
        &(struct static_attention_args){.cache = (const struct kv_cache *[]){&cache},
                                        .length = (int64_t[]){1},
                                        .rows = 1,
                                        .num_heads = 1,
                                        .head_dim = head_dim}));
    ASSERT_PANICS(ops->sampled_attention(
        &(struct sampled_attention_args){.kv = (const struct offloaded_kv *[]){&kv},
                                         .nnz = (int32_t[]){0},
                                         .rows = 1,
                                         .num_heads = 1,
                                         .head_dim = head_dim}));
    ASSERT_PANICS(ops->offload(
        &(struct offload_args){.staging = &cache, .tokens = 1, .sink = 4, .static_cache = &cache}));
}

static void test_no_silent_reference(void **state)
{
    (void)state;
    for (enum mp_isa isa = MP_ISA_AVX2; isa <= mp_isa_detect(); isa++) {
        assert_attention_panics(&fast[isa], MP_F32, 64);
        assert_attention_panics(&fast[isa], MP_BF16, 18);
        assert_attention_panics(&fast[isa], MP_BF16, 512);
        struct kv_cache cache = {.capacity = 4, .num_kv_heads = 1, .head_dim = 64, .dtype = MP_F32};
        ASSERT_PANICS(fast[isa].prefill_attention(&(struct prefill_attention_args){
            .cache = &cache, .rows = 0, .num_heads = 1, .head_dim = 64}));
    }
}

/* Rows of int8 are for what reads or writes offloaded tokens alone. */
static void test_int8(void **state)
{
    (void)state;
    mp_kernel_demand_rows("op", MP_I8, 64, 16);
    mp_kernel_demand_rows("op", MP_BF16, 64, 16);
    ASSERT_PANICS(mp_kernel_demand_rows("op", MP_I8, 24, 16));
    ASSERT_PANICS(mp_kernel_demand_rows("op", MP_F32, 64, 16));
    ASSERT_PANICS(mp_kernel_demand("op", MP_I8, 64, 16));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_supported),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_no_silent_reference),
        cmocka_unit_test(test_int8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
