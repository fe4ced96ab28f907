/* Templates put something before and after one user's text. */
#include "pipeline/serve/chat.h"

#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"

#include <stdlib.h>
#include <string.h>

int mp_chat_prompt(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error)
{
    const struct cJSON *message = mp_json_first(ask->messages);
    const char *role, *before, *after;
    struct mp_error err;
    char *text = NULL;
    size_t length;
    int code = mp_json_get_string(ask->doc, message, "role", &role, &err);
    if (code == 0 && (mp_json_after(message) != NULL || strcmp(role, "user") != 0)) {
        code = mp_json_fail(ask->doc, ask->messages, &err,
                            "found other messages than one of the role \"user\", which is all "
                            "that the template \"%s\" takes",
                            server->chat_template);
    }
    if (code == 0) {
        code = mp_hook_chat(server->chat_template, &before, &after, &err);
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
