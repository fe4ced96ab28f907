/* Messages for people. Where they go is the program's to say: nowhere at first. */
#ifndef MP_CORE_LOG_H
#define MP_CORE_LOG_H

#include "core/base/code.h"

#include <stdbool.h>

/* Gets each message: one line without a newline, valid during the call. Called by any thread. */
typedef void mp_log_sink(void *user, enum mp_log_level level, const char *message);

struct mp_log_target {
    mp_log_sink *sink;          /* NULL: messages are dropped */
    void *user;                 /* its first argument */
    struct mp_log_target *next; /* the one added before; the log's own */
};

/* Sends messages there, until the target is removed or another one is added. *target stays in place
 * until then. Targets may be removed in any order: messages go to the newest of those that are
 * left, or nowhere. */
void mp_log_add_target(struct mp_log_target *target);
void mp_log_remove_target(struct mp_log_target *target);

/* Messages above this level are dropped; MP_LOG_INFO at start. */
void mp_log_set_level(enum mp_log_level level);
/* Whether a message of this level would be passed on. */
bool mp_log_enabled(enum mp_log_level level);

/* One line, of 2047 bytes at most; thread-safe. */
void mp_log(enum mp_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
