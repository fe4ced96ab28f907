#include "pipeline/serve/api/text_ask.h"

#include "core/json/json.h"

#include <stdlib.h>
#include <string.h>

static int refuse(struct mp_text_ask *ask, struct mp_api_error *error, const char *field,
                  const struct mp_error *err)
{
    mp_text_ask_free(ask);
    return mp_api_fail(error, MP_HTTP_BAD_REQUEST, field, "%s", err->message);
}

/* The model of a body that has no other fields but those of `names`, which end with NULL. */
static int read_body(const char *body, size_t length, const char *const *names,
                     struct mp_text_ask *out, struct mp_api_error *error)
{
    struct mp_error err;
    *out = (struct mp_text_ask){0};
    int code = mp_json_parse_with_nul("body", body, length, &out->doc, &err);
    if (code == 0) {
        code = mp_json_expect(out->doc, mp_json_root(out->doc), MP_JSON_OBJECT, &err);
    }
    if (code != 0) {
        return refuse(out, error, NULL, &err);
    }
    const struct cJSON *root = mp_json_root(out->doc);
    for (const struct cJSON *f = mp_json_first(root); f != NULL; f = mp_json_after(f)) {
        int i = 0;
        while (names[i] != NULL && strcmp(names[i], mp_json_key(f)) != 0) {
            i++;
        }
        if (names[i] == NULL && mp_json_kind(f) != MP_JSON_NULL) {
            int status = mp_api_fail(error, MP_HTTP_BAD_REQUEST, mp_json_key(f), "unknown field %s",
                                     mp_json_key(f));
            mp_text_ask_free(out);
            return status;
        }
    }
    return mp_json_opt_string(out->doc, root, "model", &out->model, &err) == 0
               ? 0
               : refuse(out, error, "model", &err);
}

int mp_tokenize_read(const char *body, size_t length, struct mp_text_ask *out,
                     struct mp_api_error *error)
{
    static const char *const names[] = {"model", "prompt", "add_special_tokens",
                                        "return_token_strs", NULL};
    struct mp_error err;
    const char *prompt;
    int status = read_body(body, length, names, out, error);
    if (status != 0) {
        return status;
    }
    const struct cJSON *root = mp_json_root(out->doc);
    out->add_special = true;
    if (mp_json_get_string(out->doc, root, "prompt", &prompt, &err) != 0) {
        return refuse(out, error, "prompt", &err);
    }
    if (mp_json_opt_bool(out->doc, root, "add_special_tokens", &out->add_special, &err) != 0) {
        return refuse(out, error, "add_special_tokens", &err);
    }
    if (mp_json_opt_bool(out->doc, root, "return_token_strs", &out->strings, &err) != 0) {
        return refuse(out, error, "return_token_strs", &err);
    }
    out->text = mp_json_string_bytes(prompt, &out->length);
    return 0;
}

int mp_detokenize_read(const char *body, size_t length, int64_t most_id, struct mp_text_ask *out,
                       struct mp_api_error *error)
{
    static const char *const names[] = {"model", "tokens", NULL};
    struct mp_error err;
    const struct cJSON *list;
    int status = read_body(body, length, names, out, error);
    if (status != 0) {
        return status;
    }
    int code = mp_json_get_array(out->doc, mp_json_root(out->doc), "tokens", &list, &err);
    for (const struct cJSON *v = code == 0 ? mp_json_first(list) : NULL; v != NULL && code == 0;
         v = mp_json_after(v)) {
        int64_t id = 0;
        code = mp_json_as_int(out->doc, v, 0, most_id, &id, &err);
        mp_ids_push(&out->ids, (int32_t)id);
    }
    return code == 0 ? 0 : refuse(out, error, "tokens", &err);
}

void mp_text_ask_free(struct mp_text_ask *ask)
{
    mp_json_free(ask->doc);
    free(ask->text);
    mp_ids_free(&ask->ids);
    *ask = (struct mp_text_ask){0};
}
