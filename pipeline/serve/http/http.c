/* The listening socket, and what comes in on its connections. Each connection has a thread of its
 * own, so that neither a slow client nor a long text holds up the others. */
#include "pipeline/serve/http/http.h"

#include "core/base/clock.h"
#include "core/base/memory.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    MOST_CONNECTIONS = 1024,
    UPLOAD_SECONDS = 300,   /* that a body may take */
    BODIES_IN_MEMORY = 8,   /* of the largest size, all connections together */
    MOST_DROPPED = 1 << 28, /* bytes of a refused body that are still read: see check_headers */
    SMALL_BODY = 1 << 16,   /* bytes that there is always memory for */
    /* A connection's memory for its headers and output: more than mp_head_check allows, so that it,
     * and not the library, refuses what is too large, up to some three times of that. */
    CONNECTION_BYTES = 128 << 10,
    STACK_BYTES = 1 << 20,
};

struct mp_http {
    struct MHD_Daemon *daemon;
    char *url;
};

/* ---- who may ask ---- */

/* Takes as long wherever they differ. */
static bool same_key(const char *a, const char *b, size_t length)
{
    unsigned differs = 0;
    for (size_t i = 0; i < length; i++) {
        differs |= (unsigned char)(a[i] ^ b[i]);
    }
    return differs == 0;
}

static bool has_key(const struct mp_exchange *x)
{
    static const char prefix[] = "Bearer ";
    const char *given =
        MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_AUTHORIZATION);
    if (given == NULL || strncasecmp(given, prefix, sizeof prefix - 1) != 0) {
        return false;
    }
    given += sizeof prefix - 1;
    bool found = false;
    for (const char *key = x->server->keys; *key != '\0';) {
        size_t length = strcspn(key, MP_KEY_ENDS);
        if (length > 0 && strlen(given) == length && same_key(given, key, length)) {
            found = true;
        }
        key += length;
        key += strspn(key, MP_KEY_ENDS);
    }
    return found;
}

/* ---- bodies ---- */

static void refuse_body(struct mp_exchange *x)
{
    mp_api_fail(&x->error, MP_HTTP_TOO_LARGE, NULL,
                "the body is too large: found more than %lld bytes, which is what --max-body "
                "allows",
                (long long)x->server->limits.body);
}

static void drop_body(struct mp_exchange *x)
{
    x->server->buffered -= (long long)x->room;
    free(x->body);
    x->body = NULL;
    x->length = x->room = 0;
}

/* Appends to the body; once it is refused, what comes is dropped. */
static void take_data(struct mp_exchange *x, const char *data, size_t size)
{
    if (x->error.status != 0) {
        return;
    }
    if (x->length + size > (size_t)x->server->limits.body) {
        refuse_body(x);
        drop_body(x);
        return;
    }
    if (x->length + size + 1 > x->room) {
        size_t room = 2 * (x->length + size + 1);
        long long more = (long long)(room - x->room);
        long long all = atomic_fetch_add(&x->server->buffered, more) + more;
        x->room = room;
        if (all > BODIES_IN_MEMORY * x->server->limits.body && room > SMALL_BODY) {
            mp_api_fail(&x->error, MP_HTTP_UNAVAILABLE, NULL,
                        "too many large bodies at a time: found %lld bytes", all);
            drop_body(x);
            return;
        }
        x->body = mp_xrealloc(x->body, room, 1);
    }
    memcpy(x->body + x->length, data, size);
    x->length += size;
    x->body[x->length] = '\0';
}

/* What the headers alone are refused for. Many clients see no answer that comes before they have
 * sent their body, but a connection that breaks: it is read and dropped. False: so large a body is
 * not waited for, nor one whose end is not known. */
static bool check_headers(struct mp_exchange *x, const char *method, const char *path,
                          const char *version)
{
    const char *length =
        MHD_lookup_connection_value(x->connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_CONTENT_LENGTH);
    unsigned long long bytes = length != NULL ? strtoull(length, NULL, 10) : 0;
    x->last = !mp_head_check(x, version);
    if (x->error.status == 0) {
        x->route = mp_route_find(method, path, &x->allowed, &x->error);
        if (x->server->keys != NULL && (x->route == NULL || !x->route->open) && !has_key(x)) {
            mp_api_fail(&x->error, MP_HTTP_UNAUTHORIZED, NULL,
                        "Incorrect API key provided: expected \"Authorization: Bearer KEY\" with "
                        "one of the server's keys");
        }
    }
    if (bytes > (unsigned long long)x->server->limits.body) {
        refuse_body(x);
    }
    return !x->last &&
           (bytes <= (unsigned long long)x->server->limits.body || bytes <= MOST_DROPPED);
}

