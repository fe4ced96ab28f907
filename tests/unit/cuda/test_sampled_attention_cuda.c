/* sampled_attention on the GPU against the reference. */
#include "codelets/sampled_attention/sampled_attention.h"
#include "core/machine/shard.h"
#include "tests/unit/codelets/heads_test.h"
#include "tests/unit/cuda/cuda_test.h"

struct attention_case {
    int64_t count; /* offloaded tokens */
    double shard;  /* of them that a head selects */
    int rows;      /* row 0 has no offloaded set, in row 1 nothing is selected */
    int num_kv_heads, group, head_dim, K, L;
    float scale_q;
};

enum { MAX_ROWS = 35 };

/* Where the weights of the tokens come from. */
enum form { BY_COSINE, LISTED, UNWEIGHTED, NUM_FORMS };

/* Everything of a case that the kernel reads. */
struct fixture {
    struct offloaded_kv kv;
    uint32_t *ids;            /* [rows][num_heads][count] */
    int32_t *nnz;             /* [rows][num_heads] */
    float *log_weights;       /* as ids; NULL unless LISTED */
    float *q;                 /* [rows][num_heads][head_dim] */
    struct lsh_weight weight; /* used if BY_COSINE */
    enum form form;
};

/* Each token with probability `shard`, token 0 always; nothing in rows 0 and 1. */
static void select_tokens(const struct attention_case *t, struct fixture *f)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 40, 0);
    int num_heads = t->num_kv_heads * t->group;
    for (int h = 2 * num_heads; h < t->rows * num_heads; h++) {
        for (int64_t i = 0; i < t->count; i++) {
            if (i == 0 || mp_rng_uniform(&rng) < t->shard) {
                f->ids[h * t->count + f->nnz[h]++] = (uint32_t)i;
            }
        }
    }
}

static struct fixture *make_fixture(const struct attention_case *t, enum form form)
{
    struct fixture *f = mp_xcalloc(1, sizeof *f);
    f->form = form;
    size_t d = (size_t)t->head_dim;
    size_t heads = (size_t)(t->rows * t->num_kv_heads * t->group);
    int64_t capacity = t->count + 5;
    size_t n = (size_t)t->num_kv_heads * (size_t)capacity * d;
    f->kv = (struct offloaded_kv){.k = random_tensor(MP_BF16, n, 1.0f, 50),
                                  .v = random_tensor(MP_BF16, n, 1.0f, 51),
                                  .count = t->count,
                                  .capacity = capacity,
                                  .num_kv_heads = t->num_kv_heads,
                                  .head_dim = t->head_dim,
                                  .dtype = MP_BF16};
    memset(f->kv.k, 0, d * sizeof(uint16_t)); /* a token without direction */
    f->ids = mp_xcalloc(heads * (size_t)t->count, sizeof *f->ids);
    f->nnz = mp_xcalloc(heads, sizeof *f->nnz);
    select_tokens(t, f);
    if (form == LISTED) {
        f->log_weights = random_floats(heads * (size_t)t->count, 3.0f, 61);
    }
    f->q = random_floats(heads * d, t->scale_q, 60);
    memset(f->q + heads / (size_t)t->rows * 2 * d, 0, d * sizeof *f->q); /* the same for a query */
    lsh_weight_init(&f->weight, t->K, t->L);
    return f;
}

static void release_fixture(struct fixture *f)
{
    free(f->kv.k);
    free(f->kv.v);
    free(f->ids);
    free(f->nnz);
    free(f->log_weights);
    free(f->q);
    free(f);
}

/* Calls the variant for the shard's heads of the rows from first_row on, on the fixture's memory
 * and q, nnz, o and lse of these rows and heads alone. */
