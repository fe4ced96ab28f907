/* What cuda_context.cu provides, for a program built without CUDA: there is no GPU. */
#include "codelets/common/cuda/cuda.h"

int cuda_device_count(void)
{
    return 0;
}

int cuda_device_probe(int device, struct cuda_device_info *out, struct mp_error *err)
{
    (void)out;
    return mp_fail(err, MP_ERR_RUNTIME, "GPU %d: this program was built without CUDA", device);
}

bool cuda_device_reads(int device, int peer)
{
    (void)device;
    (void)peer;
    return false;
}

int cuda_context_create(int device, size_t workspace, struct mp_error *err)
{
    (void)workspace;
    return mp_fail(err, MP_ERR_RUNTIME, "GPU %d: this program was built without CUDA", device);
}

void cuda_context_destroy(void)
{
}

void cuda_op_begin(const char *op)
{
    mp_panic("%s on a GPU in a program without CUDA", op);
}

void cuda_op_end(void)
{
}

void cuda_op_signal(void *stream)
{
    (void)stream;
}

void cuda_op_measure(void *what)
{
    (void)what;
}

void *cuda_op_measured(uint64_t *begin_ns, uint64_t *end_ns)
{
    (void)begin_ns;
    (void)end_ns;
    return NULL;
}

void cuda_synchronize(void)
{
}
