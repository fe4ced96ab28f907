/* The page that shows what the server does, and what it is made of. */
#ifndef MP_SERVE_PAGE_H
#define MP_SERVE_PAGE_H

#include "pipeline/serve/server.h"

/* The page, self-contained: it asks for /status. */
extern const char mp_serve_page[];

/* What runs, what waits, and the last requests; times in seconds before now. The caller's:
 * cJSON_Delete. */
struct cJSON *mp_status_json(struct mp_server *server);

#endif
