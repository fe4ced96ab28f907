/* What the page shows. */
#include "core/base/clock.h"
#include "pipeline/engine/magicpig.h"
#include "pipeline/serve/page/page.h"

#include <cjson/cJSON.h>

static const char *word_of(enum mp_job_state state)
{
    return state == MP_JOB_WAITING ? "waiting" : state == MP_JOB_READING ? "reading" : "decoding";
}

static cJSON *job_json(const struct mp_job *job, double now)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "id", job->call->id);
    cJSON_AddStringToObject(j, "state", word_of(job->state));
    cJSON_AddNumberToObject(j, "prompt_tokens", (double)job->prompt_tokens);
    cJSON_AddNumberToObject(j, "read_tokens", (double)job->read_tokens);
    cJSON_AddNumberToObject(j, "generated_tokens", (double)job->generated_tokens);
    cJSON_AddNumberToObject(j, "max_tokens", (double)job->max_tokens);
    cJSON_AddNumberToObject(j, "age", now - job->arrived);
    return j;
}

/* A time that was, in seconds before now; null: it never came. */
static void add_age(cJSON *object, const char *name, double time, double now)
{
    cJSON_AddItemToObject(object, name,
                          time > 0.0 ? cJSON_CreateNumber(now - time) : cJSON_CreateNull());
}

static cJSON *past_json(const struct mp_past *p, double now)
{
    cJSON *j = cJSON_CreateObject();
    cJSON_AddStringToObject(j, "id", p->id);
    cJSON_AddStringToObject(j, "outcome", mp_outcome_name(p->outcome));
    cJSON_AddNumberToObject(j, "prompt_tokens", (double)p->prompt_tokens);
    cJSON_AddNumberToObject(j, "cached_tokens", (double)p->cached_tokens);
    cJSON_AddNumberToObject(j, "generated_tokens", (double)p->generated_tokens);
    add_age(j, "arrived", p->arrived, now);
    add_age(j, "started", p->started, now);
    add_age(j, "first_token", p->first_token, now);
    add_age(j, "ended", p->ended, now);
    return j;
}

static void add_jobs(cJSON *all, const struct mp_server *s, double now)
{
    cJSON *running = cJSON_AddArrayToObject(all, "running");
    cJSON *waiting = cJSON_AddArrayToObject(all, "waiting");
    cJSON *past = cJSON_AddArrayToObject(all, "past");
    for (int i = 0; i < s->config->batch; i++) {
        if (s->running[i] != NULL) {
            cJSON_AddItemToArray(running, job_json(s->running[i], now));
        }
    }
    for (const struct mp_job *j = s->first_waiting; j != NULL; j = j->next) {
        cJSON_AddItemToArray(waiting, job_json(j, now));
    }
    for (int64_t i = s->num_past; i > 0 && i > s->num_past - MP_MOST_PAST; i--) {
        cJSON_AddItemToArray(past, past_json(&s->past[(i - 1) % MP_MOST_PAST], now));
    }
}

cJSON *mp_status_json(struct mp_server *s)
{
    double now = mp_clock_seconds();
    cJSON *all = cJSON_CreateObject();
    cJSON_AddStringToObject(all, "model", s->model);
    cJSON_AddStringToObject(all, "description", mp_engine_model(s->engine));
    cJSON_AddStringToObject(all, "version", mp_version());
    cJSON_AddNumberToObject(all, "max_model_len", (double)s->max_model_len);
    cJSON_AddNumberToObject(all, "slots", s->config->batch);
    cJSON_AddNumberToObject(all, "memory_bytes", (double)mp_resident_bytes());
    pthread_mutex_lock(&s->lock);
    cJSON_AddStringToObject(all, "state",
                            s->state == MP_SERVER_READY     ? "ready"
                            : s->state == MP_SERVER_LOADING ? "loading"
                                                            : "ending");
    cJSON_AddNumberToObject(all, "uptime", now - s->started);
    cJSON_AddNumberToObject(all, "prompt_tokens", (double)s->metrics.prompt_tokens);
    cJSON_AddNumberToObject(all, "cached_tokens", (double)s->metrics.cached_tokens);
    cJSON_AddNumberToObject(all, "generated_tokens", (double)s->metrics.generated_tokens);
    cJSON_AddNumberToObject(all, "queue", (double)s->limits.queue);
    add_jobs(all, s, now);
    pthread_mutex_unlock(&s->lock);
    return all;
}
