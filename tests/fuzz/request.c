/* The body of a request to serve: of a completion, of a chat, of texts and of ids. */
#include "fuzz.h"
#include "pipeline/serve/api/ask.h"
#include "pipeline/serve/api/text_ask.h"

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
        if (mp_json_find(m, "content") == NULL) {
            continue; /* an assistant's */
        }
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

static void read_texts(const char *body, size_t length)
{
    enum { MOST_ID = 99 };
    struct mp_text_ask ask;
    struct mp_api_error error;
    int status = mp_tokenize_read(body, length, &ask, &error);
    if (status != 0) {
        check_refusal(&error, status);
    } else if (ask.text == NULL || ask.text[ask.length] != '\0' || ask.ids.count > 0) {
        mp_panic("a text without its end, or ids");
    } else {
        mp_text_ask_free(&ask);
    }
    status = mp_detokenize_read(body, length, MOST_ID, &ask, &error);
    if (status != 0) {
        check_refusal(&error, status);
        return;
    }
    for (size_t i = 0; i < ask.ids.count; i++) {
        if (ask.ids.data[i] < 0 || ask.ids.data[i] > MOST_ID) {
            mp_panic("id %d", ask.ids.data[i]);
        }
    }
    mp_text_ask_free(&ask);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_body(MP_ASK_COMPLETION, (const char *)data, size);
    read_body(MP_ASK_CHAT, (const char *)data, size);
    read_texts((const char *)data, size);
    return 0;
}
