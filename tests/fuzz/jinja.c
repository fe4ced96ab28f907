/* A chat template, with a conversation that has something of everything. */
#include "core/jinja/jinja.h"
#include "fuzz.h"

#include "core/base/utf8.h"

#include <string.h>

#define VARIABLE(name_, json_, content_)                                                           \
    {                                                                                              \
        .name = name_, .json = json_, .length = sizeof json_ - 1, .content = content_,             \
        .plain_key = "role"                                                                        \
    }

static const struct mp_jinja_variable variables[] = {
    VARIABLE(
        "messages",
        "[{\"role\": \"system\", \"content\": \"Be br\\u00edef. \"}, "
        "{\"role\": \"user\", \"content\": \"a<b> 'c'\\n\\ud83e\\udd8a\"}, "
        "{\"role\": \"assistant\", \"content\": null, \"tool_calls\": [{\"id\": \"abcdefghi\", "
        "\"type\": \"function\", \"function\": {\"name\": \"f\", \"arguments\": {\"x\": 1.5, "
        "\"y\": [true, -3]}}}]}, "
        "{\"role\": \"tool\", \"tool_call_id\": \"abcdefghi\", \"content\": \"[]\"}, "
        "{\"role\": \"user\", \"content\": [{\"type\": \"text\", \"text\": \"part\"}]}]",
        true),
    VARIABLE("tools",
             "[{\"type\": \"function\", \"function\": {\"name\": \"f\", \"description\": \"\", "
             "\"parameters\": {\"type\": \"object\", \"properties\": {}}}}]",
             true),
    VARIABLE("add_generation_prompt", "true", false),
    VARIABLE("bos_token", "\"<s>\"", false),
    VARIABLE("eos_token", "\"</s>\"", false),
};

static void check_text(const struct mp_jinja_text *text)
{
    for (size_t at = 0; at < text->length;) {
        int n = mp_utf8_next(text->data + at, text->length - at);
        if (n <= 0 || memchr(text->content + at, !text->content[at], (size_t)n) != NULL) {
            mp_panic("no UTF-8, or a character that is content in part, at %zu", at);
        }
        at += (size_t)n;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mp_jinja *t;
    struct mp_error err;
    int code = mp_jinja_compile("input", (const char *)data, size, &t, &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
        return 0;
    }
    struct mp_jinja_text text;
    code = mp_jinja_render(t, variables, sizeof variables / sizeof variables[0], 1722470400, &text,
                           &err);
    if (code != 0) {
        fuzz_check_error(code, &err);
    } else {
        check_text(&text);
        mp_jinja_text_free(&text);
    }
    mp_jinja_free(t);
    return 0;
}
