/* Everything that asks nothing of the engine. */
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/serve/api/answer.h"
#include "pipeline/serve/api/text_ask.h"
#include "pipeline/serve/http/http.h"
#include "pipeline/serve/page/page.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENIZER_CONFIG = 16 << 20 };

/* ---- text ---- */

static cJSON *tokens_json(const struct mp_server *s, const struct mp_ids *ids, bool strings)
{
    cJSON *all = cJSON_CreateObject();
    cJSON_AddNumberToObject(all, "count", (double)ids->count);
    cJSON_AddNumberToObject(all, "max_model_len", (double)s->max_model_len);
    cJSON *list = cJSON_AddArrayToObject(all, "tokens");
    cJSON *texts = strings ? cJSON_AddArrayToObject(all, "token_strs")
                           : cJSON_AddNullToObject(all, "token_strs");
    for (size_t i = 0; i < ids->count; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateNumber(ids->data[i]));
        if (strings) {
            char *text = mp_token_text(s->tokenizer, ids->data[i]);
            cJSON_AddItemToArray(texts, cJSON_CreateString(text));
            free(text);
        }
    }
    return all;
}

/* NULL: x->error says why not. */
static cJSON *tokenize(struct mp_exchange *x, const struct mp_text_ask *ask)
{
    struct mp_error err;
    struct mp_ids ids = {0};
    cJSON *all = NULL;
    if (mp_server_check_model(x->server, ask->model, &x->error) != 0) {
        return NULL;
    }
    if (mp_tokenizer_encode(x->server->tokenizer, ask->text, ask->length, ask->add_special, &ids,
                            &err) == 0) {
        all = tokens_json(x->server, &ids, ask->strings);
    } else {
        mp_api_fail(&x->error, MP_HTTP_BAD_REQUEST, "prompt", "%s", err.message);
    }
    mp_ids_free(&ids);
    return all;
}

/* The same. */
static cJSON *detokenize(struct mp_exchange *x, const struct mp_text_ask *ask)
{
    size_t length;
    if (mp_server_check_model(x->server, ask->model, &x->error) != 0) {
        return NULL;
    }
    char *text =
        mp_tokenizer_decode(x->server->tokenizer, ask->ids.data, ask->ids.count, false, &length);
    cJSON *all = cJSON_CreateObject();
    cJSON_AddItemToObject(all, "prompt", mp_json_text_value(text, length));
    free(text);
    return all;
}

enum MHD_Result mp_answer_tokenize(struct mp_exchange *x)
{
    struct mp_text_ask ask;
    cJSON *all = NULL;
    if (mp_tokenize_read(x->body, x->length, &ask, &x->error) == 0) {
        all = tokenize(x, &ask);
        mp_text_ask_free(&ask);
    }
    return all != NULL ? mp_reply_json(x, MP_HTTP_OK, all) : mp_reply_error(x, &x->error);
}

enum MHD_Result mp_answer_detokenize(struct mp_exchange *x)
{
    struct mp_text_ask ask;
    cJSON *all = NULL;
    const int64_t most = mp_engine_vocab_size(x->server->engine) - 1;
    if (mp_detokenize_read(x->body, x->length, most, &ask, &x->error) == 0) {
        all = detokenize(x, &ask);
        mp_text_ask_free(&ask);
    }
    return all != NULL ? mp_reply_json(x, MP_HTTP_OK, all) : mp_reply_error(x, &x->error);
}

/* What tokenizer_config.json says, which is what clients know, and how many ids there are. */
enum MHD_Result mp_answer_tokenizer_info(struct mp_exchange *x)
{
    char *path = mp_xasprintf("%s/tokenizer_config.json", x->server->model_dir);
    struct mp_json *doc = NULL;
    cJSON *info = mp_json_read_file(path, MAX_TOKENIZER_CONFIG, &doc, NULL) == 0
                      ? cJSON_Duplicate(mp_json_root(doc), true)
                      : cJSON_CreateObject();
    free(path);
    mp_json_free(doc);
    if (!cJSON_IsObject(info)) {
        cJSON_Delete(info);
        info = cJSON_CreateObject();
    }
    cJSON_DeleteItemFromObjectCaseSensitive(info, "vocab_size");
    cJSON_AddNumberToObject(info, "vocab_size", mp_engine_vocab_size(x->server->engine));
    return mp_reply_json(x, MP_HTTP_OK, info);
}

/* ---- the server ---- */

static cJSON *describe_model(const struct mp_server *s)
{
    cJSON *model = cJSON_CreateObject();
    cJSON_AddStringToObject(model, "id", s->model);
    cJSON_AddStringToObject(model, "object", "model");
    cJSON_AddNumberToObject(model, "created", (double)s->created);
    cJSON_AddStringToObject(model, "owned_by", "magicpig-pipe");
    cJSON_AddStringToObject(model, "root", s->model);
    cJSON_AddNullToObject(model, "parent");
    cJSON_AddNumberToObject(model, "max_model_len", (double)s->max_model_len);
    return model;
}

enum MHD_Result mp_answer_models(struct mp_exchange *x)
{
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "object", "list");
    cJSON *data = cJSON_AddArrayToObject(all, "data");
    cJSON_AddItemToArray(data, describe_model(x->server));
    return mp_reply_json(x, MP_HTTP_OK, all);
}

enum MHD_Result mp_answer_one_model(struct mp_exchange *x)
{
    const char *name = x->path + strlen(x->route->path);
    if (mp_server_check_model(x->server, name, &x->error) != 0) {
        return mp_reply_error(x, &x->error);
    }
    return mp_reply_json(x, MP_HTTP_OK, describe_model(x->server));
}

enum MHD_Result mp_answer_health(struct mp_exchange *x)
{
    static const char *const words[] = {[MP_SERVER_LOADING] = "loading",
                                        [MP_SERVER_READY] = "ok",
                                        [MP_SERVER_DRAINING] = "draining",
                                        [MP_SERVER_ENDED] = "ended"};
    pthread_mutex_lock(&x->server->lock);
    enum mp_server_state state = x->server->state;
    pthread_mutex_unlock(&x->server->lock);
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "status", words[state]);
    return mp_reply_json(x, state == MP_SERVER_READY ? MP_HTTP_OK : MP_HTTP_UNAVAILABLE, all);
}

enum MHD_Result mp_answer_metrics(struct mp_exchange *x)
{
    char *text = NULL;
    size_t length;
    FILE *out = mp_xstream_open(&text, &length);
    mp_metrics_print(x->server, out);
    mp_xstream_close(out);
    return mp_reply_text(x, MP_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", text, length);
}

enum MHD_Result mp_answer_status(struct mp_exchange *x)
{
    return mp_reply_json(x, MP_HTTP_OK, mp_status_json(x->server));
}

enum MHD_Result mp_answer_page(struct mp_exchange *x)
{
    char *page = mp_xstrdup(mp_serve_page);
    return mp_reply_text(x, MP_HTTP_OK, "text/html; charset=utf-8", page, strlen(page));
}
