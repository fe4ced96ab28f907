/* The model's own template takes whole conversations, a form one message of a user. */
#include "pipeline/serve/chat.h"

#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"

#include <stdlib.h>
#include <string.h>

/* The template finds its variables and tools in the body too. */
static int render(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    const struct mp_conversation c = {.name = "body", .json = ask->body, .length = ask->length};
    struct mp_error err;
    int32_t *ids;
    int64_t count;
    int code = mp_engine_encode_chat(server->engine, &c, &ids, &count, &err);
    if (code != 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "messages", "%s", err.message);
    }
    ask->prompts = mp_xcalloc(1, sizeof *ask->prompts);
    ask->prompts[0].ids = (struct mp_ids){ids, (size_t)count, (size_t)count};
    ask->num_prompts = 1;
    return 0;
}

static int surround(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    const struct cJSON *message = mp_json_first(ask->messages);
    const char *role, *before, *after;
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
        code = mp_hook_chat(server->chat_form, &before, &after, &err);
    }
    if (code == 0) {
        code = mp_ask_content(ask->doc, message, &text, &length, &err);
    }
    if (code != 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "messages", "%s", err.message);
    }
    struct mp_ask_prompt *p = mp_xcalloc(1, sizeof *p);
    FILE *out = mp_xstream_open(&p->text, &p->length);
    fputs(before != NULL ? before : "", out);
    fwrite(text, 1, length, out);
    fputs(after != NULL ? after : "", out);
    mp_xstream_close(out);
    free(text);
    ask->prompts = p;
    ask->num_prompts = 1;
    return 0;
}

int mp_chat_prompt(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    return server->chat_form == NULL ? render(server, ask, error) : surround(server, ask, error);
}
