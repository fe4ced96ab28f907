/* Logprobs in the two forms that OpenAI has for them. */
#include "core/base/memory.h"
#include "core/base/utf8.h"
#include "pipeline/serve/api/answer.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

static const double LEAST_LOGPROB = -9999.0; /* JSON has no infinity */

/* ---- tokens ---- */

static bool is_text(const char *bytes, size_t length)
{
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(bytes + at, length - at);
        if (n <= 0 || bytes[at] == '\0') {
            return false;
        }
        at += (size_t)n;
    }
    return true;
}

char *mp_token_text(const struct mp_tokenizer *t, int32_t id)
{
    size_t length;
    char *bytes = mp_tokenizer_token_bytes(t, id, &length);
    if (is_text(bytes, length)) {
        return bytes;
    }
    char *text = mp_xmalloc(sizeof "bytes:" + 4 * length);
    size_t used = (size_t)sprintf(text, "bytes:");
    for (size_t i = 0; i < length; i++) {
        used += (size_t)sprintf(text + used, "\\x%02x", (unsigned char)bytes[i]);
    }
    free(bytes);
    return text;
}

static double logprob_of(float value)
{
    return (double)value < LEAST_LOGPROB ? LEAST_LOGPROB : (double)value;
}

/* ---- of a completion ---- */

struct columns {
    cJSON *tokens, *logprobs, *tops, *offsets;
};

/* The token's place in the text, which it then is part of. */
static void add_token(struct mp_teller *t, const struct columns *c, int32_t id)
{
    char *text = mp_token_text(t->job->call->server->tokenizer, id);
    cJSON_AddItemToArray(c->tokens, cJSON_CreateString(text));
    cJSON_AddItemToArray(c->offsets, cJSON_CreateNumber((double)t->offset));
    const char *piece = mp_token_stream_push(t->stream, id);
    size_t length = mp_token_stream_piece_length(t->stream);
    for (size_t i = 0; i < length; i++) {
        t->offset += ((unsigned char)piece[i] & 0xc0) != 0x80; /* the first byte of a character */
    }
    free(text);
}

/* By their texts: the likeliest ones and the token itself. */
static cJSON *top_by_text(const struct mp_tokenizer *tokenizer, const int32_t *ids,
                          const float *logprobs, int width)
{
    cJSON *top = cJSON_CreateObject();
    for (int i = 1; i <= width; i++) {
        int at = i % width; /* the token itself comes last, and may be among the others */
        if (ids[at] < 0) {
            continue;
        }
        char *text = mp_token_text(tokenizer, ids[at]);
        if (cJSON_GetObjectItemCaseSensitive(top, text) == NULL) {
            cJSON_AddNumberToObject(top, text, logprob_of(logprobs[at]));
        }
        free(text);
    }
    return top;
}

static cJSON *completion_logprobs(struct mp_teller *t, const struct mp_news *news)
{
    const struct mp_job *job = t->job;
    int width = job->logprobs.width;
    cJSON *all = cJSON_CreateObject();
    struct columns c = {
        .tokens = cJSON_AddArrayToObject(all, "tokens"),
        .logprobs = cJSON_AddArrayToObject(all, "token_logprobs"),
        .tops = cJSON_AddArrayToObject(all, "top_logprobs"),
        .offsets = cJSON_AddArrayToObject(all, "text_offset"),
    };
    if (job->call->ask.echo && t->told_rows == news->rows) { /* these are the first */
        add_token(t, &c, job->ids[0]);
        cJSON_AddItemToArray(c.logprobs, cJSON_CreateNull());
        cJSON_AddItemToArray(c.tops, cJSON_CreateNull());
    }
    for (int64_t r = 0; r < news->rows; r++) {
        const int32_t *ids = news->ids + r * width;
        const float *logprobs = news->logprobs + r * width;
        add_token(t, &c, ids[0]);
        cJSON_AddItemToArray(c.logprobs, cJSON_CreateNumber(logprob_of(logprobs[0])));
        cJSON_AddItemToArray(c.tops,
                             top_by_text(job->call->server->tokenizer, ids, logprobs, width));
    }
    return all;
}

/* ---- of a chat ---- */

static cJSON *chat_token(const struct mp_tokenizer *tokenizer, int32_t id, float logprob)
{
    size_t length;
    char *bytes = mp_tokenizer_token_bytes(tokenizer, id, &length);
    char *text = mp_token_text(tokenizer, id);
    cJSON *token = cJSON_CreateObject();
    cJSON_AddStringToObject(token, "token", text);
    cJSON_AddNumberToObject(token, "logprob", logprob_of(logprob));
    cJSON *list = cJSON_AddArrayToObject(token, "bytes");
    for (size_t i = 0; i < length; i++) {
        cJSON_AddItemToArray(list, cJSON_CreateNumber((unsigned char)bytes[i]));
    }
    free(text);
    free(bytes);
    return token;
}

static cJSON *chat_logprobs(const struct mp_teller *t, const struct mp_news *news)
{
    const struct mp_tokenizer *tokenizer = t->job->call->server->tokenizer;
    int width = t->job->logprobs.width;
    cJSON *all = cJSON_CreateObject();
    cJSON *content = cJSON_AddArrayToObject(all, "content");
    for (int64_t r = 0; r < news->rows; r++) {
        const int32_t *ids = news->ids + r * width;
        const float *logprobs = news->logprobs + r * width;
        cJSON *token = chat_token(tokenizer, ids[0], logprobs[0]);
        cJSON *top = cJSON_AddArrayToObject(token, "top_logprobs");
        for (int i = 1; i < width && ids[i] >= 0; i++) {
            cJSON_AddItemToArray(top, chat_token(tokenizer, ids[i], logprobs[i]));
        }
        cJSON_AddItemToArray(content, token);
    }
    cJSON_AddNullToObject(all, "refusal");
    return all;
}

cJSON *mp_answer_logprobs(struct mp_teller *t, const struct mp_news *news)
{
    return t->job->call->ask.kind == MP_ASK_CHAT ? chat_logprobs(t, news)
                                                 : completion_logprobs(t, news);
}
