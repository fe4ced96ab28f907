#include "pipeline/generate/batch_output.h"

#include "core/base/hash.h"
#include "core/json/json.h"
#include "core/json/json_print.h"

#include <cjson/cJSON.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { HTTP_OK = 200, HTTP_BAD_REQUEST = 400 };

/* A line without its response's body and its error. */
static cJSON *new_line(const struct mp_record *r, uint64_t number, int status)
{
    char id[40];
    cJSON *line = cJSON_CreateObject();
    snprintf(id, sizeof id, "batch_req_%016" PRIx64, number);
    cJSON_AddStringToObject(line, "id", id);
    cJSON_AddStringToObject(line, "custom_id", r->id);
    cJSON *response = cJSON_AddObjectToObject(line, "response");
    cJSON_AddNumberToObject(response, "status_code", status);
    snprintf(id, sizeof id, "req_%016" PRIx64, number);
    cJSON_AddStringToObject(response, "request_id", id);
    return line;
}

static char *print_line(cJSON *line, struct mp_error *err)
{
    char *text = mp_json_print(line, MP_JSON_LINE, "--output", err);
    cJSON_Delete(line);
    return text;
}

static void add_choice(cJSON *body, bool chat, const char *text, size_t length, bool cut)
{
    cJSON *choice = cJSON_CreateObject();
    cJSON_AddItemToArray(cJSON_AddArrayToObject(body, "choices"), choice);
    cJSON_AddNumberToObject(choice, "index", 0);
    cJSON *holder = chat ? cJSON_AddObjectToObject(choice, "message") : choice;
    if (chat) {
        cJSON_AddStringToObject(holder, "role", "assistant");
    }
    char *quoted = mp_json_quote(text != NULL ? text : "", length);
    cJSON_AddRawToObject(holder, chat ? "content" : "text", quoted);
    free(quoted);
    cJSON_AddNullToObject(choice, "logprobs");
    cJSON_AddStringToObject(choice, "finish_reason", cut ? "length" : "stop");
}

char *mp_batch_answer(const struct mp_record *r, const struct mp_answer_id *id, const char *model,
                      const char *text, size_t length, const struct mp_request *request,
                      struct mp_error *err)
{
    bool chat = r->batch == MP_BATCH_CHAT;
    uint64_t number = mp_hash_bytes(id->prompt ^ id->settings, r->id, strlen(r->id));
    cJSON *line = new_line(r, number, HTTP_OK);
    cJSON *body = cJSON_AddObjectToObject(cJSON_GetObjectItem(line, "response"), "body");
    char own_id[40];
    snprintf(own_id, sizeof own_id, "%s-%016" PRIx64, chat ? "chatcmpl" : "cmpl", number);
    cJSON_AddStringToObject(body, "id", own_id);
    cJSON_AddStringToObject(body, "object", chat ? "chat.completion" : "text_completion");
    cJSON_AddNumberToObject(body, "created", (double)time(NULL));
    cJSON_AddStringToObject(body, "model", r->model != NULL ? r->model : model);
    add_choice(body, chat, text, length, request->finish == MP_FINISH_LENGTH);
    cJSON *usage = cJSON_AddObjectToObject(body, "usage");
    cJSON_AddNumberToObject(usage, "prompt_tokens", (double)request->prompt_tokens);
    cJSON_AddNumberToObject(usage, "completion_tokens", (double)request->generated_tokens);
    cJSON_AddNumberToObject(usage, "total_tokens",
                            (double)(request->prompt_tokens + request->generated_tokens));
    cJSON *details = cJSON_AddObjectToObject(usage, "prompt_tokens_details");
    cJSON_AddNumberToObject(details, "cached_tokens", (double)request->cached_tokens);
    cJSON_AddNullToObject(line, "error");
    return print_line(line, err);
}

char *mp_batch_failure(const struct mp_record *r, struct mp_error *err)
{
    cJSON *line = new_line(r, mp_hash_bytes(MP_HASH_START, r->id, strlen(r->id)), HTTP_BAD_REQUEST);
    cJSON_AddNullToObject(cJSON_GetObjectItem(line, "response"), "body");
    cJSON *error = cJSON_AddObjectToObject(line, "error");
    cJSON_AddStringToObject(error, "message", r->error);
    cJSON_AddStringToObject(error, "type", "invalid_request_error");
    cJSON_AddNullToObject(error, "param");
    cJSON_AddNumberToObject(error, "code", HTTP_BAD_REQUEST);
    return print_line(line, err);
}
