#include "core/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

static _Atomic(enum mp_log_level) threshold = MP_LOG_INFO;

static const struct {
    const char *tag;
    const char *colour; /* ECMA-48 sequence */
} levels[] = {
    [MP_LOG_ERROR] = {"error: ", "\033[1;31m"},
    [MP_LOG_WARNING] = {"warning: ", "\033[1;33m"},
    [MP_LOG_INFO] = {"", ""},
};

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
    bool terminal = isatty(STDERR_FILENO);
    va_list args;
    va_start(args, format);
    flockfile(stderr);
    if (terminal) {
        /* Clears a progress bar that may stand on this line. */
        fprintf(stderr, "\r\033[Kmagicpig-pipe: %s%s\033[0m", levels[level].colour,
                levels[level].tag);
    } else {
        fprintf(stderr, "magicpig-pipe: %s", levels[level].tag);
    }
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    funlockfile(stderr);
    va_end(args);
}
