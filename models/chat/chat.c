/* A model's chat template: its files, and what it is rendered with. */
#include "models/chat/chat.h"

#include "core/base/file.h"
#include "core/base/memory.h"
#include "core/json/json.h"
#include "models/chat/chat_request.h"
#include "models/hf_tokenizer.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TEMPLATE_BYTES = 1 << 20, MAX_CONFIG_BYTES = 64 << 20 };

/* The tokens of tokenizer_config.json that templates name. */
static const char *const TOKENS[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                     "pad_token", "cls_token", "mask_token"};
enum { NUM_TOKENS = sizeof TOKENS / sizeof TOKENS[0] };

struct mp_chat {
    struct mp_jinja *usual;
    struct mp_jinja *tool_use; /* NULL: the usual one serves */
    char *tokens[NUM_TOKENS];  /* JSON strings; NULL: there is none */
    bool takes_parts;          /* content may be an array */
};

void mp_chat_free(struct mp_chat *c)
{
    if (c == NULL) {
        return;
    }
    mp_jinja_free(c->usual);
    mp_jinja_free(c->tool_use);
    for (int i = 0; i < NUM_TOKENS; i++) {
        free(c->tokens[i]);
    }
    free(c);
}

/* ---- rendering ---- */

/* Everything that a template is rendered with: the tokens, then what the request has. */
static int render(const struct mp_chat *c, const struct mp_jinja_variable *own, size_t count,
                  bool with_tools, struct mp_jinja_text *out, struct mp_error *err)
{
    struct mp_jinja_variable all[NUM_TOKENS + MP_CHAT_MAX_VARIABLES];
    size_t n = 0;
    for (int i = 0; i < NUM_TOKENS; i++) {
        if (c->tokens[i] != NULL) {
            all[n++] = (struct mp_jinja_variable){
                .name = TOKENS[i], .json = c->tokens[i], .length = strlen(c->tokens[i])};
        }
    }
    for (size_t i = 0; i < count; i++) {
        all[n++] = own[i];
    }
    const struct mp_jinja *t = with_tools && c->tool_use != NULL ? c->tool_use : c->usual;
    return mp_jinja_render(t, all, n, time(NULL), out, err);
}

int mp_chat_render(const struct mp_chat *c, const char *name, const char *json, size_t length,
                   struct mp_jinja_text *out, struct mp_error *err)
{
    struct mp_chat_variables v;
    int code = mp_chat_read_request(name, json, length, !c->takes_parts, &v, err);
    if (code != MP_OK) {
        return code;
    }
    code = render(c, v.items, v.count, v.has_tools, out, err);
    if (code != MP_OK) {
        mp_fail_prefix(err, "%s: messages", name);
    }
    mp_chat_variables_free(&v);
    return code;
}

char *mp_chat_of_text(const char *text, size_t length)
{
    char *quoted = mp_json_quote(text, length);
    size_t size = strlen(quoted) + 64;
    char *json = mp_xmalloc(size); /* texts can be longer than formats can print */
    char *end = stpcpy(json, "{\"messages\": [{\"role\": \"user\", \"content\": ");
    end = stpcpy(end, quoted);
    stpcpy(end, "}]}");
    free(quoted);
    return json;
}

int mp_chat_around(const struct mp_chat *c, char **before, char **after, struct mp_error *err)
{
    static const char word[] = "Question";
    struct mp_jinja_text text;
    char *json = mp_chat_of_text(word, sizeof word - 1);
    int code = mp_chat_render(c, "the template", json, strlen(json), &text, err);
    free(json);
    if (code != MP_OK) {
        return code;
    }
    const char *start = memchr(text.content, 1, text.length);
    size_t at = start != NULL ? (size_t)(start - text.content) : text.length;
    bool there = strncmp(text.data + at, word, sizeof word - 1) == 0;
    size_t end = at + (there ? sizeof word - 1 : 0);
    if (!there || memchr(text.content + end, 1, text.length - end) != NULL) {
        code = mp_fail(
            err, MP_ERR_UNSUPPORTED,
            "the model's chat template: found no place where it has a user's text as it is");
    } else {
        *before = mp_xstrndup(text.data, at);
        *after = mp_xstrdup(text.data + end);
    }
    mp_jinja_text_free(&text);
    return code;
}

/* Whether a message whose content is an array comes out as the array's text, and not as the array
 * is written. */
static bool takes_parts(const struct mp_chat *c)
{
    static const char messages[] =
        "[{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"probe\"}]}]";
    const struct mp_jinja_variable own[] = {
        {.name = "messages", .json = messages, .length = sizeof messages - 1},
        {.name = "tools", .json = "null", .length = 4},
        {.name = "documents", .json = "null", .length = 4},
        {.name = "add_generation_prompt", .json = "true", .length = 4},
    };
    struct mp_jinja_text text;
    if (render(c, own, sizeof own / sizeof own[0], false, &text, NULL) != MP_OK) {
        return false;
    }
    bool takes = strstr(text.data, "probe") != NULL && strstr(text.data, "'probe'") == NULL &&
                 strstr(text.data, "\"probe\"") == NULL;
    mp_jinja_text_free(&text);
    return takes;
}

