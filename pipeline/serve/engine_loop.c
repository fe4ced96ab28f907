/* The thread that drives the engine: takes jobs from the queue, steps, hands out what came. */
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/serve/server.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* ---- what the engine calls: all within a step ---- */

static void take_token(void *user, int slot, int32_t id, const char *piece, size_t length)
{
    struct mp_job *job = user;
    struct mp_server *s = job->call->server;
    double now = mp_clock_seconds();
    (void)slot;
    (void)id;
    const int64_t cached = mp_session_request(s->session, slot)->cached_tokens;
    pthread_mutex_lock(&s->lock);
    if (job->length + length + 1 > job->room) {
        job->room = 2 * (job->length + length + 1);
        job->text = mp_xrealloc(job->text, job->room, 1);
    }
    memcpy(job->text + job->length, piece, length + 1);
    job->length += length;
    job->generated_tokens++;
    s->metrics.generated_tokens++;
    if (job->first_token == 0.0) {
        job->state = MP_JOB_DECODING;
        job->read_tokens = job->prompt_tokens;
        job->cached_tokens = cached;
        job->first_token = now;
        s->metrics.prompt_tokens += job->prompt_tokens;
        s->metrics.cached_tokens += cached;
        mp_histogram_add(&s->metrics.first_token, now - job->arrived);
    } else {
        mp_histogram_add(&s->metrics.inter_token, now - job->last_token);
    }
    job->last_token = now;
    pthread_cond_signal(&job->call->changed);
    pthread_mutex_unlock(&s->lock);
}

static void watch(struct mp_server *s);

enum { ROWS_UNWATCHED = 256 }; /* while the probabilities of a prompt are told */

static void take_logprobs(void *user, int slot, int64_t position, const int32_t *ids,
                          const float *logprobs, int count)
{
    struct mp_job *job = user;
    struct mp_server *s = job->call->server;
    struct mp_job_logprobs *l = &job->logprobs;
    (void)slot;
    pthread_mutex_lock(&s->lock);
    if (l->rows == l->room) {
        l->room = 2 * l->room + 16;
        size_t values = (size_t)l->room * (size_t)l->width;
        l->ids = mp_xrealloc(l->ids, values, sizeof *l->ids);
        l->logprobs = mp_xrealloc(l->logprobs, values, sizeof *l->logprobs);
    }
    size_t at = (size_t)l->rows++ * (size_t)l->width;
    for (int i = 0; i < l->width; i++) { /* a small vocabulary has fewer than are wanted */
        l->ids[at + (size_t)i] = i < count ? ids[i] : -1;
        l->logprobs[at + (size_t)i] = i < count ? logprobs[i] : 0.0f;
    }
    pthread_mutex_unlock(&s->lock);
    if (position < job->prompt_tokens && position % ROWS_UNWATCHED == 0) {
        watch(s);
    }
}

/* Under the lock: the first job in the queue that need not wait for the prompt that is read. */
static struct mp_job *find_short(const struct mp_server *s)
{
    struct mp_job *job = s->first_waiting;
    while (job != NULL &&
           (job->call->ask.echo ||
            !mp_hook_lets_in(s->session, job->ids, job->prompt_tokens, job->max_tokens))) {
        job = job->next;
    }
    return job;
}

void mp_server_progress(void *user, const char *what, const char *unit, int64_t done, int64_t total)
{
    struct mp_server *s = user;
    (void)what;
    (void)unit;
    (void)total;
    if (done < 0 || s->session == NULL) {
        return;
    }
    watch(s);
    pthread_mutex_lock(&s->lock);
    if (find_short(s) != NULL) {
        mp_hook_interrupt(s->session);
    }
    pthread_mutex_unlock(&s->lock);
}

/* ---- those that end before their time ---- */

/* poll takes no more than the process may have files, and jobs of a call share theirs. */
enum { MOST_POLLED = 64 };

