/* Templates: messages, limits, and which bytes of what they make are content. */
#include "core/jinja/jinja.h"

#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* x is content, and so is m but for its roles; y is not. */
static const struct mp_jinja_variable VARIABLES[] = {
    {.name = "x", .json = "\" a<b> \"", .length = 8, .content = true},
    {.name = "y", .json = "\"own\"", .length = 5},
    {.name = "m",
     .json = "[{\"role\": \"user\", \"content\": [{\"text\": \"p\"}, {\"text\": \"q\"}]}]",
     .length = 62,
     .content = true,
     .plain_key = "role",
     .joined_key = "content"},
    /* What is deeper is what somebody wrote, whatever it is called. */
    {.name = "n",
     .json = "[{\"a\": {\"role\": \"r\", \"content\": [{\"text\": \"p\"}]}}]",
     .length = 50,
     .content = true,
     .plain_key = "role",
     .joined_key = "content"},
    {.name = "deep", .json = "[[[[1]]]]", .length = 9},
};

static int render(const char *template, struct mp_jinja_text *out, struct mp_error *err)
{
    struct mp_jinja *t;
    int code = mp_jinja_compile("name", template, strlen(template), &t, err);
    if (code == 0) {
        code = mp_jinja_render(t, VARIABLES, sizeof VARIABLES / sizeof VARIABLES[0], 0, out, err);
        mp_jinja_free(t);
    }
    return code;
}

/* marks: the text again, with each byte that is content as '#'. */
static void check_content(const char *template, const char *text, const char *marks)
{
    struct mp_jinja_text out;
    struct mp_error err;
    if (render(template, &out, &err) != 0) {
        fail_msg("%s: %s", template, err.message);
    }
    char *found = mp_xstrdup(out.data);
    for (size_t i = 0; i < out.length; i++) {
        found[i] = out.content[i] != 0 ? '#' : found[i];
    }
    if (strcmp(out.data, text) != 0 || strcmp(found, marks) != 0) {
        fail_msg("%s: found \"%s\", \"%s\", expected \"%s\", \"%s\"", template, out.data, found,
                 text, marks);
    }
    free(found);
    mp_jinja_text_free(&out);
}

static void test_content(void **state)
{
    (void)state;
    check_content("[{{ x }}]", "[ a<b> ]", "[######]");
    check_content("{{ '(' ~ x|trim ~ ')' + y }}", "(a<b>)own", "(####)own");
    check_content("{{ x.strip().split('<')|join('+') }}", "a+b>", "#+##");
    check_content("{{ x.replace('<', '{').replace('a', x[2]) }}", " <{b> ", "##{###");
    check_content("{{ (y ~ x)[2:6] }}|{{ x[1] }}|{{ x|upper }}", "n a<|a| A<B> ", "n###|#|######");
    check_content("{% for c in x if c != ' ' %}{{ c }}.{% endfor %}", "a.<.b.>.", "#.#.#.#.");
    check_content("{{ [x, y]|tojson }}", "[\" a<b> \", \"own\"]", "[\"######\", \"own\"]");
    check_content("{{ [x] }}{{ {'k': y} }}", "[' a<b> ']{'k': 'own'}", "['######']{'k': 'own'}");
    check_content("{% macro f(a) %}<{{ a }}>{% endmacro %}{{ f(x) }}", "< a<b> >", "<######>");
    check_content("{% set v %}{{ y }}{{ x }}{% endset %}{{ v|trim }}", "own a<b>", "own#####");
    check_content("{% for c in m %}{{ c.role }}:{{ c.content }}{% endfor %}", "user:p\nq",
                  "user:###");
    check_content("{{ n[0].a.role }}{{ n[0].a.content[0].text }}", "rp", "##");
    check_content("{% for k in m[0] %}{{ k }} {% endfor %}", "role content ", "#### ####### ");
    check_content("{{ (x * 2)|length }}{{ x|default(y) }}", "12 a<b> ", "12######");
}

/* message: "name:LINE: ..." */
static void check_refused(const char *template, int code, const char *message)
{
    struct mp_jinja_text out;
    struct mp_error err;
    int found = render(template, &out, &err);
    if (found == 0) {
        fail_msg("%s: found no error, expected %s", template, message);
    }
    if (found != code || strcmp(err.message, message) != 0) {
        fail_msg("%.200s: found %d, %s, expected %d, %s", template, found, err.message, code,
                 message);
    }
}

