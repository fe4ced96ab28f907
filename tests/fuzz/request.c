/* The body of a request to serve: of a completion and of a chat. */
#include "fuzz.h"
#include "pipeline/serve/api/ask.h"

#include "core/base/utf8.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static void check_refusal(const struct mp_api_error *error, int status)
{
    char copy[sizeof error->message];
    strcpy(copy, error->message);
    mp_utf8_repair(copy);
    if (status != MP_HTTP_BAD_REQUEST || error->status != status || copy[0] == '\0' ||
        strcmp(copy, error->message) != 0) {
        mp_panic("status %d, message \"%s\"", status, error->message);
    }
    cJSON_Delete(mp_api_error_json(error));
}

static void read_body(enum mp_ask_kind kind, const char *body, size_t length)
{
    struct mp_ask ask;
    struct mp_api_error error;
    int status = mp_ask_read(kind, body, length, &ask, &error);
    if (status != 0) {
        check_refusal(&error, status);
        return;
    }
    for (const struct cJSON *m = kind == MP_ASK_CHAT ? mp_json_first(ask.messages) : NULL;
         m != NULL; m = mp_json_after(m)) {
        struct mp_error err;
        char *text;
        size_t bytes;
        if (mp_ask_content(ask.doc, m, &text, &bytes, &err) != 0) {
            mp_panic("a message that was accepted: %s", err.message);
        }
        free(text);
    }
    if (ask.num_stop > MP_ASK_MOST_STOPS || ask.logprobs > MP_ASK_MOST_CHAT_LOGPROBS ||
        (kind == MP_ASK_COMPLETION && ask.num_prompts < 1)) {
        mp_panic("%d stop strings, %d logprobs, %d prompts", ask.num_stop, ask.logprobs,
                 ask.num_prompts);
    }
    mp_ask_free(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_body(MP_ASK_COMPLETION, (const char *)data, size);
    read_body(MP_ASK_CHAT, (const char *)data, size);
    return 0;
}
