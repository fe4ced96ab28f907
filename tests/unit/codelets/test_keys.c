/* key_select: the largest are the largest, draws follow the softmax, and every variant selects the
 * same. */
#include "codelets/common/score/score.h"
#include "codelets/key_select/key_draw.h"
#include "tests/unit/codelets/keys_test.h"

static key_select_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = key_select_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = key_select_avx2,
    [MP_ISA_AVX512] = key_select_avx512,
#endif
};

static const struct keys_case CASES[] = {
    /* count, KV heads, group, head_dim, budget */
    {3000, 2, 4, 64, 60}, {2999, 1, 5, 128, 2998}, {1, 1, 1, 32, 1},     {130, 3, 2, 16, 500},
    {700, 1, 8, 48, 1},   {515, 2, 3, 24, 17},     {128, 1, 2, 96, 128}, {0, 2, 4, 64, 5},
};
enum { NUM_CASES = sizeof CASES / sizeof CASES[0] };

static double dot_of(const struct keys_case *t, const struct keys_fixture *f, int h, int64_t i)
{
    double dot = 0.0;
    for (int c = 0; c < t->head_dim; c++) {
        dot += (double)f->q[h * t->head_dim + c] * keys_channel(f, h / t->group, i, c);
    }
    return dot;
}

/* Ascending, as many as the budget says, and none left out is larger; within rounding. */
static void check_largest(const struct keys_case *t, const struct keys_fixture *f, int h,
                          const uint32_t *ids, int32_t nnz)
{
    double smallest = INFINITY;
    double largest_left = -INFINITY;
    int32_t j = 0;
    assert_int_equal(nnz, t->budget < t->count ? t->budget : t->count);
    for (int64_t i = 0; i < t->count; i++) {
        double dot = dot_of(t, f, h, i);
        if (j < nnz && ids[j] == i) {
            smallest = fmin(smallest, dot);
            j++;
        } else {
            largest_left = fmax(largest_left, dot);
        }
    }
    assert_int_equal(j, nnz);
    assert_true(largest_left <= smallest + 1e-4);
}

/* Each once, with weights that say how often it was drawn: whole numbers that add up to the draws.
 */
static void check_drawn(const struct keys_case *t, const struct keys_fixture *f, int h,
                        const uint32_t *ids, const float *log_weights, int32_t nnz)
{
    double scale = 1.0 / sqrt((double)t->head_dim);
    double sum = 0.0;
    double draws = 0.0;
    for (int64_t i = 0; i < t->count; i++) {
        sum += exp(dot_of(t, f, h, i) * scale);
    }
    assert_true(nnz >= (t->count > 0) && nnz <= t->budget);
    for (int32_t j = 0; j < nnz; j++) {
        assert_true(ids[j] < t->count && (j == 0 || ids[j - 1] < ids[j]));
        double z = dot_of(t, f, h, ids[j]) * scale;
        double times = (double)t->budget * exp((double)log_weights[j] + z) / sum;
        assert_true(fabs(times - round(times)) < 1e-3 && times > 0.5);
        draws += round(times);
    }
    assert_true(draws == (t->count > 0 ? (double)t->budget : 0.0));
}

static void run_case(const struct keys_case *t, enum key_select_mode mode, bool int8)
{
    struct keys_fixture f = keys_make(t, 3.0f);
    if (int8) {
        keys_to_int8(&f);
    }
    struct keys_selection expected = keys_selection_make(t);
    struct keys_selection found = keys_selection_make(t);
    keys_call(key_select_ref, mode, t, &f, &expected);
    for (int h = 0; h < t->num_kv_heads * t->group; h++) {
        const uint32_t *ids = expected.ids + h * expected.room;
        if (mode == KEY_SELECT_LARGEST) {
            check_largest(t, &f, h, ids, expected.nnz[h]);
        } else {
            check_drawn(t, &f, h, ids, expected.log_weights + h * expected.room, expected.nnz[h]);
        }
    }
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, t->head_dim)
    {
        keys_call(variants[isa], mode, t, &f, &found);
        keys_assert_equal(mode, t, &found, &expected);
    }
    keys_selection_release(&expected);
    keys_selection_release(&found);
    keys_release(&f);
}

