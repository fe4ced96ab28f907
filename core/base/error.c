#include "core/base/error.h"

#include "core/base/utf8.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int mp_fail(struct mp_error *err, enum mp_code code, const char *format, ...)
{
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        err->code = code;
        vsnprintf(err->message, sizeof err->message, format, args);
        va_end(args);
        mp_utf8_repair(err->message);
    }
    return (int)code;
}

int mp_fail_prefix(struct mp_error *err, const char *format, ...)
{
    char old[sizeof err->message];
    memcpy(old, err->message, sizeof old);

    va_list args;
    va_start(args, format);
    int used = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used < sizeof err->message) {
        size_t room = sizeof err->message - (size_t)used;
        /* Truncation is fine here: the message is for a person. */
        if (snprintf(err->message + used, room, ": %s", old) < 0) {
            err->message[used] = '\0';
        }
    }
    mp_utf8_repair(err->message);
    return (int)err->code;
}

static mp_give_up_handler *on_give_up;

void mp_on_give_up(mp_give_up_handler *handler)
{
    on_give_up = handler;
}

void mp_give_up(const char *format, ...)
{
    char message[256];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    if (on_give_up != NULL) {
        on_give_up(message);
    }
    mp_panic("%s", message);
}

void mp_panic_at(const char *file, int line, const char *format, ...)
{
    fprintf(stderr, "magicpig-pipe: internal error at %s:%d: ", file, line);
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
    abort();
}
