/* What the threads of the server share. */
#ifndef MP_SERVE_SERVER_H
#define MP_SERVE_SERVER_H

#include "core/config/config.h"
#include "pipeline/serve/job.h"
#include "pipeline/serve/metrics.h"

#include <pthread.h>
#include <stdatomic.h>

struct mp_engine;
struct mp_session;
struct mp_tokenizer;

enum mp_server_state {
    MP_SERVER_LOADING,
    MP_SERVER_READY,
    MP_SERVER_DRAINING, /* finishes what it has, takes nothing new */
    MP_SERVER_ENDED,    /* its engine is gone */
};

/* What the command line says of limits. */
struct mp_serve_limits {
    int64_t queue;           /* jobs that may wait */
    int64_t body;            /* bytes of a request's body */
    int64_t request_seconds; /* from its arrival to its end; 0: no limit */
    int64_t drain_seconds;   /* from SIGTERM to the end */
};

/* One of the last requests, for the page. */
struct mp_past {
    char id[48];
    int64_t prompt_tokens, cached_tokens, generated_tokens;
    double arrived, started, first_token, ended; /* mp_clock_seconds; 0: never */
    enum mp_outcome outcome;
};
enum { MP_MOST_PAST = 32 };

#define MP_KEY_ENDS "\n\r\t " /* no key contains them */

struct mp_server {
    /* The same from the first connection on. */
    struct mp_engine *engine;
    const struct mp_config *config;
    const struct mp_tokenizer *tokenizer;
    struct mp_serve_limits limits;
    char *model; /* its name in the API */
    char *model_dir;
    const char *chat_form; /* around a chat's only message, by name; NULL: the model's template */
    int64_t max_model_len; /* tokens of a request, prompt and answer together */
    char *keys;            /* what clients must have, with MP_KEY_ENDS between; NULL: nothing */
    double started;        /* mp_clock_seconds */
    time_t created;
    atomic_bool abort;     /* loading is to stop */
    atomic_bool over;      /* nothing is left to stop */
    atomic_ulong last_id;  /* of calls */
    atomic_llong buffered; /* bytes of bodies in memory */
    /* Of the engine's thread alone. */
    struct mp_session *session;
    /* Under the lock. */
    pthread_mutex_t lock;
    pthread_cond_t work;   /* for the engine's thread: a job, or another state */
    pthread_cond_t closed; /* a call has been closed */
    enum mp_server_state state;
    double drain_until;
    struct mp_job *first_waiting, *last_waiting; /* the queue */
    int num_waiting;
    struct mp_job *running[MP_MAX_BATCH]; /* [slot] NULL: free */
    int num_running;
    int num_calls; /* open */
    struct mp_metrics metrics;
    struct mp_past past[MP_MOST_PAST]; /* a ring */
    int64_t num_past;                  /* all there were */
};

/* ---- call.c ---- */

/* Whether a model that is asked for by name is the server's: 0, or the status in *error. NULL: any
 * will do. */
int mp_server_check_model(const struct mp_server *server, const char *name,
                          struct mp_api_error *error);

/* ---- engine_loop.c ---- */

/* Answers jobs until the server has drained. An error of the engine ends all jobs with it. */
int mp_server_run(struct mp_server *server, struct mp_error *err);

/* For the engine's options: how far a prompt is, user being the server. */
void mp_server_progress(void *user, const char *what, const char *unit, int64_t done,
                        int64_t total);

/* Nothing new is taken; what there is may run on for limits.drain_seconds. */
void mp_server_drain(struct mp_server *server);

#endif
