#include "pipeline/serve/api/text_ask.h"

#include "core/json/json.h"

#include <stdlib.h>
#include <string.h>

/* The fields of a body that has no others but those of `names`, which end with NULL. */
static int read_body(const char *body, size_t length, const char *const *names,
                     struct mp_json **doc, struct mp_api_error *error)
{
    struct mp_error err;
    int code = mp_json_parse_with_nul("body", body, length, doc, &err);
    if (code == 0) {
        code = mp_json_expect(*doc, mp_json_root(*doc), MP_JSON_OBJECT, &err);
    }
    if (code != 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, NULL, "%s", err.message);
    }
    for (const struct cJSON *f = mp_json_first(mp_json_root(*doc)); f != NULL;
         f = mp_json_after(f)) {
        int i = 0;
        while (names[i] != NULL && strcmp(names[i], mp_json_key(f)) != 0) {
            i++;
        }
        if (names[i] == NULL && mp_json_kind(f) != MP_JSON_NULL) {
            return mp_api_fail(error, MP_HTTP_BAD_REQUEST, mp_json_key(f), "unknown field %s",
                               mp_json_key(f));
        }
    }
    return 0;
}

int mp_tokenize_read(const char *body, size_t length, struct mp_text_ask *out,
                     struct mp_api_error *error)
{
    static const char *const names[] = {"model", "prompt", "add_special_tokens",
                                        "return_token_strs", NULL};
    struct mp_json *doc = NULL;
    struct mp_error err;
    const char *field = "prompt";
    const char *prompt;
    *out = (struct mp_text_ask){.add_special = true};
    int status = read_body(body, length, names, &doc, error);
    if (status == 0) {
        const struct cJSON *root = mp_json_root(doc);
        int code = mp_json_get_string(doc, root, field, &prompt, &err);
        if (code == 0) {
            field = "add_special_tokens";
            code = mp_json_opt_bool(doc, root, field, &out->add_special, &err);
        }
        if (code == 0) {
            field = "return_token_strs";
            code = mp_json_opt_bool(doc, root, field, &out->strings, &err);
        }
        if (code == 0) {
            out->text = mp_json_string_bytes(prompt, &out->length);
        } else {
            status = mp_api_fail(error, MP_HTTP_BAD_REQUEST, field, "%s", err.message);
        }
    }
    mp_json_free(doc);
    return status;
}

int mp_detokenize_read(const char *body, size_t length, int64_t most_id, struct mp_text_ask *out,
                       struct mp_api_error *error)
{
    static const char *const names[] = {"model", "tokens", NULL};
    struct mp_json *doc = NULL;
    struct mp_error err;
    const struct cJSON *list;
    *out = (struct mp_text_ask){0};
    int status = read_body(body, length, names, &doc, error);
    if (status == 0) {
        int code = mp_json_get_array(doc, mp_json_root(doc), "tokens", &list, &err);
        for (const struct cJSON *v = code == 0 ? mp_json_first(list) : NULL; v != NULL && code == 0;
             v = mp_json_after(v)) {
            int64_t id = 0;
            code = mp_json_as_int(doc, v, 0, most_id, &id, &err);
            mp_ids_push(&out->ids, (int32_t)id);
        }
        if (code != 0) {
            mp_text_ask_free(out);
            status = mp_api_fail(error, MP_HTTP_BAD_REQUEST, "tokens", "%s", err.message);
        }
    }
    mp_json_free(doc);
    return status;
}

void mp_text_ask_free(struct mp_text_ask *ask)
{
    free(ask->text);
    mp_ids_free(&ask->ids);
    *ask = (struct mp_text_ask){0};
}