static void test_messages(void **state)
{
    (void)state;
    check_refused("a\n\n{% include 'x' %}", MP_ERR_UNSUPPORTED,
                  "name:3: {% include %} is not served here");
    check_refused("{{ x|\nurlize }}", MP_ERR_UNSUPPORTED,
                  "name:2: filter \"urlize\" is not served");
    check_refused("{{ x is\nsafe }}", MP_ERR_UNSUPPORTED, "name:2: test \"safe\" is not served");
    check_refused("\n{{ x.zfill(3) }}", MP_ERR_UNSUPPORTED,
                  "name:2: method zfill of a string is not served");
    check_refused("{{ [1].append(2) }}", MP_ERR_UNSUPPORTED,
                  "name:1: method append of a list is not served");
    check_refused("{{ cycler(1) }}", MP_ERR_UNSUPPORTED, "name:1: cycler is not served");
    check_refused("{{ range(*m) }}", MP_ERR_UNSUPPORTED,
                  "name:1: * before an argument is not served");
    check_refused("{{ 0x10 }}", MP_ERR_UNSUPPORTED,
                  "name:1: found 0x, expected a decimal number of at most 64 bits");
    check_refused("{{ '%s' % y }}", MP_ERR_UNSUPPORTED, "name:1: % on a string is not served");
    check_refused("{{ strftime_now('%Q') }}", MP_ERR_UNSUPPORTED,
                  "name:1: strftime_now: %Q is not served");
    check_refused("{% if x %}\n\n", MP_ERR_FORMAT,
                  "name:1: a block does not end, expected {% endif %}");
    check_refused("\n{{ x", MP_ERR_FORMAT, "name:2: the template ends in a tag, expected \"}}\"");
    check_refused("{{ 1 + }}", MP_ERR_FORMAT, "name:1: found }}, expected an expression");
    check_refused("{% for 1 in x %}{% endfor %}", MP_ERR_FORMAT,
                  "name:1: found \"1\", expected a name to assign to");
    check_refused("{% break %}", MP_ERR_FORMAT,
                  "name:1: found \"break\", expected it inside a loop");
    check_refused("{# c", MP_ERR_FORMAT, "name:1: a comment does not end, expected \"#}\"");
    check_refused("a\n{{ raise_exception('no ' ~\ny) }}", MP_ERR_FORMAT, "name:2: no own");
    check_refused("{{ z.a }}", MP_ERR_FORMAT, "name:1: z is undefined");
    check_refused("{{ x.a.b }}", MP_ERR_FORMAT, "name:1: \"a\" of a string is undefined");
    check_refused("{{ x + 1 }}", MP_ERR_FORMAT,
                  "name:1: no such operation on a string and an integer");
    check_refused("{% set x.a = 1 %}", MP_ERR_FORMAT,
                  "name:1: set: found an attribute of a string, expected a namespace's");
    check_refused("{{ 9223372036854775807 + 1 }}", MP_ERR_RUNTIME,
                  "name:1: an integer of more than 64 bits is not served");
    check_refused("a\xff", MP_ERR_FORMAT, "name: invalid UTF-8 or a NUL at byte offset 1");
}

/* ---- limits ---- */

/* n times a text. The caller's. */
static char *repeated(const char *before, const char *text, int n, const char *after)
{
    char *all = mp_xcalloc(strlen(before) + (size_t)n * strlen(text) + strlen(after) + 1, 1);
    char *end = stpcpy(all, before);
    for (int i = 0; i < n; i++) {
        end = stpcpy(end, text);
    }
    stpcpy(end, after);
    return all;
}

/* Ends at one of the limits. */
static void check_stopped(const char *template, int code, const char *message)
{
    struct mp_jinja_text out;
    struct mp_error err;
    int found = render(template, &out, &err);
    if (found != code || strncmp(err.message, message, strlen(message)) != 0) {
        fail_msg("%.200s: found %d, %s, expected %d, %s...", template, found,
                 found != 0 ? err.message : "", code, message);
    }
}

