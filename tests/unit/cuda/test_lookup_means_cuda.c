/* magicpig's estimator: what means_test.h says, by the kernels of the GPU. */
#include "tests/unit/codelets/means_test.h"
#include "tests/unit/cuda/cuda_test.h"

#define ON_GPU(op)                                                                                 \
    static void op##_on_gpu(const struct op##_args *a)                                             \
    {                                                                                              \
        cuda_op_begin(#op);                                                                        \
        op##_cuda(a);                                                                              \
        cuda_op_end();                                                                             \
    }

ON_GPU(hashing)
ON_GPU(table_build)
ON_GPU(table_lookup)
ON_GPU(sampled_attention)

static const struct means_ops ops = {hashing_on_gpu, table_build_on_gpu, table_lookup_on_gpu,
                                     sampled_attention_on_gpu};

struct device {
    struct means_arrays m; /* nnz in pinned host memory, as the pipeline keeps it */
    struct lsh_weight weight;
};

static void sample(void *state, const float *w, struct means_sample *out)
{
    struct device *d = state;
    ASSERT_CUDA(cudaMemcpy(d->m.w, w, MEANS_W_BYTES, cudaMemcpyHostToDevice));
    ASSERT_CUDA(cudaDeviceSynchronize());
    means_step(&ops, &d->m, &d->weight);
    cuda_synchronize();
    memcpy(out->nnz, d->m.nnz, sizeof out->nnz);
    ASSERT_CUDA(cudaMemcpy(out->o, d->m.o, sizeof out->o, cudaMemcpyDeviceToHost));
    ASSERT_CUDA(cudaMemcpy(out->lse, d->m.lse, sizeof out->lse, cudaMemcpyDeviceToHost));
}

static void test_means(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    struct keys_fixture f = keys_make(&MEANS_CASE, 1.0f);
    size_t kv = kv_bytes(1, MEANS_DIM, MP_BF16, f.kv.capacity);
    struct device d = {.m = {.kv = f.kv,
                             .q = device_copy(f.q, MEANS_O_BYTES),
                             .w = device_copy(NULL, MEANS_W_BYTES),
                             .key_codes = device_copy(NULL, MEANS_KEY_CODES_BYTES),
                             .codes = device_copy(NULL, MEANS_CODES_BYTES),
                             .tables = means_tables(device_copy(NULL, MEANS_KEY_CODES_BYTES),
                                                    device_copy(NULL, MEANS_OFFSETS_BYTES)),
                             .ids = device_copy(NULL, MEANS_IDS_BYTES),
                             .o = device_copy(NULL, MEANS_O_BYTES),
                             .lse = device_copy(NULL, MEANS_LSE_BYTES)}};
    void *nnz = NULL;
    ASSERT_CUDA(cudaMallocHost(&nnz, MEANS_NNZ_BYTES));
    d.m.nnz = nnz;
    d.m.kv.k = device_copy(f.kv.k, kv);
    d.m.kv.v = device_copy(f.kv.v, kv);
    lsh_weight_init(&d.weight, MEANS_K, MEANS_L);
    assert_sampled_means(&f, sample, &d);
    void *arrays[] = {d.m.kv.k,       d.m.kv.v,           d.m.q,   d.m.w, d.m.key_codes, d.m.codes,
                      d.m.tables.ids, d.m.tables.offsets, d.m.ids, d.m.o, d.m.lse};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    ASSERT_CUDA(cudaFreeHost(nnz));
    keys_release(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_means)};
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
