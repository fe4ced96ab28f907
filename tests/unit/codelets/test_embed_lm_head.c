/* embed and lm_head: the two ends of the residual stream. */
#include "codelets/embed/embed.h"
#include "codelets/lm_head/lm_head.h"
#include "tests/unit/codelets/dense_test.h"

static void test_embed(void **state)
{
    (void)state;
    enum { VOCAB = 11, HIDDEN = 7 };
    const int32_t ids[] = {10, 0, 3, 3, 9};
    uint16_t *table = random_tensor(MP_BF16, VOCAB * HIDDEN, 1.0f, 1);
    float x[5 * HIDDEN];
    embed_ref(&(struct embed_args){ids, table, x, 5, HIDDEN});
    for (int r = 0; r < 5; r++) {
        for (int i = 0; i < HIDDEN; i++) {
            assert_true(x[r * HIDDEN + i] == mp_bf16_to_f32(table[ids[r] * HIDDEN + i]));
        }
    }
    free(table);
}

/* Norm of (3, 4): mean square 12.5. */
static void test_lm_head_known_values(void **state)
{
    (void)state;
    struct mp_shape shape = {.hidden_size = 2, .vocab_size = 3, .rms_norm_eps = 0.0f};
    const float norm[] = {1.0f, 2.0f};
    const float x[] = {3.0f, 4.0f};
    const uint16_t w[] = {
        mp_f32_to_bf16(1.0f), mp_f32_to_bf16(0.0f),  mp_f32_to_bf16(0.0f),
        mp_f32_to_bf16(1.0f), mp_f32_to_bf16(-1.0f), mp_f32_to_bf16(0.5f),
    };
    const float scale = sqrtf(12.5f);
    const float expected[] = {3.0f / scale, 8.0f / scale, 1.0f / scale};
    float logits[3];
    lm_head_ref(&(struct lm_head_args){&shape, norm, w, x, logits, 1});
    assert_close(logits, expected, 3, 1e-6, "ref");
    FOR_EACH_ISA(isa)
    {
        lm_head_fast(&(struct lm_head_args){&shape, norm, w, x, logits, 1});
        assert_close(logits, expected, 3, 1e-6, mp_isa_name(isa));
    }
}

static void check_lm_head(int hidden, int vocab, int64_t rows)
{
    struct mp_shape shape = {.hidden_size = hidden, .vocab_size = vocab, .rms_norm_eps = 1e-6f};
    size_t n = (size_t)rows * (size_t)vocab;
    float *norm = random_floats((size_t)hidden, 1.0f, 1);
    uint16_t *w = random_tensor(MP_BF16, (size_t)hidden * (size_t)vocab, 0.1f, 2);
    float *x = random_floats((size_t)rows * (size_t)hidden, 1.0f, 3);
    float *expected = mp_xcalloc(n, sizeof *expected);
    float *logits = mp_xcalloc(n, sizeof *logits);
    lm_head_ref(&(struct lm_head_args){&shape, norm, w, x, expected, rows});
    FOR_EACH_ISA(isa)
    {
        lm_head_fast(&(struct lm_head_args){&shape, norm, w, x, logits, rows});
        assert_close(logits, expected, n, f32_tolerance(isa, rows), mp_isa_name(isa));
    }
    free(norm);
    free(w);
    free(x);
    free(expected);
    free(logits);
}

static void test_lm_head(void **state)
{
    (void)state;
    for (int i = 0; i < NUM_ROW_COUNTS; i++) {
        check_lm_head(96, 301, row_counts[i]);
    }
    check_lm_head(45, 6, 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_embed),
        cmocka_unit_test(test_lm_head_known_values),
        cmocka_unit_test(test_lm_head),
    };
    return cmocka_run_group_tests(tests, NULL, release_kernels);
}
