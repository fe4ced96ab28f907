/* The model's own template takes whole conversations, a form one message of a user. */
#include "pipeline/serve/chat.h"

#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"

#include <stdlib.h>
#include <string.h>

/* Takes over the ids of a chat's prompt, or says what code and *err say. */
static int take_ids(struct mp_ask *ask, int code, struct mp_ids ids, struct mp_api_error *error,
                    const struct mp_error *err)
{
    if (code != 0) {
        mp_ids_free(&ids);
        return code == MP_ERR_INTERRUPTED
                   ? mp_api_fail(error, MP_HTTP_UNAVAILABLE, NULL, "the server ends")
                   : mp_api_fail(error, MP_HTTP_BAD_REQUEST, "messages", "%s", err->message);
    }
    ask->prompts = mp_xcalloc(1, sizeof *ask->prompts);
    ask->prompts[0].ids = ids;
    ask->num_prompts = 1;
    return 0;
}

/* The template finds its variables and tools in the body too. */
static int render(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    const struct mp_conversation c = {.name = "body", .json = ask->body, .length = ask->length};
    struct mp_error err;
    int32_t *ids = NULL;
    int64_t count = 0;
    int code = mp_engine_encode_chat(server->engine, &c, &ids, &count, &err);
    return take_ids(ask, code, (struct mp_ids){ids, (size_t)count, (size_t)count}, error, &err);
}

/* The ids of a form around a user's text, in which no special token is found. */
static int encode_form(const struct mp_server *server, const char *const around[2],
                       const char *text, size_t length, struct mp_ids *out, struct mp_error *err)
{
    const char *const parts[] = {around[0], text, around[1]};
    const size_t lengths[] = {around[0] != NULL ? strlen(around[0]) : 0, length,
                              around[1] != NULL ? strlen(around[1]) : 0};
    size_t all = lengths[0] + lengths[1] + lengths[2];
    char *whole = mp_xcalloc(all + 1, 1);
    char *content = mp_xcalloc(all + 1, 1);
    size_t at = 0;
    for (int i = 0; i < 3; i++) {
        if (lengths[i] > 0) {
            memcpy(whole + at, parts[i], lengths[i]);
        }
        memset(content + at, parts[i] == text, lengths[i]);
        at += lengths[i];
    }
    int code = mp_tokenizer_encode_content(server->tokenizer, whole, content, all, true, out, err);
    free(content);
    free(whole);
    return code;
}

static int surround(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    const struct cJSON *message = mp_json_first(ask->messages);
    const char *role, *around[2];
    struct mp_ids ids = {0};
    struct mp_error err;
    char *text = NULL;
    size_t length;
    int code = mp_json_get_string(ask->doc, message, "role", &role, &err);
    const struct cJSON *more = mp_json_find(mp_json_root(ask->doc), "chat_template_kwargs");
    if (code == 0 && more != NULL && mp_json_first(more) != NULL) {
        code = mp_json_fail(ask->doc, more, &err, "there is no template that takes them");
    }
    if (code == 0 && (mp_json_after(message) != NULL || strcmp(role, "user") != 0)) {
        code = mp_json_fail(ask->doc, ask->messages, &err,
                            "found other messages than one of the role \"user\", which is all "
                            "that the form \"%s\" takes",
                            server->chat_form);
    }
    if (code == 0) {
        code = mp_hook_chat(server->chat_form, &around[0], &around[1], &err);
    }
    if (code == 0) {
        code = mp_ask_content(ask->doc, message, &text, &length, &err);
    }
    if (code == 0) {
        code = encode_form(server, around, text, length, &ids, &err);
    }
    free(text);
    return take_ids(ask, code, ids, error, &err);
}

int mp_chat_prompt(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    return server->chat_form == NULL ? render(server, ask, error) : surround(server, ask, error);
}
