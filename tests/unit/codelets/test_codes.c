/* Rotations and codes of keys: by hand, what they promise on random keys, and the same bits from
 * every variant of encode_keys. */
#include "tests/unit/codelets/codes_test.h"

static encode_keys_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = encode_keys_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = encode_keys_avx2,
    [MP_ISA_AVX512] = encode_keys_avx512,
#endif
};

/* ---- rotations ---- */

static struct key_rotation rotation_make(int head_dim, uint64_t seed)
{
    float *data = mp_xmalloc(key_rotation_size(head_dim) * sizeof *data);
    key_rotation_draw(head_dim, seed, data);
    return (struct key_rotation){data, head_dim};
}

/* Columns of R: rotated unit vectors, of length 1 and orthogonal to each other. */
static void check_orthogonal(int d)
{
    struct key_rotation r = rotation_make(d, 3);
    float *columns = mp_xcalloc((size_t)(d * d), sizeof *columns);
    float unit[MP_MAX_HEAD_DIM] = {0};
    for (int c = 0; c < d; c++) {
        unit[c] = 1.0f;
        key_rotate(&r, unit, columns + c * d);
        unit[c] = 0.0f;
    }
    for (int i = 0; i < d; i++) {
        for (int j = 0; j <= i; j++) {
            double dot = 0.0;
            for (int c = 0; c < d; c++) {
                dot += (double)columns[i * d + c] * (double)columns[j * d + c];
            }
            assert_true(fabs(dot - (i == j)) < 1e-6);
        }
    }
    free(columns);
    free((float *)r.data);
}

static void test_orthogonal(void **state)
{
    (void)state;
    const int dims[] = {1, 2, 64, 128, 256, 80, 96};
    for (size_t i = 0; i < sizeof dims / sizeof dims[0]; i++) {
        check_orthogonal(dims[i]);
    }
}

/* Different for each seed, the same for the same; a Hadamard matrix by hand. */
static void test_rotations(void **state)
{
    (void)state;
    assert_int_equal(key_rotation_size(64), 64);
    assert_int_equal(key_rotation_size(80), 80 * 80);
    const int dims[] = {64, 80};
    for (int i = 0; i < 2; i++) {
        size_t bytes = key_rotation_size(dims[i]) * sizeof(float);
        struct key_rotation r = rotation_make(dims[i], 3);
        struct key_rotation same = rotation_make(dims[i], 3);
        struct key_rotation other = rotation_make(dims[i], 4);
        assert_memory_equal(r.data, same.data, bytes);
        assert_memory_not_equal(r.data, other.data, bytes);
        free((float *)r.data);
        free((float *)same.data);
        free((float *)other.data);
    }
    const float signs[4] = {1, -1, 1, 1};
    const float x[4] = {1, 2, 3, 4};
    const float expected[4] = {3, 1, -4, 2}; /* of 1, -2, 3, 4 */
    float y[4];
    key_rotate(&(struct key_rotation){signs, 4}, x, y);
    assert_memory_equal(y, expected, sizeof y);
}

/* ---- levels and words ---- */

static void test_levels(void **state)
{
    (void)state;
    const float ys[] = {-9.0f, -1.01f, -1.0f, -0.1f, 0.0f, 0.9f, 1.0f, 9.0f, 1e30f, -1e30f};
    const int two[] = {0, 0, 1, 1, 2, 2, 3, 3, 3, 0};
    const int four[] = {0, 6, 7, 7, 8, 8, 9, 15, 15, 0};
    for (size_t i = 0; i < sizeof ys / sizeof ys[0]; i++) {
        assert_int_equal(codes_level(ys[i], 1.0f, 1), ys[i] >= 0.0f);
        assert_int_equal(codes_level(ys[i], 1.0f, 2), two[i]);
        assert_int_equal(codes_level(ys[i], 1.0f, 4), four[i]);
    }
    assert_int_equal(codes_level(0.0f, 0.0f, 1), 1);
    assert_int_equal(codes_level(0.0f, 0.0f, 2), 2);
    assert_int_equal(codes_level(0.0f, 0.0f, 4), 8);
    assert_true(codes_center(0, 1) == -0.5f && codes_center(1, 1) == 0.5f);
    assert_true(codes_center(0, 2) == -1.5f && codes_center(3, 2) == 1.5f);
    assert_true(codes_center(0, 4) == -7.5f && codes_center(15, 4) == 7.5f);
    assert_true(codes_factor(2.0f, 4.0f) == 0.5f && codes_factor(0.0f, 0.0f) == 0.0f);
    assert_true(codes_factor(1.0f, 0.0f) == 0.0f);
}

