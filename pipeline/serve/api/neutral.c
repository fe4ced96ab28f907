/* Fields of OpenAI's and vLLM's that are not supported: values that ask for nothing are accepted.
 */
#include "pipeline/serve/api/ask.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

enum { BOTH = MP_ASK_COMPLETION | MP_ASK_CHAT };

#define ANY NULL

/* null is neutral for every field. */
static const struct {
    const char *name;
    unsigned kinds;
    const char *neutral; /* a JSON array of the values; ANY: all of them */
} FIELDS[] = {
    {"n", BOTH, "[1]"},
    {"best_of", MP_ASK_COMPLETION, "[1]"},
    {"frequency_penalty", BOTH, "[0]"},
    {"presence_penalty", BOTH, "[0]"},
    {"repetition_penalty", BOTH, "[1]"},
    {"length_penalty", BOTH, "[1]"},
    {"logit_bias", BOTH, "[{}]"},
    {"suffix", MP_ASK_COMPLETION, "[\"\"]"},
    {"use_beam_search", BOTH, "[false]"},
    {"early_stopping", BOTH, "[false]"},
    {"min_tokens", BOTH, "[0]"},
    {"stop_token_ids", BOTH, "[[]]"},
    {"include_stop_str_in_output", BOTH, "[false]"},
    {"spaces_between_special_tokens", BOTH, "[true, false]"},
    {"return_token_ids", BOTH, "[false]"},
    {"return_tokens_as_token_ids", BOTH, "[false]"},
    {"allowed_token_ids", BOTH, "[[]]"},
    {"bad_words", BOTH, "[[]]"},
    {"priority", BOTH, "[0]"},
    {"response_format", BOTH, "[{\"type\": \"text\"}]"},
    {"user", BOTH, ANY},
    {"request_id", BOTH, ANY},
    {"metadata", MP_ASK_CHAT, ANY},
    {"safety_identifier", MP_ASK_CHAT, ANY},
    {"prompt_cache_key", MP_ASK_CHAT, ANY},
    {"store", MP_ASK_CHAT, "[false]"},
    {"service_tier", MP_ASK_CHAT, "[\"auto\", \"default\"]"},
    {"modalities", MP_ASK_CHAT, "[[\"text\"]]"},
    {"echo", MP_ASK_CHAT, "[false]"},
    {"tools", MP_ASK_CHAT, "[[]]"},
    {"tool_choice", MP_ASK_CHAT, "[\"none\"]"},
    {"parallel_tool_calls", MP_ASK_CHAT, "[true, false]"},
    {"functions", MP_ASK_CHAT, "[[]]"},
    {"function_call", MP_ASK_CHAT, "[\"none\"]"},
    {"add_generation_prompt", MP_ASK_CHAT, "[true]"},
    {"continue_final_message", MP_ASK_CHAT, "[false]"},
    {"chat_template_kwargs", MP_ASK_CHAT, ANY}, /* the template's to see */
    {"documents", MP_ASK_CHAT, "[[]]"},
};
enum { NUM_FIELDS = sizeof FIELDS / sizeof FIELDS[0] };

static bool is_neutral(const char *neutral, const cJSON *value)
{
    cJSON *values = cJSON_Parse(neutral);
    bool found = false;
    for (const cJSON *v = values->child; v != NULL && !found; v = v->next) {
        found = cJSON_Compare(v, value, true);
    }
    cJSON_Delete(values);
    return found;
}

int mp_ask_check_neutral(enum mp_ask_kind kind, const cJSON *field, struct mp_api_error *error)
{
    const char *name = mp_json_key(field);
    if (mp_json_kind(field) == MP_JSON_NULL) {
        return 0;
    }
    for (int i = 0; i < NUM_FIELDS; i++) {
        if ((FIELDS[i].kinds & (unsigned)kind) == 0 || strcmp(FIELDS[i].name, name) != 0) {
            continue;
        }
        if (FIELDS[i].neutral == ANY || is_neutral(FIELDS[i].neutral, field)) {
            return 0;
        }
        return mp_api_fail(error, MP_HTTP_BAD_REQUEST, name,
                           "%s is not supported here: expected none, or one of %s", name,
                           FIELDS[i].neutral);
    }
    return mp_api_fail(error, MP_HTTP_BAD_REQUEST, name, "unknown field %s", name);
}