static void test_largest(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        run_case(&CASES[i], KEY_SELECT_LARGEST, false);
        run_case(&CASES[i], KEY_SELECT_LARGEST, true);
    }
}

static void test_drawn(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CASES; i++) {
        run_case(&CASES[i], KEY_SELECT_DRAWN, false);
        run_case(&CASES[i], KEY_SELECT_DRAWN, true);
    }
}

/* Of equal keys the lower ones are selected; all of them are drawn from. */
static void test_ties(void **state)
{
    (void)state;
    const struct keys_case t = {200, 1, 2, 32, 30};
    struct keys_fixture f = keys_make(&t, 1.0f);
    struct keys_selection found = keys_selection_make(&t);
    uint16_t *k = f.kv.k;
    for (int i = 1; i < 200; i++) {
        memcpy(k + i * 32, k, 32 * sizeof *k);
    }
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, t.head_dim)
    {
        keys_call(variants[isa], KEY_SELECT_LARGEST, &t, &f, &found);
        for (int h = 0; h < 2; h++) {
            assert_int_equal(found.nnz[h], 30);
            for (uint32_t i = 0; i < 30; i++) {
                assert_int_equal(found.ids[h * 30 + (int)i], i);
            }
        }
        keys_call(variants[isa], KEY_SELECT_DRAWN, &t, &f, &found);
        assert_true(found.nnz[0] > 20 && found.ids[found.nnz[0] - 1] > 100);
    }
    keys_selection_release(&found);
    keys_release(&f);
}

/* A key that has nearly all of the probability is drawn every time; z far below 0 is no trouble. */
static void test_peaked(void **state)
{
    (void)state;
    const struct keys_case t = {300, 1, 1, 64, 20};
    struct keys_fixture f = keys_make(&t, 1.0f);
    struct keys_selection found = keys_selection_make(&t);
    for (int c = 0; c < 64; c++) {
        f.q[c] *= 40.0f;
        mp_store(f.kv.k, MP_BF16, (size_t)(211 * 64 + c), f.q[c]);
    }
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, t.head_dim)
    {
        keys_call(variants[isa], KEY_SELECT_DRAWN, &t, &f, &found);
        assert_int_equal(found.nnz[0], 1);
        assert_int_equal(found.ids[0], 211);
        assert_true(fabsf(found.log_weights[0]) < 1e-3f); /* Z is e^z of that token */
    }
    keys_selection_release(&found);
    keys_release(&f);
}

/* Rows of one step: no keys, none offloaded, and real ones after them; each row and head draws by
 * itself, whatever is beside it. */
