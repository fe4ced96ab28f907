/* table_build and table_lookup on the GPU: exactly the reference's tables and selections. */
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "core/machine/shard.h"
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/cuda/cuda_test.h"

struct table_case {
    int K, L, num_kv_heads, group;
    int64_t count;
    unsigned distinct; /* codes are drawn from 0 .. distinct - 1 */
};

/* The same tables twice: in host memory by the reference, on the device by the kernel. */
struct fixture {
    struct lsh_tables host;
    struct lsh_tables device;
};

static uint16_t *random_codes(size_t n, unsigned distinct, uint64_t seed)
{
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 0);
    uint16_t *codes = mp_xmalloc((n + 1) * sizeof *codes);
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint16_t)(mp_rng_next(&rng) % distinct);
    }
    return codes;
}

static size_t ids_bytes(const struct lsh_tables *t)
{
    return (size_t)(t->num_kv_heads * t->L * t->capacity) * sizeof *t->ids;
}

static size_t offsets_bytes(const struct lsh_tables *t)
{
    return (size_t)(t->num_kv_heads * t->L * lsh_num_blocks(t->capacity)) *
           (((size_t)1 << t->K) + 1) * sizeof *t->offsets;
}

/* Both builds start from memory full of 0xff, so that writes out of place show as well. */
static struct fixture build(const struct table_case *t)
{
    struct fixture f = {.host = {.count = t->count,
                                 .capacity = t->count + 37,
                                 .num_kv_heads = t->num_kv_heads,
                                 .K = t->K,
                                 .L = t->L}};
    size_t cells = (size_t)(t->num_kv_heads * t->L * t->count);
    uint16_t *codes = random_codes(cells, t->distinct, 3);
    uint16_t *device_codes = device_copy(codes, cells * sizeof *codes);
    f.device = f.host;
    f.host.ids = mp_xmalloc(ids_bytes(&f.host));
    f.host.offsets = mp_xmalloc(offsets_bytes(&f.host));
    memset(f.host.ids, 0xff, ids_bytes(&f.host));
    memset(f.host.offsets, 0xff, offsets_bytes(&f.host));
    f.device.ids = device_copy(NULL, ids_bytes(&f.host));
    f.device.offsets = device_copy(NULL, offsets_bytes(&f.host));
    table_build_ref(&(struct table_build_args){.codes = codes, .tables = &f.host});
    cuda_op_begin("table_build");
    table_build_cuda(&(struct table_build_args){.codes = device_codes, .tables = &f.device});
    cuda_op_end();
    cuda_synchronize();
    ASSERT_CUDA(cudaFree(device_codes));
    free(codes);
    return f;
}

static void release(struct fixture *f)
{
    free(f->host.ids);
    free(f->host.offsets);
    ASSERT_CUDA(cudaFree(f->device.ids));
    ASSERT_CUDA(cudaFree(f->device.offsets));
}

static void assert_equal_on_device(const void *expected, const void *device, size_t bytes,
                                   const struct table_case *t, const char *what)
{
    void *found = host_copy(device, bytes);
    if (bytes > 0 && memcmp(found, expected, bytes) != 0) {
        fail_msg("%s differ: K %d, L %d, %d KV heads, %lld tokens", what, t->K, t->L,
                 t->num_kv_heads, (long long)t->count);
    }
    free(found);
}

