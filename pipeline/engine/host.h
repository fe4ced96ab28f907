/* What an engine keeps of the program that it runs in, and of its model's directory. */
#ifndef MP_PIPELINE_HOST_H
#define MP_PIPELINE_HOST_H

#include "core/base/log.h"
#include "pipeline/engine/magicpig.h"

struct mp_engine_host {
    struct mp_config *config; /* defaults of the engine's own; NULL: the program brought one */
    char *model_dir;          /* NULL: a shape without files */
    mp_progress_callback *progress;
    mp_stop_callback *stop;
    void *user;                     /* of both */
    struct mp_log_target *log;      /* of the program's callback; NULL: it gave none */
    struct mp_tokenizer *tokenizer; /* NULL: not opened yet */
    struct mp_chat *chat;           /* NULL: not opened yet */
    int32_t leading; /* id that the tokenizer puts before every text, -1: none; once it is open */
};

/* Frees what it holds; messages no longer go to its callback. */
void mp_engine_host_release(struct mp_engine_host *h);

/* Copies a struct of options of `size` bytes, given with given_size bytes by a program that may be
 * older or newer: what it does not know is 0. MP_ERR_UNSUPPORTED if it sets what is not known here;
 * MP_ERR_USAGE if the size is not set. `what` names the struct. */
int mp_options_copy(void *out, size_t size, const void *given, size_t given_size, const char *what,
                    struct mp_error *err);

/* ---- callbacks; nothing happens where the program has given none ---- */

/* Whether the program wants the work to stop. */
bool mp_engine_stopped(const struct mp_engine *e);

/* done: of total units; -1: the end. */
void mp_engine_progress(const struct mp_engine *e, const char *what, const char *unit, int64_t done,
                        int64_t total);

#endif
