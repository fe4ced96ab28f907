/* sampled_attention: every variant against the reference, the limits in which it is exact, and its
 * heads in shards. */
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"
#include "core/machine/shard.h"
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/codelets/kernel_test.h"

static sampled_attention_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = sampled_attention_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = sampled_attention_avx2,
    [MP_ISA_AVX512] = sampled_attention_avx512,
#endif
};

static struct offloaded_kv random_kv(int64_t count, int num_kv_heads, int head_dim,
                                     enum mp_dtype dtype, uint64_t seed)
{
    int64_t capacity = count + 5;
    size_t vectors = (size_t)num_kv_heads * (size_t)capacity;
    size_t d = (size_t)head_dim;
    struct offloaded_kv kv = {.k = random_tensor(dtype, vectors * d, 1.0f, seed),
                              .v = random_tensor(dtype, vectors * d, 1.0f, seed + 1),
                              .count = count,
                              .capacity = capacity,
                              .num_kv_heads = num_kv_heads,
                              .head_dim = head_dim,
                              .dtype = dtype};
    memset(kv.k, 0, d * mp_dtype_size(dtype)); /* a token without direction */
    return kv;
}

static void release(struct offloaded_kv *kv)
{
    free(kv->k);
    free(kv->v);
}

/* Selects each token with probability `share`, token 0 always; ids [num_heads][count]. */
static void select_tokens(int64_t count, int num_heads, double share, uint32_t *ids, int32_t *nnz)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 40, 0);
    for (int h = 0; h < num_heads; h++) {
        nnz[h] = 0;
        for (int64_t i = 0; i < count; i++) {
            if (i == 0 || mp_rng_uniform(&rng) < share) {
                ids[h * count + nnz[h]++] = (uint32_t)i;
            }
        }
    }
}

/* Where the weights of the tokens come from. */
enum form { BY_COSINE, LISTED, UNWEIGHTED, NUM_FORMS };

struct attention_case {
    int64_t count;
    double share;
    int num_kv_heads, group, head_dim, K, L;
    enum mp_dtype dtype;
    float scale_q;
};

/* Three rows: no offloaded set, an empty selection, and the real one. */
static void run_case(const struct attention_case *t, enum form form)
{
    int num_heads = t->num_kv_heads * t->group;
    size_t width = (size_t)num_heads * (size_t)t->head_dim;
    struct offloaded_kv kv = random_kv(t->count, t->num_kv_heads, t->head_dim, t->dtype, 50);
    uint32_t *selected = mp_xcalloc((size_t)(num_heads * t->count), sizeof *selected);
    int32_t *nnz = mp_xcalloc((size_t)(3 * num_heads), sizeof *nnz);
    select_tokens(t->count, num_heads, t->share, selected, nnz + 2 * num_heads);
    struct lsh_weight *weight = mp_xmalloc(sizeof *weight);
    lsh_weight_init(weight, t->K, t->L);
    float *log_weights = random_floats((size_t)(num_heads * t->count), 3.0f, 61);
    const float *listed[3] = {NULL, log_weights, log_weights};
    float *q = random_floats(3 * width, t->scale_q, 60);
    memset(q + 2 * width, 0, (size_t)t->head_dim * sizeof *q); /* a query without direction */
    float *expected = mp_xcalloc(3 * width, sizeof *expected);
    float *o = mp_xcalloc(3 * width, sizeof *o);
    float *expected_lse = mp_xcalloc((size_t)(3 * num_heads), sizeof *expected_lse);
    float *lse = mp_xcalloc((size_t)(3 * num_heads), sizeof *lse);
    struct sampled_attention_args a = {.q = q,
                                       .kv = (const struct offloaded_kv *[]){NULL, &kv, &kv},
                                       .ids = (const uint32_t *[]){NULL, selected, selected},
                                       .ids_stride = (int64_t[]){0, t->count, t->count},
                                       .nnz = nnz,
                                       .log_weights = form == LISTED ? listed : NULL,
                                       .weight = form == BY_COSINE ? weight : NULL,
                                       .o = expected,
                                       .lse = expected_lse,
                                       .rows = 3,
                                       .num_heads = num_heads,
                                       .head_dim = t->head_dim,
                                       .scale = 1.0f / sqrtf((float)t->head_dim)};
    sampled_attention_ref(&a);
    a.o = o;
    a.lse = lse;
    FOR_EACH_SUPPORTED(isa, variants, t->dtype, t->head_dim)
    {
        memset(o, 0xff, 3 * width * sizeof *o);
        memset(lse, 0xff, (size_t)(3 * num_heads) * sizeof *lse);
        variants[isa](&a);
        for (size_t i = 0; i < 2 * width; i++) {
            assert_true(o[i] == 0.0f);
        }
        for (int i = 0; i < 2 * num_heads; i++) {
            assert_true(isinf(lse[i]) && lse[i] < 0.0f);
        }
        assert_close(o, expected, 3 * width, 2e-3, mp_isa_name(isa));
        assert_close(lse + 2 * num_heads, expected_lse + 2 * num_heads, (size_t)num_heads, 2e-3,
                     "lse");
    }
    free(selected);
    free(nnz);
    free(log_weights);
    free(weight);
    free(q);
    free(expected);
    free(o);
    free(expected_lse);
    free(lse);
    release(&kv);
}

