/* config.json and generation_config.json of a model. */
#include "models/hf_config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_file(data, size);
    struct mp_hf_config config;
    struct mp_error err;
    int code = mp_hf_config_read(path, &config, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
        config = (struct mp_hf_config){.shape.vocab_size = 1000};
    }
    code = mp_hf_generation_config_read(path, &config, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
    }
    return 0;
}
