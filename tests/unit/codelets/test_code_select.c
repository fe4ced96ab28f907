/* code_select: inclusion probabilities and selections by hand and by the formulas, and the same ids
 * from every variant. */
#include "codelets/code_select/code_select_cpu.h"
#include "tests/unit/codelets/code_select_means_test.h"

static code_select_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = code_select_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = code_select_avx2,
    [MP_ISA_AVX512] = code_select_avx512,
#endif
};

/* ---- by hand ---- */

/* Three tokens of four channels, the first with the highest level everywhere and the others with
 * f = 0. Queries whose rotated channels are all 1 or all -1 give the first one a logit of `power`
 * ln 2 or its negative, the others 0. */
struct by_hand {
    uint32_t words[CODES_BLOCK];
    float factors[CODES_BLOCK];
    struct key_codes codes;
    float q[2 * 4];
    uint32_t ids[4];
    float log_weights[4];
    int32_t nnz;
};

static struct by_hand by_hand_make(float power)
{
    return (struct by_hand){
        .words = {0x03030303, 0x00010203, 0x02020202},
        .factors = {power * 0.231049060f}, /* <R q, c> / sqrt(d) is 3 */
        .codes = {.count = 3, .capacity = 3, .num_kv_heads = 1, .head_dim = 4, .bits = 2},
        .q = {2, 0, 0, 0, -2, 0, 0, 0}};
}

static void by_hand_select(code_select_kernel *variant, struct by_hand *b, int group,
                           int64_t samples, uint64_t seed)
{
    static _Alignas(64) char scratch[4096];
    const float signs[4] = {1, 1, 1, 1};
    const int64_t room = 3;
    assert_true(code_select_scratch(group, 1, 3, samples) <= sizeof scratch);
    b->codes.words = b->words;
    b->codes.factors = b->factors;
    variant(&(struct code_select_args){
        .q = b->q,
        .q_stride = 4 * group,
        .codes = (const struct key_codes *const[]){&b->codes},
        .rotation = {.data = signs, .head_dim = 4},
        .samples = &samples,
        .seed = &seed,
        .ids = (uint32_t *const[]){b->ids},
        .log_weights = (float *const[]){b->log_weights},
        .ids_stride = &room,
        .scratch = (void *const[]){scratch},
        .nnz = &b->nnz,
        .rows = 1,
        .num_heads = group,
        .num_kv_heads = 1,
        .head_dim = 4,
    });
}

/* The selection by pi, for each of some seeds. */
static void check_by_hand(code_select_kernel *variant, float power, int group, int64_t samples,
                          const double pi[3])
{
    struct by_hand b = by_hand_make(power);
    for (uint64_t seed = 0; seed < 60; seed++) {
        double u = (double)(random_draw(random_state(seed, 0), 0) >> 34) / (double)CODES_ONE;
        by_hand_select(variant, &b, group, samples, seed);
        int32_t n = 0;
        double sum = 0.0;
        for (int i = 0; i < 3; i++) {
            bool selected = floor(sum + pi[i] - u) > floor(sum - u);
            sum += pi[i];
            if (selected) {
                assert_true(n < b.nnz && b.ids[n] == (uint32_t)i);
                assert_true(fabs((double)b.log_weights[n] + log(pi[i])) < 1e-5);
                n++;
            }
        }
        assert_int_equal(b.nnz, n);
    }
}

static void test_by_hand(void **state)
{
    (void)state;
    FOR_EACH_VARIANT(isa, variants)
    {
        code_select_kernel *v = variants[isa];
        /* Softmax 1/2, 1/4, 1/4; 0.9 of it and 0.1 / 3. */
        check_by_hand(v, 1.0f, 1, 1, (double[]){0.4833333, 0.2583333, 0.2583333});
        check_by_hand(v, 1.0f, 1, 2, (double[]){0.9666667, 0.5166667, 0.5166667});
        /* 2/3, 1/6, 1/6: of two samples the first token gets one, the others share the second. */
        check_by_hand(v, 2.0f, 1, 2, (double[]){1.0, 0.5, 0.5});
        /* The mean of 1/2, 1/4, 1/4 and 1/5, 2/5, 2/5. */
        check_by_hand(v, 1.0f, 2, 1, (double[]){0.3483333, 0.3258333, 0.3258333});
        check_by_hand(v, 1.0f, 2, 3, (double[]){1.0, 1.0, 1.0});
        check_by_hand(v, 1.0f, 1, 9, (double[]){1.0, 1.0, 1.0});
        /* Logits far apart: only the uniform part remains for the others, or for the first. */
        check_by_hand(v, 1e4f, 1, 1, (double[]){0.9333333, 0.0333333, 0.0333333});
        check_by_hand(v, -1e4f, 1, 1, (double[]){0.0333333, 0.4833333, 0.4833333});
        check_by_hand(v, 1e36f, 1, 1, (double[]){0.9333333, 0.0333333, 0.0333333});
    }
}