static void test_variants_agree(void **state)
{
    (void)state;
    const struct attention_case cases[] = {
        {.count = 9000,
         .share = 0.2,
         .num_kv_heads = 2,
         .group = 4,
         .head_dim = 128,
         .K = 10,
         .L = 150,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.count = 300,
         .share = 0.5,
         .num_kv_heads = 1,
         .group = 3,
         .head_dim = 64,
         .K = 8,
         .L = 75,
         .dtype = MP_BF16,
         .scale_q = 20.0f},
        {.count = 77,
         .share = 1.0,
         .num_kv_heads = 3,
         .group = 1,
         .head_dim = 80,
         .K = 16,
         .L = 300,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.count = 70,
         .share = 1.0,
         .num_kv_heads = 1,
         .group = 1,
         .head_dim = 24,
         .K = 9,
         .L = 120,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.count = 50,
         .share = 0.5,
         .num_kv_heads = 2,
         .group = 2,
         .head_dim = 18,
         .K = 1,
         .L = 2,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
        {.count = 50,
         .share = 0.5,
         .num_kv_heads = 2,
         .group = 2,
         .head_dim = 64,
         .K = 10,
         .L = 150,
         .dtype = MP_F32,
         .scale_q = 1.0f},
        {.count = 1,
         .share = 1.0,
         .num_kv_heads = 1,
         .group = 2,
         .head_dim = 32,
         .K = 10,
         .L = 150,
         .dtype = MP_BF16,
         .scale_q = 1.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (enum form form = 0; form < NUM_FORMS; form++) {
            run_case(&cases[i], form);
        }
    }
}

/* One query head of 64 channels over nnz tokens. log_weights, weight: NULL or what they are. */
static void attend_one(sampled_attention_kernel *kernel, const struct offloaded_kv *kv,
                       const uint32_t *ids, int32_t nnz, const float *log_weights,
                       const struct lsh_weight *weight, const float *q, float *o, float *lse)
{
    kernel(&(struct sampled_attention_args){.q = q,
                                            .kv = &kv,
                                            .ids = &ids,
                                            .ids_stride = (int64_t[]){nnz},
                                            .nnz = &nnz,
                                            .log_weights = log_weights ? &log_weights : NULL,
                                            .weight = weight,
                                            .o = o,
                                            .lse = lse,
                                            .rows = 1,
                                            .num_heads = 1,
                                            .head_dim = 64,
                                            .scale = 0.125f});
}

/* Merges the sampled part with the rest and compares it with attention over both; 64 channels. */
static void check_merged(float *o, float lse, const float *part, float part_lse, const float *exact,
                         float exact_lse, const char *what)
{
    float weight_part = 1.0f / (1.0f + expf(lse - part_lse));
    for (int c = 0; c < 64; c++) {
        o[c] = (1.0f - weight_part) * o[c] + weight_part * part[c];
    }
    assert_close(o, exact, 64, 1e-3, what);
    lse = logf(expf(lse) + expf(part_lse));
    assert_close(&lse, &exact_lse, 1, 1e-3, "lse");
}

/* When every token is selected and selection is certain (u = 1), or tokens weigh 1, the sampled
 * part merged with the static part is exact attention over both. */
static void test_converges_to_exact_attention(void **state)
{
    (void)state;
    enum { N = 700, SAMPLED = 600, D = 64 };
    struct offloaded_kv kv = random_kv(N, 1, D, MP_BF16, 70);
    struct kv_cache all = {.k = kv.k,
                           .v = kv.v,
                           .capacity = kv.capacity,
                           .num_kv_heads = 1,
                           .head_dim = D,
                           .dtype = MP_BF16};
    struct kv_cache rest = all;
    rest.k = (uint16_t *)all.k + SAMPLED * D;
    rest.v = (uint16_t *)all.v + SAMPLED * D;
    uint32_t ids[SAMPLED];
    for (uint32_t i = 0; i < SAMPLED; i++) {
        ids[i] = i;
    }
    struct lsh_weight *weight = mp_xmalloc(sizeof *weight);
    lsh_weight_init(weight, 1, 20000);
    float *q = random_floats(D, 1.0f, 80);
    float exact[D], exact_lse, part[D], part_lse;
    struct static_attention_args s = {.q = q,
                                      .cache = (const struct kv_cache *[]){&all},
                                      .length = (int64_t[]){N},
                                      .o = exact,
                                      .lse = &exact_lse,
                                      .rows = 1,
                                      .num_heads = 1,
                                      .head_dim = D,
                                      .scale = 0.125f};
    static_attention_ref(&s);
    s.cache = (const struct kv_cache *[]){&rest};
    s.length = (int64_t[]){N - SAMPLED};
    s.o = part;
    s.lse = &part_lse;
    static_attention_ref(&s);
    FOR_EACH_VARIANT(isa, variants)
    {
        float o[D], lse;
        attend_one(variants[isa], &kv, ids, SAMPLED, NULL, weight, q, o, &lse);
        check_merged(o, lse, part, part_lse, exact, exact_lse, mp_isa_name(isa));
        attend_one(variants[isa], &kv, ids, SAMPLED, NULL, NULL, q, o, &lse);
        check_merged(o, lse, part, part_lse, exact, exact_lse, mp_isa_name(isa));
    }
    free(weight);
    free(q);
    release(&kv);
}

/* A token that weighs n is as good as one that is listed n times; the weights go with the list, not
 * with the tokens. log_weights go before weight. */
static void test_listed_weights(void **state)
{
    (void)state;
    enum { N = 333, D = 64 };
    struct offloaded_kv kv = random_kv(N, 1, D, MP_BF16, 70);
    uint32_t ids[N], repeated[3 * N];
    float log_weights[N];
    int32_t nnz = 0;
    for (int i = 0; i < N; i++) {
        ids[i] = (uint32_t)(N - 1 - i);
        log_weights[i] = logf((float)(i % 3 + 1));
        for (int j = 0; j <= i % 3; j++) {
            repeated[nnz++] = ids[i];
        }
    }
    struct lsh_weight *weight = mp_xmalloc(sizeof *weight);
    lsh_weight_init(weight, 10, 150);
    float *q = random_floats(D, 1.0f, 80);
    FOR_EACH_VARIANT(isa, variants)
    {
        float expected[D], expected_lse, o[D], lse;
        attend_one(variants[isa], &kv, repeated, nnz, NULL, NULL, q, expected, &expected_lse);
        attend_one(variants[isa], &kv, ids, N, log_weights, weight, q, o, &lse);
        assert_close(o, expected, D, 1e-5, mp_isa_name(isa));
        assert_close(&lse, &expected_lse, 1, 1e-5, "lse");
    }
    free(weight);
    free(q);
    release(&kv);
}

/* Calls a variant for the heads of each shard alone. */
static void run_shards(sampled_attention_kernel *variant, const struct sampled_attention_args *all,
                       const struct mp_shard *shards, int count)
{
    for (int i = 0; i < count; i++) {
        int group = all->num_heads / all->kv[1]->num_kv_heads;
        int first = shards[i].first_kv_head * group;
        struct offloaded_kv part =
            offloaded_heads(all->kv[1], shards[i].first_kv_head, shards[i].num_kv_heads);
        int heads = shards[i].num_kv_heads * group;
        size_t width = (size_t)all->head_dim * sizeof(float);
        struct sampled_attention_args a = *all;
        float *q = mp_xcalloc((size_t)(all->rows * heads), width);
        float *o = mp_xcalloc((size_t)(all->rows * heads), width);
        float *lse = mp_xcalloc((size_t)(all->rows * heads), sizeof *lse);
        int32_t *nnz = mp_xcalloc((size_t)(all->rows * heads), sizeof *nnz);
        copy_heads(q, heads, all->q + first * all->head_dim, all->num_heads, heads, width, a.rows);
        copy_heads(nnz, heads, all->nnz + first, all->num_heads, heads, sizeof *nnz, a.rows);
        a.q = q;
        a.kv = (const struct offloaded_kv *[]){NULL, &part, &part};
        a.ids = (const uint32_t *[]){NULL, all->ids[1] + first * all->ids_stride[1],
                                     all->ids[2] + first * all->ids_stride[2]};
        a.nnz = nnz;
        a.o = o;
        a.lse = lse;
        a.num_heads = heads;
        variant(&a);
        copy_heads(all->o + first * all->head_dim, all->num_heads, o, heads, heads, width, a.rows);
        copy_heads(all->lse + first, all->num_heads, lse, heads, heads, sizeof *lse, a.rows);
        free(q);
        free(o);
        free(lse);
        free(nnz);
    }
}

/* Shards of unequal size write what one call for all heads writes, bit by bit. */
static void test_shards(void **state)
{
    (void)state;
    enum { TOKENS = 900, KV_HEADS = 5, GROUP = 2, HEADS = KV_HEADS * GROUP, D = 64, ROWS = 3 };
    const struct mp_shard shards[] = {{.first_kv_head = 0, .num_kv_heads = 1},
                                      {.first_kv_head = 1, .num_kv_heads = 2},
                                      {.first_kv_head = 3, .num_kv_heads = 2}};
    const enum mp_dtype dtypes[] = {MP_BF16, MP_F32};
    uint32_t *selected = mp_xcalloc(HEADS * TOKENS, sizeof *selected);
    int32_t nnz[ROWS * HEADS];
    select_tokens(TOKENS, HEADS, 0.5, selected, nnz + HEADS);
    memcpy(nnz, nnz + HEADS, HEADS * sizeof *nnz);
    memcpy(nnz + 2 * HEADS, nnz + HEADS, HEADS * sizeof *nnz);
    struct lsh_weight *weight = mp_xmalloc(sizeof *weight);
    lsh_weight_init(weight, 10, 150);
    float *q = random_floats(ROWS * HEADS * D, 1.0f, 60);
    float expected[ROWS * HEADS * D], o[ROWS * HEADS * D];
    float expected_lse[ROWS * HEADS], lse[ROWS * HEADS];
    for (int t = 0; t < 2; t++) {
        struct offloaded_kv kv = random_kv(TOKENS, KV_HEADS, D, dtypes[t], 50);
        struct sampled_attention_args a = {.q = q,
                                           .kv = (const struct offloaded_kv *[]){NULL, &kv, &kv},
                                           .ids = (const uint32_t *[]){NULL, selected, selected},
                                           .ids_stride = (int64_t[]){0, TOKENS, TOKENS},
                                           .nnz = nnz,
                                           .weight = weight,
                                           .rows = ROWS,
                                           .num_heads = HEADS,
                                           .head_dim = D,
                                           .scale = 0.125f};
        FOR_EACH_SUPPORTED(isa, variants, dtypes[t], D)
        {
            a.o = expected;
            a.lse = expected_lse;
            variants[isa](&a);
            memset(o, 0xff, sizeof o);
            memset(lse, 0xff, sizeof lse);
            a.o = o;
            a.lse = lse;
            run_shards(variants[isa], &a, shards, 3);
            assert_memory_equal(o, expected, sizeof o);
            assert_memory_equal(lse, expected_lse, sizeof lse);
            assert_true(lse[HEADS] > lse[0]); /* row 1 has tokens, row 0 none */
        }
        release(&kv);
    }
    free(selected);
    free(weight);
    free(q);
}

/* One key a query head, at angles from the query's own direction to its opposite, selected alone:
 * then lse is its logit, in which ln(u + 1e-4) falls by 9. The last key is NaN. */
static void test_weight_of_every_angle(void **state)
{
    (void)state;
    enum { N = 301, D = 64 };
    uint16_t *k = mp_xcalloc(N * D, sizeof *k);
    float *q = mp_xcalloc(N * D, sizeof *q);
    float *o = mp_xcalloc(N * D, sizeof *o);
    uint32_t *ids = mp_xcalloc(N * N, sizeof *ids);
    int32_t nnz[N];
    float expected[N], lse[N];
    for (int i = 0; i < N; i++) {
        double angle = acos(-1.0) * i / (N - 2);
        mp_store(k, MP_BF16, (size_t)(i * D), (float)cos(angle));
        mp_store(k, MP_BF16, (size_t)(i * D + 1), (float)sin(angle));
        q[i * D] = 3.0f;
        ids[i * N] = (uint32_t)i;
        nnz[i] = 1;
    }
    mp_store(k, MP_BF16, (N - 1) * D, NAN);
    struct offloaded_kv kv = {.k = k,
                              .v = k,
                              .count = N,
                              .capacity = N,
                              .num_kv_heads = 1,
                              .head_dim = D,
                              .dtype = MP_BF16};
    struct lsh_weight *weight = mp_xmalloc(sizeof *weight);
    lsh_weight_init(weight, 10, 150);
    struct sampled_attention_args a = {.q = q,
                                       .kv = (const struct offloaded_kv *[]){&kv},
                                       .ids = (const uint32_t *[]){ids},
                                       .ids_stride = (int64_t[]){N},
                                       .nnz = nnz,
                                       .weight = weight,
                                       .o = o,
                                       .lse = expected,
                                       .rows = 1,
                                       .num_heads = N,
                                       .head_dim = D,
                                       .scale = 0.125f};
    sampled_attention_ref(&a);
    assert_true(expected[N - 2] - expected[0] > 8.0f); /* the opposite weighs more */
    a.lse = lse;
    FOR_EACH_VARIANT(isa, variants)
    {
        variants[isa](&a);
        for (int i = 0; i < N - 1; i++) {
            assert_true(fabsf(lse[i] - expected[i]) < 1e-4f);
        }
        assert_true(isnan(lse[N - 1]) && isnan(o[(N - 1) * D]));
    }
    free(k);
    free(q);
    free(o);
    free(ids);
    free(weight);
}

/* What went wrong before must not look like text: a run of NaN keys does not vanish behind keys
 * that are numbers. */
static void test_nan_first(void **state)
{
    (void)state;
    enum { N = 200, NANS = 70, D = 64 };
    struct offloaded_kv kv = random_kv(N, 1, D, MP_BF16, 90);
    uint32_t ids[N];
    for (int i = 0; i < N; i++) {
        ids[i] = (uint32_t)i;
        mp_store(kv.k, MP_BF16, (size_t)(i * D), i < NANS ? NAN : 1.0f);
    }
    struct lsh_weight *weight = mp_xmalloc(sizeof *weight);
    lsh_weight_init(weight, 10, 150);
    float *q = random_floats(D, 1.0f, 80);
    FOR_EACH_VARIANT(isa, variants)
    {
        float o[D], lse;
        attend_one(variants[isa], &kv, ids, N, NULL, weight, q, o, &lse);
        assert_true(isnan(lse) && isnan(o[0]));
    }
    free(weight);
    free(q);
    release(&kv);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants_agree), cmocka_unit_test(test_converges_to_exact_attention),
        cmocka_unit_test(test_listed_weights), cmocka_unit_test(test_weight_of_every_angle),
        cmocka_unit_test(test_nan_first),      cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
