/* The engine's callbacks for a program at a terminal: messages and progress on stderr, and signals.
 * None of them uses its `user`. */
#ifndef MP_PIPELINE_CONSOLE_H
#define MP_PIPELINE_CONSOLE_H

#include "core/base/log.h"

#include <stdbool.h>
#include <stdint.h>

/* Writes "magicpig-pipe: warning: ...". Colour only on a terminal. Thread-safe. */
void mp_console_log(void *user, enum mp_log_level level, const char *message);

/* A progress bar (pipeline/cli/progress.h) of the one thing under way. */
void mp_console_progress(void *user, const char *what, const char *unit, int64_t done,
                         int64_t total);

/* Whether a signal asks the program to stop (pipeline/cli/interrupt.h). */
bool mp_console_stop(void *user);

/* Of rank N, after 0: from now on stdout and progress are dropped, and of messages all but errors,
 * which name the rank. */
void mp_console_follow(int rank);

/* Ends the program with status 1 and that message (core/base/memory.h). */
void mp_console_give_up(const char *message) __attribute__((noreturn));

#endif
