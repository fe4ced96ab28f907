/* Chat templates: what models were trained to see around a user's text. */
#ifndef MP_MODELS_CHAT_H
#define MP_MODELS_CHAT_H

#include "core/base/error.h"

/* *before and *after get what stands around one user's text for the answer to follow, without BOS;
 * static; both NULL for the template "none". An unknown name is MP_ERR_USAGE; the message lists the
 * known ones. */
int mp_chat_find(const char *name, const char **before, const char **after, struct mp_error *err);

/* The known names, separated by ", "; static. */
const char *mp_chat_names(void);

#endif
