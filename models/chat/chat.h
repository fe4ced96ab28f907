/* Chat templates: what models were trained to see around the turns of a conversation. */
#ifndef MP_MODELS_CHAT_H
#define MP_MODELS_CHAT_H

#include "core/base/error.h"
#include "core/jinja/jinja.h"

#include <stddef.h>

/* ---- a model's own template (chat.c) ---- */

struct mp_chat; /* opaque, immutable: threads may share it */

/* That of a Hugging Face model directory: chat_template.jinja, else "chat_template" of
 * tokenizer_config.json, one text or a list of {"name", "template"} of which "default" and, for
 * conversations with tools, "tool_use" count. MP_ERR_UNSUPPORTED: the model has none, or one that
 * is not served; MP_ERR_IO, MP_ERR_FORMAT. *out: mp_chat_free. */
int mp_chat_load(const char *dir, struct mp_chat **out, struct mp_error *err);
void mp_chat_free(struct mp_chat *c);

/* The text of a conversation, up to where the answer starts, with the BOS that the template has.
 * json[0 .. length) is an object; of its members
 *   "messages" is an array of objects with "role" and "content", a text, null or an array of
 *     {"type": "text", "text": ...}, which only an assistant's may lack; what else they have, the
 *     template sees as it is;
 *   "tools", which may be missing, is an array of objects;
 *   "chat_template_kwargs", which may be missing, is an object of more variables for the template;
 * others are not looked at. All strings of these but the roles are content (core/jinja/jinja.h).
 * Where the template takes no arrays as content, their texts are joined by newlines.
 * name stands for the object in messages: "name: messages[2].role: ...". MP_ERR_FORMAT: the object
 * is not so, or the template refuses the conversation; MP_ERR_UNSUPPORTED, MP_ERR_RUNTIME,
 * MP_ERR_MEMORY. *out: mp_jinja_text_free. */
int mp_chat_render(const struct mp_chat *c, const char *name, const char *json, size_t length,
                   struct mp_jinja_text *out, struct mp_error *err);

/* Such an object of one message of a user, text[0 .. length); malloc'ed and NUL-terminated. */
char *mp_chat_of_text(const char *text, size_t length);

/* What stands around the text of a conversation of one message of a user: *before with the BOS that
 * the template has, *after up to the answer; malloc'ed. MP_ERR_UNSUPPORTED: the template changes
 * the text, or has it not once. */
int mp_chat_around(const struct mp_chat *c, char **before, char **after, struct mp_error *err);

/* ---- well-known forms (chat_forms.c) ---- */

/* *before and *after get what stands around one user's text for the answer to follow, without BOS;
 * static; both NULL for the form "none". An unknown name is MP_ERR_USAGE; the message lists the
 * known ones. */
int mp_chat_find(const char *name, const char **before, const char **after, struct mp_error *err);

/* The known names, separated by ", ", and "model", which stands for mp_chat_around; static. */
const char *mp_chat_names(void);

#endif