static void test_sum(void **state)
{
    (void)state;
    const float x[] = {0x1p24f, 1.0f, -0x1p24f, 1.0f, 1.0f};
    /* p = 8: (x0 + x4) + x2 and x1 + x3: 2^24 + 1 is rounded to 2^24. */
    assert_true(encode_sum(x, 5) == 2.0f);
    assert_true(encode_sum(x, 4) == 2.0f); /* (x0 + x2) + (x1 + x3) */
    assert_true(encode_sum(x, 1) == 0x1p24f);
}

/* One key of four channels; R = H / 2. */
static void encode_one(const float *key, int bits, uint32_t words[CODES_BLOCK],
                       float factors[CODES_BLOCK])
{
    const float signs[4] = {1, 1, 1, 1};
    float k[4];
    memcpy(k, key, sizeof k);
    const struct offloaded_kv kv = {
        .k = k, .count = 1, .capacity = 1, .num_kv_heads = 1, .head_dim = 4, .dtype = MP_F32};
    struct key_codes codes = {.words = words,
                              .factors = factors,
                              .count = 1,
                              .capacity = 1,
                              .num_kv_heads = 1,
                              .head_dim = 4,
                              .bits = bits};
    memset(words, 0xff, CODES_BLOCK * sizeof *words);
    memset(factors, 0xff, CODES_BLOCK * sizeof *factors);
    encode_keys_ref(&(struct encode_keys_args){
        .kv = &kv, .rotation = {.data = signs, .head_dim = 4}, .codes = &codes});
    for (int t = 1; t < CODES_BLOCK; t++) {
        assert_true(words[t] == 0 && factors[t] == 0.0f);
    }
}

/* y = (4, 1, -2, -1), |k|^2 = 22, |k| / sqrt(d) = 2.345. */
static void test_by_hand(void **state)
{
    (void)state;
    const float key[4] = {1, 1, 4, 2}; /* H / 2 of it is (4, 1, -2, -1) */
    const float zero[4] = {0};
    uint32_t words[CODES_BLOCK];
    float factors[CODES_BLOCK];
    /* c = (1, 1, -1, -1) / 2; <y, c> = 4. */
    encode_one(key, 1, words, factors);
    assert_int_equal(words[0], 0x00000101);
    assert_true(factors[0] == 22.0f / 4.0f);
    /* s = 2.335, y / s = (1.71, 0.43, -0.86, -0.43): levels 3, 2, 1, 1; c = (1.5, .5, -.5, -.5);
     * <y, c> = 8. */
    encode_one(key, 2, words, factors);
    assert_int_equal(words[0], 0x01010203);
    assert_true(factors[0] == 22.0f / 8.0f);
    /* s = 0.786, y / s = (5.09, 1.27, -2.54, -1.27): levels 13, 9, 5, 6;
     * c = (5.5, 1.5, -2.5, -1.5); <y, c> = 30. */
    encode_one(key, 4, words, factors);
    assert_int_equal(words[0], 0x0605090d);
    assert_true(factors[0] == 22.0f / 30.0f);
    const uint32_t of_zero[] = {[1] = 0x01010101, [2] = 0x02020202, [4] = 0x08080808};
    for (int bits = 1; bits <= 4; bits *= 2) {
        encode_one(zero, bits, words, factors);
        assert_int_equal(words[0], of_zero[bits]);
        assert_true(factors[0] == 0.0f);
    }
}

/* ---- on random keys ---- */

/* Each level is that of its rotated channel, channels beyond the last have none, and f <y, c> is
 * |k|^2. */
static void check_codes(const struct codes_case *t, const struct codes_fixture *f)
{
    int d = t->head_dim;
    int channels = codes_words(d, t->bits) * (32 / t->bits);
    for (int64_t n = 0; n < t->num_kv_heads * t->count; n++) {
        int h = (int)(n / t->count);
        int64_t i = n % t->count;
        float key[MP_MAX_HEAD_DIM], y[MP_MAX_HEAD_DIM];
        double norm = 0.0;
        double dot = 0.0;
        for (int c = 0; c < d; c++) {
            key[c] = mp_load(f->kv.k, MP_BF16, (size_t)((h * f->kv.capacity + i) * d + c));
            norm += (double)key[c] * (double)key[c];
        }
        key_rotate(&f->rotation, key, y);
        double step = (double)codes_step(t->bits) * sqrt(norm / d);
        for (int c = 0; c < channels; c++) {
            int level = codes_level_of(&f->codes, h, i, c);
            double center = (double)codes_center(level, t->bits);
            if (c >= d) {
                assert_int_equal(level, 0);
                continue;
            }
            dot += center * (double)y[c];
            double off = fabs((double)y[c] - center * step);
            bool ends = level == 0 || level == (1 << t->bits) - 1;
            assert_true(t->bits == 1 || ends || off <= 0.50001 * step);
            assert_true(center * (double)y[c] >= 0.0);
        }
        double found = (double)codes_factor_of(&f->codes, h, i) * dot;
        assert_true(fabs(found - norm) <= 1e-5 * norm);
    }
}