static void test_exp2(void **state)
{
    (void)state;
    assert_int_equal(codes_exp2(0.0f), CODES_ONE);
    assert_int_equal(codes_exp2(-1.0f), CODES_ONE / 2);
    assert_int_equal(codes_exp2(-30.0f), 1);
    assert_int_equal(codes_exp2(-31.0f), 0);
    assert_int_equal(codes_exp2(-1e30f), 0);
    assert_int_equal(codes_exp2(-INFINITY), 0);
    for (int i = 0; i <= 3000; i++) {
        float x = -0.01f * (float)i;
        double exact = exp2((double)x) * (double)CODES_ONE;
        assert_true(fabs((double)codes_exp2(x) - exact) <= 3e-7 * exact + 1.0);
    }
}

/* The running sum passes U + j, from 0 on. */
static void test_selected(void **state)
{
    (void)state;
    const int32_t one = CODES_ONE;
    assert_true(codes_selected(1, 1, 0) && !codes_selected(1, 1, 1));
    assert_true(codes_selected(6, 4, 2) && codes_selected(6, 4, 5));
    assert_true(!codes_selected(6, 4, 1) && !codes_selected(6, 4, 6));
    assert_true(codes_selected((uint64_t)one, one, one - 1));
    assert_true(codes_selected((uint64_t)one * 5 + 7, one, 3));
    assert_true(codes_selected((uint64_t)one * 5 + 7, 5, 3));
    assert_true(!codes_selected((uint64_t)one * 5 + 7, 4, 2));
}

/* pi of random x sum to the samples. */
static void test_scale(void **state)
{
    (void)state;
    enum { N = 3000 };
    static float x[N];
    float *normal = random_floats(N, 1.0f, 4);
    for (int64_t samples = 1; samples < N; samples = samples * 3 + 1) {
        double sum = 0.0;
        for (int i = 0; i < N; i++) {
            sum += exp(4.0 * (double)normal[i]);
        }
        uint64_t total = 0;
        for (int i = 0; i < N; i++) {
            double p = 0.9 * exp(4.0 * (double)normal[i]) / sum + 0.1 / N;
            x[i] = (float)(p * (double)samples / CODES_ALPHA);
            total += x[i] < 1.0f ? (uint64_t)codes_small(x[i]) : codes_large(x[i]);
        }
        float c = code_select_scale(x, N, samples, total);
        double inclusion = 0.0;
        for (int i = 0; i < N; i++) {
            inclusion += (double)codes_inclusion(x[i], c) / (double)CODES_ONE;
        }
        assert_true(fabs(inclusion - (double)samples) < 1e-3);
    }
    free(normal);
}

/* ---- by the formulas ---- */

enum { MOST_KV_HEADS = 3 };

/* With some seeds, on which pi does not depend. */
static void run_case(const struct code_select_case *t, struct code_select_fixture *f)
{
    struct keys_selection expected = code_selection_make(t);
    struct keys_selection found = code_selection_make(t);
    double *pi[MOST_KV_HEADS];
    for (int h = 0; h < t->keys.num_kv_heads; h++) {
        pi[h] = code_select_inclusion(t, f, h);
    }
    for (f->keys.seed = 0; f->keys.seed < 3; f->keys.seed++) {
        code_select_call(code_select_ref, t, f, &expected);
        for (int h = 0; h < t->keys.num_kv_heads; h++) {
            code_select_check(t, pi[h], f->keys.seed, h, expected.ids + h * expected.room,
                              expected.log_weights + h * expected.room, expected.nnz[h]);
        }
        FOR_EACH_VARIANT(isa, variants)
        {
            code_select_call(variants[isa], t, f, &found);
            code_select_assert_equal(t, &found, &expected);
        }
    }
    for (int h = 0; h < t->keys.num_kv_heads; h++) {
        free(pi[h]);
    }
    keys_selection_release(&expected);
    keys_selection_release(&found);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CODE_SELECT_CASES; i++) {
        struct code_select_fixture f = code_select_make(&CODE_SELECT_CASES[i]);
        run_case(&CODE_SELECT_CASES[i], &f);
        code_select_release(&f);
    }
}

