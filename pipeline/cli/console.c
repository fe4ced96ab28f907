#include "pipeline/cli/console.h"

#include "pipeline/cli/interrupt.h"
#include "pipeline/cli/progress.h"

#include "core/base/error.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct {
    const char *tag;
    const char *colour; /* ECMA-48 sequence */
} levels[] = {
    [MP_LOG_ERROR] = {"error: ", "\033[1;31m"},
    [MP_LOG_WARNING] = {"warning: ", "\033[1;33m"},
    [MP_LOG_INFO] = {"", ""},
};

static char who[32] = "magicpig-pipe";
static bool errors_alone;

void mp_console_follow(int rank)
{
    snprintf(who, sizeof who, "magicpig-pipe, rank %d", rank);
    errors_alone = true;
    mp_log_set_level(MP_LOG_ERROR); /* no progress */
    if (freopen("/dev/null", "w", stdout) == NULL) {
        mp_give_up("/dev/null: cannot write");
    }
}

void mp_console_log(void *user, enum mp_log_level level, const char *message)
{
    (void)user;
    if (errors_alone && level != MP_LOG_ERROR) {
        return;
    }
    flockfile(stderr);
    if (isatty(STDERR_FILENO)) {
        /* Clears a progress bar that may stand on this line. */
        fprintf(stderr, "\r\033[K%s: %s%s\033[0m", who, levels[level].colour, levels[level].tag);
    } else {
        fprintf(stderr, "%s: %s", who, levels[level].tag);
    }
    fprintf(stderr, "%s\n", message);
    funlockfile(stderr);
}

void mp_console_progress(void *user, const char *what, const char *unit, int64_t done,
                         int64_t total)
{
    static struct mp_progress *bar; /* one thread drives the engine */
    (void)user;
    if (done < 0) {
        mp_progress_end(bar);
        bar = NULL;
    } else if (bar == NULL) {
        bar = mp_progress_start(what, unit, total);
    } else {
        mp_progress_set(bar, done);
    }
}

bool mp_console_stop(void *user)
{
    (void)user;
    return mp_interrupted();
}

void mp_console_give_up(const char *message)
{
    char line[512];
    snprintf(line, sizeof line, "%s: error: %s\n", who, message);
    ssize_t ignored = write(STDERR_FILENO, line, strlen(line));
    (void)ignored;
    /* Finished requests are in their files. Another thread may be anywhere: nothing is tidied up.
     */
    _exit(1);
}