static void test_endless(void **state)
{
    (void)state;
    check_stopped(
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        MP_ERR_RUNTIME, "name:1: the template takes more than ");
    check_stopped("{{ 'a' * 100000000 }}", MP_ERR_RUNTIME, "name:1: the template takes more than ");
    check_stopped("{% set n = namespace(s='abcdefgh' * 1000) %}{% for i in range(40) %}"
                  "{% set n.s = n.s + n.s %}{% endfor %}",
                  MP_ERR_RUNTIME, "name:1: the template takes more than ");
    check_stopped("{% set s = 'a' * 100000 %}{% for i in range(1000) %}{{ s }}{% endfor %}",
                  MP_ERR_RUNTIME, "name:1: the template makes more than ");
    check_stopped("{% set s = 'a' * 1000000 %}{% for i in range(100000) %}{% if 'b' in s %}"
                  "{% endif %}{% endfor %}",
                  MP_ERR_RUNTIME, "name:1: the template does not end after ");
    check_stopped("{{ range(1000000000) }}", MP_ERR_RUNTIME, "name:1: range: more than 100000");
}

static void test_deep(void **state)
{
    (void)state;
    static const char deep[] = "name:1: more than 400 calls, expressions and values in each other";
    check_stopped("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", MP_ERR_RUNTIME, deep);
    check_stopped("{% set n = namespace(n=1) %}{% for i in range(1000) %}{% set n.n = [n.n] %}"
                  "{% endfor %}{{ n.n|tojson }}",
                  MP_ERR_RUNTIME, deep);
    check_stopped("{% set n = namespace(n=1, m=1) %}{% for i in range(1000) %}"
                  "{% set n.n = [n.n] %}{% set n.m = [n.m] %}{% endfor %}{{ n.n == n.m }}",
                  MP_ERR_RUNTIME, deep);
}

/* What a template nests in itself. */
static void test_nested(void **state)
{
    (void)state;
    const struct {
        const char *before, *text, *after;
    } nested[] = {
        {"{{ ", "(", "1"},      {"{{ ", "[", "1"},       {"{{ ", "not ", "1 }}"},
        {"{{ ", "-", "1 }}"},   {"{{ 1", " + 1", " }}"}, {"{{ x", "|trim", " }}"},
        {"{{ x", ".a", " }}"},  {"", "{% if x %}", ""},  {"{{ ", "1 if 1 else ", "1 }}"},
        {"{{ ", "{1:", "1 }}"}, {"{{ x", "[x", " }}"},   {"{{ x", "(x", " }}"},
    };
    for (size_t i = 0; i < sizeof nested / sizeof nested[0]; i++) {
        char *template = repeated(nested[i].before, nested[i].text, 50000, nested[i].after);
        struct mp_jinja_text out;
        struct mp_error err;
        int code = render(template, &out, &err);
        if (code != MP_ERR_UNSUPPORTED) {
            fail_msg("%s: found %d, expected %d", nested[i].text, code, MP_ERR_UNSUPPORTED);
        }
        assert_non_null(strstr(err.message, "name:1: more than "));
        free(template);
    }
}

/* Every beginning of a template, and every template with a byte that is another. */
static void test_broken(void **state)
{
    (void)state;
    static const char template[] =
        "{%- macro f(a, b=1) -%}{{ a ~ b }}{%- endmacro %}{# c #}{% set n = namespace(v=[]) %}\n"
        "{% for c in m if c.role == 'user' %}{{ f(c.content|trim, b=loop.index) }}{% else %}"
        "{% raw %}{{ {% endraw %}{% endfor %}{{ {'k': x[1:-1], 'l': [1, 2.5e1]}|tojson(indent=2) }}"
        "{% if not x is defined or y in x %}a{% elif 'b' < y %}{{ \"\\u00e9\" }}{% endif %}";
    char copy[sizeof template];
    for (size_t i = 0; i < sizeof template; i++) {
        for (int change = 0; change < 4; change++) {
            memcpy(copy, template, sizeof template);
            copy[i] = change == 0 ? '\0' : (char)(copy[i] ^ (1 << change));
            struct mp_jinja_text out;
            struct mp_error err;
            if (render(copy, &out, &err) == 0) {
                mp_jinja_text_free(&out);
            } else {
                assert_true(strncmp(err.message, "name:", 5) == 0);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_content), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_endless), cmocka_unit_test(test_deep),
        cmocka_unit_test(test_nested),  cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
