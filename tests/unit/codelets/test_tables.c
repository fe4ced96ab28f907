/* table_build and table_lookup: tables are sorted permutations; lookup selects exactly the tokens
 * whose codes equal the query's in at least two tables. */
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "core/machine/shard.h"
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/codelets/kernel_test.h"

#include <omp.h>

static table_lookup_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = table_lookup_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = table_lookup_avx2,
    [MP_ISA_AVX512] = table_lookup_avx512,
#endif
};

struct table_case {
    int64_t count;
    int num_kv_heads, group, K, L;
    unsigned distinct; /* codes are drawn from 0 .. distinct - 1 */
};

/* Key codes, and the tables built from them. */
struct fixture {
    uint16_t *codes; /* [num_kv_heads][L][count] */
    struct lsh_tables tables;
};

static uint16_t *random_codes(size_t n, unsigned distinct, uint64_t seed)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    uint16_t *codes = mp_xmalloc(n * sizeof *codes);
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint16_t)(mp_rng_next(&rng) % distinct);
    }
    return codes;
}

static struct fixture build(const struct table_case *t)
{
    int64_t capacity = t->count + 37;
    size_t per_head = (size_t)t->L * (size_t)t->count;
    size_t buckets = ((size_t)1 << t->K) + 1;
    struct fixture f = {.codes = random_codes((size_t)t->num_kv_heads * per_head, t->distinct, 3),
                        .tables = {.count = t->count,
                                   .capacity = capacity,
                                   .num_kv_heads = t->num_kv_heads,
                                   .K = t->K,
                                   .L = t->L}};
    size_t tables = (size_t)t->num_kv_heads * (size_t)t->L;
    f.tables.ids = mp_xcalloc(tables * (size_t)capacity, sizeof *f.tables.ids);
    f.tables.offsets =
        mp_xcalloc(tables * (size_t)lsh_num_blocks(capacity) * buckets, sizeof *f.tables.offsets);
    table_build_ref(&(struct table_build_args){.codes = f.codes, .tables = &f.tables});
    return f;
}

static void release(struct fixture *f)
{
    free(f->codes);
    free(f->tables.ids);
    free(f->tables.offsets);
}

/* Every bucket holds ascending ids of that code; together they are all tokens of the block. */
static void check_table(const struct fixture *f, int h, int64_t b, int l)
{
    const struct lsh_tables *t = &f->tables;
    int64_t rest = t->count - b * LSH_BLOCK_TOKENS;
    uint32_t n = (uint32_t)(rest < LSH_BLOCK_TOKENS ? rest : LSH_BLOCK_TOKENS);
    const uint32_t *offsets = lsh_offsets(t, h, b, l);
    const uint16_t *ids = lsh_ids(t, h, b, l);
    const uint16_t *codes = f->codes + ((int64_t)h * t->L + l) * t->count + b * LSH_BLOCK_TOKENS;
    assert_int_equal(offsets[0], 0);
    assert_int_equal(offsets[(size_t)1 << t->K], n);
    for (uint32_t c = 0; c < 1U << t->K; c++) {
        assert_true(offsets[c] <= offsets[c + 1]);
        for (uint32_t i = offsets[c]; i < offsets[c + 1]; i++) {
            assert_true(ids[i] < n && codes[ids[i]] == c);
            assert_true(i == offsets[c] || ids[i - 1] < ids[i]);
        }
    }
}

static void check_lookup(const struct fixture *f, const uint16_t *query_codes, int group,
                         const struct table_lookup_args *a)
{
    const struct lsh_tables *t = &f->tables;
    for (int h = 0; h < a->num_heads; h++) {
        const uint16_t *q = query_codes + (int64_t)h * t->L;
        const uint16_t *k = f->codes + (int64_t)(h / group) * t->L * t->count;
        const uint32_t *ids = a->ids[0] + h * a->ids_stride[0];
        int32_t nnz = 0;
        for (int64_t i = 0; i < t->count; i++) {
            int collisions = 0;
            for (int l = 0; l < t->L; l++) {
                collisions += k[l * t->count + i] == q[l];
            }
            if (collisions >= 2) {
                assert_true(nnz < a->nnz[h]);
                assert_int_equal(ids[nnz], i);
                nnz++;
            }
        }
        assert_int_equal(a->nnz[h], nnz);
    }
}

