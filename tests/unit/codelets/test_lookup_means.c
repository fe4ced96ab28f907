/* hashing, tables, lookup and sampled attention together: over many random hyperplanes the sums of
 * magicpig's attention have means in which each token is selected with its probability u and weighs
 * 1 / (u + 1e-4). */
#include "codelets/common/attention/lsh.h"
#include "codelets/hashing/hashing.h"
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "tests/unit/codelets/keys_test.h"

enum { N = 300, D = 32, HEADS = 2, K = 5, L = 12 };

/* Codes of `count` vectors, [count][L] or, of keys, [L][count]. */
static void hash(const void *x, enum mp_dtype dtype, int64_t count, bool keys, const float *w,
                 uint16_t *codes)
{
    hashing_ref(&(struct hashing_args){.x = x,
                                       .dtype = dtype,
                                       .x_vec_stride = D,
                                       .count = count,
                                       .num_heads = 1,
                                       .head_dim = D,
                                       .K = K,
                                       .L = L,
                                       .w = w,
                                       .heads_per_projection = 1,
                                       .codes = codes,
                                       .code_vec_stride = keys ? 1 : L,
                                       .code_table_stride = keys ? count : 1});
}

/* What the two query heads select with these hyperplanes. */
static void look_up(const struct keys_fixture *f, const float *w, struct keys_selection *out)
{
    static uint16_t key_codes[L * N];
    static uint16_t table_ids[L * N];
    static uint32_t offsets[L * ((1 << K) + 1)];
    uint16_t codes[HEADS * L];
    struct lsh_tables tables = {.ids = table_ids,
                                .offsets = offsets,
                                .count = N,
                                .capacity = N,
                                .num_kv_heads = 1,
                                .K = K,
                                .L = L};
    const struct lsh_tables *list[1] = {&tables};
    hash(f->kv.k, MP_BF16, N, true, w, key_codes);
    table_build_ref(&(struct table_build_args){.codes = key_codes, .tables = &tables});
    hash(f->q, MP_F32, HEADS, false, w, codes);
    table_lookup_ref(&(struct table_lookup_args){.codes = codes,
                                                 .tables = list,
                                                 .ids = &out->ids,
                                                 .ids_stride = &out->room,
                                                 .nnz = out->nnz,
                                                 .rows = 1,
                                                 .num_heads = HEADS,
                                                 .L = L});
}

/* The mean that follows from u: exact attention but for the 1e-4. */
static struct attention_sums weighted_sums(const struct keys_fixture *f, int h)
{
    struct attention_sums sums = {{0.0}, 0.0};
    const float *q = f->q + (size_t)h * D;
    for (size_t i = 0; i < N; i++) {
        double dot = 0.0;
        double q_squared = 0.0;
        double k_squared = 0.0;
        for (size_t c = 0; c < D; c++) {
            double k = (double)mp_load(f->kv.k, MP_BF16, i * D + c);
            dot += (double)q[c] * k;
            q_squared += (double)q[c] * (double)q[c];
            k_squared += k * k;
        }
        double u = lsh_collision_probability(dot / sqrt(q_squared * k_squared), K, L);
        double p = exp(dot / sqrt((double)D)) * u / (u + 1e-4);
        sums.denominator += p;
        for (size_t c = 0; c < MEAN_CHANNELS; c++) {
            sums.numerator[c] += p * (double)mp_load(f->kv.v, MP_BF16, i * D + c);
        }
    }
    return sums;
}

static void test_means(void **state)
{
    (void)state;
    const struct keys_case t = {N, 1, HEADS, D, N};
    struct keys_fixture f = keys_make(&t, 1.0f);
    struct keys_selection found = keys_selection_make(&t);
    static struct attention_sums sums[HEADS][MEAN_SEEDS];
    struct lsh_weight weight;
    lsh_weight_init(&weight, K, L);
    for (int i = 0; i < MEAN_SEEDS; i++) {
        float o[HEADS * D], lse[HEADS];
        float *w = lsh_projections_draw(D, K, L, 2000 + (uint64_t)i, 0, 1);
        look_up(&f, w, &found);
        attend_selection(&t, &f, &found, NULL, &weight, o, lse);
        for (int h = 0; h < HEADS; h++) {
            assert_true(found.nnz[h] > 0);
            sums[h][i] = sums_of(o + (size_t)h * D, lse[h]);
        }
        free(w);
    }
    for (int h = 0; h < HEADS; h++) {
        struct attention_sums expected = weighted_sums(&f, h);
        struct attention_sums exact = exact_sums(&t, &f, h);
        assert_true(expected.denominator > 0.99 * exact.denominator);
        assert_means(sums[h], &expected);
    }
    keys_selection_release(&found);
    keys_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_means)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
