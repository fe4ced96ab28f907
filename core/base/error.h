/* Recoverable errors: a return code plus one message a person can act on.
 *
 * Convention, everywhere in this project: a function that can fail returns 0 on success and a
 * nonzero mp_code on failure, takes `struct mp_error *err` as its last parameter and fills it
 * exactly once. A message says which file, key or line, what was found and what was expected.
 * Broken invariants (bugs, not inputs) go through mp_panic and abort.
 */
#ifndef MP_CORE_ERROR_H
#define MP_CORE_ERROR_H

#include "core/base/code.h"

/* Formats the message into err (which may be NULL: the message is then dropped) and returns code.
 * Whatever the arguments cut or hold, the message is valid UTF-8. */
int mp_fail(struct mp_error *err, enum mp_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "prefix: " before the message already in err; returns err->code. */
int mp_fail_prefix(struct mp_error *err, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Prints file, line and message to stderr and aborts. For broken invariants only. */
#define mp_panic(...) mp_panic_at(__FILE__, __LINE__, __VA_ARGS__)
void mp_panic_at(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

/* Ends the program for what no caller can handle and is no bug: bookkeeping memory that has run
 * out, a GPU that has failed. By any thread. */
void mp_give_up(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* Gets the message, which says what was asked for and why it could not be; it must not allocate nor
 * return. Until one is set (a library's program has its own say in how it ends): a panic. */
typedef void mp_give_up_handler(const char *message);
void mp_on_give_up(mp_give_up_handler *handler);

#endif