static void call(sampled_attention_kernel *variant, const struct attention_case *t,
                 const struct fixture *f, struct mp_shard shard, int first_row, const float *q,
                 const int32_t *nnz, float *o, float *lse)
{
    struct offloaded_kv part = offloaded_heads(&f->kv, shard.first_kv_head, shard.num_kv_heads);
    const struct offloaded_kv *kv[MAX_ROWS];
    const uint32_t *ids[MAX_ROWS];
    const float *log_weights[MAX_ROWS];
    int64_t stride[MAX_ROWS];
    int row_heads = t->num_kv_heads * t->group;
    int first = shard.first_kv_head * t->group;
    for (int r = first_row; r < t->rows; r++) {
        int64_t at = (r * row_heads + first) * t->count;
        kv[r - first_row] = r == 0 ? NULL : &part;
        ids[r - first_row] = f->ids + at;
        log_weights[r - first_row] = f->form == LISTED ? f->log_weights + at : NULL;
        stride[r - first_row] = t->count;
    }
    variant(&(struct sampled_attention_args){.q = q,
                                             .kv = kv,
                                             .ids = ids,
                                             .ids_stride = stride,
                                             .nnz = nnz,
                                             .log_weights = f->form == LISTED ? log_weights : NULL,
                                             .weight = f->form == BY_COSINE ? &f->weight : NULL,
                                             .o = o,
                                             .lse = lse,
                                             .rows = t->rows - first_row,
                                             .num_heads = shard.num_kv_heads * t->group,
                                             .head_dim = t->head_dim,
                                             .scale = 1.0f / sqrtf((float)t->head_dim)});
}

/* The heads of a shard by themselves, from and to memory of all heads. */
static void call_share(const struct attention_case *t, const struct fixture *device,
                       struct mp_shard shard, float *o, float *lse)
{
    int row_heads = t->num_kv_heads * t->group;
    int first = shard.first_kv_head * t->group;
    int heads = shard.num_kv_heads * t->group;
    size_t width = (size_t)t->head_dim * sizeof(float);
    size_t count = (size_t)(t->rows * heads);
    float *part_q = device_copy(NULL, count * width);
    float *part_o = device_copy(NULL, count * width);
    float *part_lse = device_copy(NULL, count * sizeof(float));
    void *part_nnz = NULL; /* in pinned host memory, as the pipeline may keep it */
    ASSERT_CUDA(cudaMallocHost(&part_nnz, count * sizeof(int32_t)));
    copy_heads_cuda(part_q, heads, device->q + first * t->head_dim, row_heads, heads, width,
                    t->rows);
    copy_heads(part_nnz, heads, device->nnz + first, row_heads, heads, sizeof(int32_t), t->rows);
    cuda_op_begin("sampled_attention");
    call(sampled_attention_cuda, t, device, shard, 0, part_q, part_nnz, part_o, part_lse);
    cuda_op_end();
    copy_heads_cuda(o + first * t->head_dim, row_heads, part_o, heads, heads, width, t->rows);
    copy_heads_cuda(lse + first, row_heads, part_lse, heads, heads, sizeof(float), t->rows);
    ASSERT_CUDA(cudaFree(part_q));
    ASSERT_CUDA(cudaFree(part_o));
    ASSERT_CUDA(cudaFree(part_lse));
    ASSERT_CUDA(cudaFreeHost(part_nnz));
}

/* A row's bits do not depend on the rows beside it: the last one of o and lse, again and alone. */
static void assert_same_alone(const struct attention_case *t, const struct fixture *device,
                              const float *o, const float *lse, float *device_o, float *device_lse)
{
    int last = t->rows - 1;
    size_t heads = (size_t)(t->num_kv_heads * t->group);
    size_t width = heads * (size_t)t->head_dim;
    cuda_op_begin("sampled_attention");
    call(sampled_attention_cuda, t, device, (struct mp_shard){.num_kv_heads = t->num_kv_heads},
         last, device->q + (size_t)last * width, device->nnz + (size_t)last * heads, device_o,
         device_lse);
    cuda_op_end();
    float *o_alone = host_copy(device_o, width * sizeof *o_alone);
    float *lse_alone = host_copy(device_lse, heads * sizeof *lse_alone);
    assert_memory_equal(o_alone, o + (size_t)last * width, width * sizeof *o);
    assert_memory_equal(lse_alone, lse + (size_t)last * heads, heads * sizeof *lse);
    free(o_alone);
    free(lse_alone);
}

