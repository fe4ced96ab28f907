/* sampling_error: the variants against the reference, the reference against the formula, and the
 * estimate against the error that draws have. */
#include "codelets/sampled_attention/sampled_attention.h"
#include "tests/unit/codelets/code_select_test.h"
#include "tests/unit/codelets/sampling_error_test.h"

static sampling_error_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = sampling_error_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = sampling_error_avx2,
    [MP_ISA_AVX512] = sampling_error_avx512,
#endif
};

static void run_case(const struct shared_case *t)
{
    size_t heads = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    struct shared_rows *s = make_drawn_rows(t);
    struct error_output out = make_error_output(t, s);
    float *expected = mp_xcalloc(heads, sizeof *expected);
    float *error = mp_xcalloc(heads, sizeof *error);
    sampling_error_call(sampling_error_ref, t, s, &out, expected);
    FOR_EACH_SUPPORTED(isa, variants, shared_demand(t), t->head_dim)
    {
        memset(error, 0xff, heads * sizeof *error);
        sampling_error_call(variants[isa], t, s, &out, error);
        check_errors(t, error, expected, mp_isa_name(isa));
    }
    free(expected);
    free(error);
    free(out.o);
    free(out.lse);
    release_shared_rows(s);
}

static void test_variants_agree(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof shared_cases / sizeof shared_cases[0]; i++) {
        run_case(&shared_cases[i]);
    }
}

/* Two tokens of one channel each, by hand: z = 0; pi 1/2 and 1; D = 2 + 1 + e^0 of a static part
 * whose value is o. */
static void test_formula(void **state)
{
    (void)state;
    struct offloaded_kv kv = {.k = (float[]){0.0f, 0.0f},
                              .v = (float[]){4.0f, 7.0f},
                              .count = 2,
                              .capacity = 2,
                              .num_kv_heads = 1,
                              .head_dim = 1,
                              .dtype = MP_F32};
    float error;
    struct sampling_error_args a = {
        .q = (float[]){3.0f},
        .o = (float[]){2.0f},
        .lse = (float[]){logf(4.0f)},
        .kv = (const struct offloaded_kv *[]){&kv},
        .ids = (const uint32_t *[]){(uint32_t[]){0, 1}},
        .log_weights = (const float *[]){(float[]){logf(2.0f), 0.0f}},
        .ids_stride = (int64_t[]){2},
        .nnz = (int32_t[]){2},
        .error = &error,
        .rows = 1,
        .layer_heads = 1,
        .num_heads = 1,
        .num_kv_heads = 1,
        .head_dim = 1,
        .scale = 1.0f,
    };
    /* (1 - 1/2) (2 (4 - 2))^2 / (4^2 2^2) */
    sampling_error_ref(&a);
    assert_float_equal(error, sqrtf(0.125f), 1e-6f);
    a.o = (float[]){0.0f};
    sampling_error_ref(&a);
    assert_true(error == 0.0f);
}

/* ---- calibration ---- */

enum { DRAWS = 60, GROUP = 4, D = 64 };

/* Exact attention, in the estimate's terms: all tokens selected with log-weight 0. */
static void attend(const struct code_select_fixture *f, const struct keys_selection *s, bool all,
                   float *o, float *lse)
{
    int64_t n = f->keys.kv.count;
    uint32_t *ids = mp_xmalloc((size_t)n * sizeof *ids);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = (uint32_t)i;
    }
    sampled_attention_ref(&(struct sampled_attention_args){
        .q = f->keys.q,
        .kv = (const struct offloaded_kv *[]){&f->keys.kv},
        .ids = (const uint32_t *[]){all ? ids : s->ids},
        .ids_stride = (int64_t[]){all ? n : s->room},
        .nnz = all ? (int32_t[]){(int32_t)n} : s->nnz,
        .log_weights = all ? NULL : (const float *[]){s->log_weights},
        .o = o,
        .lse = lse,
        .rows = 1,
        .num_heads = GROUP,
        .head_dim = D,
        .scale = 1.0f / sqrtf((float)D),
        .shared = true,
    });
    free(ids);
}

/* Values with something in common, so that the output is more than noise. */
static void shift_values(struct offloaded_kv *kv)
{
    for (size_t i = 0; i < (size_t)(kv->count * D); i++) {
        mp_store(kv->v, MP_BF16, i, 1.0f + mp_load(kv->v, MP_BF16, i));
    }
}

/* Root mean squares over many draws: the estimate is within a quarter of the error, with logits of
 * any spread. */
static void test_calibration(void **state)
{
    (void)state;
    const float spreads[] = {1.0f, 2.0f, 4.0f};
    for (int k = 0; k < 3; k++) {
        const struct code_select_case t = {{4000, 1, GROUP, D, 128}, 2, spreads[k]};
        struct code_select_fixture f = code_select_make(&t);
        struct keys_selection s = code_selection_make(&t);
        shift_values(&f.keys.kv);
        float o[GROUP * D], exact[GROUP * D], lse[GROUP], error[GROUP];
        double measured[GROUP] = {0}, estimated[GROUP] = {0};
        attend(&f, NULL, true, exact, lse);
        for (int i = 0; i < DRAWS; i++) {
            f.keys.seed = 900 + (uint64_t)i;
            code_select_call(code_select_ref, &t, &f, &s);
            attend(&f, &s, false, o, lse);
            sampling_error_ref(&(struct sampling_error_args){
                .q = f.keys.q,
                .o = o,
                .lse = lse,
                .kv = (const struct offloaded_kv *[]){&f.keys.kv},
                .ids = (const uint32_t *[]){s.ids},
                .log_weights = (const float *[]){s.log_weights},
                .ids_stride = &s.room,
                .nnz = s.nnz,
                .error = error,
                .rows = 1,
                .layer_heads = GROUP,
                .num_heads = GROUP,
                .num_kv_heads = 1,
                .head_dim = D,
                .scale = 1.0f / sqrtf((float)D),
            });
            for (int g = 0; g < GROUP; g++) {
                double off = relative_l2(o + g * D, exact + g * D, D);
                measured[g] += off * off;
                estimated[g] += (double)error[g] * (double)error[g];
            }
        }
        for (int g = 0; g < GROUP; g++) {
            double ratio = sqrt(estimated[g] / measured[g]);
            if (!(ratio > 0.75 && ratio < 1.25)) {
                fail_msg("spread %g, head %d: estimate %g of the error", (double)spreads[k], g,
                         ratio);
            }
        }
        keys_selection_release(&s);
        code_select_release(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants_agree),
        cmocka_unit_test(test_formula),
        cmocka_unit_test(test_calibration),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
