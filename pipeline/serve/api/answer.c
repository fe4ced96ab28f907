#include "pipeline/serve/api/answer.h"

#include "core/base/memory.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* With echo alone, one token was generated that nobody is to see. */
static bool hides_answer(const struct mp_job *job)
{
    return job->call->ask.max_tokens == 0;
}

/* ---- news ---- */

void mp_teller_open(struct mp_teller *t, const struct mp_job *job)
{
    const struct mp_ask *ask = &job->call->ask;
    *t = (struct mp_teller){.job = job};
    if (ask->logprobs >= 0) {
        t->stream = mp_token_stream_new(job->call->server->tokenizer, !ask->special_text);
    }
}

void mp_teller_close(struct mp_teller *t)
{
    mp_token_stream_free(t->stream);
}

/* Rows that are to be told of those there are. */
static int64_t rows_to_tell(const struct mp_job *job)
{
    int64_t prompt = job->call->ask.echo ? job->prompt_tokens - 1 : 0;
    return hides_answer(job) && job->logprobs.rows > prompt ? prompt : job->logprobs.rows;
}

bool mp_teller_has_news(const struct mp_teller *t)
{
    const struct mp_job *job = t->job;
    bool progress = job->call->ask.prompt_progress && job->read_tokens != t->told_read;
    bool text = job->length > t->told_text && !hides_answer(job);
    /* Rows of a prompt come with the first token. */
    bool rows = rows_to_tell(job) > t->told_rows && job->generated_tokens > 0;
    return !t->done && (progress || text || rows || job->state == MP_JOB_ENDED);
}

struct mp_news mp_teller_take(struct mp_teller *t)
{
    const struct mp_job *job = t->job;
    struct mp_news news = {
        .length = hides_answer(job) ? 0 : job->length - t->told_text,
        .rows = job->generated_tokens > 0 ? rows_to_tell(job) - t->told_rows : 0,
        .ended = job->state == MP_JOB_ENDED,
        .read_tokens = job->read_tokens,
    };
    if (news.length > 0) {
        news.text = mp_xmalloc(news.length);
        memcpy(news.text, job->text + t->told_text, news.length);
    }
    if (news.rows > 0) {
        size_t width = (size_t)job->logprobs.width;
        size_t values = (size_t)news.rows * width;
        size_t first = (size_t)t->told_rows * width;
        news.ids = mp_xcalloc(values, sizeof *news.ids);
        news.logprobs = mp_xcalloc(values, sizeof *news.logprobs);
        memcpy(news.ids, job->logprobs.ids + first, values * sizeof *news.ids);
        memcpy(news.logprobs, job->logprobs.logprobs + first, values * sizeof *news.logprobs);
    }
    t->told_text += news.length;
    t->told_rows += news.rows;
    t->told_read = news.read_tokens;
    t->done = news.ended;
    return news;
}

void mp_news_free(struct mp_news *news)
{
    free(news->text);
    free(news->ids);
    free(news->logprobs);
}

/* ---- choices ---- */

cJSON *mp_json_text_value(const char *text, size_t length)
{
    char *quoted = mp_json_quote(text, length);
    cJSON *value = cJSON_CreateRaw(quoted);
    free(quoted);
    return value;
}

static cJSON *finish_reason(const struct mp_job *job, bool ended)
{
    switch (ended ? job->finish : MP_FINISH_NONE) {
    case MP_FINISH_EOS:
    case MP_FINISH_STOP:
        return cJSON_CreateString(hides_answer(job) ? "length" : "stop");
    case MP_FINISH_LENGTH:
        return cJSON_CreateString("length");
    default:
        return cJSON_CreateNull();
    }
}

/* The text of a completion: with echo its first piece begins with the prompt. */
static cJSON *completion_text(const struct mp_teller *t, const struct mp_news *news, bool first)
{
    const struct mp_call *call = t->job->call;
    if (!call->ask.echo || !first) {
        return mp_json_text_value(news->text != NULL ? news->text : "", news->length);
    }
    const struct mp_ask_prompt *p = &call->ask.prompts[t->job->index];
    size_t length = p->length;
    char *decoded = NULL;
    if (p->text == NULL) {
        decoded = mp_tokenizer_decode(call->server->tokenizer, p->ids.data, p->ids.count,
                                      !call->ask.special_text, &length);
    }
    char *whole = mp_xmalloc(length + news->length + 1);
    memcpy(whole, p->text != NULL ? p->text : decoded, length);
    if (news->length > 0) {
        memcpy(whole + length, news->text, news->length);
    }
    cJSON *value = mp_json_text_value(whole, length + news->length);
    free(whole);
    free(decoded);
    return value;
}

