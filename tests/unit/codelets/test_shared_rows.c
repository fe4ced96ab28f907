/* sampled_attention where the query heads of a KV head share one selection, and on int8 rows: every
 * variant against the reference with the list of each query head, on what the rows mean. */
#include "codelets/sampled_attention/sampled_attention.h"
#include "tests/unit/codelets/kernel_test.h"
#include "tests/unit/codelets/shared_rows_test.h"

static sampled_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = sampled_attention_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = sampled_attention_avx2,
    [MP_ISA_AVX512] = sampled_attention_avx512,
#endif
};

static void run_case(const struct shared_case *t, enum shared_form form)
{
    size_t heads = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    size_t width = heads * (size_t)t->head_dim;
    struct shared_rows *s = make_shared_rows(t);
    struct shared_rows *u = make_unshared_rows(t, s);
    float *expected = mp_xcalloc(width, sizeof *expected);
    float *expected_lse = mp_xcalloc(heads, sizeof *expected_lse);
    float *o = mp_xcalloc(width, sizeof *o);
    float *lse = mp_xcalloc(heads, sizeof *lse);
    shared_expected(t, s, form, expected, expected_lse);
    FOR_EACH_SUPPORTED(isa, variants, shared_demand(t), t->head_dim)
    {
        for (int shared = 0; shared < 2; shared++) {
            memset(o, 0xff, width * sizeof *o);
            memset(lse, 0xff, heads * sizeof *lse);
            shared_call(variants[isa], t, shared ? s : u, form, shared, o, lse);
            check_shared(t, s, o, lse, expected, expected_lse, mp_isa_name(isa));
        }
    }
    free(expected);
    free(expected_lse);
    free(o);
    free(lse);
    release_unshared_rows(u);
    release_shared_rows(s);
}

static void test_variants_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shared_cases / sizeof shared_cases[0]; i++) {
        for (enum shared_form form = 0; form < NUM_SHARED_FORMS; form++) {
            run_case(&shared_cases[i], form);
        }
    }
}

/* A row's bits do not depend on the rows beside it, nor do a KV head's on the other heads. */
static void test_alone(void **state)
{
    (void)state;
    const struct shared_case t = {900, 2, 4, 64, MP_BF16, 1.0f};
    enum { HEADS = 8, D = 64 };
    struct shared_rows *s = make_shared_rows(&t);
    FOR_EACH_VARIANT(isa, variants)
    {
        float o[SHARED_ROWS * HEADS * D], lse[SHARED_ROWS * HEADS], alone[4 * D], alone_lse[4];
        shared_call(variants[isa], &t, s, SHARED_LISTED, true, o, lse);
        struct offloaded_kv kv = s->kv;
        kv.k = (uint16_t *)kv.k + kv.capacity * D;
        kv.v = (uint16_t *)kv.v + kv.capacity * D;
        kv.num_kv_heads = 1;
        int list = (SHARED_ROWS - 1) * 2 + 1; /* of the last row, KV head 1 */
        variants[isa](&(struct sampled_attention_args){
            .q = s->q + list * 4 * D,
            .kv = (const struct offloaded_kv *[]){&kv},
            .ids = (const uint32_t *[]){s->ids + list * s->stride},
            .ids_stride = &s->stride,
            .nnz = s->nnz + list,
            .log_weights = (const float *[]){s->log_weights + list * s->stride},
            .o = alone,
            .lse = alone_lse,
            .rows = 1,
            .num_heads = 4,
            .head_dim = D,
            .scale = 0.125f,
            .shared = true});
        assert_memory_equal(alone, o + list * 4 * D, sizeof alone);
        assert_memory_equal(alone_lse, lse + list * 4, sizeof alone_lse);
    }
    release_shared_rows(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants_agree),
        cmocka_unit_test(test_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