/* ---- loading ---- */

/* The text of a token that a key names: a string, or an object with its "content". */
static int read_token(const struct mp_json *doc, const char *key, const char *fallback, char **out,
                      struct mp_error *err)
{
    const struct cJSON *root = mp_json_root(doc);
    const struct cJSON *value = mp_json_find(root, key);
    const char *text = value == NULL ? fallback : NULL;
    int code = MP_OK;
    if (value != NULL && mp_json_kind(value) == MP_JSON_OBJECT) {
        code = mp_json_get_string(doc, value, "content", &text, err);
    } else {
        code = mp_json_opt_string(doc, root, key, &text, err);
    }
    *out = code == MP_OK && text != NULL ? mp_json_quote(text, strlen(text)) : NULL;
    return code;
}

static int read_tokens(struct mp_chat *c, const struct mp_json *doc, struct mp_error *err)
{
    const char *class = "";
    int code = mp_json_opt_string(doc, mp_json_root(doc), "tokenizer_class", &class, err);
    for (int i = 0; i < NUM_TOKENS && code == MP_OK; i++) {
        code = read_token(doc, TOKENS[i], mp_hf_usual_token(class, TOKENS[i]), &c->tokens[i], err);
    }
    return code;
}

static int compile_string(const struct mp_json *doc, const struct cJSON *value, const char *path,
                          struct mp_jinja **out, struct mp_error *err)
{
    const char *text;
    int code = mp_json_as_string(doc, value, &text, err);
    if (code == MP_OK && *out != NULL) {
        code = mp_json_fail(doc, value, err, "a second template of this name");
    }
    if (code == MP_OK) {
        char *name = mp_xasprintf("%s: chat_template", path);
        code = mp_jinja_compile(name, text, strlen(text), out, err);
        free(name);
    }
    return code;
}

/* [{"name", "template"}, ...]: those named otherwise are for other uses. */
static int compile_list(struct mp_chat *c, const struct mp_json *doc, const struct cJSON *list,
                        const char *path, struct mp_error *err)
{
    int code = mp_json_expect(doc, list, MP_JSON_ARRAY, err);
    for (const struct cJSON *v = code == MP_OK ? mp_json_first(list) : NULL;
         v != NULL && code == MP_OK; v = mp_json_after(v)) {
        const char *name;
        code = mp_json_get_string(doc, v, "name", &name, err);
        bool usual = code == MP_OK && strcmp(name, "default") == 0;
        if (usual || (code == MP_OK && strcmp(name, "tool_use") == 0)) {
            const struct cJSON *text = mp_json_find(v, "template");
            code = text == NULL
                       ? mp_json_fail(doc, v, err, "\"template\" is missing")
                       : compile_string(doc, text, path, usual ? &c->usual : &c->tool_use, err);
        }
    }
    return code;
}

static int read_config(struct mp_chat *c, const char *path, struct mp_error *err)
{
    struct mp_json *doc;
    int code = mp_json_read_file(path, MAX_CONFIG_BYTES, &doc, err);
    if (code != MP_OK) {
        return code;
    }
    code = mp_json_expect(doc, mp_json_root(doc), MP_JSON_OBJECT, err);
    if (code == MP_OK) {
        code = read_tokens(c, doc, err);
    }
    const struct cJSON *text = mp_json_find(mp_json_root(doc), "chat_template");
    if (code == MP_OK && text != NULL && c->usual == NULL && mp_json_kind(text) != MP_JSON_NULL) {
        code = mp_json_kind(text) == MP_JSON_STRING
                   ? compile_string(doc, text, path, &c->usual, err)
                   : compile_list(c, doc, text, path, err);
    }
    mp_json_free(doc);
    return code;
}

static int read_template(struct mp_chat *c, const char *path, struct mp_error *err)
{
    char *text;
    size_t length;
    int code = mp_file_read(path, MAX_TEMPLATE_BYTES, &text, &length, err);
    if (code == MP_OK) {
        code = mp_jinja_compile(path, text, length, &c->usual, err);
        free(text);
    }
    return code;
}

int mp_chat_load(const char *dir, struct mp_chat **out, struct mp_error *err)
{
    char *template = mp_xasprintf("%s/chat_template.jinja", dir);
    char *config = mp_xasprintf("%s/tokenizer_config.json", dir);
    struct mp_chat *c = mp_xcalloc(1, sizeof *c);
    int code = access(template, F_OK) == 0 ? read_template(c, template, err) : MP_OK;
    if (code == MP_OK && access(config, F_OK) == 0) {
        code = read_config(c, config, err);
    }
    if (code == MP_OK && c->usual == NULL) {
        code = mp_fail(err, MP_ERR_UNSUPPORTED,
                       "%s: found no chat template, expected chat_template.jinja, or "
                       "\"chat_template\" in tokenizer_config.json",
                       dir);
    }
    free(template);
    free(config);
    if (code != MP_OK) {
        mp_chat_free(c);
        return code;
    }
    c->takes_parts = takes_parts(c);
    *out = c;
    return MP_OK;
}