/* What a chat says: whole, or what has been added. */
static cJSON *chat_message(const struct mp_news *news, bool first, bool piece)
{
    cJSON *message = cJSON_CreateObject();
    if (first) {
        cJSON_AddStringToObject(message, "role", "assistant");
    }
    if (first || news->length > 0) {
        cJSON_AddItemToObject(
            message, "content",
            mp_json_text_value(news->text != NULL ? news->text : "", news->length));
    }
    if (!piece) {
        cJSON_AddNullToObject(message, "refusal");
    }
    return message;
}

cJSON *mp_answer_choice(struct mp_teller *t, const struct mp_news *news, bool piece)
{
    const struct mp_ask *ask = &t->job->call->ask;
    bool first = !t->begun;
    cJSON *choice = cJSON_CreateObject();
    t->begun = true;
    cJSON_AddNumberToObject(choice, "index", t->job->index);
    if (ask->kind == MP_ASK_CHAT) {
        cJSON_AddItemToObject(choice, piece ? "delta" : "message",
                              chat_message(news, first, piece));
    } else {
        cJSON_AddItemToObject(choice, "text", completion_text(t, news, first));
    }
    cJSON_AddItemToObject(choice, "logprobs",
                          ask->logprobs >= 0 ? mp_answer_logprobs(t, news) : cJSON_CreateNull());
    cJSON_AddItemToObject(choice, "finish_reason", finish_reason(t->job, news->ended));
    return choice;
}

/* ---- around them ---- */

cJSON *mp_answer_frame(const struct mp_call *call, bool piece)
{
    bool chat = call->ask.kind == MP_ASK_CHAT;
    cJSON *frame = cJSON_CreateObject();
    cJSON_AddStringToObject(frame, "id", call->id);
    cJSON_AddStringToObject(frame, "object",
                            !chat   ? "text_completion"
                            : piece ? "chat.completion.chunk"
                                    : "chat.completion");
    cJSON_AddNumberToObject(frame, "created", (double)call->created);
    cJSON_AddStringToObject(frame, "model", call->server->model);
    return frame;
}

cJSON *mp_answer_usage(const struct mp_call *call)
{
    int64_t prompt = 0, cached = 0, generated = 0;
    for (int i = 0; i < call->num_jobs; i++) {
        prompt += call->jobs[i].prompt_tokens;
        cached += call->jobs[i].cached_tokens;
        generated += hides_answer(&call->jobs[i]) ? 0 : call->jobs[i].generated_tokens;
    }
    cJSON *usage = cJSON_CreateObject();
    cJSON_AddNumberToObject(usage, "prompt_tokens", (double)prompt);
    cJSON_AddNumberToObject(usage, "completion_tokens", (double)generated);
    cJSON_AddNumberToObject(usage, "total_tokens", (double)(prompt + generated));
    cJSON *details = cJSON_AddObjectToObject(usage, "prompt_tokens_details");
    cJSON_AddNumberToObject(details, "cached_tokens", (double)cached);
    return usage;
}

/* NaN is null. */
static void add_number(cJSON *object, const char *name, double value)
{
    cJSON_AddItemToObject(object, name,
                          isnan(value) ? cJSON_CreateNull() : cJSON_CreateNumber(value));
}

cJSON *mp_answer_extras(const struct mp_job *job)
{
    const struct mp_config *c = job->call->server->config;
    int64_t offloaded = job->prompt_tokens - c->device_budget;
    double rows = job->sampled_share * (double)(offloaded > 0 ? offloaded : 0);
    cJSON *extras = cJSON_CreateObject();
    cJSON_AddNumberToObject(extras, "index", job->index);
    add_number(extras, "sampled_share", job->sampled_share);
    add_number(extras, "sampled_rows", rint(rows));
    add_number(extras, "estimated_error", job->estimated_error);
    add_number(extras, "queue_seconds", job->started - job->arrived);
    add_number(extras, "prefill_seconds", job->first_token - job->started);
    add_number(extras, "decode_seconds", job->last_token - job->first_token);
    return extras;
}

cJSON *mp_answer_whole(const struct mp_call *call)
{
    cJSON *whole = mp_answer_frame(call, false);
    cJSON *choices = cJSON_AddArrayToObject(whole, "choices");
    cJSON *extras = cJSON_CreateArray();
    for (int i = 0; i < call->num_jobs; i++) {
        struct mp_teller t;
        mp_teller_open(&t, &call->jobs[i]);
        struct mp_news news = mp_teller_take(&t);
        cJSON_AddItemToArray(choices, mp_answer_choice(&t, &news, false));
        cJSON_AddItemToArray(extras, mp_answer_extras(&call->jobs[i]));
        mp_news_free(&news);
        mp_teller_close(&t);
    }
    cJSON_AddItemToObject(whole, "usage", mp_answer_usage(call));
    cJSON_AddItemToObject(whole, "magicpig", extras);
    return whole;
}
