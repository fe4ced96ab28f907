/* From the messages of a chat to a prompt. */
#ifndef MP_SERVE_CHAT_H
#define MP_SERVE_CHAT_H

#include "pipeline/serve/server.h"

/* Gives a chat its one prompt: what the template makes of its messages. Returns 0 or the status in
 * *error. */
int mp_chat_prompt(const struct mp_server *server, struct mp_ask *ask, struct mp_api_error *error);

#endif
