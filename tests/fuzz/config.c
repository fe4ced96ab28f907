/* A file of settings (magicpig_config.json). */
#include "core/config/config.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_config config;
    struct mp_error err;
    mp_config_init(&config);
    int code = mp_config_load(&config, fuzz_file(data, size), &err);
    if (code == 0) {
        code = mp_config_check(&config, &err);
    }
    if (code != 0) {
        fuzz_check_error(code, &err);
    }
    mp_config_free(&config);
    return 0;
}
