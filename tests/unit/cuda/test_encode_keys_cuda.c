/* encode_keys on the GPU: the reference's bits. */
#include "tests/unit/codelets/codes_test.h"
#include "tests/unit/cuda/cuda_test.h"

/* Encodes copies in device memory of what the fixture has; pinned: keys stay in host memory. */
static void run_case(const struct codes_case *t, bool pinned)
{
    struct codes_fixture f = codes_fixture_make(t);
    size_t keys = kv_bytes(t->num_kv_heads, t->head_dim, MP_BF16, f.kv.capacity);
    struct offloaded_kv kv = f.kv;
    struct key_codes codes = f.codes;
    if (pinned) {
        ASSERT_CUDA(cudaMallocHost(&kv.k, keys));
        memcpy(kv.k, f.kv.k, keys);
    } else {
        kv.k = device_copy(f.kv.k, keys);
    }
    codes.words = device_copy(f.codes.words, codes_word_bytes(&f.codes));
    codes.factors = device_copy(f.codes.factors, codes_factor_bytes(&f.codes));
    float *rotation =
        device_copy(f.rotation.data, key_rotation_size(t->head_dim) * sizeof *rotation);
    encode_keys_ref(&(struct encode_keys_args){&f.kv, f.rotation, &f.codes, 0});
    /* In two goes, which are those of one. */
    int64_t first = codes_first_part(t->count);
    struct offloaded_kv rest = keys_from(&f.kv, first);
    void *rest_keys = rest.k;
    rest.k =
        device_copy(rest_keys, kv_bytes(t->num_kv_heads, t->head_dim, MP_BF16, rest.capacity + 1));
    struct key_codes before = codes;
    before.count = first;
    struct encode_keys_args args = {
        .kv = &kv, .rotation = {.data = rotation, .head_dim = t->head_dim}, .codes = &before};
    cuda_op_begin("encode_keys");
    encode_keys_cuda(&args);
    args.kv = &rest;
    args.codes = &codes;
    args.first = first;
    encode_keys_cuda(&args);
    cuda_op_end();
    free(rest_keys);
    ASSERT_CUDA(cudaFree(rest.k));
    struct key_codes found = codes;
    found.words = host_copy(codes.words, codes_word_bytes(&codes));
    found.factors = host_copy(codes.factors, codes_factor_bytes(&codes));
    codes_assert_equal(&found, &f.codes);
    codes_release(&found);
    ASSERT_CUDA(cudaFree(codes.words));
    ASSERT_CUDA(cudaFree(codes.factors));
    ASSERT_CUDA(cudaFree(rotation));
    ASSERT_CUDA(pinned ? cudaFreeHost(kv.k) : cudaFree(kv.k));
    codes_fixture_release(&f);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < NUM_CODES_CASES; i++) {
        run_case(&CODES_CASES[i], false);
        run_case(&CODES_CASES[i], true);
    }
    /* count, KV heads, head_dim, bits */
    const struct codes_case cases[] = {
        {40000, 2, 128, 2}, {3001, 3, 64, 4}, {2000, 1, 250, 1},
        {2000, 1, 8, 4},    {999, 1, 112, 2}, {500, 1, 2, 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        run_case(&cases[i], false);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees_with_reference)};
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