static void run_case(const struct table_case *t)
{
    struct fixture f = build(t);
    for (int h = 0; h < t->num_kv_heads; h++) {
        for (int64_t b = 0; b < lsh_num_blocks(t->count); b++) {
            for (int l = 0; l < t->L; l++) {
                check_table(&f, h, b, l);
            }
        }
    }
    int num_heads = t->num_kv_heads * t->group;
    uint16_t *codes = random_codes((size_t)(num_heads * t->L), t->distinct, 4);
    const struct lsh_tables *tables[1] = {&f.tables};
    int64_t stride[1] = {t->count};
    uint32_t *ids[1] = {mp_xcalloc((size_t)(num_heads * t->count), sizeof(uint32_t))};
    int32_t *nnz = mp_xcalloc((size_t)num_heads, sizeof *nnz);
    struct table_lookup_args a = {.codes = codes,
                                  .tables = tables,
                                  .ids = ids,
                                  .ids_stride = stride,
                                  .nnz = nnz,
                                  .rows = 1,
                                  .num_heads = num_heads,
                                  .L = t->L};
    FOR_EACH_VARIANT(isa, variants)
    {
        memset(nnz, 0xff, (size_t)num_heads * sizeof *nnz);
        variants[isa](&a);
        check_lookup(&f, codes, t->group, &a);
    }
    free(codes);
    free(ids[0]);
    free(nnz);
    release(&f);
}

static void test_build_and_lookup(void **state)
{
    (void)state;
    const struct table_case cases[] = {
        /* across the edge of a block */
        {.count = 70000, .num_kv_heads = 2, .group = 2, .K = 10, .L = 40, .distinct = 300},
        /* exactly one block, 16 bits */
        {.count = 65536, .num_kv_heads = 1, .group = 1, .K = 16, .L = 5, .distinct = 65536},
        /* more tables than a byte counts; nearly every token collides about 256 times or more */
        {.count = 999, .num_kv_heads = 1, .group = 4, .K = 1, .L = 512, .distinct = 2},
        {.count = 130, .num_kv_heads = 1, .group = 1, .K = 3, .L = 300, .distinct = 1},
        /* all selected, and the last line has room for just so many as are written at once */
        {.count = 132, .num_kv_heads = 1, .group = 1, .K = 3, .L = 2, .distinct = 1},
        /* a single table selects nothing; a single token */
        {.count = 100, .num_kv_heads = 1, .group = 2, .K = 2, .L = 1, .distinct = 2},
        {.count = 1, .num_kv_heads = 1, .group = 1, .K = 2, .L = 3, .distinct = 2},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i]);
    }
}

/* Rows of one step: no tables, empty tables, and real ones after them. */
static void test_rows_without_tokens(void **state)
{
    (void)state;
    const struct table_case some = {
        .count = 64, .num_kv_heads = 1, .group = 1, .K = 1, .L = 2, .distinct = 1};
    struct fixture f = build(&some);
    struct lsh_tables empty = f.tables;
    empty.count = 0;
    table_build_ref(&(struct table_build_args){.codes = NULL, .tables = &empty});
    const struct lsh_tables *tables[3] = {NULL, &empty, &f.tables};
    uint32_t selected[64];
    uint32_t *ids[3] = {NULL, NULL, selected};
    const int64_t stride[3] = {0, 0, 64};
    const uint16_t codes[3 * 2] = {0};
    FOR_EACH_VARIANT(isa, variants)
    {
        int32_t nnz[3] = {-1, -1, -1};
        variants[isa](&(struct table_lookup_args){.codes = codes,
                                                  .tables = tables,
                                                  .ids = ids,
                                                  .ids_stride = stride,
                                                  .nnz = nnz,
                                                  .rows = 3,
                                                  .num_heads = 1,
                                                  .L = 2});
        assert_int_equal(nnz[0], 0);
        assert_int_equal(nnz[1], 0);
        assert_int_equal(nnz[2], 64);
        for (uint32_t i = 0; i < 64; i++) {
            assert_int_equal(selected[i], i);
        }
    }
    release(&f);
}

