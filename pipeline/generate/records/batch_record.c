/* Lines of OpenAI's batch form: {"custom_id", "method", "url", "body"}. */
#include "pipeline/generate/records/record.h"

#include "core/base/memory.h"

#include <stdlib.h>
#include <string.h>

static const char *const LINE_KEYS[] = {"custom_id", "method", "url", "body"};
/* Of the body: what acts, and what may say what is done anyway. */
static const char *const BODY_KEYS[] = {
    "model",  "messages",   "tools", "chat_template_kwargs",
    "prompt", "max_tokens", "stop",  "temperature",
    "top_p",  "top_k",      "seed",  "max_completion_tokens",
    "n",      "stream",     "user",
};

static int read_kind(const struct mp_json *doc, struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const char *url;
    const char *method;
    int rc = mp_json_get_string(doc, root, "method", &method, err);
    if (rc == MP_OK && strcmp(method, "POST") != 0) {
        return mp_json_fail(doc, mp_json_find(root, "method"), err,
                            "found \"%.40s\", expected \"POST\"", method);
    }
    if (rc == MP_OK) {
        rc = mp_json_get_string(doc, root, "url", &url, err);
    }
    if (rc != MP_OK) {
        return rc;
    }
    if (strcmp(url, "/v1/chat/completions") != 0 && strcmp(url, "/v1/completions") != 0) {
        return mp_json_fail(doc, mp_json_find(root, "url"), err,
                            "found \"%.80s\", expected \"/v1/chat/completions\" or "
                            "\"/v1/completions\"",
                            url);
    }
    r->batch = strcmp(url, "/v1/completions") == 0 ? MP_BATCH_COMPLETION : MP_BATCH_CHAT;
    return MP_OK;
}

/* One answer, as a whole. */
static int check_form(const struct mp_json *body, struct mp_error *err)
{
    int64_t n = 1;
    bool stream = false;
    const struct cJSON *root = mp_json_root(body);
    int rc = mp_json_opt_int(body, root, "n", 1, 1, &n, err);
    if (rc == MP_OK) {
        rc = mp_json_opt_bool(body, root, "stream", &stream, err);
    }
    if (rc == MP_OK && stream) {
        rc = mp_json_fail(body, mp_json_find(root, "stream"), err, "found true, expected false");
    }
    return rc;
}

static int read_prompt(const struct mp_json *body, const char *json, size_t length,
                       struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(body);
    static const char *const of_completions[] = {"prompt", NULL};
    static const char *const of_chats[] = {"messages", "tools", "chat_template_kwargs", NULL};
    const char *text;
    const struct cJSON *messages;
    for (const char *const *other = r->batch == MP_BATCH_CHAT ? of_completions : of_chats;
         *other != NULL; other++) {
        const struct cJSON *value = mp_json_find(root, *other);
        if (value != NULL && mp_json_kind(value) != MP_JSON_NULL) {
            return mp_json_fail(body, value, err, "does not go with this url");
        }
    }
    if (r->batch == MP_BATCH_CHAT) {
        int rc = mp_json_get_array(body, root, "messages", &messages, err);
        r->chat = rc == MP_OK ? mp_xstrndup(json, length) : NULL;
        return rc;
    }
    int rc = mp_json_get_string(body, root, "prompt", &text, err);
    if (rc == MP_OK) {
        r->text = mp_xstrdup(text);
        r->text_length = strlen(text);
    }
    return rc;
}

static int read_body(const struct mp_json *body, const char *json, size_t length,
                     struct mp_record *r, struct mp_error *err)
{
    const char *model = NULL;
    int rc = mp_record_check_keys(body, BODY_KEYS, sizeof BODY_KEYS / sizeof BODY_KEYS[0], err);
    if (rc == MP_OK) {
        rc = mp_json_opt_string(body, mp_json_root(body), "model", &model, err);
    }
    if (rc == MP_OK) {
        r->model = model != NULL ? mp_xstrdup(model) : NULL;
        rc = check_form(body, err);
    }
    if (rc == MP_OK) {
        rc = read_prompt(body, json, length, r, err);
    }
    return rc == MP_OK ? mp_record_read_settings(body, r, err) : rc;
}

int mp_batch_read(const struct mp_json *doc, const char *json, size_t length, const char *name,
                  struct mp_record *r, struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const struct cJSON *value;
    const char *id;
    const char *text;
    size_t text_length;
    r->batch = MP_BATCH_CHAT; /* also with an error in the rest */
    int rc = mp_json_get_string(doc, root, "custom_id", &id, err);
    if (rc == MP_OK) {
        r->id = mp_xstrdup(id);
        r->own_id = true;
        rc = mp_record_check_keys(doc, LINE_KEYS, sizeof LINE_KEYS / sizeof LINE_KEYS[0], err);
    }
    if (rc == MP_OK) {
        rc = read_kind(doc, r, err);
    }
    if (rc == MP_OK) {
        rc = mp_json_get_object(doc, root, "body", &value, err);
    }
    if (rc == MP_OK && !mp_json_find_text(json, length, "body", &text, &text_length)) {
        rc = mp_json_fail(doc, value, err, "expected the key without escapes");
    }
    if (rc != MP_OK) {
        return rc;
    }
    struct mp_json *body;
    char *body_name = mp_xasprintf("%s: body", name);
    rc = mp_json_parse(body_name, text, text_length, &body, err);
    if (rc == MP_OK) {
        rc = read_body(body, text, text_length, r, err);
        mp_json_free(body);
    }
    free(body_name);
    return rc;
}
