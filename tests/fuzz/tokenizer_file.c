/* A tokenizer.json; one that loads encodes and decodes. */
#include "core/tokenizer/tokenizer.h"
#include "fuzz.h"

#include <stdbool.h>
#include <stdlib.h>

static bool stop(void *calls)
{
    return --*(int *)calls < 0;
}

static void use(struct mp_tokenizer *t)
{
    static const char text[] =
        "ab <s>aab  b12\n e\xcc\x81\xcc\xa3_\xe4\xb8\xad<unk>\xf0\x9f\x90\x8b "
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    struct mp_ids ids = {0};
    struct mp_error err;
    int calls = 1000; /* of 4,096 operations */
    mp_tokenizer_set_stop(t, stop, &calls);
    int code = mp_tokenizer_encode(t, text, sizeof text - 1, true, &ids, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
    }
    for (int32_t id = -1; id < 20; id++) {
        mp_ids_push(&ids, id);
    }
    free(mp_tokenizer_decode(t, ids.data, ids.count, false, NULL));
    mp_ids_free(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_tokenizer *t;
    struct mp_error err;
    int code = mp_tokenizer_load(fuzz_file(data, size), &t, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
        return 0;
    }
    use(t);
    mp_tokenizer_free(t);
    return 0;
}