/* Looks the heads of each shard up in a call of its own. */
static void lookup_on_device(const struct table_lookup_args *all, int num_kv_heads, int num_shards)
{
    int group = all->num_heads / num_kv_heads;
    struct lsh_tables *parts = mp_xcalloc((size_t)all->rows, sizeof *parts);
    const struct lsh_tables **tables = mp_xcalloc((size_t)all->rows, sizeof *tables);
    uint32_t **ids = mp_xcalloc((size_t)all->rows, sizeof *ids);
    for (int i = 0; i < num_shards; i++) {
        int begin = i * num_kv_heads / num_shards;
        int end = (i + 1) * num_kv_heads / num_shards;
        struct mp_shard shard = {.first_kv_head = begin, .num_kv_heads = end - begin};
        for (int64_t r = 0; r < all->rows; r++) {
            if (all->tables[r] != NULL) {
                parts[r] = table_heads(all->tables[r], shard.first_kv_head, shard.num_kv_heads);
                tables[r] = &parts[r];
                ids[r] = all->ids[r] + begin * group * all->ids_stride[r];
            }
        }
        struct table_lookup_args a = *all;
        int first = begin * group;
        int heads = shard.num_kv_heads * group;
        size_t codes = (size_t)a.L * sizeof *a.codes;
        uint16_t *part_codes = device_copy(NULL, (size_t)(a.rows * heads) * codes);
        copy_heads_cuda(part_codes, heads, all->codes + first * a.L, all->num_heads, heads, codes,
                        a.rows);
        a.codes = part_codes;
        a.tables = tables;
        a.ids = ids;
        a.nnz = device_copy(NULL, (size_t)(a.rows * heads) * sizeof *a.nnz);
        a.num_heads = heads;
        cuda_op_begin("table_lookup");
        table_lookup_cuda(&a);
        cuda_op_end();
        copy_heads_cuda(all->nnz + first, all->num_heads, a.nnz, heads, heads, sizeof *a.nnz,
                        a.rows);
        ASSERT_CUDA(cudaFree(part_codes));
        ASSERT_CUDA(cudaFree(a.nnz));
    }
    cuda_synchronize();
    free(parts);
    free(tables);
    free(ids);
}

/* A step of `rows` rows, its heads in so many shards; tables[r] == NULL: a row without. */
static void compare_lookup(const struct fixture *const *tables, int64_t rows, int num_shards,
                           const struct table_case *t)
{
    int num_heads = t->num_kv_heads * t->group;
    int L = t->L;
    size_t queries = (size_t)(rows * num_heads);
    uint16_t *codes = random_codes(queries * (size_t)L, t->distinct, 4);
    const struct lsh_tables **host = mp_xcalloc((size_t)rows, sizeof *host);
    const struct lsh_tables **device = mp_xcalloc((size_t)rows, sizeof *device);
    uint32_t **host_ids = mp_xcalloc((size_t)rows, sizeof *host_ids);
    uint32_t **device_ids = mp_xcalloc((size_t)rows, sizeof *device_ids);
    int64_t *stride = mp_xcalloc((size_t)rows, sizeof *stride);
    int32_t *nnz = mp_xcalloc(queries, sizeof *nnz);
    for (int64_t r = 0; r < rows; r++) {
        if (tables[r] != NULL) {
            host[r] = &tables[r]->host;
            device[r] = &tables[r]->device;
            stride[r] = host[r]->count + 5;
            size_t bytes = (size_t)(num_heads * stride[r]) * sizeof(uint32_t);
            host_ids[r] = mp_xmalloc(bytes);
            memset(host_ids[r], 0xff, bytes);
            device_ids[r] = device_copy(NULL, bytes);
        }
    }
    struct table_lookup_args a = {.codes = codes,
                                  .tables = host,
                                  .ids = host_ids,
                                  .ids_stride = stride,
                                  .nnz = nnz,
                                  .rows = rows,
                                  .num_heads = num_heads,
                                  .L = L};
    table_lookup_ref(&a);
    uint16_t *device_codes = device_copy(codes, queries * (size_t)L * sizeof *codes);
    a.codes = device_codes;
    a.tables = device;
    a.ids = device_ids;
    a.nnz = device_copy(NULL, queries * sizeof *nnz);
    lookup_on_device(&a, t->num_kv_heads, num_shards);
    assert_equal_on_device(nnz, a.nnz, queries * sizeof *nnz, t, "nnz");
    for (int64_t r = 0; r < rows; r++) {
        if (tables[r] != NULL) {
            assert_equal_on_device(host_ids[r], device_ids[r],
                                   (size_t)(num_heads * stride[r]) * sizeof(uint32_t), t,
                                   "selected ids");
            ASSERT_CUDA(cudaFree(device_ids[r]));
            free(host_ids[r]);
        }
    }
    ASSERT_CUDA(cudaFree(a.nnz));
    ASSERT_CUDA(cudaFree(device_codes));
    free(codes);
    free(host);
    free(device);
    free(host_ids);
    free(device_ids);
    free(stride);
    free(nnz);
}