/* Marks those of up to MOST_POLLED jobs whose clients have hung up. */
static void find_hang_ups(struct mp_job **jobs, int count)
{
    struct pollfd list[MOST_POLLED];
    for (int i = 0; i < count; i++) {
        list[i] = (struct pollfd){.fd = jobs[i]->call->socket, .events = POLLRDHUP};
    }
    if (poll(list, (nfds_t)count, 0) <= 0) {
        return;
    }
    for (int i = 0; i < count; i++) {
        bool gone = (list[i].revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
        if (gone && jobs[i]->stop_status == 0) {
            jobs[i]->stop_status = MP_HTTP_UNAVAILABLE;
        }
    }
}

static const char *why_stopped(int status)
{
    return status == MP_HTTP_TOO_LATE ? "the request took longer than the server allows"
                                      : "the request was ended: the client has gone, or the server "
                                        "ends";
}

/* Under the lock: marks what is to end, and ends what of it waits. */
static void find_ends(struct mp_server *s)
{
    int count = 0;
    double now = mp_clock_seconds();
    bool drained = s->state == MP_SERVER_DRAINING && now >= s->drain_until;
    struct mp_job **jobs =
        mp_xcalloc((size_t)(s->num_waiting + s->num_running) + 1, sizeof(struct mp_job *));
    for (int i = 0; i < s->config->batch; i++) {
        if (s->running[i] != NULL) {
            jobs[count++] = s->running[i];
        }
    }
    for (struct mp_job *j = s->first_waiting; j != NULL; j = j->next) {
        jobs[count++] = j;
    }
    for (int i = 0; i < count; i += MOST_POLLED) {
        find_hang_ups(jobs + i, count - i < MOST_POLLED ? count - i : MOST_POLLED);
    }
    for (int i = 0; i < count; i++) {
        struct mp_job *job = jobs[i];
        if (job->stop_status == 0 && job->deadline > 0.0 && now >= job->deadline) {
            job->stop_status = MP_HTTP_TOO_LATE;
        } else if (job->stop_status == 0 && drained) {
            job->stop_status = MP_HTTP_UNAVAILABLE;
        }
        if (job->stop_status != 0 && job->state == MP_JOB_WAITING) {
            mp_queue_remove(s, job);
            mp_api_fail(&job->error, job->stop_status, NULL, "%s", why_stopped(job->stop_status));
            job->finish = MP_FINISH_CANCELLED;
            s->metrics.outcomes[MP_OUTCOME_ABORT]++;
            mp_job_end(job);
        }
    }
    free(jobs);
}

/* Ends in the session what is to end, and looks how far the prompt is that is read. */
static void watch(struct mp_server *s)
{
    bool stop[MP_MAX_BATCH] = {false};
    pthread_mutex_lock(&s->lock);
    find_ends(s);
    for (int i = 0; i < s->config->batch; i++) {
        struct mp_job *job = s->running[i];
        if (job == NULL) {
            continue;
        }
        int64_t read = mp_session_request(s->session, i)->read_tokens;
        if (job->state == MP_JOB_READING && read != job->read_tokens) {
            job->read_tokens = read;
            pthread_cond_signal(&job->call->changed);
        }
        stop[i] = job->stop_status != 0;
    }
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->config->batch; i++) {
        if (stop[i]) {
            mp_session_cancel(s->session, i);
        }
    }
}

/* ---- the beginning of a job ---- */

static int add_to_session(struct mp_server *s, struct mp_job *job, int *slot, struct mp_error *err)
{
    const struct mp_ask *ask = &job->call->ask;
    struct mp_request_options o = {
        .size = sizeof o,
        .ids = job->ids,
        .count = job->prompt_tokens,
        .max_new_tokens = job->max_tokens,
        .own_sampling = true,
        .temperature = ask->temperature,
        .top_p = ask->top_p,
        .top_k = ask->top_k,
        .min_p = ask->min_p,
        .seed = ask->seed,
        .own_end_tokens = ask->ignore_eos,
        .stop = ask->stop,
        .num_stop = ask->num_stop,
        .on_token = take_token,
        .user = job,
        .special_text = ask->special_text,
        .on_logprobs = ask->logprobs >= 0 ? take_logprobs : NULL,
        .num_logprobs = ask->logprobs >= 0 ? ask->logprobs : 0,
        .prompt_logprobs = ask->echo,
        .samples = ask->samples,
        .epsilon = (float)ask->epsilon,
    };
    return mp_session_add(s->session, &o, slot, err);
}

/* Under the lock: a job that could not be run. */
static void fail_job(struct mp_server *s, struct mp_job *job, const struct mp_error *err)
{
    int status = err->code == MP_ERR_USAGE    ? MP_HTTP_BAD_REQUEST
                 : err->code == MP_ERR_MEMORY ? MP_HTTP_UNAVAILABLE
                                              : MP_HTTP_FAILED;
    mp_api_fail(&job->error, status, NULL, "%s", err->message);
    job->finish = MP_FINISH_FAILED;
    mp_metrics_take(&s->metrics, job);
    mp_job_end(job);
}

/* Whether the first prompt that waits need not wait for its file: meanwhile the others decode. */
static bool file_is_ready(struct mp_server *s)
{
    int32_t *ids = NULL;
    int64_t count = 0;
    int64_t max_tokens = 0;
    pthread_mutex_lock(&s->lock);
    const struct mp_job *job = s->num_running > 0 ? s->first_waiting : NULL;
    if (job != NULL && !job->call->ask.echo) { /* a copy: its client may hang up */
        count = job->prompt_tokens;
        max_tokens = job->max_tokens;
        ids = mp_xcalloc((size_t)count, sizeof *ids);
        memcpy(ids, job->ids, (size_t)count * sizeof *ids);
    }
    pthread_mutex_unlock(&s->lock);
    bool ready = ids == NULL || mp_hook_prepare_prompt(s->session, ids, count, max_tokens);
    free(ids);
    return ready;
}

/* Under the lock: the job whose prompt is read next, if there is a free slot. The first one in the
 * queue; while a long prompt is read, the first short one. NULL: none yet. */
static struct mp_job *choose_next(const struct mp_server *s)
{
    if (mp_session_can_add(s->session)) {
        return s->first_waiting;
    }
    struct mp_job *job = find_short(s);
    return job != NULL && mp_hook_interrupt(s->session) ? job : NULL;
}