/* ---- views ---- */

/* Rows of one step; each has ids of its own, room for just as many as its tables have tokens. */
enum { VIEW_ROWS = 3, VIEW_HEADS = 4, VIEW_L = 3, VIEW_N = 70000 };

/* Whole tables and views of them in turn, the same queries for every row. */
static void look_up_rows(table_lookup_kernel *variant, const uint16_t *codes,
                         const struct lsh_tables *const tables[VIEW_ROWS],
                         uint32_t *const ids[VIEW_ROWS], int32_t *nnz)
{
    uint16_t all[VIEW_ROWS * VIEW_HEADS * VIEW_L];
    int64_t stride[VIEW_ROWS];
    for (int r = 0; r < VIEW_ROWS; r++) {
        memcpy(all + r * VIEW_HEADS * VIEW_L, codes, VIEW_HEADS * VIEW_L * sizeof *codes);
        stride[r] = tables[r]->count;
    }
    memset(nnz, 0xff, VIEW_ROWS * VIEW_HEADS * sizeof *nnz);
    variant(&(struct table_lookup_args){.codes = all,
                                        .tables = tables,
                                        .ids = ids,
                                        .ids_stride = stride,
                                        .nnz = nnz,
                                        .rows = VIEW_ROWS,
                                        .num_heads = VIEW_HEADS,
                                        .L = VIEW_L});
}

/* A row has what the whole tables select [heads][VIEW_N] below its count, and no more. */
static void check_view(const struct lsh_tables *tables, const uint32_t *ids, const int32_t *nnz,
                       const uint32_t *whole, const int32_t *whole_nnz)
{
    for (int h = 0; h < VIEW_HEADS; h++) {
        int32_t below = 0;
        while (below < whole_nnz[h] && whole[h * VIEW_N + below] < tables->count) {
            below++;
        }
        assert_int_equal(nnz[h], below);
        assert_memory_equal(ids + h * tables->count, whole + h * VIEW_N,
                            (size_t)below * sizeof *ids);
    }
}

/* Whole tables before a view and after one; a view between shorter and longer ones. One thread does
 * them all, so that what it leaves behind would be found. */
static void run_views(table_lookup_kernel *variant, const struct fixture *f, int64_t count)
{
    struct lsh_tables view = f->tables;
    struct lsh_tables first = f->tables;
    view.count = count;
    first.count = KV_GRANULE;
    const struct lsh_tables *orders[][VIEW_ROWS] = {
        {&f->tables, &view, &f->tables}, {&view, &f->tables, &view}, {&first, &view, &first}};
    uint16_t *codes = random_codes(VIEW_HEADS * VIEW_L, 4, 4);
    uint32_t *whole = mp_xcalloc(VIEW_HEADS * VIEW_N, sizeof *whole);
    int32_t whole_nnz[VIEW_HEADS];
    const struct lsh_tables *tables = &f->tables;
    table_lookup_ref(&(struct table_lookup_args){.codes = codes,
                                                 .tables = &tables,
                                                 .ids = &whole,
                                                 .ids_stride = &f->tables.count,
                                                 .nnz = whole_nnz,
                                                 .rows = 1,
                                                 .num_heads = VIEW_HEADS,
                                                 .L = VIEW_L});
    for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
        uint32_t *ids[VIEW_ROWS];
        int32_t nnz[VIEW_ROWS * VIEW_HEADS];
        for (int r = 0; r < VIEW_ROWS; r++) {
            ids[r] = mp_xcalloc((size_t)(VIEW_HEADS * orders[i][r]->count), sizeof *ids[r]);
        }
        look_up_rows(variant, codes, orders[i], ids, nnz);
        for (int r = 0; r < VIEW_ROWS; r++) {
            check_view(orders[i][r], ids[r], nnz + r * VIEW_HEADS, whole, whole_nnz);
            free(ids[r]);
        }
    }
    free(codes);
    free(whole);
}

