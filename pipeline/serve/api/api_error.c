#include "pipeline/serve/api/api_error.h"

#include <cjson/cJSON.h>
#include <stdarg.h>
#include <stdio.h>

int mp_api_fail(struct mp_api_error *e, int status, const char *param, const char *format, ...)
{
    struct mp_error text; /* which keeps messages valid UTF-8 */
    char message[sizeof e->message];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    e->status = status;
    mp_fail(&text, MP_ERR_USAGE, "%.63s", param != NULL ? param : "");
    snprintf(e->param, sizeof e->param, "%.63s", text.message);
    mp_fail(&text, MP_ERR_USAGE, "%s", message);
    snprintf(e->message, sizeof e->message, "%.1023s", text.message);
    return status;
}

/* OpenAI's words for a status. *code: NULL for none. */
static const char *type_of(int status, const char **code)
{
    *code = NULL;
    switch (status) {
    case MP_HTTP_UNAUTHORIZED:
        *code = "invalid_api_key";
        return "authentication_error";
    case MP_HTTP_NOT_FOUND:
        *code = "not_found";
        return "not_found_error";
    case MP_HTTP_TOO_MANY:
        *code = "rate_limit_exceeded";
        return "rate_limit_error";
    case MP_HTTP_FAILED:
        return "server_error";
    case MP_HTTP_UNAVAILABLE:
        return "service_unavailable_error";
    case MP_HTTP_TOO_LATE:
        *code = "timeout";
        return "timeout_error";
    default:
        return "invalid_request_error";
    }
}

cJSON *mp_api_error_json(const struct mp_api_error *e)
{
    const char *code;
    cJSON *whole = cJSON_CreateObject();
    cJSON *error = cJSON_AddObjectToObject(whole, "error");
    cJSON_AddStringToObject(error, "message", e->message);
    cJSON_AddStringToObject(error, "type", type_of(e->status, &code));
    cJSON_AddItemToObject(error, "param",
                          e->param[0] != '\0' ? cJSON_CreateString(e->param) : cJSON_CreateNull());
    cJSON_AddItemToObject(error, "code",
                          code != NULL ? cJSON_CreateString(code) : cJSON_CreateNull());
    return whole;
}
