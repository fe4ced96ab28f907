/* magicpig's estimator: what means_test.h says, by the kernels of each instruction set. */
#include "tests/unit/codelets/means_test.h"

static const struct means_ops variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = {hashing_ref, table_build_ref, table_lookup_ref, sampled_attention_ref},
#ifdef __x86_64__
    [MP_ISA_AVX2] = {hashing_avx2, table_build_ref, table_lookup_avx2, sampled_attention_avx2},
    [MP_ISA_AVX512] = {hashing_avx512, table_build_ref, table_lookup_avx512,
                       sampled_attention_avx512},
#endif
};

struct host {
    const struct means_ops *ops;
    struct means_arrays m;
    struct lsh_weight weight;
};

static void sample(void *state, const float *w, struct means_sample *out)
{
    struct host *host = state;
    memcpy(host->m.w, w, MEANS_W_BYTES);
    means_step(host->ops, &host->m, &host->weight);
    memcpy(out->nnz, host->m.nnz, sizeof out->nnz);
    memcpy(out->o, host->m.o, sizeof out->o);
    memcpy(out->lse, host->m.lse, sizeof out->lse);
}

static void test_means(void **state)
{
    (void)state;
    struct keys_fixture f = keys_make(&MEANS_CASE, 1.0f);
    struct host host = {.m = {.kv = f.kv,
                              .q = f.q,
                              .w = mp_xmalloc(MEANS_W_BYTES),
                              .key_codes = mp_xmalloc(MEANS_KEY_CODES_BYTES),
                              .codes = mp_xmalloc(MEANS_CODES_BYTES),
                              .tables = means_tables(mp_xmalloc(MEANS_KEY_CODES_BYTES),
                                                     mp_xmalloc(MEANS_OFFSETS_BYTES)),
                              .ids = mp_xmalloc(MEANS_IDS_BYTES),
                              .nnz = mp_xmalloc(MEANS_NNZ_BYTES),
                              .o = mp_xmalloc(MEANS_O_BYTES),
                              .lse = mp_xmalloc(MEANS_LSE_BYTES)}};
    lsh_weight_init(&host.weight, MEANS_K, MEANS_L);
    for (enum mp_isa isa = MP_ISA_REF; isa <= mp_isa_detect(); isa++) {
        host.ops = &variants[isa];
        if (host.ops->hashing != NULL) {
            assert_sampled_means(&f, sample, &host);
        }
    }
    void *arrays[] = {
        host.m.w,   host.m.key_codes, host.m.codes, host.m.tables.ids, host.m.tables.offsets,
        host.m.ids, host.m.nnz,       host.m.o,     host.m.lse};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        free(arrays[i]);
    }
    keys_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_means)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
