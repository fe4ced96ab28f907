/* The life of a call: from what is asked to jobs in the queue, and to its end. */
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/serve/chat.h"
#include "pipeline/serve/server.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum { DEFAULT_MAX_TOKENS = 16 }; /* of a completion, as OpenAI has it */

struct mp_call *mp_call_open(struct mp_server *server, struct mp_ask *ask)
{
    struct mp_call *call = mp_xcalloc(1, sizeof *call);
    call->server = server;
    call->ask = *ask;
    *ask = (struct mp_ask){0};
    if (!call->ask.has_seed && getrandom(&call->ask.seed, sizeof call->ask.seed, 0) < 0) {
        call->ask.seed = mp_clock_ns();
    }
    call->socket = -1;
    call->created = time(NULL);
    snprintf(call->id, sizeof call->id, "%s-%lx%08lx",
             call->ask.kind == MP_ASK_CHAT ? "chatcmpl" : "cmpl", (unsigned long)server->created,
             atomic_fetch_add(&server->last_id, 1));
    pthread_cond_init(&call->changed, NULL);
    pthread_mutex_lock(&server->lock);
    server->num_calls++;
    pthread_mutex_unlock(&server->lock);
    return call;
}

/* ---- prompts ---- */

/* The ids of a text. */
static int encode(struct mp_call *call, struct mp_ask_prompt *p, struct mp_api_error *error)
{
    struct mp_server *s = call->server;
    struct mp_error err;
    int code;
    if (call->ask.add_special) {
        int32_t *ids;
        int64_t count;
        code = mp_engine_encode(s->engine, p->text, p->length, &ids, &count, &err);
        if (code == 0) {
            p->ids = (struct mp_ids){ids, (size_t)count, (size_t)count};
        }
    } else {
        code = mp_tokenizer_encode(s->tokenizer, p->text, p->length, false, &p->ids, &err);
    }
    if (code == MP_ERR_INTERRUPTED) {
        return mp_api_fail(error, MP_HTTP_UNAVAILABLE, NULL, "the server ends");
    }
    return code == 0 ? 0 : mp_api_fail(error, MP_HTTP_BAD_REQUEST, "prompt", "%s", err.message);
}

/* Tokens that the answer may have. */
static int64_t room_for_answer(const struct mp_call *call, int64_t prompt_tokens)
{
    int64_t asked = call->ask.max_tokens;
    int64_t left = call->server->max_model_len - prompt_tokens;
    if (asked >= 0) {
        return asked;
    }
    return call->ask.kind == MP_ASK_CHAT || left < DEFAULT_MAX_TOKENS ? left : DEFAULT_MAX_TOKENS;
}

static int check_prompt(const struct mp_call *call, const struct mp_ask_prompt *p,
                        struct mp_api_error *error)
{
    const struct mp_server *s = call->server;
    const char *field = call->ask.kind == MP_ASK_CHAT ? "messages" : "prompt";
    struct mp_error err;
    int64_t count = (int64_t)p->ids.count;
    int64_t answer = call->ask.max_tokens >= 0 ? call->ask.max_tokens : 1;
    if (count + answer > s->max_model_len) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, field,
                           "This model's maximum context length is %lld tokens. However, you "
                           "requested %lld tokens (%lld in the %s, %lld in the completion).",
                           (long long)s->max_model_len, (long long)(count + answer),
                           (long long)count, field, (long long)answer);
    }
    if (mp_engine_check_prompt(s->engine, p->ids.data, count, 1, &err) != 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, field, "%s: %s", field, err.message);
    }
    return 0;
}

int mp_server_check_model(const struct mp_server *server, const char *name,
                          struct mp_api_error *error)
{
    return name == NULL || strcmp(name, server->model) == 0
               ? 0
               : mp_api_fail(error, MP_HTTP_NOT_FOUND, "model",
                             "The model `%.200s` does not exist: this server has `%s`.", name,
                             server->model);
}

