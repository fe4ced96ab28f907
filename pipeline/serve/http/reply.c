/* What goes back to a client. */
#include "core/base/memory.h"
#include "core/json/json_print.h"
#include "pipeline/serve/http/http.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { STREAM_BLOCK = 1 << 14 }; /* bytes asked of a stream at a time */

void mp_exchange_awake(struct mp_exchange *x)
{
    /* The library counts from when a period is set that was off. */
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0u);
    MHD_set_connection_option(x->connection, MHD_CONNECTION_OPTION_TIMEOUT,
                              (unsigned)MP_HTTP_SILENCE_SECONDS);
}

static enum MHD_Result queue(struct mp_exchange *x, int status, struct MHD_Response *response)
{
    mp_exchange_awake(x);
    enum MHD_Result result = MHD_queue_response(x->connection, (unsigned)status, response);
    MHD_destroy_response(response);
    return result;
}

enum MHD_Result mp_reply_text(struct mp_exchange *x, int status, const char *type, char *text,
                              size_t length)
{
    struct MHD_Response *r = MHD_create_response_from_buffer(length, text, MHD_RESPMEM_MUST_FREE);
    if (r == NULL) {
        free(text);
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", type);
    if (status == MP_HTTP_TOO_MANY || status == MP_HTTP_UNAVAILABLE) {
        MHD_add_response_header(r, "Retry-After", "1");
    } else if (status == MP_HTTP_UNAUTHORIZED) {
        MHD_add_response_header(r, "WWW-Authenticate", "Bearer");
    } else if (status == MP_HTTP_NOT_ALLOWED) {
        MHD_add_response_header(r, "Allow", x->allowed);
    }
    if (x->last) {
        MHD_add_response_header(r, "Connection", "close");
    }
    return queue(x, status, r);
}

enum MHD_Result mp_reply_json(struct mp_exchange *x, int status, cJSON *value)
{
    struct mp_error err;
    char *text = mp_json_print(value, MP_JSON_LINE, "an answer", &err);
    cJSON_Delete(value);
    return text == NULL ? MHD_NO : mp_reply_text(x, status, "application/json", text, strlen(text));
}

enum MHD_Result mp_reply_error(struct mp_exchange *x, const struct mp_api_error *error)
{
    return mp_reply_json(x, error->status, mp_api_error_json(error));
}

/* Waits in the connection's own thread. */
static ssize_t read_stream(void *user, uint64_t position, char *out, size_t size)
{
    struct mp_exchange *x = user;
    (void)position;
    size_t n = mp_stream_read(x->stream, out, size);
    mp_exchange_awake(x);
    return n > 0 ? (ssize_t)n : (ssize_t)MHD_CONTENT_READER_END_OF_STREAM;
}

enum MHD_Result mp_reply_stream(struct mp_exchange *x)
{
    struct MHD_Response *r =
        MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, x, NULL);
    if (r == NULL) {
        return MHD_NO;
    }
    MHD_add_response_header(r, "Content-Type", "text/event-stream; charset=utf-8");
    MHD_add_response_header(r, "Cache-Control", "no-cache");
    return queue(x, MP_HTTP_OK, r);
}
