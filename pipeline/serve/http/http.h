/* HTTP: connections, bodies, routes. */
#ifndef MP_SERVE_HTTP_H
#define MP_SERVE_HTTP_H

#include "pipeline/serve/api/stream.h"
#include "pipeline/serve/server.h"

#include <microhttpd.h>

enum { MP_HTTP_SILENCE_SECONDS = 60 }; /* after which a connection is closed */

struct mp_http; /* the listening socket and its threads: opaque */
struct cJSON;

/* Listens, and answers from threads of its own. port 0: any free one. MP_ERR_USAGE: the address
 * cannot be had; MP_ERR_RUNTIME. */
int mp_http_open(struct mp_server *server, const char *host, int port, struct mp_http **out,
                 struct mp_error *err);

/* Where it listens: "http://127.0.0.1:8080". */
const char *mp_http_url(const struct mp_http *h);

/* Waits for the connections to end, which nothing may keep. NULL is fine. */
void mp_http_close(struct mp_http *h);

/* ---- one request and its answer ---- */

struct mp_route;

struct mp_exchange {
    struct mp_server *server;
    struct MHD_Connection *connection;
    const struct mp_route *route; /* NULL: refused */
    const char *allowed;          /* method of the path, if it has another one; NULL */
    const char *path;             /* decoded; the library's */
    struct mp_api_error error;    /* status 0: not refused */
    bool last;                    /* the connection is closed after the answer */
    char *body;                   /* [length] and a NUL */
    size_t length, room;          /* bytes */
    double began;                 /* mp_clock_seconds */
    struct mp_call *call;         /* NULL: none */
    struct mp_stream *stream;     /* NULL: none */
};

/* What answers a route whose body is here; what it returns goes back to the library. */
typedef enum MHD_Result mp_handler(struct mp_exchange *x);

/* ---- head.c ---- */

/* Looks at what the first line asks for, as it came; what is wrong with it is in x->error. */
void mp_head_take_uri(struct mp_exchange *x, const char *uri);

/* Looks at the headers; what is wrong with them is in x->error. version: of HTTP, as it came.
 * False: nobody knows where the request ends, so that the connection is good for no other. */
bool mp_head_check(struct mp_exchange *x, const char *version);

/* ---- reply.c ---- */

/* Takes the text, [length] bytes and malloc'ed, over. */
enum MHD_Result mp_reply_text(struct mp_exchange *x, int status, const char *type, char *text,
                              size_t length);
/* Takes the value over. */
enum MHD_Result mp_reply_json(struct mp_exchange *x, int status, struct cJSON *value);
enum MHD_Result mp_reply_error(struct mp_exchange *x, const struct mp_api_error *error);
/* Events of x->stream. */
enum MHD_Result mp_reply_stream(struct mp_exchange *x);

/* The client has a whole period of silence before it from now on. */
void mp_exchange_awake(struct mp_exchange *x);

/* ---- routes.c ---- */

struct mp_route {
    const char *method;
    const char *path; /* one that ends in a slash stands for all that begin so and go on */
    bool open;        /* to anybody, whatever keys there are */
    mp_handler *answer;
};

/* NULL with an error: there is no such path, or not with this method: *allowed gets the one it
 * has. */
const struct mp_route *mp_route_find(const char *method, const char *path, const char **allowed,
                                     struct mp_api_error *error);

/* ---- generate_routes.c, text_routes.c: handlers ---- */

mp_handler mp_answer_completions, mp_answer_chat;
mp_handler mp_answer_tokenize, mp_answer_detokenize, mp_answer_tokenizer_info;
mp_handler mp_answer_models, mp_answer_one_model, mp_answer_health, mp_answer_metrics,
    mp_answer_status, mp_answer_page;

#endif
