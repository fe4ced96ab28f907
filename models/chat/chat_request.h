/* A conversation as JSON, and the variables of a template that it gives. Private to models/chat. */
#ifndef MP_MODELS_CHAT_REQUEST_H
#define MP_MODELS_CHAT_REQUEST_H

#include "core/base/error.h"
#include "core/jinja/jinja.h"

#include <stdbool.h>
#include <stddef.h>

enum { MP_CHAT_MAX_VARIABLES = 36 };

struct mp_chat_variables {
    struct mp_jinja_variable items[MP_CHAT_MAX_VARIABLES]; /* [count] */
    size_t count;
    bool has_tools;
    struct mp_json *doc; /* which owns their names; their JSON is the request's */
};

/* Checks the object of mp_chat_render (models/chat/chat.h), and finds its parts. joins: arrays as
 * content become texts. MP_ERR_FORMAT, MP_ERR_UNSUPPORTED. */
int mp_chat_read_request(const char *name, const char *json, size_t length, bool joins,
                         struct mp_chat_variables *out, struct mp_error *err);
void mp_chat_variables_free(struct mp_chat_variables *v);

#endif
