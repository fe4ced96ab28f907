#include "core/base/log.h"

#include "core/base/utf8.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>

static _Atomic(enum mp_log_level) threshold = MP_LOG_INFO;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mp_log_target *newest; /* under the lock */

void mp_log_add_target(struct mp_log_target *target)
{
    pthread_mutex_lock(&lock);
    target->next = newest;
    newest = target;
    pthread_mutex_unlock(&lock);
}

void mp_log_remove_target(struct mp_log_target *target)
{
    pthread_mutex_lock(&lock);
    for (struct mp_log_target **t = &newest; *t != NULL; t = &(*t)->next) {
        if (*t == target) {
            *t = target->next;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
}

void mp_log_set_level(enum mp_log_level level)
{
    atomic_store(&threshold, level);
}

bool mp_log_enabled(enum mp_log_level level)
{
    return level <= atomic_load(&threshold);
}

void mp_log(enum mp_log_level level, const char *format, ...)
{
    if (!mp_log_enabled(level)) {
        return;
    }
    /* Not called under the lock: a sink may log, or add another one. */
    pthread_mutex_lock(&lock);
    struct mp_log_target target = newest != NULL ? *newest : (struct mp_log_target){0};
    pthread_mutex_unlock(&lock);
    if (target.sink == NULL) {
        return;
    }
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    mp_utf8_repair(message);
    target.sink(target.user, level, message);
}
