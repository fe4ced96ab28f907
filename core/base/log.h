/* Messages for people, on stderr: "magicpig-pipe: warning: ...". Colour only on a terminal. */
#ifndef MP_CORE_LOG_H
#define MP_CORE_LOG_H

#include <stdbool.h>

enum mp_log_level { MP_LOG_ERROR, MP_LOG_WARNING, MP_LOG_INFO };

/* Messages above this level are dropped; MP_LOG_INFO at start. */
void mp_log_set_level(enum mp_log_level level);
/* Whether a message of this level would be written. */
bool mp_log_enabled(enum mp_log_level level);

/* One line; thread-safe; the newline is added. */
void mp_log(enum mp_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
