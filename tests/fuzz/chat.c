/* A conversation, for the demo's template. */
#include "models/chat/chat.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mp_chat *chat;
    struct mp_error err;
    if (chat == NULL && mp_chat_load(FUZZ_DATA "/../../models/demo", &chat, &err) != 0) {
        mp_panic("%s", err.message);
    }
    struct mp_jinja_text text;
    int code = mp_chat_render(chat, "input", (const char *)data, size, &text, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
    } else {
        mp_jinja_text_free(&text);
    }
    return 0;
}
