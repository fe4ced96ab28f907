/* JSON of any kind: what is read must be readable again when it is written. */
#include "core/json/json.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static void read_all(struct mp_json_text text)
{
    struct mp_json *doc;
    struct mp_error err;
    int code = 0;
    while (code == 0 && mp_json_skip_space(&text)) {
        code = mp_json_next(&text, &doc, &err);
        if (code == 0) {
            mp_json_free(doc);
        } else {
            fuzz_check_error(code, &err);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_json *doc;
    struct mp_error err;
    int code = mp_json_parse("input", (const char *)data, size, &doc, &err);
    if (code == 0) {
        const char *string;
        if (mp_json_as_string(doc, mp_json_root(doc), &string, &err) == 0) {
            char *quoted = mp_json_quote(string, strlen(string));
            struct mp_json *again;
            if (mp_json_parse("quoted", quoted, strlen(quoted), &again, &err) != 0) {
                mp_panic("%s", err.message);
            }
            mp_json_free(again);
            free(quoted);
        }
        mp_json_free(doc);
    } else {
        fuzz_check_error(code, &err);
    }
    struct mp_json_text text;
    mp_json_text_init(&text, "input", (const char *)data, size);
    text.allow_nul = true;
    read_all(text);
    return 0;
}