/* One setting of an attention that samples; the other is 0. Both 0: it is not given. */
static int check_setting(const struct mp_call *call, const char *field, int64_t samples,
                         float epsilon, struct mp_api_error *error)
{
    struct mp_request_options o = {.size = sizeof o, .samples = samples, .epsilon = epsilon};
    struct mp_error err;
    return mp_engine_check_attention(call->server->engine, &o, &err) == 0
               ? 0
               : mp_api_fail(error, MP_HTTP_BAD_REQUEST, field, "%s", err.message);
}

/* What is asked of the model and its attention must be what is loaded. */
static int check_loaded(const struct mp_call *call, struct mp_api_error *error)
{
    const struct mp_ask *ask = &call->ask;
    const struct mp_config *c = call->server->config;
    int status = mp_server_check_model(call->server, ask->model, error);
    if (status != 0) {
        return status;
    }
    if (ask->attention != NULL && strcmp(ask->attention, mp_attention_name(c)) != 0) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "attention",
                           "attention: found \"%.80s\", but the server has loaded \"%s\"",
                           ask->attention, mp_attention_name(c));
    }
    status = check_setting(call, "samples", ask->samples, 0.0f, error);
    return status != 0 ? status : check_setting(call, "epsilon", 0, (float)ask->epsilon, error);
}

static void make_job(struct mp_call *call, int index)
{
    const struct mp_ask_prompt *p = &call->ask.prompts[index];
    struct mp_job *job = &call->jobs[index];
    int64_t answer = room_for_answer(call, (int64_t)p->ids.count);
    *job = (struct mp_job){
        .call = call,
        .index = index,
        .ids = p->ids.data,
        .prompt_tokens = (int64_t)p->ids.count,
        .max_tokens = answer > 0 ? answer : 1, /* with echo alone, one that nobody sees */
        .logprobs = {.width = call->ask.logprobs >= 0 ? 1 + call->ask.logprobs : 0},
        .sampled_share = NAN,
        .estimated_error = NAN,
    };
}

/* Jobs that there may be: what finds a free slot does not wait. */
static int64_t most_jobs(const struct mp_server *s)
{
    return s->limits.queue + s->config->batch;
}

/* Before any of them costs time or memory. */
static int check_number(const struct mp_call *call, struct mp_api_error *error)
{
    int64_t most = most_jobs(call->server);
    if (call->ask.num_prompts <= most) {
        return 0;
    }
    return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "prompt",
                       "prompt: found %d prompts, expected at most %lld", call->ask.num_prompts,
                       (long long)most);
}

int mp_call_prepare(struct mp_call *call, struct mp_api_error *error)
{
    struct mp_ask *ask = &call->ask;
    int status = check_loaded(call, error);
    if (status == 0) {
        status = check_number(call, error);
    }
    if (status == 0 && ask->kind == MP_ASK_CHAT) {
        status = mp_chat_prompt(call->server, ask, error);
    }
    for (int i = 0; i < ask->num_prompts && status == 0; i++) {
        if (ask->prompts[i].text != NULL) {
            status = encode(call, &ask->prompts[i], error);
        }
        if (status == 0) {
            status = check_prompt(call, &ask->prompts[i], error);
        }
    }
    if (status == 0) {
        call->num_jobs = ask->num_prompts;
        call->jobs = mp_xcalloc((size_t)call->num_jobs, sizeof *call->jobs);
        for (int i = 0; i < call->num_jobs; i++) {
            make_job(call, i);
        }
    }
    return status;
}

/* ---- the queue ---- */

