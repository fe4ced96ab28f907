#include "models/chat/chat_request.h"

#include "core/json/json.h"

#include <string.h>

/* ---- checks ---- */

/* Roles become parts of special tokens in some templates: they are words. */
static int check_role(const struct mp_json *doc, const struct cJSON *message, struct mp_error *err)
{
    const char *role;
    int code = mp_json_get_string(doc, message, "role", &role, err);
    if (code != MP_OK) {
        return code;
    }
    size_t length = strlen(role);
    if (length == 0 || length > 64 ||
        role[strspn(role, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")] !=
            '\0') {
        return mp_json_fail(doc, mp_json_find(message, "role"), err,
                            "found \"%.40s\", expected up to 64 letters, digits and _.-", role);
    }
    return MP_OK;
}

static int check_part(const struct mp_json *doc, const struct cJSON *part, struct mp_error *err)
{
    const char *type;
    const char *text;
    int code = mp_json_expect(doc, part, MP_JSON_OBJECT, err);
    if (code == MP_OK) {
        code = mp_json_get_string(doc, part, "type", &type, err);
    }
    if (code == MP_OK && strcmp(type, "text") != 0) {
        return mp_json_fail(doc, mp_json_find(part, "type"), err,
                            "found \"%.40s\", expected \"text\": nothing else is served", type);
    }
    return code == MP_OK ? mp_json_get_string(doc, part, "text", &text, err) : code;
}

static int check_content(const struct mp_json *doc, const struct cJSON *message,
                         struct mp_error *err)
{
    const struct cJSON *content = mp_json_find(message, "content");
    const char *role;
    if (content == NULL) { /* an assistant that called tools has said nothing */
        int code = mp_json_get_string(doc, message, "role", &role, err);
        return code != MP_OK || strcmp(role, "assistant") == 0
                   ? code
                   : mp_json_fail(doc, message, err, "no content");
    }
    enum mp_json_kind kind = mp_json_kind(content);
    if (kind == MP_JSON_NULL || kind == MP_JSON_STRING) {
        return MP_OK;
    }
    if (kind != MP_JSON_ARRAY) {
        return mp_json_fail(doc, content, err,
                            "expected a string, null or an array of {\"type\", \"text\"}");
    }
    int code = MP_OK;
    for (const struct cJSON *part = mp_json_first(content); part != NULL && code == MP_OK;
         part = mp_json_after(part)) {
        code = check_part(doc, part, err);
    }
    return code;
}

static int check_messages(const struct mp_json *doc, struct mp_error *err)
{
    const struct cJSON *messages;
    int code = mp_json_get_array(doc, mp_json_root(doc), "messages", &messages, err);
    if (code == MP_OK && mp_json_first(messages) == NULL) {
        code = mp_json_fail(doc, messages, err, "expected at least one message, found none");
    }
    for (const struct cJSON *m = code == MP_OK ? mp_json_first(messages) : NULL;
         m != NULL && code == MP_OK; m = mp_json_after(m)) {
        code = mp_json_expect(doc, m, MP_JSON_OBJECT, err);
        if (code == MP_OK) {
            code = check_role(doc, m, err);
        }
        if (code == MP_OK) {
            code = check_content(doc, m, err);
        }
    }
    return code;
}

/* ---- variables ---- */

/* What is being read. */
struct request {
    const char *json; /* [length] */
    size_t length;
    bool joins;
    struct mp_chat_variables *out;
    struct mp_error *err;
};

static void add(struct mp_chat_variables *v, const char *name, const char *json, size_t length)
{
    v->items[v->count++] =
        (struct mp_jinja_variable){.name = name, .json = json, .length = length, .content = true};
}

/* Adds a member of an object, json[0 .. length). */
static int add_member(const struct request *r, const char *json, size_t length,
                      const struct cJSON *member)
{
    const char *value;
    size_t value_length;
    const char *key = mp_json_key(member);
    if (!mp_json_find_text(json, length, key, &value, &value_length)) {
        return mp_json_fail(r->out->doc, member, r->err, "expected the key without escapes");
    }
    add(r->out, key, value, value_length);
    return MP_OK;
}

static int add_messages(const struct request *r)
{
    const struct cJSON *messages = mp_json_find(mp_json_root(r->out->doc), "messages");
    int code = add_member(r, r->json, r->length, messages);
    if (code == MP_OK) {
        struct mp_jinja_variable *v = &r->out->items[r->out->count - 1];
        v->plain_key = "role";
        v->joined_key = r->joins ? "content" : NULL;
    }
    return code;
}

static int add_tools(const struct request *r)
{
    const struct cJSON *tools = NULL;
    int code = mp_json_opt_array(r->out->doc, mp_json_root(r->out->doc), "tools", &tools, r->err);
    for (const struct cJSON *t = tools != NULL ? mp_json_first(tools) : NULL;
         t != NULL && code == MP_OK; t = mp_json_after(t)) {
        code = mp_json_expect(r->out->doc, t, MP_JSON_OBJECT, r->err);
    }
    if (code == MP_OK && tools == NULL) {
        add(r->out, "tools", "null", 4);
    } else if (code == MP_OK) {
        code = add_member(r, r->json, r->length, tools);
        r->out->has_tools = true;
    }
    return code;
}

/* "chat_template_kwargs": their names are no other variable's. */
static int add_others(const struct request *r)
{
    const struct mp_json *doc = r->out->doc;
    const struct cJSON *others = NULL;
    const char *json = NULL;
    size_t length = 0;
    int code = mp_json_opt_object(doc, mp_json_root(doc), "chat_template_kwargs", &others, r->err);
    if (code != MP_OK || others == NULL) {
        return code;
    }
    if (!mp_json_find_text(r->json, r->length, mp_json_key(others), &json, &length)) {
        return mp_json_fail(doc, others, r->err, "expected the key without escapes");
    }
    for (const struct cJSON *v = mp_json_first(others); v != NULL && code == MP_OK;
         v = mp_json_after(v)) {
        const char *key = mp_json_key(v);
        if (strcmp(key, "messages") == 0 || strcmp(key, "tools") == 0) {
            return mp_json_fail(doc, v, r->err, "expected it beside chat_template_kwargs");
        }
        if (r->out->count == MP_CHAT_MAX_VARIABLES) {
            return mp_json_fail(doc, others, r->err, "more than %d variables",
                                MP_CHAT_MAX_VARIABLES - 4);
        }
        code = add_member(r, json, length, v);
    }
    return code;
}

int mp_chat_read_request(const char *name, const char *json, size_t length, bool joins,
                         struct mp_chat_variables *out, struct mp_error *err)
{
    *out = (struct mp_chat_variables){0};
    int code = mp_json_parse(name, json, length, &out->doc, err);
    if (code != MP_OK) {
        return code;
    }
    const struct request r = {
        .json = json, .length = length, .joins = joins, .out = out, .err = err};
    code = mp_json_expect(out->doc, mp_json_root(out->doc), MP_JSON_OBJECT, err);
    if (code == MP_OK) {
        code = check_messages(out->doc, err);
    }
    if (code == MP_OK) {
        code = add_messages(&r);
    }
    if (code == MP_OK) {
        code = add_tools(&r);
    }
    if (code == MP_OK) {
        add(out, "documents", "null", 4);
        add(out, "add_generation_prompt", "true", 4);
        code = add_others(&r);
    }
    if (code != MP_OK) {
        mp_chat_variables_free(out);
    }
    return code;
}

void mp_chat_variables_free(struct mp_chat_variables *v)
{
    mp_json_free(v->doc);
    *v = (struct mp_chat_variables){0};
}
