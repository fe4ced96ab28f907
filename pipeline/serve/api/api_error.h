/* What the API says when it does not do what it was asked: a status and an error in OpenAI's form.
 */
#ifndef MP_SERVE_API_ERROR_H
#define MP_SERVE_API_ERROR_H

#include "core/base/error.h"

#include <stddef.h>

struct cJSON;

enum {
    MP_HTTP_OK = 200,
    MP_HTTP_BAD_REQUEST = 400,
    MP_HTTP_UNAUTHORIZED = 401,
    MP_HTTP_NOT_FOUND = 404,
    MP_HTTP_NOT_ALLOWED = 405,
    MP_HTTP_TOO_LARGE = 413,
    MP_HTTP_URI_TOO_LONG = 414,
    MP_HTTP_TOO_MANY = 429,
    MP_HTTP_HEAD_TOO_LARGE = 431,
    MP_HTTP_FAILED = 500,
    MP_HTTP_NOT_IMPLEMENTED = 501,
    MP_HTTP_UNAVAILABLE = 503,
    MP_HTTP_TOO_LATE = 504,
};

struct mp_api_error {
    int status;     /* of HTTP; 0: there is no error */
    char param[64]; /* the field that is wrong; "": none is */
    char message[1024];
};

/* Fills *e and returns the status. param: NULL for none. */
int mp_api_fail(struct mp_api_error *e, int status, const char *param, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* {"error": {"message", "type", "param", "code"}}. The caller's: cJSON_Delete. */
struct cJSON *mp_api_error_json(const struct mp_api_error *e);

#endif
