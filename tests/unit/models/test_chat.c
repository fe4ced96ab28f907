/* A model's chat template: where it is found, what it is rendered with, and conversations that are
 * refused. */
#include "models/chat/chat.h"

#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static const char *const FILES[] = {"chat_template.jinja", "tokenizer_config.json"};

/* A model folder with these files; NULL: without one. */
static int load(const char *template, const char *config, struct mp_chat **out,
                struct mp_error *err)
{
    const char *const texts[] = {template, config};
    char dir[] = MP_SCRATCH_DIR "/chat_XXXXXX";
    assert_non_null(mkdtemp(dir));
    for (int i = 0; i < 2; i++) {
        char *path = mp_xasprintf("%s/%s", dir, FILES[i]);
        FILE *f = texts[i] != NULL ? fopen(path, "w") : NULL;
        if (texts[i] != NULL) {
            assert_non_null(f);
            assert_true(fputs(texts[i], f) >= 0);
            assert_int_equal(fclose(f), 0);
        }
        free(path);
    }
    int code = mp_chat_load(dir, out, err);
    for (int i = 0; i < 2; i++) {
        char *path = mp_xasprintf("%s/%s", dir, FILES[i]);
        unlink(path);
        free(path);
    }
    rmdir(dir);
    return code;
}

static void check(const char *template, const char *config, const char *json, const char *expected)
{
    struct mp_chat *chat;
    struct mp_jinja_text text;
    struct mp_error err;
    if (load(template, config, &chat, &err) != 0 ||
        mp_chat_render(chat, "test", json, strlen(json), &text, &err) != 0) {
        fail_msg("%s: %s", json, err.message);
    }
    assert_string_equal(text.data, expected);
    mp_jinja_text_free(&text);
    mp_chat_free(chat);
}

#define HELLO "{\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]}"

static void test_files(void **state)
{
    (void)state;
    check("A{{ messages[0].content }}", "{\"chat_template\": \"B\"}", HELLO, "AHello");
    check(NULL, "{\"chat_template\": \"B{{ messages[0].role }}\"}", HELLO, "Buser");
    check("{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}",
          "{\"bos_token\": \"<s>\", \"eos_token\": {\"content\": \"</s>\"}, \"pad_token\": null}",
          HELLO, "<s></s>False");
    check("{{ bos_token }}{{ unk_token }}", "{\"tokenizer_class\": \"LlamaTokenizer\"}", HELLO,
          "<s>");
    static const char list[] =
        "{\"chat_template\": [{\"name\": \"rag\", \"template\": \"{% nothing %}\"}, "
        "{\"name\": \"default\", \"template\": \"D\"}, "
        "{\"name\": \"tool_use\", \"template\": \"T{{ tools|length }}\"}]}";
    check(NULL, list, HELLO, "D");
    check(NULL, list, "{\"messages\": [{\"role\": \"assistant\"}], \"tools\": [{}, {}]}", "T2");
}

static void check_load_fails(const char *template, const char *config, int code,
                             const char *message)
{
    struct mp_chat *chat;
    struct mp_error err;
    assert_int_equal(load(template, config, &chat, &err), code);
    if (strstr(err.message, message) == NULL) {
        fail_msg("found %s, expected ...%s", err.message, message);
    }
}

static void test_bad_files(void **state)
{
    (void)state;
    check_load_fails(NULL, NULL, MP_ERR_UNSUPPORTED,
                     ": found no chat template, expected chat_template.jinja");
    check_load_fails(NULL, "{\"chat_template\": null}", MP_ERR_UNSUPPORTED,
                     ": found no chat template");
    check_load_fails("\n{% x %}", NULL, MP_ERR_UNSUPPORTED,
                     "/chat_template.jinja:2: {% x %} is not served here");
    check_load_fails(NULL, "{\"chat_template\": \"{{\"}", MP_ERR_FORMAT,
                     "/tokenizer_config.json: chat_template:1: the template ends in a tag");
    check_load_fails(NULL, "{\"chat_template\": 5}", MP_ERR_FORMAT,
                     "tokenizer_config.json: chat_template: expected an array, found 5");
    check_load_fails(NULL, "{\"chat_template\": [{\"name\": \"default\"}]}", MP_ERR_FORMAT,
                     "chat_template[0]: \"template\" is missing");
    check_load_fails("x", "{\"bos_token\": 1}", MP_ERR_FORMAT, "bos_token: expected a string");
}

