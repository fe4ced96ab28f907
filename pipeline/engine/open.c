/* Opening an engine for a program: its options, its callbacks, the model's directory. */
#include "core/base/log.h"
#include "core/base/memory.h"
#include "models/chat/chat.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>
#include <string.h>

const char *mp_version(void)
{
    return MAGICPIG_VERSION;
}

int mp_options_copy(void *out, size_t size, const void *given, size_t given_size, const char *what,
                    struct mp_error *err)
{
    if (given_size < sizeof(size_t)) {
        return mp_fail(err, MP_ERR_USAGE, "%s: found size %zu, expected the size of the struct",
                       what, given_size);
    }
    size_t known = given_size < size ? given_size : size;
    memset(out, 0, size);
    memcpy(out, given, known);
    for (size_t i = known; i < given_size; i++) {
        if (((const char *)given)[i] != 0) {
            return mp_fail(err, MP_ERR_UNSUPPORTED,
                           "%s: found %zu bytes with a field set that this version does not have, "
                           "expected at most %zu bytes",
                           what, given_size, size);
        }
    }
    return 0;
}

/* ---- callbacks ---- */

bool mp_engine_stopped(const struct mp_engine *e)
{
    return e->host->stop != NULL && e->host->stop(e->host->user);
}

void mp_engine_progress(const struct mp_engine *e, const char *what, const char *unit, int64_t done,
                        int64_t total)
{
    if (e->host->progress != NULL) {
        e->host->progress(e->host->user, what, unit, done, total);
    }
}

/* ---- open ---- */

void mp_engine_host_release(struct mp_engine_host *h)
{
    if (h->log != NULL) {
        mp_log_remove_target(h->log);
        free(h->log);
    }
    mp_tokenizer_free(h->tokenizer);
    mp_ids_free(&h->tokenless);
    mp_chat_free(h->chat);
    mp_config_destroy(h->config);
    free(h->model_dir);
    *h = (struct mp_engine_host){0};
}

/* Takes over what the program gives; messages go to it from here on. */
static int take_options(const struct mp_engine_options *given, struct mp_engine_options *o,
                        struct mp_engine_host *host, struct mp_error *err)
{
    *host = (struct mp_engine_host){0};
    int code = mp_options_copy(o, sizeof *o, given, given->size, "mp_engine_options", err);
    if (code != 0) {
        return code;
    }
    if (o->config == NULL) {
        o->config = host->config = mp_config_create();
    }
    host->progress = o->progress;
    host->stop = o->stop;
    host->user = o->user;
    if (o->log != NULL) {
        host->log = mp_xcalloc(1, sizeof *host->log);
        *host->log = (struct mp_log_target){.sink = o->log, .user = o->user};
        mp_log_add_target(host->log);
    }
    return mp_config_check(o->config, err);
}

/* The directory of the model that the options or the configuration name. */
static int find_model(const struct mp_engine_options *o, char **dir, struct mp_error *err)
{
    const struct mp_config *c = o->config;
    if (o->model != NULL) {
        return mp_config_resolve_model(o->model, NULL, dir, err);
    }
    if (c->model_path == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "no model: neither the options nor model_path name one");
    }
    return mp_config_resolve_model(c->model_path, c->folder, dir, err);
}

/* The engine of an open model; or, after an error, nothing stays of it. */
static int finish(int code, const struct mp_engine_options *o, struct mp_engine_host *host,
                  struct mp_model *model, struct mp_engine **out, struct mp_error *err)
{
    if (code != 0) {
        mp_engine_host_release(host);
        return code;
    }
    return mp_engine_create(o->config, model, host, out, err);
}

int mp_engine_open(const struct mp_engine_options *options, struct mp_engine **out,
                   struct mp_error *err)
{
    struct mp_engine_options o;
    struct mp_engine_host host;
    struct mp_model *model = NULL;
    int code = take_options(options, &o, &host, err);
    if (code == 0) {
        code = find_model(&o, &host.model_dir, err);
    }
    if (code == 0) {
        code = mp_model_open(host.model_dir, &model, err);
    }
    return finish(code, &o, &host, model, out, err);
}

int mp_engine_open_shape(const struct mp_engine_options *options, const char *name, int num_layers,
                         struct mp_engine **out, struct mp_error *err)
{
    struct mp_engine_options o;
    struct mp_engine_host host;
    struct mp_model *model = NULL;
    int code = take_options(options, &o, &host, err);
    if (code == 0) {
        code = mp_model_open_shape(name, num_layers, &model, err);
    }
    return finish(code, &o, &host, model, out, err);
}
