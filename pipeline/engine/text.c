/* Text to token ids and back, with the tokenizer of the engine's model. */
#include "core/base/memory.h"
#include "core/tokenizer/tokenizer.h"
#include "models/chat/chat.h"
#include "models/hf_tokenizer.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool is_there(const char *model_dir, const char *name)
{
    char *path = mp_xasprintf("%s/%s", model_dir, name);
    bool there = access(path, F_OK) == 0;
    free(path);
    return there;
}

int mp_engine_load_tokenizer(const char *model_dir, mp_stop_callback *stop, void *user,
                             struct mp_tokenizer **out, struct mp_error *err)
{
    if (!is_there(model_dir, "tokenizer.json") && is_there(model_dir, "tokenizer.model")) {
        return mp_fail(err, MP_ERR_IO,
                       "%s: found tokenizer.model alone, expected tokenizer.json: download it, or "
                       "convert the tokenizer, as transformers' AutoTokenizer and its "
                       "save_pretrained do",
                       model_dir);
    }
    int code = mp_hf_tokenizer_load(model_dir, out, err);
    if (code == 0) {
        mp_tokenizer_set_stop(*out, stop, user);
    }
    return code;
}

const struct mp_tokenizer *mp_engine_tokenizer(const struct mp_engine *e)
{
    return e->host->tokenizer;
}

bool mp_engine_has_tokenizer(const struct mp_engine *e)
{
    return e->host->model_dir != NULL && is_there(e->host->model_dir, "tokenizer.json");
}

/* The id the post-processor puts before every text, or -1. */
static int32_t leading_special(const struct mp_tokenizer *t)
{
    struct mp_ids ids = {0};
    int32_t id = -1;
    if (mp_tokenizer_encode(t, "", 0, true, &ids, NULL) == 0 && ids.count > 0) {
        id = ids.data[0];
    }
    mp_ids_free(&ids);
    return id;
}

static bool is_end(const struct mp_engine *e, int32_t id)
{
    int i = 0;
    while (i < e->num_eos && e->eos[i] != id) {
        i++;
    }
    return i < e->num_eos;
}

/* A vocabulary that is padded has ids that no text comes from or goes to. The end of an answer
 * needs no text. */
static void find_tokenless(struct mp_engine *e)
{
    for (int32_t id = 0; id < e->shape->vocab_size; id++) {
        if (!mp_tokenizer_has(e->host->tokenizer, id) && !is_end(e, id)) {
            mp_ids_push(&e->host->tokenless, id);
        }
    }
}

int mp_engine_open_tokenizer(struct mp_engine *e, struct mp_error *err)
{
    struct mp_engine_host *h = e->host;
    if (h->tokenizer != NULL) {
        return 0;
    }
    if (h->model_dir == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "the model is a shape alone: it has no tokenizer");
    }
    int code = mp_engine_load_tokenizer(h->model_dir, h->stop, h->user, &h->tokenizer, err);
    if (code == 0) {
        h->leading = leading_special(h->tokenizer);
        find_tokenless(e);
    }
    return code;
}

/* The ids of a text with what the tokenizer puts around it; content as of
 * mp_tokenizer_encode_content. */
static int encode(struct mp_engine *e, const char *text, const char *content, size_t length,
                  int32_t **ids, int64_t *count, struct mp_error *err)
{
    struct mp_ids list = {0};
    int code =
        mp_tokenizer_encode_content(e->host->tokenizer, text, content, length, true, &list, err);
    if (code != 0) {
        mp_ids_free(&list);
        return code;
    }
    /* A text that starts with it would have it twice. */
    int32_t leading = e->host->leading;
    if (leading >= 0 && list.count >= 2 && list.data[0] == leading && list.data[1] == leading) {
        list.count--;
        memmove(list.data, list.data + 1, list.count * sizeof *list.data);
    }
    *ids = list.data;
    *count = (int64_t)list.count;
    return 0;
}

int mp_engine_encode(struct mp_engine *e, const char *text, size_t length, int32_t **ids,
                     int64_t *count, struct mp_error *err)
{
    int code = mp_engine_open_tokenizer(e, err);
    return code == 0 ? encode(e, text, NULL, length, ids, count, err) : code;
}

int mp_engine_encode_plain(struct mp_engine *e, const char *text, size_t length, int32_t **ids,
                           int64_t *count, struct mp_error *err)
{
    int code = mp_engine_open_tokenizer(e, err);
    if (code == 0) {
        char *content = mp_xmalloc(length + 1);
        memset(content, 1, length + 1);
        code = encode(e, text, content, length, ids, count, err);
        free(content);
    }
    return code;
}

/* ---- conversations ---- */

int mp_engine_open_chat(struct mp_engine *e, struct mp_error *err)
{
    struct mp_engine_host *h = e->host;
    if (h->chat != NULL) {
        return 0;
    }
    if (h->model_dir == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "the model is a shape alone: it has no chat template");
    }
    return mp_chat_load(h->model_dir, &h->chat, err);
}

/* Puts a text behind a rendered one; it is content. */
static void append(struct mp_jinja_text *text, const char *more)
{
    size_t n = strlen(more);
    text->data = mp_xrealloc(text->data, text->length + n + 1, 1);
    text->content = mp_xrealloc(text->content, text->length + n + 1, 1);
    memcpy(text->data + text->length, more, n + 1);
    memset(text->content + text->length, 1, n);
    text->length += n;
}

int mp_hook_encode_chat(const struct mp_chat *chat, const struct mp_tokenizer *t,
                        const struct mp_conversation *c, struct mp_ids *out, struct mp_error *err)
{
    struct mp_jinja_text text;
    int code = mp_chat_render(chat, c->name, c->json, c->length, &text, err);
    if (code != 0) {
        return code;
    }
    append(&text, c->answer != NULL ? c->answer : "");
    code = mp_tokenizer_encode_content(t, text.data, c->parse_special ? NULL : text.content,
                                       text.length, false, out, err);
    if (code != 0) {
        mp_fail_prefix(err, "%s: messages", c->name);
    }
    mp_jinja_text_free(&text);
    return code;
}

int mp_engine_encode_chat(struct mp_engine *e, const struct mp_conversation *c, int32_t **ids,
                          int64_t *count, struct mp_error *err)
{
    struct mp_ids list = {0};
    int code = mp_engine_open_tokenizer(e, err);
    if (code == 0) {
        code = mp_engine_open_chat(e, err);
    }
    if (code == 0) {
        code = mp_hook_encode_chat(e->host->chat, e->host->tokenizer, c, &list, err);
    }
    if (code != 0) {
        mp_ids_free(&list);
        return code;
    }
    *ids = list.data;
    *count = (int64_t)list.count;
    return 0;
}

int mp_engine_decode(struct mp_engine *e, const int32_t *ids, int64_t count, char **text,
                     size_t *length, struct mp_error *err)
{
    int code = mp_engine_open_tokenizer(e, err);
    if (code == 0) {
        *text = mp_tokenizer_decode(e->host->tokenizer, ids, (size_t)count, true, length);
    }
    return code;
}