static int start_next(struct mp_server *s, struct mp_error *err)
{
    if (s->config->kv_dir != NULL && mp_session_can_add(s->session) && !file_is_ready(s)) {
        return 0;
    }
    pthread_mutex_lock(&s->lock);
    struct mp_job *job = choose_next(s);
    if (job != NULL) {
        mp_queue_remove(s, job);
        job->state = MP_JOB_READING;
        job->started = mp_clock_seconds();
    }
    pthread_mutex_unlock(&s->lock);
    if (job == NULL) {
        return 0;
    }
    int slot = 0;
    int code = add_to_session(s, job, &slot, err);
    pthread_mutex_lock(&s->lock);
    if (code == 0) {
        s->running[slot] = job;
        s->num_running++;
    } else {
        fail_job(s, job, err);
    }
    pthread_mutex_unlock(&s->lock);
    return code == MP_ERR_USAGE || code == MP_ERR_MEMORY ? 0 : code;
}

/* ---- and its end ---- */

static void remember(struct mp_server *s, const struct mp_job *job)
{
    struct mp_past *p = &s->past[s->num_past++ % MP_MOST_PAST];
    *p = (struct mp_past){
        .prompt_tokens = job->prompt_tokens,
        .cached_tokens = job->cached_tokens,
        .generated_tokens = job->generated_tokens,
        .arrived = job->arrived,
        .started = job->started,
        .first_token = job->first_token,
        .ended = job->ended,
        .outcome = mp_job_outcome(job),
    };
    memcpy(p->id, job->call->id, sizeof job->call->id);
}

/* Under the lock: takes over how a request of the session has ended. */
static void finish_job(struct mp_server *s, int slot)
{
    const struct mp_request *r = mp_session_request(s->session, slot);
    struct mp_job *job = s->running[slot];
    job->finish = r->finish;
    job->sampled_share = r->sampled_mean;
    job->estimated_error = r->error_mean;
    if (r->finish == MP_FINISH_CANCELLED) {
        mp_api_fail(&job->error, job->stop_status, NULL, "%s", why_stopped(job->stop_status));
    } else if (r->finish == MP_FINISH_FAILED) {
        mp_api_fail(&job->error, MP_HTTP_UNAVAILABLE, NULL, "%s", r->failure.message);
    }
    s->running[slot] = NULL;
    s->num_running--;
    job->ended = mp_clock_seconds();
    mp_metrics_take(&s->metrics, job);
    remember(s, job);
    mp_job_end(job);
}

static void collect(struct mp_server *s)
{
    pthread_mutex_lock(&s->lock);
    s->metrics.steps++;
    pthread_mutex_unlock(&s->lock);
    for (int i = 0; i < s->config->batch; i++) {
        if (s->running[i] == NULL || mp_session_request(s->session, i)->finish == MP_FINISH_NONE) {
            continue;
        }
        pthread_mutex_lock(&s->lock);
        finish_job(s, i);
        pthread_mutex_unlock(&s->lock);
        mp_session_remove(s->session, i);
    }
}

/* ---- the loop ---- */

/* Sleeps, and lets the engine's workers sleep, while there is nothing to do. False: nothing more
 * will come. */
static bool wait_for_work(struct mp_server *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->state == MP_SERVER_READY && s->first_waiting == NULL && s->num_running == 0) {
        mp_hook_pause();
        while (s->state == MP_SERVER_READY && s->first_waiting == NULL) {
            pthread_cond_wait(&s->work, &s->lock);
        }
        mp_hook_resume();
    }
    bool more = s->first_waiting != NULL || s->num_running > 0;
    pthread_mutex_unlock(&s->lock);
    return more;
}

/* Nothing runs any more: every job there is ends with the engine's error. */
static void end_all(struct mp_server *s, const struct mp_error *err)
{
    pthread_mutex_lock(&s->lock);
    s->state = MP_SERVER_ENDED;
    for (int i = 0; i < s->config->batch; i++) {
        if (s->running[i] != NULL) {
            fail_job(s, s->running[i], err);
            s->running[i] = NULL;
        }
    }
    s->num_running = 0;
    while (s->first_waiting != NULL) {
        struct mp_job *job = s->first_waiting;
        mp_queue_remove(s, job);
        fail_job(s, job, err);
    }
    pthread_mutex_unlock(&s->lock);
}

int mp_server_run(struct mp_server *s, struct mp_error *err)
{
    int code = 0;
    while (code == 0 && wait_for_work(s)) {
        watch(s);
        code = start_next(s, err);
        if (code == 0) {
            int active;
            code = mp_session_step(s->session, &active, err);
        }
        if (code == 0) {
            collect(s);
        }
    }
    if (code != 0) {
        end_all(s, err);
    }
    return code;
}

void mp_server_drain(struct mp_server *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->state == MP_SERVER_LOADING) {
        s->abort = true;
    } else if (s->state == MP_SERVER_READY) {
        s->state = MP_SERVER_DRAINING;
        s->drain_until = mp_clock_seconds() + (double)s->limits.drain_seconds;
        pthread_cond_signal(&s->work);
    }
    pthread_mutex_unlock(&s->lock);
}