/* The counts in pinned host memory, as the pipeline keeps them; the rest in device memory. */
static void run_on_gpu(const struct attention_case *t, const struct fixture *f, int num_shares,
                       size_t o_bytes, size_t lse_bytes, float **o, float **lse)
{
    struct fixture *device = mp_xmalloc(sizeof *device);
    *device = *f;
    size_t kv_bytes = (size_t)(t->num_kv_heads * f->kv.capacity * t->head_dim) * sizeof(uint16_t);
    size_t heads = lse_bytes / sizeof(float);
    void *nnz = NULL;
    ASSERT_CUDA(cudaMallocHost(&nnz, heads * sizeof *f->nnz));
    memcpy(nnz, f->nnz, heads * sizeof *f->nnz);
    device->nnz = nnz;
    device->kv.k = device_copy(f->kv.k, kv_bytes);
    device->kv.v = device_copy(f->kv.v, kv_bytes);
    device->ids = device_copy(f->ids, heads * (size_t)t->count * sizeof *f->ids);
    if (f->form == LISTED) {
        device->log_weights = device_copy(f->log_weights, heads * (size_t)t->count * sizeof(float));
    }
    device->q = device_copy(f->q, o_bytes);
    float *device_o = device_copy(NULL, o_bytes);
    float *device_lse = device_copy(NULL, lse_bytes);
    for (int i = 0; i < num_shares; i++) {
        int begin = i * t->num_kv_heads / num_shares;
        int end = (i + 1) * t->num_kv_heads / num_shares;
        struct mp_shard shard = {.first_kv_head = begin, .num_kv_heads = end - begin};
        call_share(t, device, shard, device_o, device_lse);
    }
    *o = host_copy(device_o, o_bytes);
    *lse = host_copy(device_lse, lse_bytes);
    assert_same_alone(t, device, *o, *lse, device_o, device_lse);
    void *arrays[] = {device->kv.k, device->kv.v, device->ids, device->log_weights,
                      device->q,    device_o,     device_lse};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    ASSERT_CUDA(cudaFreeHost(nnz));
    free(device);
}

/* A call for the heads of each shard. */
static void run_case(const struct attention_case *t, enum form form, int num_shares)
{
    size_t row_heads = (size_t)(t->num_kv_heads * t->group);
    size_t heads = (size_t)t->rows * row_heads;
    size_t width = heads * (size_t)t->head_dim;
    struct fixture *f = make_fixture(t, form);
    float *expected = mp_xcalloc(width, sizeof *expected);
    float *expected_lse = mp_xcalloc(heads, sizeof *expected_lse);
    call(sampled_attention_ref, t, f, (struct mp_shard){.num_kv_heads = t->num_kv_heads}, 0, f->q,
         f->nnz, expected, expected_lse);
    float *o, *lse;
    run_on_gpu(t, f, num_shares, width * sizeof *o, heads * sizeof *lse, &o, &lse);
    for (size_t i = 0; i < 2 * row_heads * (size_t)t->head_dim; i++) {
        assert_true(o[i] == 0.0f);
    }
    for (size_t i = 0; i < 2 * row_heads; i++) {
        assert_true(isinf(lse[i]) && lse[i] < 0.0f);
    }
    char what[64];
    snprintf(what, sizeof what, "o of %d tokens, head_dim %d, form %d", (int)t->count, t->head_dim,
             (int)form);
    assert_close(o, expected, width, 2e-3, what);
    assert_close(lse + 2 * row_heads, expected_lse + 2 * row_heads, heads - 2 * row_heads, 1e-3,
                 "lse");
    free(expected);
    free(expected_lse);
    free(o);
    free(lse);
    release_fixture(f);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    /* count, shard, rows, KV heads, group, head_dim, K, L, scale of q */
    const struct attention_case cases[] = {
        {9000, 0.2, 3, 2, 4, 128, 10, 150, 1.0f}, {300, 0.5, 3, 1, 8, 64, 8, 75, 20.0f},
        {77, 1.0, 3, 3, 1, 96, 16, 300, 1.0f},    {70, 1.0, 4, 1, 1, 24, 9, 120, 1.0f},
        {50, 0.5, 3, 2, 2, 128, 1, 2, 1.0f},      {500, 0.1, 3, 1, 5, 200, 11, 300, 1.0f},
        {1, 1.0, 3, 1, 2, 64, 10, 150, 1.0f},     {16, 1.0, 3, 1, 1, 128, 10, 150, 1.0f},
        {17, 1.0, 3, 1, 1, 128, 10, 150, 1.0f},   {3000, 0.5, MAX_ROWS, 2, 4, 64, 10, 150, 1.0f},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (enum form form = 0; form < NUM_FORMS; form++) {
            run_case(&cases[i], form, 1);
            if (cases[i].num_kv_heads > 1) {
                run_case(&cases[i], form, 2);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_reference),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