/* {K, L, num_kv_heads, group, count, distinct} */
static const struct table_case cases[] = {
    {10, 150, 8, 4, 1000, 1024}, {10, 150, 1, 4, 70001, 700}, {10, 20, 8, 1, 65536, 1024},
    {1, 1, 1, 1, 1, 2},          {1, 1, 8, 4, 65537, 2},      {1, 40, 1, 1, 70001, 2},
    {16, 3, 1, 4, 65536, 65536}, {16, 3, 8, 1, 70001, 300},   {16, 3, 1, 1, 63, 65536},
    {16, 3, 1, 1, 65537, 1},     {4, 7, 8, 4, 2, 16},         {4, 7, 1, 4, 65537, 16},
    {8, 75, 8, 1, 63, 256},      {8, 75, 1, 4, 65537, 200},   {11, 300, 1, 4, 1000, 2048},
    {11, 30, 1, 1, 70001, 1500}, {12, 16, 8, 4, 1000, 4096},  {12, 16, 1, 1, 140000, 4096},
    {2, 1100, 1, 1, 130, 4},     {10, 150, 8, 4, 0, 1024},
};

static void test_build_and_lookup(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct table_case *t = &cases[i];
        struct fixture f = build(t);
        assert_equal_on_device(f.host.offsets, f.device.offsets, offsets_bytes(&f.host), t,
                               "offsets");
        assert_equal_on_device(f.host.ids, f.device.ids, ids_bytes(&f.host), t, "ids");
        const struct fixture *row = &f;
        compare_lookup(&row, 1, 1, t);
        release(&f);
    }
}

/* More rows than a launch takes: no tables, empty tables, and tables of several lengths. */
static void test_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = 37 };
    const int64_t counts[] = {0, 64, 1000, 65537};
    enum { LENGTHS = sizeof counts / sizeof counts[0] };
    struct table_case t = {.K = 5, .L = 6, .num_kv_heads = 2, .group = 4, .distinct = 32};
    struct fixture f[LENGTHS];
    for (int i = 0; i < LENGTHS; i++) {
        t.count = counts[i];
        f[i] = build(&t);
    }
    const struct fixture *rows[ROWS];
    for (int r = 0; r < ROWS; r++) {
        rows[r] = r % (LENGTHS + 1) < LENGTHS ? &f[r % (LENGTHS + 1)] : NULL;
    }
    compare_lookup(rows, ROWS, 1, &t);
    compare_lookup(rows, ROWS, 2, &t);
    compare_lookup(rows, 0, 1, &t);
    for (int i = 0; i < LENGTHS; i++) {
        release(&f[i]);
    }
}

/* ---- views ---- */

/* The same tables, of which the first `count` tokens can be selected. */
static struct fixture view_of(const struct fixture *f, int64_t count)
{
    struct fixture view = *f;
    view.host.count = count;
    view.device.count = count;
    return view;
}

/* Whole tables and views of them in one step, in both orders, more rows than a launch takes. That
 * the reference selects what it should of a view is tested with it. */
static void test_views(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { ROWS = 35 };
    const int64_t counts[] = {KV_GRANULE,
                              999 * KV_GRANULE,
                              LSH_BLOCK_TOKENS - KV_GRANULE,
                              LSH_BLOCK_TOKENS,
                              LSH_BLOCK_TOKENS + KV_GRANULE,
                              70000 / KV_GRANULE * KV_GRANULE};
    const struct table_case t = {
        .K = 4, .L = 7, .num_kv_heads = 2, .group = 2, .count = 70000, .distinct = 16};
    struct fixture f = build(&t);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct fixture view = view_of(&f, counts[i]);
        const struct fixture *rows[ROWS + 1];
        for (int r = 0; r <= ROWS; r++) {
            rows[r] = r % 2 == 0 ? &f : &view;
        }
        compare_lookup(rows, 3, 1, &t);
        compare_lookup(rows + 1, 3, 2, &t);
        compare_lookup(rows + 1, ROWS, 1, &t);
    }
    release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_build_and_lookup),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_views),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