/* The later tokens after the others, from keys elsewhere. */
static void encode_in_two(encode_keys_kernel *variant, const struct codes_fixture *f,
                          struct key_codes *out)
{
    int64_t first = codes_first_part(f->kv.count);
    struct offloaded_kv rest = keys_from(&f->kv, first);
    memset(out->words, 0xa5, codes_word_bytes(out));
    memset(out->factors, 0xa5, codes_factor_bytes(out));
    struct key_codes before = *out;
    before.count = first;
    variant(&(struct encode_keys_args){&f->kv, f->rotation, &before, 0});
    variant(&(struct encode_keys_args){&rest, f->rotation, out, first});
    free(rest.k);
}

static void test_cases(void **state)
{
    (void)state;
    for (size_t i = 0; i < NUM_CODES_CASES; i++) {
        struct codes_fixture f = codes_fixture_make(&CODES_CASES[i]);
        struct key_codes found = codes_make(&f.codes);
        encode_keys_ref(&(struct encode_keys_args){&f.kv, f.rotation, &f.codes, 0});
        check_codes(&CODES_CASES[i], &f);
        FOR_EACH_SUPPORTED(isa, variants, MP_BF16, CODES_CASES[i].head_dim)
        {
            memset(found.words, 0xa5, codes_word_bytes(&found));
            memset(found.factors, 0xa5, codes_factor_bytes(&found));
            variants[isa](&(struct encode_keys_args){&f.kv, f.rotation, &found, 0});
            codes_assert_equal(&found, &f.codes);
            encode_in_two(variants[isa], &f, &found);
            codes_assert_equal(&found, &f.codes);
        }
        codes_release(&found);
        codes_fixture_release(&f);
    }
}

/* Over many keys the estimate f <R q, c> of q.k has q.k as its mean, and errs by as much as so few
 * bits let it: in units of |q| |k| / sqrt(d), 0.75, 0.37 and 0.11 at most. */
static void check_estimate(int d, int bits, double most)
{
    const struct codes_case t = {4000, 1, d, bits};
    struct codes_fixture f = codes_fixture_make(&t);
    encode_keys_ref(&(struct encode_keys_args){&f.kv, f.rotation, &f.codes, 0});
    float *q = random_floats((size_t)d, 1.0f, 9);
    float rotated[MP_MAX_HEAD_DIM];
    key_rotate(&f.rotation, q, rotated);
    double mean = 0.0;
    double square = 0.0;
    double slope = 0.0;
    int n = 0;
    for (int64_t i = 0; i < t.count; i++) {
        double exact = 0.0, estimate = 0.0, q_norm = 0.0, k_norm = 0.0;
        for (int c = 0; c < d; c++) {
            double k = (double)mp_load(f.kv.k, MP_BF16, (size_t)(i * d + c));
            int level = codes_level_of(&f.codes, 0, i, c);
            exact += (double)q[c] * k;
            estimate += (double)rotated[c] * (double)codes_center(level, bits);
            q_norm += (double)q[c] * (double)q[c];
            k_norm += k * k;
        }
        estimate *= (double)codes_factor_of(&f.codes, 0, i);
        if (k_norm > 0.0) {
            double unit = sqrt(q_norm * k_norm / d);
            double error = (estimate - exact) / unit;
            mean += error;
            square += error * error;
            slope += error * exact / unit;
            n++;
        }
    }
    double deviation = sqrt(square / n);
    assert_true(deviation < most);
    assert_true(fabs(mean / n) < 4.0 * deviation / sqrt(n));
    assert_true(fabs(slope / n) < 4.0 * deviation / sqrt(n)); /* no shrinking either */
    free(q);
    codes_fixture_release(&f);
}

static void test_estimate(void **state)
{
    (void)state;
    const int dims[] = {64, 128, 80, 96};
    for (int i = 0; i < 4; i++) {
        check_estimate(dims[i], 1, 0.80);
        check_estimate(dims[i], 2, 0.38);
        check_estimate(dims[i], 4, 0.12);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orthogonal), cmocka_unit_test(test_rotations),
        cmocka_unit_test(test_levels),     cmocka_unit_test(test_sum),
        cmocka_unit_test(test_by_hand),    cmocka_unit_test(test_cases),
        cmocka_unit_test(test_estimate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
