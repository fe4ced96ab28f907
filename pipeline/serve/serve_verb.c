/* The verb `serve`: opens everything in its order, runs until a signal, and closes it. */
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/memory.h"
#include "core/base/utf8.h"
#include "pipeline/cli/cli.h"
#include "pipeline/cli/console.h"
#include "pipeline/cli/interrupt.h"
#include "pipeline/engine/hooks.h"
#include "pipeline/engine/plan.h"
#include "pipeline/serve/http/http.h"

#include <malloc.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    DEFAULT_PORT = 8080,
    DEFAULT_QUEUE = 256,
    LEAST_BODY = 8 << 20, /* bytes of --max-body without it, */
    TOKEN_BODY = 16,      /* and this for each token of the context */
    DEFAULT_DRAIN = 30,
    CLOSE_SECONDS = 5, /* for clients to take what is ready, after all has ended */
    MAX_KEY_FILE = 1 << 16,
    MAX_CONTEXT = 1 << 28,
    MAX_ARENAS = 4, /* of malloc: each connection's thread would have its own */
};

/* ---- what the command line says ---- */

static int64_t given_or(int64_t given, int64_t otherwise)
{
    return given >= 0 ? given : otherwise;
}

/* Its name in the API, which also stands in labels and pages. */
static int choose_name(struct mp_server *s, const struct mp_cli *cli, struct mp_error *err)
{
    const char *name = cli->served_name != NULL ? cli->served_name : cli->config.model_path;
    s->model = mp_xstrdup(name);
    size_t length = strlen(s->model);
    while (length > 1 && s->model[length - 1] == '/') {
        s->model[--length] = '\0';
    }
    int n;
    for (const char *c = s->model; *c != '\0'; c += n) {
        n = mp_utf8_next(c, strlen(c));
        if (n <= 0 || (unsigned char)*c < ' ' || *c == '"' || *c == '\\') {
            return mp_fail(err, MP_ERR_USAGE,
                           "--served-name: found \"%s\", expected a name in UTF-8 without quotes, "
                           "backslashes and control characters",
                           name);
        }
    }
    return length > 0 ? 0
                      : mp_fail(err, MP_ERR_USAGE, "--served-name: expected a name, found none");
}

static int read_keys(struct mp_server *s, const char *path, struct mp_error *err)
{
    size_t length;
    int code = mp_file_read(path, MAX_KEY_FILE, &s->keys, &length, err);
    if (code != 0) {
        return code;
    }
    s->keys = mp_xrealloc(s->keys, length + 1, 1);
    s->keys[length] = '\0';
    if (strlen(s->keys) != length || s->keys[strspn(s->keys, MP_KEY_ENDS)] == '\0') {
        return mp_fail(err, MP_ERR_FORMAT, "%s: found no key, expected one a line", path);
    }
    return 0;
}

static int take_options(struct mp_server *s, const struct mp_cli *cli, struct mp_error *err)
{
    s->config = &cli->config;
    s->limits = (struct mp_serve_limits){
        .queue = given_or(cli->queue, DEFAULT_QUEUE),
        .body = cli->max_body,
        .request_seconds = cli->request_seconds,
        .drain_seconds = given_or(cli->drain_seconds, DEFAULT_DRAIN),
    };
    if (cli->port > 65535) {
        return mp_fail(err, MP_ERR_USAGE, "--port: found %lld, expected 0 to 65535",
                       (long long)cli->port);
    }
    int code = mp_cli_model_dir(cli, &s->model_dir, err);
    if (code == 0) {
        code = choose_name(s, cli, err);
    }
    return code == 0 && cli->api_key_file != NULL ? read_keys(s, cli->api_key_file, err) : code;
}

/* ---- the model ---- */

static bool fits(const struct mp_server *s, int64_t tokens)
{
    struct mp_plan plan;
    if (mp_engine_check_length(s->engine, tokens, NULL) != 0) {
        return false;
    }
    mp_engine_plan(s->engine, tokens, s->config->gen_len, &plan);
    return mp_plan_check(&plan, s->config, NULL) == 0;
}

