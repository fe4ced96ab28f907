/* evict on the GPU: the bits of the CPU, into device memory and into pinned host memory. */
#include "tests/unit/codelets/evict_test.h"
#include "tests/unit/cuda/cuda_test.h"

static void *offloaded_copy(const void *host, size_t bytes, bool pinned)
{
    void *copy = NULL;
    if (!pinned) {
        return device_copy(host, bytes);
    }
    ASSERT_CUDA(cudaMallocHost(&copy, bytes > 0 ? bytes : 1));
    memcpy(copy, host, bytes);
    return copy;
}

static void check_and_free(void *found, const void *expected, size_t bytes, bool pinned)
{
    void *copy = pinned ? found : host_copy(found, bytes);
    assert_memory_equal(copy, expected, bytes);
    if (!pinned) {
        free(copy);
    }
    ASSERT_CUDA(pinned ? cudaFreeHost(found) : cudaFree(found));
}

static void run_case(const struct evict_case *t, bool pinned)
{
    struct evict_fixture f = evict_make(t);
    struct evict_fixture d = f;
    size_t cache = evict_cache_bytes(&f);
    size_t offloaded = evict_offloaded_bytes(&f);
    d.cache.k = device_copy(f.cache.k, cache);
    d.cache.v = device_copy(f.cache.v, cache);
    d.offloaded.k = offloaded_copy(f.offloaded.k, offloaded, pinned);
    d.offloaded.v = offloaded_copy(f.offloaded.v, offloaded, pinned);
    d.offloaded.scales = offloaded_copy(f.offloaded.scales, evict_scale_bytes(&f), pinned);
    struct evict_args host = evict_args_of(t, &f);
    struct evict_args device = evict_args_of(t, &d);
    evict_any(&host);
    cuda_op_begin("evict");
    evict_cuda(&device);
    cuda_op_end();
    check_and_free(d.cache.k, f.cache.k, cache, false);
    check_and_free(d.cache.v, f.cache.v, cache, false);
    check_and_free(d.offloaded.k, f.offloaded.k, offloaded, pinned);
    check_and_free(d.offloaded.v, f.offloaded.v, offloaded, pinned);
    check_and_free(d.offloaded.scales, f.offloaded.scales, evict_scale_bytes(&f), pinned);
    evict_release(&f);
}

static void test_agrees_with_cpu(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < NUM_EVICT_CASES; i++) {
        run_case(&EVICT_CASES[i], false);
        run_case(&EVICT_CASES[i], true);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_agrees_with_cpu)};
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
