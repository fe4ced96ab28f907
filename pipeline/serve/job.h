/* Requests between the threads that talk to clients and the one that drives the engine. A call is
 * one request of a client, a job one of its prompts. Whoever made a call waits for its jobs and
 * frees it; the engine's thread fills them. */
#ifndef MP_SERVE_JOB_H
#define MP_SERVE_JOB_H

#include "pipeline/engine/magicpig.h"
#include "pipeline/serve/api/ask.h"

#include <pthread.h>
#include <time.h>

struct mp_server;
struct mp_call;

enum mp_job_state {
    MP_JOB_NEW,      /* the engine's thread does not know it yet */
    MP_JOB_WAITING,  /* in the queue */
    MP_JOB_READING,  /* its prompt is read */
    MP_JOB_DECODING, /* it gets tokens */
    MP_JOB_ENDED,    /* nothing more will come */
};

/* The probabilities of consecutive tokens of a job. */
struct mp_job_logprobs {
    int32_t *ids;    /* [rows][width] the token, then the likeliest */
    float *logprobs; /* the same */
    int64_t rows;
    int64_t room; /* rows */
    int width;    /* 0: none are wanted */
};

struct mp_job {
    /* What is asked; the same from the submission on. */
    struct mp_call *call;
    int index;          /* of the prompt in its call */
    const int32_t *ids; /* [prompt_tokens] */
    int64_t prompt_tokens;
    int64_t max_tokens; /* at least 1 */
    double arrived;     /* this and other times: mp_clock_seconds */
    double deadline;    /* 0: none */
    /* What has come of it; under the server's lock. */
    enum mp_job_state state;
    int stop_status; /* of HTTP, once it is to end before its time; 0: it is not */
    char *text;      /* [length] and a NUL; NULL: none yet */
    size_t length;   /* bytes */
    size_t room;     /* bytes */
    struct mp_job_logprobs logprobs;
    int64_t read_tokens;   /* of the prompt */
    int64_t cached_tokens; /* of the prompt that were known from another one; once it was read */
    int64_t generated_tokens;
    enum mp_finish finish;
    struct mp_api_error error;                      /* status 0: it went well */
    double started, first_token, last_token, ended; /* 0: not yet */
    double sampled_share;   /* of the offloaded tokens; NaN: nothing to sample from */
    double estimated_error; /* of the attention's output; NaN: unknown */
    struct mp_job *next;    /* in the queue */
};

struct mp_call {
    struct mp_server *server;
    struct mp_ask ask;
    char id[40];
    time_t created;
    struct mp_job *jobs; /* [num_jobs]; NULL: not submitted */
    int num_jobs;
    int socket;             /* of its client; -1: nobody watches it. Under the server's lock */
    pthread_cond_t changed; /* with the server's lock: any of its jobs */
};

/* A call for what is asked, which it takes over. The caller's: mp_call_close. */
struct mp_call *mp_call_open(struct mp_server *server, struct mp_ask *ask);

/* Makes the prompts to ids, checks them against the model, and makes a job of each. Returns 0 or
 * the status in *error. */
int mp_call_prepare(struct mp_call *call, struct mp_api_error *error);

/* Puts the jobs into the queue: all of them or none. socket: the client's; its end cancels them.
 * Returns 0 or the status in *error. */
int mp_call_submit(struct mp_call *call, int socket, struct mp_api_error *error);

/* Under the lock: whether all jobs have ended; and the first one that failed, or NULL. */
bool mp_call_ended(const struct mp_call *call);
const struct mp_job *mp_call_failed(const struct mp_call *call);

/* Ends jobs that have not ended, waits until the engine's thread has let go of them, and frees the
 * call. NULL is fine. */
void mp_call_close(struct mp_call *call);

/* ---- of the engine's thread, under the lock ---- */

/* The job will get nothing more. */
void mp_job_end(struct mp_job *job);

/* Takes a job out of the queue. */
void mp_queue_remove(struct mp_server *server, struct mp_job *job);

#endif
