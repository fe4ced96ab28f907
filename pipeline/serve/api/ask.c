/* The body of a request: its fields. */
#include "pipeline/serve/api/ask.h"

#include "core/base/memory.h"

#include <cjson/cJSON.h>
#include <float.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_SEED_BITS = 53 };

/* ---- kinds of fields ---- */

typedef int reader(struct mp_ask *ask, const cJSON *value, struct mp_error *err);

/* A field of struct mp_ask that is a number within bounds. */
static int read_float(const struct mp_ask *ask, const cJSON *value, double min, double max,
                      float *out, struct mp_error *err)
{
    double number = 0.0;
    int code = mp_json_as_number(ask->doc, value, min, max, &number, err);
    *out = (float)number;
    return code;
}

static int read_temperature(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return read_float(ask, value, 0.0, 100.0, &ask->temperature, err);
}

static int read_top_p(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return read_float(ask, value, (double)FLT_MIN, 1.0, &ask->top_p, err);
}

static int read_min_p(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return read_float(ask, value, 0.0, 1.0, &ask->min_p, err);
}

/* -1 is vLLM's way to say that it is off. */
static int read_top_k(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    int64_t k;
    int code = mp_json_as_int(ask->doc, value, -1, INT32_MAX, &k, err);
    ask->top_k = code == 0 && k > 0 ? (int)k : 0;
    return code;
}

static int read_seed(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    int64_t seed;
    const int64_t most = INT64_C(1) << MAX_SEED_BITS;
    int code = mp_json_as_int(ask->doc, value, -most, most, &seed, err);
    ask->has_seed = code == 0;
    ask->seed = code == 0 ? (uint64_t)seed : 0;
    return code;
}

static int read_max_tokens(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_int(ask->doc, value, 0, INT32_MAX, &ask->max_tokens, err);
}

/* null and "" are none. */
static int read_one_stop(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    const char *text;
    int code = mp_json_as_string(ask->doc, value, &text, err);
    if (code != 0 || text[0] == '\0') {
        return code;
    }
    if (strstr(text, MP_JSON_NUL) != NULL) {
        return mp_json_fail(ask->doc, value, err, "a stop string may not contain NUL");
    }
    if (ask->num_stop == MP_ASK_MOST_STOPS) {
        return mp_json_fail(ask->doc, value, err, "found more than %d stop strings",
                            MP_ASK_MOST_STOPS);
    }
    ask->stop[ask->num_stop++] = text;
    return 0;
}

static int read_stop(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    if (mp_json_kind(value) != MP_JSON_ARRAY) {
        return read_one_stop(ask, value, err);
    }
    int code = 0;
    for (const cJSON *v = mp_json_first(value); v != NULL && code == 0; v = mp_json_after(v)) {
        code = read_one_stop(ask, v, err);
    }
    return code;
}

static int read_echo(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_bool(ask->doc, value, &ask->echo, err);
}

static int read_stream(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_bool(ask->doc, value, &ask->stream, err);
}

static int read_stream_options(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    int code = mp_json_expect(ask->doc, value, MP_JSON_OBJECT, err);
    for (const cJSON *v = code == 0 ? mp_json_first(value) : NULL; v != NULL && code == 0;
         v = mp_json_after(v)) {
        bool on = false;
        code = mp_json_as_bool(ask->doc, v, &on, err);
        if (code == 0 && strcmp(mp_json_key(v), "include_usage") == 0) {
            ask->include_usage = on;
        } else if (code == 0 && on) {
            code = mp_json_fail(ask->doc, v, err, "not supported: expected false");
        }
    }
    return code;
}

static int read_progress(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_bool(ask->doc, value, &ask->prompt_progress, err);
}

static int read_ignore_eos(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_bool(ask->doc, value, &ask->ignore_eos, err);
}

static int read_skip_special(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    bool skip = true;
    int code = mp_json_as_bool(ask->doc, value, &skip, err);
    ask->special_text = !skip;
    return code;
}

static int read_add_special(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_bool(ask->doc, value, &ask->add_special, err);
}

static int read_count(struct mp_ask *ask, const cJSON *value, int most, struct mp_error *err)
{
    int64_t count;
    int code = mp_json_as_int(ask->doc, value, 0, most, &count, err);
    ask->logprobs = code == 0 ? (int)count : -1;
    return code;
}

static int read_logprobs(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return read_count(ask, value, MP_ASK_MOST_LOGPROBS, err);
}

/* A chat says by two fields whether and how many; their order does not matter. */
static int read_chat_logprobs(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    bool on = false;
    int code = mp_json_as_bool(ask->doc, value, &on, err);
    if (code == 0 && on && ask->logprobs < 0) {
        ask->logprobs = 0;
    }
    return code;
}

static int read_top_logprobs(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return read_count(ask, value, MP_ASK_MOST_CHAT_LOGPROBS, err);
}

static int read_model(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_string(ask->doc, value, &ask->model, err);
}

static int read_attention(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_string(ask->doc, value, &ask->attention, err);
}

static int read_samples(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_int(ask->doc, value, 1, INT32_MAX, &ask->samples, err);
}

static int read_epsilon(struct mp_ask *ask, const cJSON *value, struct mp_error *err)
{
    return mp_json_as_number(ask->doc, value, (double)FLT_MIN, 1.0, &ask->epsilon, err);
}