/* The context that is asked for, or the longest that the model and the memory have. */
static void choose_context(struct mp_server *s, int64_t asked)
{
    int64_t low = 1;
    int64_t high = 2;
    if (asked > 0) {
        s->max_model_len = asked;
        return;
    }
    while (high < MAX_CONTEXT && fits(s, high)) {
        low = high;
        high *= 2;
    }
    while (high - low > 1) {
        int64_t middle = low + (high - low) / 2;
        if (fits(s, middle)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    s->max_model_len = low;
}

static void progress(void *user, const char *what, const char *unit, int64_t done, int64_t total)
{
    struct mp_server *s = user;
    if (s->session == NULL) {
        mp_console_progress(NULL, what, unit, done, total); /* loading */
    } else {
        mp_server_progress(s, what, unit, done, total);
    }
}

static bool stop(void *user)
{
    struct mp_server *s = user;
    return s->abort;
}

/* The model's own template, unless there is none or the command line names a form. */
static int choose_template(struct mp_server *s, const char *name, struct mp_error *err)
{
    const char *before, *after;
    if (name != NULL && strcmp(name, "model") != 0) {
        s->chat_form = name;
        return mp_hook_chat(name, &before, &after, err);
    }
    int code = mp_engine_open_chat(s->engine, err);
    if (code == MP_ERR_UNSUPPORTED && name == NULL) {
        mp_log(MP_LOG_INFO, "chats are one message, without a template: %s", err->message);
        s->chat_form = "none";
        return 0;
    }
    return code;
}

static int open_engine(struct mp_server *s, const struct mp_cli *cli, struct mp_error *err)
{
    const struct mp_engine_options callbacks = {
        .log = mp_console_log, .progress = progress, .stop = stop, .user = s};
    int code = mp_cli_open_engine_with(cli, &cli->config, &callbacks, &s->engine, err);
    if (code == 0) {
        code = mp_engine_open_tokenizer(s->engine, err);
    }
    if (code == 0) {
        s->tokenizer = mp_engine_tokenizer(s->engine);
        code = choose_template(s, cli->chat_template, err);
    }
    if (code == 0) {
        choose_context(s, cli->context);
        if (s->limits.body == 0) {
            s->limits.body = LEAST_BODY + TOKEN_BODY * s->max_model_len;
        }
        code = mp_engine_check_length(s->engine, s->max_model_len, err);
    }
    return code;
}

static int load(struct mp_server *s, struct mp_error *err)
{
    struct mp_session *session = NULL;
    int code = mp_engine_start(s->engine, s->max_model_len, s->config->gen_len, err);
    if (code == 0) {
        code = mp_session_open(s->engine, &session, err);
    }
    if (code == 0) {
        mp_log(MP_LOG_INFO, "%s", mp_engine_model(s->engine));
        mp_engine_log_workers(s->engine);
        s->session = session;
        pthread_mutex_lock(&s->lock);
        if (s->abort) { /* by a signal that came after the engine asked for the last time */
            code = mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while loading the model");
        } else {
            s->state = MP_SERVER_READY;
        }
        pthread_mutex_unlock(&s->lock);
    }
    return code;
}

/* ---- signals ---- */

static void signals_of_ours(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
}

/* The first one lets what runs end, the second one does not; one that comes once all is over ends
 * this thread. */
static void *await_signals(void *user)
{
    struct mp_server *s = user;
    sigset_t set;
    int which;
    signals_of_ours(&set);
    sigwait(&set, &which);
    if (s->over) {
        return NULL;
    }
    mp_log(MP_LOG_INFO, "stopping: what runs is finished; a second signal ends it at once");
    mp_server_drain(s);
    sigwait(&set, &which);
    if (s->over) {
        return NULL;
    }
    _exit(MP_EXIT_INTERRUPTED);
}

/* From here on this thread and those that it makes leave signals to await_signals. */
static void start_signals(struct mp_server *s, pthread_t *thread)
{
    sigset_t set;
    signals_of_ours(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (pthread_create(thread, NULL, await_signals, s) != 0) {
        mp_panic("no thread for signals");
    }
}

/* ---- all of it ---- */

static void init(struct mp_server *s)
{
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->work, NULL);
    pthread_cond_init(&s->closed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    s->started = mp_clock_seconds();
    s->created = time(NULL);
}

/* Once no thread of the server is left, that of the signals among them. */
static void destroy(struct mp_server *s)
{
    free(s->keys);
    free(s->model);
    free(s->model_dir);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->work);
    pthread_cond_destroy(&s->closed);
    free(s);
}

/* Nothing is computed any more: clients take what is ready for them. */
static void wait_for_clients(struct mp_server *s)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += CLOSE_SECONDS;
    pthread_mutex_lock(&s->lock);
    while (s->num_calls > 0 && pthread_cond_timedwait(&s->closed, &s->lock, &until) == 0) {
    }
    pthread_mutex_unlock(&s->lock);
}

static void close_all(struct mp_server *s, struct mp_http *http)
{
    mp_http_close(http);
    mp_session_close(s->session);
    s->session = NULL;
    mp_engine_close(s->engine);
}

static int run(struct mp_server *s, const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_http *http = NULL;
    pthread_t signals;
    const char *host = cli->host != NULL ? cli->host : "127.0.0.1";
    int code = take_options(s, cli, err);
    if (code == 0) {
        code = open_engine(s, cli, err);
    }
    if (code != 0) {
        close_all(s, NULL);
        return code;
    }
    start_signals(s, &signals);
    /* Before the engine binds this thread to a core, which the connections' would inherit. */
    code = mp_http_open(s, host, (int)given_or(cli->port, DEFAULT_PORT), &http, err);
    if (code == 0) {
        code = load(s, err);
    }
    if (code == 0) {
        mp_log(MP_LOG_INFO, "serving %s on %s: %d at a time, of up to %lld tokens", s->model,
               mp_http_url(http), s->config->batch, (long long)s->max_model_len);
        code = mp_server_run(s, err);
        wait_for_clients(s);
    }
    close_all(s, http);
    s->over = true;
    pthread_kill(signals, SIGTERM);
    pthread_join(signals, NULL);
    return code;
}

int mp_verb_serve(const struct mp_cli *cli, struct mp_error *err)
{
    struct mp_server *s = mp_xcalloc(1, sizeof *s);
    mallopt(M_ARENA_MAX, MAX_ARENAS);
    init(s);
    int code = run(s, cli, err);
    destroy(s);
    return code;
}