/* Numbers keep how they were written, members their order; arrays of texts are joined where the
 * template knows no arrays. */
static void test_values(void **state)
{
    (void)state;
    check("{{ messages[0].tool_calls|tojson }}", NULL,
          "{\"messages\": [{\"role\": \"assistant\", \"tool_calls\": [{\"b\": 1.0, \"a\": "
          "[9007199254740993, -2, 1e2], \"\\u00e9\": \"\\ud83e\\udd8a\\n\"}]}]}",
          "[{\"b\": 1.0, \"a\": [9007199254740993, -2, 100.0], \"\xc3\xa9\": "
          "\"\xf0\x9f\xa6\x8a\\n\"}]");
    static const char parts[] = "{\"messages\": [{\"role\": \"user\", \"content\": [{\"type\": "
                                "\"text\", \"text\": \"a\"}, {\"type\": \"text\", \"text\": "
                                "\"b\"}]}]}";
    check("{{ messages[0].content }}", NULL, parts, "a\nb");
    check("{% for p in messages[0].content %}<{{ p.text }}>{% endfor %}", NULL, parts, "<a><b>");
    check("{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ date_string is defined }}", NULL,
          HELLO, "NoneNoneTrueFalse");
    check("{{ enable_thinking }}{{ n }}{{ add_generation_prompt }}", NULL,
          "{\"other\": {\"n\": 2}, \"chat_template_kwargs\": {\"enable_thinking\": false, \"n\": "
          "[\"\\\"}\"], \"add_generation_prompt\": false}, \"messages\" : [{\"role\": \"user\", "
          "\"content\": null}]}",
          "False['\"}']False");
}

/* What users wrote is content, roles and the template's own text are not. */
static void test_content(void **state)
{
    (void)state;
    struct mp_chat *chat;
    struct mp_jinja_text text;
    struct mp_error err;
    static const char json[] = "{\"messages\": [{\"role\": \"user\", \"content\": \" <|end|> \"}], "
                               "\"tools\": [{\"<|end|>\": 1}]}";
    assert_int_equal(load("<|{{ messages[0].role }}|>{{ messages[0].content|trim }}<|end|>"
                          "{{ tools[0]|tojson }}",
                          NULL, &chat, &err),
                     0);
    assert_int_equal(mp_chat_render(chat, "test", json, sizeof json - 1, &text, &err), 0);
    assert_string_equal(text.data, "<|user|><|end|><|end|>{\"<|end|>\": 1}");
    for (size_t i = 0; i < text.length; i++) {
        bool content = (i >= 8 && i < 15) || (i >= 24 && i < 31);
        assert_int_equal(text.content[i], content);
    }
    mp_jinja_text_free(&text);
    mp_chat_free(chat);
}

static void check_refused(const char *json, int code, const char *message)
{
    struct mp_chat *chat;
    struct mp_jinja_text text;
    struct mp_error err;
    assert_int_equal(
        load("{{ raise_exception('not this') if messages|length == 3 }}", NULL, &chat, &err), 0);
    int found = mp_chat_render(chat, "F:7", json, strlen(json), &text, &err);
    if (found != code || strstr(err.message, message) == NULL) {
        fail_msg("%s: found %d, %s, expected %d, %s", json, found, err.message, code, message);
    }
    mp_chat_free(chat);
}

#define MESSAGE(message) "{\"messages\": [{\"role\": \"assistant\"}, " message "]}"