/* ---- the library's callbacks ---- */

/* Of the first line alone. */
static void *begin_request(void *user, const char *uri, struct MHD_Connection *connection)
{
    struct mp_exchange *x = mp_xcalloc(1, sizeof *x);
    x->server = user;
    x->connection = connection;
    x->began = mp_clock_seconds();
    mp_head_take_uri(x, uri);
    return x;
}

static enum MHD_Result take_request(void *user, struct MHD_Connection *connection, const char *path,
                                    const char *method, const char *version, const char *data,
                                    size_t *size, void **state)
{
    struct mp_exchange *x = *state;
    (void)user;
    (void)connection;
    if (x->path == NULL) {
        x->path = path;
        return check_headers(x, method, path, version) ? MHD_YES : mp_reply_error(x, &x->error);
    }
    if (*size > 0) {
        if (mp_clock_seconds() - x->began > UPLOAD_SECONDS) {
            return MHD_NO;
        }
        take_data(x, data, *size);
        *size = 0;
        return MHD_YES;
    }
    if (x->error.status != 0) {
        return mp_reply_error(x, &x->error);
    }
    if (x->body == NULL) {
        take_data(x, "", 0);
    }
    return x->route->answer(x);
}

static void end_request(void *user, struct MHD_Connection *connection, void **state,
                        enum MHD_RequestTerminationCode why)
{
    struct mp_exchange *x = *state;
    (void)user;
    (void)connection;
    (void)why;
    if (x != NULL) {
        mp_stream_close(x->stream);
        mp_call_close(x->call);
        drop_body(x);
        free(x);
        *state = NULL;
    }
}

/* ---- listening ---- */

static int bind_first(const struct addrinfo *list)
{
    int found = -1;
    for (const struct addrinfo *a = list; a != NULL && found < 0; a = a->ai_next) {
        int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        int on = 1;
        if (fd < 0) {
            continue;
        }
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) {
            found = fd;
        } else {
            int saved = errno;
            close(fd);
            errno = saved;
        }
    }
    return found;
}

static int open_socket(const char *host, int port, int *out, struct mp_error *err)
{
    char service[16];
    snprintf(service, sizeof service, "%d", port);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(host, service, &hints, &list);
    if (code != 0) {
        return mp_fail(err, MP_ERR_USAGE, "--host %s: %s", host, gai_strerror(code));
    }
    *out = bind_first(list);
    int saved = errno;
    freeaddrinfo(list);
    return *out >= 0 ? 0
                     : mp_fail(err, MP_ERR_USAGE, "--host %s --port %d: cannot listen: %s", host,
                               port, strerror(saved));
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0) {
        return 0;
    }
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

int mp_http_open(struct mp_server *server, const char *host, int port, struct mp_http **out,
                 struct mp_error *err)
{
    int fd;
    int code = open_socket(host, port, &fd, err);
    if (code != 0) {
        return code;
    }
    int actual = port_of(fd);
    struct MHD_Daemon *daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
            MHD_USE_ITC,
        0, NULL, NULL, take_request, server, MHD_OPTION_LISTEN_SOCKET, fd,
        MHD_OPTION_NOTIFY_COMPLETED, end_request, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)MOST_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)MP_HTTP_SILENCE_SECONDS, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)CONNECTION_BYTES, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_BYTES,
        MHD_OPTION_URI_LOG_CALLBACK, begin_request, server, MHD_OPTION_END);
    if (daemon == NULL) {
        close(fd);
        return mp_fail(err, MP_ERR_RUNTIME, "the HTTP library does not start: %s", strerror(errno));
    }
    bool numbers = strchr(host, ':') != NULL; /* an address of IPv6 */
    *out = mp_xcalloc(1, sizeof **out);
    (*out)->daemon = daemon;
    (*out)->url =
        mp_xasprintf("http://%s%s%s:%d", numbers ? "[" : "", host, numbers ? "]" : "", actual);
    return 0;
}

const char *mp_http_url(const struct mp_http *h)
{
    return h->url;
}

void mp_http_close(struct mp_http *h)
{
    if (h != NULL) {
        MHD_stop_daemon(h->daemon);
        free(h->url);
        free(h);
    }
}
