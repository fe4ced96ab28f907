#include "pipeline/serve/api/stream.h"

#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "pipeline/serve/api/answer.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Clients, and proxies between, give up after some minute of silence: nginx after 60 seconds. */
enum { SILENCE_SECONDS = 15 };

struct mp_stream {
    struct mp_call *call;
    struct mp_teller *tellers; /* [call->num_jobs] */
    char *pending;             /* [length] events that have not been read */
    size_t length, at;         /* bytes; those before `at` have been read */
    bool finished;             /* there will be no more events */
};

struct mp_stream *mp_stream_open(struct mp_call *call)
{
    struct mp_stream *s = mp_xcalloc(1, sizeof *s);
    s->call = call;
    s->tellers = mp_xcalloc((size_t)call->num_jobs, sizeof *s->tellers);
    for (int i = 0; i < call->num_jobs; i++) {
        mp_teller_open(&s->tellers[i], &call->jobs[i]);
    }
    return s;
}

void mp_stream_close(struct mp_stream *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < s->call->num_jobs; i++) {
        mp_teller_close(&s->tellers[i]);
    }
    free(s->tellers);
    free(s->pending);
    free(s);
}

/* ---- events ---- */

static void add_text(struct mp_stream *s, const char *text)
{
    size_t n = strlen(text);
    s->pending = mp_xrealloc(s->pending, s->length + n + 1, 1);
    memcpy(s->pending + s->length, text, n + 1);
    s->length += n;
}

static void add_event(struct mp_stream *s, const char *data)
{
    char *event = mp_xasprintf("data: %s\n\n", data);
    add_text(s, event);
    free(event);
}

/* A comment, which clients pass over. */
static void add_sign_of_life(struct mp_stream *s)
{
    add_text(s, ": waiting\n\n");
}

static void add_json(struct mp_stream *s, cJSON *value)
{
    char *text = mp_json_key_text(value);
    add_event(s, text);
    free(text);
    cJSON_Delete(value);
}

static void add_progress(struct mp_stream *s, const struct mp_job *job, int64_t read)
{
    cJSON *chunk = mp_answer_frame(s->call, true);
    cJSON_AddArrayToObject(chunk, "choices");
    cJSON *extras = cJSON_AddObjectToObject(chunk, "magicpig");
    cJSON *progress = cJSON_AddObjectToObject(extras, "prompt_progress");
    cJSON_AddNumberToObject(progress, "index", job->index);
    cJSON_AddNumberToObject(progress, "read", (double)read);
    cJSON_AddNumberToObject(progress, "total", (double)job->prompt_tokens);
    add_json(s, chunk);
}

static void add_choice(struct mp_stream *s, struct mp_teller *t, const struct mp_news *news)
{
    cJSON *chunk = mp_answer_frame(s->call, true);
    cJSON *choices = cJSON_AddArrayToObject(chunk, "choices");
    cJSON_AddItemToArray(choices, mp_answer_choice(t, news, true));
    if (s->call->ask.include_usage) {
        cJSON_AddNullToObject(chunk, "usage");
    }
    if (news->ended) {
        cJSON *extras = cJSON_AddArrayToObject(chunk, "magicpig");
        cJSON_AddItemToArray(extras, mp_answer_extras(t->job));
    }
    add_json(s, chunk);
}

/* A job that failed ends the stream with its error. */
static void add_error(struct mp_stream *s, const struct mp_job *job)
{
    add_json(s, mp_api_error_json(&job->error));
    s->finished = true;
}

static void add_end(struct mp_stream *s)
{
    if (s->call->ask.include_usage) {
        cJSON *chunk = mp_answer_frame(s->call, true);
        cJSON_AddArrayToObject(chunk, "choices");
        cJSON_AddItemToObject(chunk, "usage", mp_answer_usage(s->call));
        add_json(s, chunk);
    }
    add_event(s, "[DONE]");
    s->finished = true;
}

/* ---- what has come ---- */

enum wait_end {
    NEWS,
    ALL_TOLD,
    SILENCE, /* for SILENCE_SECONDS */
};

/* Waits for news of a job, number *index. */
static enum wait_end wait_for_news(struct mp_stream *s, int *index, struct mp_news *news)
{
    struct mp_server *server = s->call->server;
    enum wait_end end = SILENCE;
    struct timespec until;
    int timed_out = 0;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += SILENCE_SECONDS;
    pthread_mutex_lock(&server->lock);
    while (end == SILENCE && timed_out != ETIMEDOUT) {
        end = ALL_TOLD;
        for (int i = 0; i < s->call->num_jobs && end != NEWS; i++) {
            *index = i;
            end = mp_teller_has_news(&s->tellers[i]) ? NEWS : s->tellers[i].done ? end : SILENCE;
        }
        if (end == SILENCE) {
            timed_out = pthread_cond_clockwait(&s->call->changed, &server->lock, CLOCK_MONOTONIC,
                                               &until);
        }
    }
    if (end == NEWS) {
        *news = mp_teller_take(&s->tellers[*index]);
    }
    pthread_mutex_unlock(&server->lock);
    return end;
}

static void add_news(struct mp_stream *s, struct mp_teller *t, const struct mp_news *news)
{
    if (news->ended && t->job->error.status != 0) {
        add_error(s, t->job);
    } else if (news->length == 0 && news->rows == 0 && !news->ended) {
        add_progress(s, t->job, news->read_tokens);
    } else {
        add_choice(s, t, news);
    }
}

static void next_event(struct mp_stream *s)
{
    struct mp_news news;
    int i;
    enum wait_end end = wait_for_news(s, &i, &news);
    if (end == ALL_TOLD) {
        add_end(s);
    } else if (end == SILENCE) {
        add_sign_of_life(s);
    } else {
        add_news(s, &s->tellers[i], &news);
        mp_news_free(&news);
    }
}

size_t mp_stream_read(struct mp_stream *s, char *out, size_t size)
{
    if (s->at == s->length) {
        s->at = s->length = 0;
        if (!s->finished) {
            next_event(s);
        }
    }
    size_t n = s->length - s->at < size ? s->length - s->at : size;
    if (n > 0) {
        memcpy(out, s->pending + s->at, n);
    }
    s->at += n;
    return n;
}
