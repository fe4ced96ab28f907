/* restore on the GPU against the reference. */
#include "tests/unit/codelets/restore_test.h"
#include "tests/unit/cuda/cuda_test.h"

static void *pinned_copy(const void *host, size_t bytes)
{
    void *pinned = NULL;
    ASSERT_CUDA(cudaMallocHost(&pinned, bytes));
    memcpy(pinned, host, bytes);
    return pinned;
}

/* A copy of the cache in device memory, without its mean. Free k and v. */
static struct kv_cache device_cache(const struct kv_cache *host)
{
    struct kv_cache device = *host;
    device.k = device_copy(host->k, restore_cache_bytes(host));
    device.v = device_copy(host->v, restore_cache_bytes(host));
    return device;
}

/* What is offloaded lies in pinned host memory, or on the device too. */
static struct offloaded_kv move_offloaded(const struct offloaded_kv *off, bool pinned)
{
    size_t scales = kv_scale_bytes(off->num_kv_heads, off->dtype, off->capacity);
    struct offloaded_kv moved = *off;
    moved.k = pinned ? pinned_copy(off->k, restore_off_bytes(off))
                     : device_copy(off->k, restore_off_bytes(off));
    moved.v = restore_values(&moved);
    if (off->scales != NULL) {
        moved.scales = pinned ? pinned_copy(off->scales, scales) : device_copy(off->scales, scales);
    }
    return moved;
}

static void release_offloaded(struct offloaded_kv *moved, bool pinned)
{
    ASSERT_CUDA(pinned ? cudaFreeHost(moved->k) : cudaFree(moved->k));
    if (moved->scales != NULL) {
        ASSERT_CUDA(pinned ? cudaFreeHost(moved->scales) : cudaFree(moved->scales));
    }
}

/* Restores what lies in the fixture with copies of its caches on the device, and brings back what
 * is written. */
static struct kv_cache restore_on_gpu(const struct restore_case *t,
                                      const struct restore_fixture *host, bool pinned)
{
    struct restore_fixture f = *host;
    size_t means = (size_t)(t->num_kv_heads * t->head_dim) * sizeof(float);
    size_t bytes = restore_cache_bytes(&f.restored);
    f.kept = device_cache(&host->kept);
    f.kept.k_mean = device_copy(host->kept.k_mean, means);
    f.restored.k = device_copy(NULL, bytes);
    f.restored.v = device_copy(NULL, bytes);
    f.off = move_offloaded(&host->off, pinned);
    struct restore_args a = restore_args_of(t, &f);
    cuda_op_begin("restore");
    restore_cuda(&a);
    cuda_op_end();
    struct kv_cache back = f.restored;
    back.k = host_copy(f.restored.k, bytes);
    back.v = host_copy(f.restored.v, bytes);
    void *arrays[] = {f.kept.k, f.kept.v, f.kept.k_mean, f.restored.k, f.restored.v};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    release_offloaded(&f.off, pinned);
    return back;
}

static void run_case(const struct restore_case *t)
{
    struct restore_fixture f = restore_make(t);
    restore_offload(offload_ref, t, &f);
    struct restore_args a = restore_args_of(t, &f);
    restore_ref(&a);
    for (int pinned = 0; pinned < 2; pinned++) {
        struct kv_cache found = restore_on_gpu(t, &f, pinned == 1);
        restore_assert_agree(t, &found, &f.restored);
        free(found.k);
        free(found.v);
    }
    restore_release(&f);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < NUM_RESTORE_CASES; i++) {
        const struct restore_case *t = &RESTORE_CASES[i];
        if (restore_dtype(t) == MP_BF16 && t->head_dim % 8 == 0) {
            run_case(t);
        }
    }
    run_case(&(struct restore_case){RESTORE_PAIRED, MP_I8, 70001, 65541, 8, 128});
    run_case(&(struct restore_case){RESTORE_SPARSE, MP_BF16, 70001, 69000, 9, 96});
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_agrees_with_reference),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, cuda_test_teardown);
}
