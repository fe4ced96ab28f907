#include "pipeline/serve/http/http.h"

#include <string.h>

static const struct mp_route ROUTES[] = {
    {"POST", "/v1/completions", false, mp_answer_completions},
    {"POST", "/v1/chat/completions", false, mp_answer_chat},
    {"GET", "/v1/models", false, mp_answer_models},
    {"GET", "/v1/models/", false, mp_answer_one_model},
    {"POST", "/tokenize", false, mp_answer_tokenize},
    {"POST", "/detokenize", false, mp_answer_detokenize},
    {"GET", "/tokenizer_info", false, mp_answer_tokenizer_info},
    {"GET", "/health", true, mp_answer_health},
    {"GET", "/metrics", false, mp_answer_metrics},
    {"GET", "/status", false, mp_answer_status},
    {"GET", "/", true, mp_answer_page},
};
enum { NUM_ROUTES = sizeof ROUTES / sizeof ROUTES[0] };

static bool route_has(const struct mp_route *route, const char *path)
{
    size_t length = strlen(route->path);
    bool goes_on = length > 1 && route->path[length - 1] == '/';
    return goes_on ? strncmp(route->path, path, length) == 0 && path[length] != '\0'
                   : strcmp(route->path, path) == 0;
}

const struct mp_route *mp_route_find(const char *method, const char *path, const char **allowed,
                                     struct mp_api_error *error)
{
    /* To HEAD the library answers without the body. */
    const char *like = strcmp(method, "HEAD") == 0 ? "GET" : method;
    for (int i = 0; i < NUM_ROUTES; i++) {
        if (route_has(&ROUTES[i], path)) {
            if (strcmp(ROUTES[i].method, like) == 0) {
                return &ROUTES[i];
            }
            *allowed = ROUTES[i].method;
            mp_api_fail(error, MP_HTTP_NOT_ALLOWED, NULL, "%s takes %s, found %.20s", path,
                        ROUTES[i].method, method);
            return NULL;
        }
    }
    mp_api_fail(error, MP_HTTP_NOT_FOUND, NULL, "there is no %.200s here", path);
    return NULL;
}