static void test_views(void **state)
{
    (void)state;
    const struct table_case t = {
        .count = VIEW_N, .num_kv_heads = 2, .group = 2, .K = 2, .L = VIEW_L, .distinct = 4};
    const int64_t counts[] = {KV_GRANULE,
                              999 * KV_GRANULE,
                              LSH_BLOCK_TOKENS - KV_GRANULE,
                              LSH_BLOCK_TOKENS,
                              LSH_BLOCK_TOKENS + KV_GRANULE,
                              VIEW_N / KV_GRANULE * KV_GRANULE};
    struct fixture f = build(&t);
    int threads = omp_get_max_threads();
    FOR_EACH_VARIANT(isa, variants)
    {
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            omp_set_num_threads(1);
            run_views(variants[isa], &f, counts[i]);
            omp_set_num_threads(threads);
            run_views(variants[isa], &f, counts[i]);
        }
    }
    release(&f);
}

/* The heads of a shard alone, of all rows, find what all heads find together. */
static void test_shards(void **state)
{
    (void)state;
    enum { KV_HEADS = 5, GROUP = 2, HEADS = KV_HEADS * GROUP, ROWS = 2, L = 4, N = 66000 };
    const struct table_case some = {
        .count = N, .num_kv_heads = KV_HEADS, .group = GROUP, .K = 2, .L = L, .distinct = 4};
    const struct mp_shard shards[] = {{.first_kv_head = 0, .num_kv_heads = 1},
                                      {.first_kv_head = 1, .num_kv_heads = 2},
                                      {.first_kv_head = 3, .num_kv_heads = 2}};
    struct fixture f = build(&some);
    uint16_t *codes = random_codes(ROWS * HEADS * L, some.distinct, 4);
    const int64_t stride[ROWS] = {N, N};
    uint32_t *selected[ROWS];
    for (int r = 0; r < ROWS; r++) {
        selected[r] = mp_xcalloc(HEADS * N, sizeof *selected[r]);
    }
    FOR_EACH_VARIANT(isa, variants)
    {
        int32_t nnz[ROWS * HEADS];
        memset(nnz, 0xff, sizeof nnz);
        for (int i = 0; i < 3; i++) {
            int first = shards[i].first_kv_head * GROUP;
            int heads = shards[i].num_kv_heads * GROUP;
            struct lsh_tables part =
                table_heads(&f.tables, shards[i].first_kv_head, shards[i].num_kv_heads);
            uint16_t part_codes[ROWS * HEADS * L];
            int32_t part_nnz[ROWS * HEADS];
            copy_heads(part_codes, heads, codes + first * L, HEADS, heads, L * sizeof *codes, ROWS);
            variants[isa](&(struct table_lookup_args){
                .codes = part_codes,
                .tables = (const struct lsh_tables *[]){&part, &part},
                .ids = (uint32_t *[]){selected[0] + first * N, selected[1] + first * N},
                .ids_stride = stride,
                .nnz = part_nnz,
                .rows = ROWS,
                .num_heads = heads,
                .L = L});
            copy_heads(nnz + first, HEADS, part_nnz, heads, heads, sizeof *nnz, ROWS);
        }
        for (int r = 0; r < ROWS; r++) {
            struct table_lookup_args all = {.ids = &selected[r],
                                            .ids_stride = stride,
                                            .nnz = nnz + r * HEADS,
                                            .num_heads = HEADS};
            check_lookup(&f, codes + r * HEADS * L, GROUP, &all);
        }
    }
    for (int r = 0; r < ROWS; r++) {
        free(selected[r]);
    }
    free(codes);
    release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_and_lookup),
        cmocka_unit_test(test_rows_without_tokens),
        cmocka_unit_test(test_views),
        cmocka_unit_test(test_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
