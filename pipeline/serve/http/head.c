/* What a request is refused for by its first line and its headers alone, whatever it asks for: what
 * the library would refuse in HTML, as far as it lets it through, and what makes the server and a
 * proxy before it disagree on where a request ends. */
#include "pipeline/serve/http/http.h"

#include <string.h>
#include <strings.h>

enum {
    MOST_HEAD = 32 << 10, /* bytes of the first line and the headers */
    MOST_URI = 8000,      /* bytes of the path and what follows it; what RFC 9110 asks for */
    MOST_HEADERS = 200,
};

/* ---- the first line ---- */

void mp_head_take_uri(struct mp_exchange *x, const char *uri)
{
    size_t length = strlen(uri);
    if (length > MOST_URI) {
        mp_api_fail(&x->error, MP_HTTP_URI_TOO_LONG, NULL,
                    "the URI is too long: found %zu bytes, expected at most %d", length, MOST_URI);
        return;
    }
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)uri[i];
        if (c <= ' ' || c == 0x7f) {
            mp_api_fail(&x->error, MP_HTTP_BAD_REQUEST, NULL,
                        "byte %zu of the URI: found a space or a control character, which a URI "
                        "has as %%%02X",
                        i + 1, c);
            return;
        }
    }
}

/* ---- headers ---- */

/* Of those that say where the request ends, and of Host. */
struct head {
    int headers, hosts, lengths, encodings;
    const char *encoding; /* the last Transfer-Encoding */
    const char *bad_name; /* a name with what no name has; NULL: none */
};

static bool is_name(const char *name)
{
    size_t good = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                               "!#$%&'*+-.^_`|~");
    return good > 0 && name[good] == '\0';
}

static enum MHD_Result take_header(void *user, enum MHD_ValueKind kind, const char *name,
                                   const char *value)
{
    struct head *h = user;
    (void)kind;
    h->headers++;
    if (strcasecmp(name, MHD_HTTP_HEADER_HOST) == 0) {
        h->hosts++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_CONTENT_LENGTH) == 0) {
        h->lengths++;
    } else if (strcasecmp(name, MHD_HTTP_HEADER_TRANSFER_ENCODING) == 0) {
        h->encodings++;
        h->encoding = value != NULL ? value : "";
    }
    if (!is_name(name)) {
        h->bad_name = name;
    }
    return MHD_YES;
}

/* Whether it is known where the request ends; else it is refused. */
static bool has_end(struct mp_exchange *x, const struct head *h)
{
    if (h->bad_name != NULL) {
        mp_api_fail(&x->error, MP_HTTP_BAD_REQUEST, NULL,
                    "found a header \"%.40s\", expected a name of letters, digits and "
                    "!#$%%&'*+-.^_`|~ before the colon",
                    h->bad_name);
    } else if (h->encodings > 0 && h->lengths > 0) {
        mp_api_fail(&x->error, MP_HTTP_BAD_REQUEST, NULL,
                    "found both Transfer-Encoding and Content-Length, expected one of them");
    } else if (h->encodings > 1 || h->lengths > 1) {
        mp_api_fail(&x->error, MP_HTTP_BAD_REQUEST, NULL, "found %d headers %s, expected one",
                    h->encodings > 1 ? h->encodings : h->lengths,
                    h->encodings > 1 ? "Transfer-Encoding" : "Content-Length");
    } else if (h->encodings == 1 && strcasecmp(h->encoding, "chunked") != 0) {
        mp_api_fail(&x->error, MP_HTTP_NOT_IMPLEMENTED, NULL,
                    "Transfer-Encoding: found \"%.40s\", expected \"chunked\"", h->encoding);
    } else {
        return true;
    }
    return false;
}

bool mp_head_check(struct mp_exchange *x, const char *version)
{
    struct head h = {0};
    MHD_get_connection_values(x->connection, MHD_HEADER_KIND, take_header, &h);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(x->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    size_t bytes = info != NULL ? info->header_size : 0;
    if (!has_end(x, &h)) {
        return false;
    }
    if (x->error.status != 0) {
        return true;
    }
    if (bytes > MOST_HEAD) {
        mp_api_fail(&x->error, MP_HTTP_HEAD_TOO_LARGE, NULL,
                    "the headers are too large: found %zu bytes, expected at most %d", bytes,
                    MOST_HEAD);
    } else if (h.headers > MOST_HEADERS) {
        mp_api_fail(&x->error, MP_HTTP_HEAD_TOO_LARGE, NULL,
                    "too many headers: found %d, expected at most %d", h.headers, MOST_HEADERS);
    } else if (h.hosts != 1 && (h.hosts > 1 || strcmp(version, MHD_HTTP_VERSION_1_0) != 0)) {
        mp_api_fail(&x->error, MP_HTTP_BAD_REQUEST, NULL, "found %d headers Host, expected one",
                    h.hosts);
    }
    return true;
}
