/* random on the GPU: bit for bit the reference's, and nothing beside the part. */
#include "codelets/random/random.h"
#include "tests/unit/cuda/cuda_test.h"

static void check(struct random_args a)
{
    enum { BEHIND = 19 }; /* elements after the part */
    const size_t bytes = (size_t)(a.offset + a.count + BEHIND) * mp_dtype_size(a.dtype);
    void *expected = mp_xmalloc(bytes);
    memset(expected, 0xff, bytes);
    a.out = expected;
    random_ref(&a);

    void *device_out = device_copy(NULL, bytes);
    a.out = device_out;
    cuda_op_begin("random");
    random_cuda(&a);
    cuda_op_end();
    void *out = host_copy(device_out, bytes);
    assert_memory_equal(out, expected, bytes);

    free(expected);
    free(out);
    ASSERT_CUDA(cudaFree(device_out));
}

/* Aligned and unaligned parts, tails, more elements than threads; 0.02 and 1.1 are not exact. */
static void test_plain(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    const int64_t offsets[] = {0, 1, 8, 13};
    const int64_t counts[] = {0, 1, 7, 8, 1000, 3000001};
    for (enum mp_dtype dtype = MP_F32; dtype <= MP_BF16; dtype++) {
        for (size_t o = 0; o < sizeof offsets / sizeof offsets[0]; o++) {
            for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
                check((struct random_args){
                    .dtype = dtype,
                    .offset = offsets[o],
                    .count = counts[c],
                    .numbers = {.seed = o + 10 * c, .center = 1.1f, .spread = 0.02f},
                });
            }
        }
    }
}

static void test_pairs(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (enum mp_dtype dtype = MP_F32; dtype <= MP_BF16; dtype++) {
        check((struct random_args){
            .dtype = dtype,
            .offset = 4096,
            .count = 3 * 128 * 1001,
            .numbers = {.seed = 1,
                        .spread = 0.02f,
                        .pairs = 24,
                        .pair_spread = 0.7f,
                        .head_dim = 128,
                        .stride = 1001},
        });
    }
}

/* Element numbers beyond 32 bits: only the last ones of the part are compared. */
static void test_large(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    enum { LAST = 1000 };
    const int64_t count = ((int64_t)1 << 32) + 3;
    const size_t bytes = (size_t)count * sizeof(uint16_t);
    uint16_t *device_out = NULL;
    if (cudaMalloc((void **)&device_out, bytes) != cudaSuccess) {
        cudaGetLastError(); /* forgets the refusal */
        print_message("not checked: the GPU has no %zu bytes\n", bytes);
        return;
    }
    struct random_numbers numbers = {.seed = 2, .spread = 0.02f};
    cuda_op_begin("random");
    random_cuda(&(struct random_args){device_out, MP_BF16, 0, count, numbers});
    cuda_op_end();
    uint16_t *out = host_copy(device_out + count - LAST, LAST * sizeof *out);
    struct mp_rng rng;
    mp_rng_init(&rng, numbers.seed, 0);
    rng.state += (uint64_t)(count - LAST) * UINT64_C(0x9e3779b97f4a7c15);
    for (int i = 0; i < LAST; i++) {
        double u = (double)(mp_rng_next(&rng) >> 40) * 0x1p-23 - 1.0;
        assert_int_equal(out[i], mp_f32_to_bf16((float)((double)numbers.spread * u)));
    }
    free(out);
    ASSERT_CUDA(cudaFree(device_out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
