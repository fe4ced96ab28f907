/* sampling_error on the GPU against the reference. */
#include "tests/unit/codelets/sampling_error_test.h"
#include "tests/unit/cuda/cuda_test.h"

static void run_case(const struct shared_case *t)
{
    size_t d = (size_t)t->head_dim;
    size_t heads = (size_t)(SHARED_ROWS * t->num_kv_heads * t->group);
    size_t layer = (size_t)(SHARED_ROWS * error_layer_heads(t));
    size_t lists = (size_t)(SHARED_ROWS * t->num_kv_heads);
    struct shared_rows *s = make_drawn_rows(t);
    struct error_output out = make_error_output(t, s);
    float *expected = mp_xcalloc(heads, sizeof *expected);
    sampling_error_call(sampling_error_ref, t, s, &out, expected);

    size_t kv = kv_bytes(t->num_kv_heads, t->head_dim, t->dtype, s->kv.capacity);
    size_t selected = lists * (size_t)s->stride;
    struct shared_rows on_gpu = *s;
    on_gpu.kv.k = device_copy(s->kv.k, kv);
    on_gpu.kv.v = device_copy(s->kv.v, kv);
    on_gpu.kv.scales =
        t->dtype == MP_I8
            ? device_copy(s->kv.scales, kv_scale_bytes(t->num_kv_heads, MP_I8, s->kv.capacity))
            : NULL;
    on_gpu.ids = device_copy(s->ids, selected * sizeof *s->ids);
    on_gpu.log_weights = device_copy(s->log_weights, selected * sizeof *s->log_weights);
    on_gpu.nnz = device_copy(s->nnz, lists * sizeof *s->nnz);
    on_gpu.q = device_copy(s->q, heads * d * sizeof *s->q);
    struct error_output merged = {device_copy(out.o, layer * d * sizeof *out.o),
                                  device_copy(out.lse, layer * sizeof *out.lse)};
    float *error = device_copy(NULL, heads * sizeof *error);
    cuda_op_begin("sampling_error");
    sampling_error_call(sampling_error_cuda, t, &on_gpu, &merged, error);
    cuda_op_end();
    float *found = host_copy(error, heads * sizeof *error);
    check_errors(t, found, expected, "CUDA");

    void *const arrays[] = {on_gpu.kv.k,        on_gpu.kv.v, on_gpu.kv.scales, on_gpu.ids,
                            on_gpu.log_weights, on_gpu.nnz,  on_gpu.q,         merged.o,
                            merged.lse,         error};
    for (size_t i = 0; i < sizeof arrays / sizeof arrays[0]; i++) {
        ASSERT_CUDA(cudaFree(arrays[i]));
    }
    free(found);
    free(expected);
    free(out.o);
    free(out.lse);
    release_shared_rows(s);
}

static void test_agrees_with_reference(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    for (size_t i = 0; i < sizeof shared_cases / sizeof shared_cases[0]; i++) {
        if (shared_cases[i].dtype != MP_F32 && shared_cases[i].head_dim % 8 == 0) {
            run_case(&shared_cases[i]);
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