/* A key that has nearly all of the softmax is always selected, and weighs 1. */
static void test_heavy(void **state)
{
    (void)state;
    const struct code_select_case t = {{2000, 1, 1, 128, 20}, 2, 1.0f};
    struct code_select_fixture f = code_select_make(&t);
    struct keys_selection s = code_selection_make(&t);
    for (int c = 0; c < 128; c++) {
        mp_store(f.keys.kv.k, MP_BF16, (size_t)(1234 * 128 + c), 3.0f * f.keys.q[c]);
    }
    code_select_encode(&f);
    for (f.keys.seed = 0; f.keys.seed < 50; f.keys.seed++) {
        FOR_EACH_VARIANT(isa, variants)
        {
            code_select_call(variants[isa], &t, &f, &s);
            int32_t j = 0;
            while (j < s.nnz[0] && s.ids[j] != 1234) {
                j++;
            }
            assert_true(j < s.nnz[0] && s.log_weights[j] == 0.0f);
        }
    }
    keys_selection_release(&s);
    code_select_release(&f);
}

/* Equal logits: every token has pi = S / n, and the selection is a comb. */
static void test_uniform(void **state)
{
    (void)state;
    const struct code_select_case t = {{1024, 1, 4, 64, 64}, 2, 1.0f};
    struct code_select_fixture f = code_select_make(&t);
    struct keys_selection s = code_selection_make(&t);
    for (int64_t i = 1; i < 1024; i++) {
        memcpy((uint16_t *)f.keys.kv.k + i * 64, f.keys.kv.k, 64 * sizeof(uint16_t));
    }
    code_select_encode(&f);
    FOR_EACH_VARIANT(isa, variants)
    {
        code_select_call(variants[isa], &t, &f, &s);
        assert_int_equal(s.nnz[0], 64);
        for (int j = 0; j < 64; j++) {
            assert_int_equal(s.ids[j], s.ids[0] + 16u * (uint32_t)j);
            assert_true(fabsf(s.log_weights[j] - logf(16.0f)) < 1e-5f);
        }
    }
    keys_selection_release(&s);
    code_select_release(&f);
}

/* Four million tokens: the running sum does not drift. */
static void test_many_tokens(void **state)
{
    (void)state;
    const struct code_select_case t = {{4000003, 1, 2, 16, 512}, 1, 3.0f};
    struct code_select_case few = t;
    few.keys.count = 100;
    struct code_select_fixture f = code_select_make(&few);
    struct mp_rng rng;
    mp_rng_init(&rng, 8, 0);
    codes_release(&f.codes);
    f.codes.count = t.keys.count;
    f.codes.capacity = t.keys.count;
    f.codes = codes_make(&f.codes);
    for (int64_t i = 0; i < codes_blocks(t.keys.count) * CODES_BLOCK; i++) {
        f.codes.words[i] = (uint32_t)mp_rng_next(&rng) & 0x0f0f0f0f; /* of 16 channels */
        f.codes.factors[i] = i < t.keys.count ? 1.0f + (float)mp_rng_uniform(&rng) : 0.0f;
    }
    run_case(&t, &f);
    code_select_release(&f);
}

/* Rows of one step: without codes, with none of them, with more and with less than their samples.
 */