/* ---- all of them ---- */

enum { BOTH = MP_ASK_COMPLETION | MP_ASK_CHAT };

static const struct {
    const char *name;
    unsigned kinds;
    reader *read;
} FIELDS[] = {
    {"model", BOTH, read_model},
    {"max_tokens", BOTH, read_max_tokens},
    {"max_completion_tokens", MP_ASK_CHAT, read_max_tokens},
    {"temperature", BOTH, read_temperature},
    {"top_p", BOTH, read_top_p},
    {"top_k", BOTH, read_top_k},
    {"min_p", BOTH, read_min_p},
    {"seed", BOTH, read_seed},
    {"stop", BOTH, read_stop},
    {"echo", MP_ASK_COMPLETION, read_echo},
    {"stream", BOTH, read_stream},
    {"stream_options", BOTH, read_stream_options},
    {"logprobs", MP_ASK_COMPLETION, read_logprobs},
    {"logprobs", MP_ASK_CHAT, read_chat_logprobs},
    {"top_logprobs", MP_ASK_CHAT, read_top_logprobs},
    {"prompt_progress", BOTH, read_progress},
    {"ignore_eos", BOTH, read_ignore_eos},
    {"skip_special_tokens", BOTH, read_skip_special},
    {"add_special_tokens", MP_ASK_COMPLETION, read_add_special},
    {"attention", BOTH, read_attention},
    {"samples", BOTH, read_samples},
    {"epsilon", BOTH, read_epsilon},
};
enum { NUM_FIELDS = sizeof FIELDS / sizeof FIELDS[0] };

static reader *find_reader(enum mp_ask_kind kind, const char *name)
{
    for (int i = 0; i < NUM_FIELDS; i++) {
        if ((FIELDS[i].kinds & (unsigned)kind) != 0 && strcmp(FIELDS[i].name, name) == 0) {
            return FIELDS[i].read;
        }
    }
    return NULL;
}

static int read_field(struct mp_ask *ask, const cJSON *field, struct mp_api_error *error)
{
    const char *name = mp_json_key(field);
    struct mp_error err;
    if (strcmp(name, ask->kind == MP_ASK_CHAT ? "messages" : "prompt") == 0) {
        return 0; /* read by itself */
    }
    reader *read = find_reader(ask->kind, name);
    if (read == NULL) {
        return mp_ask_check_neutral(ask->kind, field, error);
    }
    if (mp_json_kind(field) == MP_JSON_NULL || read(ask, field, &err) == 0) {
        return 0;
    }
    return mp_api_fail(error, MP_HTTP_BAD_REQUEST, name, "%s", err.message);
}

/* What fields mean together. */
static int check(struct mp_ask *ask, struct mp_api_error *error)
{
    const cJSON *root = mp_json_root(ask->doc);
    if (ask->kind == MP_ASK_CHAT && ask->logprobs >= 0 &&
        !cJSON_IsTrue(mp_json_find(root, "logprobs"))) {
        if (ask->logprobs > 0) {
            return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "top_logprobs",
                               "top_logprobs needs logprobs: true");
        }
        ask->logprobs = -1;
    }
    if (ask->max_tokens == 0 && !ask->echo) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "max_tokens",
                           "max_tokens: found 0, expected at least 1; 0 only with echo");
    }
    if (mp_json_find(root, "stream_options") != NULL && ask->include_usage && !ask->stream) {
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, "stream_options",
                           "stream_options needs stream: true");
    }
    return 0;
}

int mp_ask_read(enum mp_ask_kind kind, const char *body, size_t length, struct mp_ask *out,
                struct mp_api_error *error)
{
    struct mp_error err;
    *out = (struct mp_ask){.kind = kind,
                           .body = body,
                           .length = length,
                           .max_tokens = -1,
                           .temperature = 1.0f,
                           .top_p = 1.0f,
                           .logprobs = -1,
                           .add_special = true};
    int code = mp_json_parse_with_nul("body", body, length, &out->doc, &err);
    if (code == 0) {
        code = mp_json_expect(out->doc, mp_json_root(out->doc), MP_JSON_OBJECT, &err);
    }
    if (code != 0) {
        mp_ask_free(out);
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, NULL, "%s", err.message);
    }
    const cJSON *root = mp_json_root(out->doc);
    int status = 0;
    for (const cJSON *f = mp_json_first(root); f != NULL && status == 0; f = mp_json_after(f)) {
        status = read_field(out, f, error);
    }
    if (status == 0) {
        status = kind == MP_ASK_CHAT
                     ? mp_ask_read_messages(out, mp_json_find(root, "messages"), error)
                     : mp_ask_read_prompts(out, mp_json_find(root, "prompt"), error);
    }
    if (status == 0) {
        status = check(out, error);
    }
    if (status != 0) {
        mp_ask_free(out);
    }
    return status;
}

void mp_ask_free(struct mp_ask *ask)
{
    for (int i = 0; i < ask->num_prompts; i++) {
        free(ask->prompts[i].text);
        mp_ids_free(&ask->prompts[i].ids);
    }
    free(ask->prompts);
    mp_json_free(ask->doc);
    *ask = (struct mp_ask){0};
}
