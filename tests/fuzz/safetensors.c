/* A safetensors file: all tensors lie inside of it. */
#include "core/safetensors/safetensors.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_tensors *tensors;
    struct mp_error err;
    int code = mp_tensors_open_file(fuzz_file(data, size), &tensors, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
        return 0;
    }
    unsigned sum = 0;
    for (size_t i = 0; i < mp_tensors_count(tensors); i++) {
        const struct mp_tensor *t = mp_tensors_at(tensors, i);
        const volatile unsigned char *bytes = t->data;
        if (t->bytes > 0) {
            sum += bytes[0];
            sum += bytes[t->bytes - 1];
        }
    }
    (void)sum;
    mp_tensors_close(tensors);
    return 0;
}