static void test_rows(void **state)
{
    (void)state;
    enum { ROWS = 5, D = 32, HEADS = 2, ROOM = 100, STRIDE = HEADS * D + 24 };
    const struct code_select_case t = {{100, 1, HEADS, D, 9}, 2, 1.0f};
    struct code_select_fixture f = code_select_make(&t);
    struct key_codes empty = f.codes;
    struct key_codes few = f.codes;
    empty.count = 0;
    few.count = 9;
    const struct key_codes *codes[ROWS] = {NULL, &empty, &f.codes, &few, &f.codes};
    const int64_t samples[ROWS] = {9, 9, 9, 9, 1000};
    const uint64_t seeds[ROWS] = {1, 2, f.keys.seed, 4, 5};
    const int64_t room[ROWS] = {0, 0, 10, 9, ROOM};
    size_t bytes = (code_select_scratch(HEADS, 1, 100, 1000) + 63) / 64 * 64;
    char *scratch = aligned_alloc(64, ROWS * bytes);
    uint32_t *ids = mp_xcalloc(ROWS * ROOM, sizeof *ids);
    float *weights = mp_xcalloc(ROWS * ROOM, sizeof *weights);
    uint32_t *ids_of[ROWS];
    float *weights_of[ROWS];
    void *scratch_of[ROWS];
    float *q = random_floats(ROWS * STRIDE, 1.0f, 6);
    for (int r = 0; r < ROWS; r++) {
        ids_of[r] = ids + r * ROOM;
        weights_of[r] = weights + r * ROOM;
        scratch_of[r] = scratch + (size_t)r * bytes;
        memcpy(q + r * STRIDE, f.keys.q, HEADS * D * sizeof *q);
    }
    struct keys_selection alone = code_selection_make(&t);
    code_select_call(code_select_ref, &t, &f, &alone);
    FOR_EACH_VARIANT(isa, variants)
    {
        int32_t nnz[ROWS] = {-1, -1, -1, -1, -1};
        variants[isa](&(struct code_select_args){.q = q,
                                                 .q_stride = STRIDE,
                                                 .codes = codes,
                                                 .rotation = f.rotation,
                                                 .samples = samples,
                                                 .seed = seeds,
                                                 .ids = ids_of,
                                                 .log_weights = weights_of,
                                                 .ids_stride = room,
                                                 .scratch = scratch_of,
                                                 .nnz = nnz,
                                                 .rows = ROWS,
                                                 .num_heads = HEADS,
                                                 .num_kv_heads = 1,
                                                 .first_kv_head = CODE_SELECT_FIRST_HEAD,
                                                 .head_dim = D});
        const int32_t expected[ROWS] = {0, 0, alone.nnz[0], 9, 100};
        assert_memory_equal(nnz, expected, sizeof nnz);
        assert_memory_equal(ids_of[2], alone.ids, (size_t)nnz[2] * sizeof *ids);
        for (uint32_t i = 0; i < 100; i++) {
            assert_true(ids_of[4][i] == i && weights_of[4][i] == 0.0f);
            assert_true(i >= 9 || ids_of[3][i] == i);
        }
    }
    keys_selection_release(&alone);
    free(q);
    free(ids);
    free(weights);
    free(scratch);
    code_select_release(&f);
}

/* A view of codes selects what codes of only its keys do. */
static void test_views(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CODE_SELECT_VIEWS; i++) {
        const struct code_select_view_case *v = &CODE_SELECT_VIEWS[i];
        const struct code_select_case t = code_select_view_of(v);
        struct code_select_fixture f = code_select_make(&v->t);
        struct code_select_fixture first = code_select_first(&f, v->count);
        struct keys_selection expected = code_selection_make(&t);
        struct keys_selection found = code_selection_make(&t);
        f.codes.count = v->count;
        FOR_EACH_VARIANT(isa, variants)
        {
            code_select_call(variants[isa], &t, &first, &expected);
            code_select_call(variants[isa], &t, &f, &found);
            code_select_assert_same(&t, &found, &expected);
        }
        keys_selection_release(&expected);
        keys_selection_release(&found);
        codes_release(&first.codes);
        code_select_release(&f);
    }
}

/* ---- means ---- */

static void select_on_host(void *state, const struct code_select_case *t,
                           const struct code_select_fixture *f, struct keys_selection *out)
{
    code_select_kernel *const *variant = state;
    code_select_call(*variant, t, f, out);
}

static void test_means(void **state)
{
    (void)state;
    FOR_EACH_VARIANT(isa, variants)
    {
        code_select_kernel *variant = variants[isa];
        code_select_assert_means(select_on_host, &variant);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),  cmocka_unit_test(test_exp2),
        cmocka_unit_test(test_selected), cmocka_unit_test(test_scale),
        cmocka_unit_test(test_cases),    cmocka_unit_test(test_heavy),
        cmocka_unit_test(test_uniform),  cmocka_unit_test(test_many_tokens),
        cmocka_unit_test(test_rows),     cmocka_unit_test(test_views),
        cmocka_unit_test(test_means),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