static int refuse(struct mp_server *s, int jobs, struct mp_api_error *error)
{
    if (s->state == MP_SERVER_LOADING) {
        return mp_api_fail(error, MP_HTTP_UNAVAILABLE, NULL, "the model is being loaded");
    }
    if (s->state != MP_SERVER_READY) {
        return mp_api_fail(error, MP_HTTP_UNAVAILABLE, NULL, "the server ends");
    }
    if (s->num_waiting + s->num_running + jobs > most_jobs(s)) {
        s->metrics.refused++;
        return mp_api_fail(error, MP_HTTP_TOO_MANY, NULL,
                           "the queue is full: %d requests run and %d wait, of at most %lld",
                           s->num_running, s->num_waiting, (long long)s->limits.queue);
    }
    return 0;
}

static void append(struct mp_server *s, struct mp_job *job)
{
    job->state = MP_JOB_WAITING;
    job->arrived = mp_clock_seconds();
    job->deadline =
        s->limits.request_seconds > 0 ? job->arrived + (double)s->limits.request_seconds : 0.0;
    if (s->last_waiting != NULL) {
        s->last_waiting->next = job;
    } else {
        s->first_waiting = job;
    }
    s->last_waiting = job;
    s->num_waiting++;
}

void mp_queue_remove(struct mp_server *s, struct mp_job *job)
{
    struct mp_job **at = &s->first_waiting;
    struct mp_job *before = NULL;
    while (*at != job) {
        before = *at;
        at = &before->next;
    }
    *at = job->next;
    if (s->last_waiting == job) {
        s->last_waiting = before;
    }
    job->next = NULL;
    s->num_waiting--;
}

int mp_call_submit(struct mp_call *call, int socket, struct mp_api_error *error)
{
    struct mp_server *s = call->server;
    pthread_mutex_lock(&s->lock);
    int status = refuse(s, call->num_jobs, error);
    for (int i = 0; i < call->num_jobs && status == 0; i++) {
        append(s, &call->jobs[i]);
    }
    if (status == 0) {
        call->socket = socket;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
    return status;
}

/* ---- the end ---- */

void mp_job_end(struct mp_job *job)
{
    job->state = MP_JOB_ENDED;
    job->ended = mp_clock_seconds();
    pthread_cond_signal(&job->call->changed);
}

bool mp_call_ended(const struct mp_call *call)
{
    for (int i = 0; i < call->num_jobs; i++) {
        if (call->jobs[i].state != MP_JOB_ENDED) {
            return false;
        }
    }
    return true;
}

const struct mp_job *mp_call_failed(const struct mp_call *call)
{
    for (int i = 0; i < call->num_jobs; i++) {
        if (call->jobs[i].state == MP_JOB_ENDED && call->jobs[i].error.status != 0) {
            return &call->jobs[i];
        }
    }
    return NULL;
}

/* Those in the queue end at once, those that run within a step. */
static void cancel(struct mp_call *call)
{
    for (int i = 0; i < call->num_jobs; i++) {
        struct mp_job *job = &call->jobs[i];
        if (job->state == MP_JOB_WAITING) {
            mp_queue_remove(call->server, job);
            call->server->metrics.outcomes[MP_OUTCOME_ABORT]++;
            job->state = MP_JOB_ENDED;
        } else if (job->state == MP_JOB_NEW) {
            job->state = MP_JOB_ENDED;
        } else if (job->stop_status == 0) {
            job->stop_status = MP_HTTP_UNAVAILABLE;
        }
    }
}

void mp_call_close(struct mp_call *call)
{
    if (call == NULL) {
        return;
    }
    struct mp_server *s = call->server;
    pthread_mutex_lock(&s->lock);
    call->socket = -1;
    cancel(call);
    while (!mp_call_ended(call)) {
        pthread_cond_wait(&call->changed, &s->lock);
    }
    s->num_calls--;
    pthread_cond_signal(&s->closed);
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < call->num_jobs; i++) {
        free(call->jobs[i].text);
        free(call->jobs[i].logprobs.ids);
        free(call->jobs[i].logprobs.logprobs);
    }
    free(call->jobs);
    pthread_cond_destroy(&call->changed);
    mp_ask_free(&call->ask);
    free(call);
}