static void test_refused(void **state)
{
    (void)state;
    check_refused("{}", MP_ERR_FORMAT, "F:7: key \"messages\" is missing");
    check_refused("[]", MP_ERR_FORMAT, "F:7: expected an object");
    check_refused("{\"messages\": []}", MP_ERR_FORMAT,
                  "F:7: messages: expected at least one message, found none");
    check_refused(MESSAGE("5"), MP_ERR_FORMAT, "F:7: messages[1]: expected an object, found 5");
    check_refused(MESSAGE("{\"content\": \"\"}"), MP_ERR_FORMAT,
                  "F:7: messages[1]: key \"role\" is missing");
    check_refused(MESSAGE("{\"role\": \"a|>b\"}"), MP_ERR_FORMAT,
                  "F:7: messages[1].role: found \"a|>b\", expected up to 64 letters");
    check_refused(MESSAGE("{\"role\": \"user\"}"), MP_ERR_FORMAT, "F:7: messages[1]: no content");
    check_refused(MESSAGE("{\"role\": \"a\", \"content\": 1}"), MP_ERR_FORMAT,
                  "F:7: messages[1].content: expected a string, null or an array");
    check_refused(MESSAGE("{\"role\": \"a\", \"content\": [{\"type\": \"image_url\"}]}"),
                  MP_ERR_FORMAT, "messages[1].content[0].type: found \"image_url\", expected");
    check_refused(MESSAGE("{\"role\": \"a\", \"content\": [{\"type\": \"text\"}]}"), MP_ERR_FORMAT,
                  "messages[1].content[0]: key \"text\" is missing");
    check_refused("{\"messages\": [{\"role\": \"assistant\"}], \"tools\": [1]}", MP_ERR_FORMAT,
                  "F:7: tools[0]: expected an object, found 1");
    check_refused(
        "{\"messages\": [{\"role\": \"assistant\"}], \"chat_template_kwargs\": {\"tools\": 1}}",
        MP_ERR_FORMAT, "F:7: chat_template_kwargs.tools: expected it beside chat_template_kwargs");
    check_refused("{\"mess\\u0061ges\": [{\"role\": \"assistant\"}]}", MP_ERR_FORMAT,
                  "F:7: messages: expected the key without escapes");
    check_refused(MESSAGE("{\"role\": \"assistant\", \"n\": 99999999999999999999}"),
                  MP_ERR_UNSUPPORTED, "F:7: messages: ");
    check_refused(MESSAGE("{\"role\": \"assistant\"}, {\"role\": \"assistant\"}"), MP_ERR_FORMAT,
                  "/chat_template.jinja:1: not this");
}

static void test_around(void **state)
{
    (void)state;
    struct mp_chat *chat;
    struct mp_error err;
    char *before;
    char *after;
    assert_int_equal(load("<s>{{ messages[0].content|trim }}<e>\n", NULL, &chat, &err), 0);
    assert_int_equal(mp_chat_around(chat, &before, &after, &err), 0);
    assert_string_equal(before, "<s>");
    assert_string_equal(after, "<e>");
    free(before);
    free(after);
    mp_chat_free(chat);
    static const char *const others[] = {"{{ messages[0].content|upper }}", "none",
                                         "{{ messages[0].content }}{{ messages[0].content }}"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(load(others[i], NULL, &chat, &err), 0);
        assert_int_equal(mp_chat_around(chat, &before, &after, &err), MP_ERR_UNSUPPORTED);
        mp_chat_free(chat);
    }
}

static void test_of_text(void **state)
{
    (void)state;
    char *json = mp_chat_of_text("a\"\n", 3);
    assert_string_equal(json, "{\"messages\": [{\"role\": \"user\", \"content\": \"a\\\"\\n\"}]}");
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files),   cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_values),  cmocka_unit_test(test_content),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_of_text),
        cmocka_unit_test(test_around),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