static void test_rows_and_shards(void **state)
{
    (void)state;
    const struct keys_case t = {100, 2, 2, 32, 40};
    struct keys_fixture f = keys_make(&t, 1.0f);
    struct offloaded_kv empty = f.kv;
    empty.count = 0;
    struct offloaded_kv second = f.kv; /* KV head 1 alone */
    second.k = (uint16_t *)f.kv.k + f.kv.capacity * 32;
    second.num_kv_heads = 1;
    struct keys_selection all = keys_selection_make(&t);
    keys_call(key_select_ref, KEY_SELECT_DRAWN, &t, &f, &all);

    const struct offloaded_kv *kv[3] = {NULL, &empty, &second};
    const int64_t budget[3] = {1, 1, 40};
    const uint64_t seed[3] = {1, 2, f.seed};
    const int64_t stride[3] = {0, 0, 40};
    uint32_t ids_of_two[2 * 40];
    float weights_of_two[2 * 40];
    uint32_t *ids[3] = {NULL, NULL, ids_of_two};
    float *log_weights[3] = {NULL, NULL, weights_of_two};
    void *scratch = aligned_alloc(64, 8192);
    void *const scratches[3] = {NULL, NULL, scratch};
    float q[3 * 2 * 32] = {0};
    memcpy(q + 2 * 2 * 32, f.q + 2 * 32, 2 * 32 * sizeof *q);
    assert_true(key_select_scratch(KEY_SELECT_DRAWN, 2, 100) <= 8192);
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, t.head_dim)
    {
        int32_t nnz[3 * 2] = {-1, -1, -1, -1, -1, -1};
        variants[isa](&(struct key_select_args){.mode = KEY_SELECT_DRAWN,
                                                .q = q,
                                                .kv = kv,
                                                .budget = budget,
                                                .seed = seed,
                                                .ids = ids,
                                                .log_weights = log_weights,
                                                .ids_stride = stride,
                                                .scratch = scratches,
                                                .nnz = nnz,
                                                .rows = 3,
                                                .num_heads = 2,
                                                .first_head = 8 + 2,
                                                .head_dim = 32,
                                                .scale = 1.0f / sqrtf(32.0f)});
        for (int i = 0; i < 4; i++) {
            assert_int_equal(nnz[i], 0);
        }
        for (int h = 0; h < 2; h++) {
            assert_int_equal(nnz[4 + h], all.nnz[2 + h]);
            assert_memory_equal(ids_of_two + h * 40, all.ids + (2 + h) * 40,
                                (size_t)nnz[4 + h] * sizeof *ids_of_two);
        }
    }
    free(scratch);
    keys_selection_release(&all);
    keys_release(&f);
}

/* Every seed draws something else, and the means over the seeds are exact attention's sums. */
static void test_means(void **state)
{
    (void)state;
    const struct keys_case t = {400, 1, 2, 32, 40};
    struct keys_fixture f = keys_make(&t, 1.5f);
    struct keys_selection found = keys_selection_make(&t);
    FOR_EACH_SUPPORTED(isa, variants, MP_BF16, t.head_dim)
    {
        struct attention_sums sums[2][MEAN_SEEDS];
        for (int i = 0; i < MEAN_SEEDS; i++) {
            float o[2 * 32], lse[2];
            f.seed = 1000 + (uint64_t)i;
            keys_call(variants[isa], KEY_SELECT_DRAWN, &t, &f, &found);
            attend_selection(&t, &f, &found, o, lse);
            sums[0][i] = sums_of(o, lse[0]);
            sums[1][i] = sums_of(o + 32, lse[1]);
        }
        for (int h = 0; h < 2; h++) {
            struct attention_sums expected = exact_sums(&t, &f, h);
            assert_true(sums[h][0].numerator[0] != sums[h][1].numerator[0]);
            assert_means(sums[h], &expected);
        }
    }
    keys_selection_release(&found);
    keys_release(&f);
}

/* The numbers are those of core/base/rng.h. */
static void test_generator(void **state)
{
    (void)state;
    struct mp_rng rng;
    mp_rng_init(&rng, 12345, 678);
    uint64_t start = random_state(12345, 678);
    for (int64_t i = 0; i < 10; i++) {
        assert_true(random_draw(start, i) == mp_rng_next(&rng));
    }
}

static void test_exponential(void **state)
{
    (void)state;
    assert_true(key_exp(0.0f) == 1.0f);
    for (int i = 0; i < 86000; i++) {
        float x = -0.001f * (float)i;
        assert_true(fabs((double)key_exp(x) / exp((double)x) - 1.0) < 3e-7);
    }
    assert_true(key_weight(key_exp(-1000.0f)) == 0 && key_weight(key_exp(-INFINITY)) == 0);
    assert_true(key_weight(key_exp(NAN)) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_largest),
        cmocka_unit_test(test_drawn),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_peaked),
        cmocka_unit_test(test_rows_and_shards),
        cmocka_unit_test(test_means),
        cmocka_unit_test(test_generator),
        cmocka_unit_test(test_exponential),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
