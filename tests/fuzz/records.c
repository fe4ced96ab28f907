/* A file of input records. */
#include "pipeline/generate/records/records.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_records records;
    struct mp_error err;
    int code = mp_records_load(fuzz_file(data, size), &records, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
        return 0;
    }
    for (size_t i = 0; i < records.count; i++) {
        const struct mp_record *r = &records.items[i];
        bool prompt = r->text != NULL || r->ids != NULL || r->chat != NULL;
        if (r->id == NULL || (r->error != NULL) == prompt) {
            mp_panic("record %zu has both an error and a prompt, or neither", i);
        }
    }
    mp_records_free(&records);
    return 0;
}
