/* Chat templates: the part of Jinja that models' templates use, with the meaning that transformers
 * gives it (Jinja2's ImmutableSandboxedEnvironment with trim_blocks, lstrip_blocks and loop
 * controls; tojson without HTML escapes; raise_exception, strftime_now, {% generation %}).
 * What is not served is refused by its name, with the line of the template that has it.
 *
 * A template comes from whoever made a model: its nesting, its steps, its memory and its output are
 * limited, so that it can neither hang nor exhaust the memory or the stack. */
#ifndef MP_CORE_JINJA_H
#define MP_CORE_JINJA_H

#include "core/base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

struct mp_jinja; /* a template; immutable: threads may share it */

/* Reads a template from text[0 .. length), UTF-8; name stands for its file in messages, which begin
 * with "name:line". MP_ERR_FORMAT, MP_ERR_UNSUPPORTED, MP_ERR_MEMORY. *out: mp_jinja_free. */
int mp_jinja_compile(const char *name, const char *text, size_t length, struct mp_jinja **out,
                     struct mp_error *err);
void mp_jinja_free(struct mp_jinja *t);

/* A variable that a template is rendered with. */
struct mp_jinja_variable {
    const char *name;
    const char *json; /* [length] its value, JSON that json.h's reader takes; numbers with a point
                         or an exponent are floats, others whole numbers of 64 bits */
    size_t length;
    /* Its strings and keys are content (below), but for plain_key. */
    bool content;
    /* Both are members of the objects that the variable is an array of, and of no deeper ones;
     * NULL: none. A string that is called plain_key is not content. An array of objects that is
     * called joined_key becomes one string: the "text" of each, with newlines between them. */
    const char *plain_key;
    const char *joined_key;
};

/* What comes out. A byte is content if it has come from a string of a content variable. That is
 * kept by whatever copies characters: output, + and ~, slices and iteration, join, replace, trim,
 * split and the other methods and filters of strings, string and tojson. Characters that are made
 * up between them, such as quotes and escapes of tojson, are content where they stand inside such a
 * string. */
struct mp_jinja_text {
    char *data;    /* [length], NUL-terminated, UTF-8; free() */
    char *content; /* [length] 1: content, 0: the template's own; free() */
    size_t length;
};

/* Renders. now: the time that strftime_now tells, in local time. Messages begin with "name:line" of
 * the template. MP_ERR_FORMAT: raise_exception was called, or the template cannot take these
 * values; MP_ERR_UNSUPPORTED; MP_ERR_RUNTIME: a limit; MP_ERR_MEMORY. */
int mp_jinja_render(const struct mp_jinja *t, const struct mp_jinja_variable *variables,
                    size_t count, time_t now, struct mp_jinja_text *out, struct mp_error *err);
void mp_jinja_text_free(struct mp_jinja_text *text);

#endif
