/* What is asked: prompts and messages. */
#include "core/base/memory.h"
#include "pipeline/serve/api/ask.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- prompts ---- */

static struct mp_ask_prompt *add_prompt(struct mp_ask *ask)
{
    size_t count = (size_t)ask->num_prompts;
    if ((count & (count - 1)) ==
        0) { /* as many as there is room for: from here on for as many more */
        ask->prompts = mp_xrealloc(ask->prompts, count > 0 ? 2 * count : 1, sizeof *ask->prompts);
    }
    struct mp_ask_prompt *p = &ask->prompts[ask->num_prompts++];
    *p = (struct mp_ask_prompt){0};
    return p;
}

static int read_ids(struct mp_ask *ask, const struct cJSON *array, struct mp_error *err)
{
    struct mp_ask_prompt *p = add_prompt(ask);
    int code = 0;
    for (const struct cJSON *v = mp_json_first(array); v != NULL && code == 0;
         v = mp_json_after(v)) {
        int64_t id;
        code = mp_json_as_int(ask->doc, v, 0, INT32_MAX, &id, err);
        if (code == 0) {
            mp_ids_push(&p->ids, (int32_t)id);
        }
    }
    return code;
}

static int read_one(struct mp_ask *ask, const struct cJSON *value, struct mp_error *err)
{
    const char *string;
    if (mp_json_kind(value) == MP_JSON_ARRAY) {
        return read_ids(ask, value, err);
    }
    int code = mp_json_as_string(ask->doc, value, &string, err);
    if (code == 0) {
        struct mp_ask_prompt *p = add_prompt(ask);
        p->text = mp_json_string_bytes(string, &p->length);
    }
    return code;
}

int mp_ask_read_prompts(struct mp_ask *ask, const struct cJSON *prompt, struct mp_api_error *error)
{
    struct mp_error err;
    int code = 0;
    if (prompt == NULL || mp_json_kind(prompt) == MP_JSON_NULL) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "prompt",
                           "prompt: expected a string, a list of strings, ids or a list of lists "
                           "of ids, found none");
    }
    const struct cJSON *first =
        mp_json_kind(prompt) == MP_JSON_ARRAY ? mp_json_first(prompt) : NULL;
    if (mp_json_kind(prompt) != MP_JSON_ARRAY) {
        code = read_one(ask, prompt, &err);
    } else if (first != NULL && mp_json_kind(first) == MP_JSON_NUMBER) {
        code = read_ids(ask, prompt, &err);
    } else {
        for (const struct cJSON *v = first; v != NULL && code == 0; v = mp_json_after(v)) {
            code = read_one(ask, v, &err);
        }
    }
    if (code != 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "prompt", "%s", err.message);
    }
    if (ask->num_prompts == 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "prompt",
                           "prompt: found an empty list, expected at least one prompt");
    }
    return 0;
}

/* ---- messages ---- */

/* One part of a content that is a list: {"type": "text", "text": ...}. */
static int read_part(const struct mp_json *doc, const struct cJSON *part, const char **text,
                     struct mp_error *err)
{
    const char *type = NULL;
    int code = mp_json_expect(doc, part, MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_string(doc, part, "type", &type, err);
    }
    if (code == 0 && strcmp(type, "text") != 0) {
        code =
            mp_json_fail(doc, part, err, "found a part of type \"%.40s\", expected \"text\"", type);
    }
    return code == 0 ? mp_json_get_string(doc, part, "text", text, err) : code;
}

int mp_ask_content(const struct mp_json *doc, const struct cJSON *message, char **text,
                   size_t *length, struct mp_error *err)
{
    const struct cJSON *content = mp_json_find(message, "content");
    const char *piece = "";
    int code = 0;
    FILE *out = mp_xstream_open(text, length);
    bool parts = content != NULL && mp_json_kind(content) == MP_JSON_ARRAY;
    bool none = content != NULL && mp_json_kind(content) == MP_JSON_NULL;
    const struct cJSON *first = parts ? mp_json_first(content) : none ? NULL : content;
    const struct cJSON *part = first;
    while (part != NULL && code == 0) {
        code =
            parts ? read_part(doc, part, &piece, err) : mp_json_as_string(doc, part, &piece, err);
        if (code == 0) {
            size_t n;
            char *bytes = mp_json_string_bytes(piece, &n);
            fputs(part != first ? "\n" : "", out);
            fwrite(bytes, 1, n, out);
            free(bytes);
        }
        part = parts ? mp_json_after(part) : NULL;
    }
    mp_xstream_close(out);
    if (content == NULL) {
        code = mp_json_fail(doc, message, err, "no content");
    }
    if (code != 0) {
        free(*text);
        *text = NULL;
    }
    return code;
}

static int check_message(const struct mp_json *doc, const struct cJSON *message,
                         struct mp_error *err)
{
    const char *role;
    char *text = NULL;
    size_t length;
    int code = mp_json_expect(doc, message, MP_JSON_OBJECT, err);
    if (code == 0) {
        code = mp_json_get_string(doc, message, "role", &role, err);
    }
    /* An assistant that called tools has said nothing: the rule of models/chat/chat.h. */
    bool silent =
        code == 0 && strcmp(role, "assistant") == 0 && mp_json_find(message, "content") == NULL;
    if (code == 0 && !silent) {
        code = mp_ask_content(doc, message, &text, &length, err);
    }
    free(text);
    return code;
}

int mp_ask_read_messages(struct mp_ask *ask, const struct cJSON *messages,
                         struct mp_api_error *error)
{
    struct mp_error err;
    if (messages == NULL || mp_json_kind(messages) != MP_JSON_ARRAY ||
        mp_json_first(messages) == NULL) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "messages",
                           "messages: expected a list of at least one message");
    }
    for (const struct cJSON *m = mp_json_first(messages); m != NULL; m = mp_json_after(m)) {
        if (check_message(ask->doc, m, &err) != 0) {
            return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "messages", "%s", err.message);
        }
    }
    ask->messages = messages;
    return 0;
}
