/* Filters of strings and of single values. */
#include "core/jinja/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct mpj_string *text_of(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_str(&r->work, c->self);
}

static bool flag(struct mpj_value v)
{
    return v.kind != MPJ_MISSING && mpj_truth(v);
}

/* ---- strings ---- */

static struct mpj_value filter_trim(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_strip(&r->work, text_of(r, c), c->a[0], true, true);
}

static struct mpj_value filter_upper(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, text_of(r, c), MPJ_UPPER);
}

static struct mpj_value filter_lower(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, text_of(r, c), MPJ_LOWER);
}

static struct mpj_value filter_capitalize(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, text_of(r, c), MPJ_CAPITAL);
}

/* Words start behind white space, "-" and opening brackets only, unlike those of str.title. */
static struct mpj_value filter_title(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_string *s = text_of(r, c);
    struct mpj_text t = {.work = &r->work};
    for (size_t start = 0, end; start < s->length; start = end) {
        end = start;
        while (end < s->length && strchr("-({[<", s->data[end]) == NULL &&
               !mpj_is_space(mpj_char_at(s->data + end, s->length - end))) {
            end++;
        }
        end += end < s->length;
        mpj_put_string(
            &t, mpj_change_case(&r->work, mpj_part(&r->work, s, start, end).string, MPJ_CAPITAL)
                    .string);
    }
    return mpj_text_value(&t);
}

static struct mpj_value filter_string(struct mpj_render *r, const struct mpj_call *c)
{
    return (struct mpj_value){.kind = MPJ_STRING, .string = text_of(r, c)};
}

static struct mpj_value filter_replace(struct mpj_render *r, const struct mpj_call *c)
{
    int64_t count = c->a[2].kind == MPJ_NONE ? -1 : mpj_int_argument(&r->work, c->a[2], -1);
    return mpj_replace(&r->work, text_of(r, c), mpj_str(&r->work, c->a[0]),
                       mpj_str(&r->work, c->a[1]), count);
}

/* A width as that many spaces; a text is itself. */
static const struct mpj_string *indentation(struct mpj_work *w, struct mpj_value width,
                                            int64_t fallback)
{
    if (width.kind == MPJ_STRING) {
        return width.string;
    }
    struct mpj_text t = {.work = w};
    for (int64_t i = mpj_int_argument(w, width, fallback); i > 0; i--) {
        mpj_step(w, 1);
        mpj_put(&t, " ", 1, false);
    }
    return mpj_text_value(&t).string;
}

/* indent(width=4, first=false, blank=false): all lines but the first and empty ones. */
static struct mpj_value filter_indent(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_work *w = &r->work;
    const struct mpj_string *s = text_of(r, c);
    const struct mpj_string *indent = indentation(w, c->a[0], 4);
    struct mpj_text longer = {.work = w};
    mpj_put_string(&longer, s);
    mpj_put(&longer, "\n", 1, false);
    const struct mpj_list *lines = mpj_lines(w, mpj_text_value(&longer).string, false).list;
    struct mpj_text t = {.work = w};
    for (size_t i = 0; i < lines->count; i++) {
        const struct mpj_string *line = lines->items[i].string;
        mpj_put(&t, "\n", i > 0, false);
        if (i == 0 ? flag(c->a[1]) : line->length > 0 || flag(c->a[2])) {
            mpj_put_string(&t, indent);
        }
        mpj_put_string(&t, line);
    }
    return mpj_text_value(&t);
}

static struct mpj_value filter_tojson(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_work *w = &r->work;
    struct mpj_value indent = c->a[1];
    bool lines = indent.kind != MPJ_MISSING && indent.kind != MPJ_NONE;
    struct mpj_json_style style = {
        .indent = lines ? mpj_chars(w, indentation(w, indent, 0)) : NULL,
        .between = mpj_literal(w, lines ? "," : ", ").string,
        .after_key = mpj_literal(w, ": ").string,
        .ascii = flag(c->a[0]),
        .sort_keys = flag(c->a[3]),
    };
    if (c->a[2].kind == MPJ_LIST && c->a[2].list->count == 2) {
        style.between = mpj_string_argument(w, c->a[2].list->items[0], "separators");
        style.after_key = mpj_string_argument(w, c->a[2].list->items[1], "separators");
    } else if (c->a[2].kind != MPJ_MISSING && c->a[2].kind != MPJ_NONE) {
        mpj_fail(w, MP_ERR_FORMAT, "tojson: separators: expected two strings");
    }
    struct mpj_text t = {.work = w};
    mpj_put_json(&t, c->self, &style);
    return mpj_text_value(&t);
}

const struct mpj_builtin mpj_string_filters[] = {
    {"trim", "chars=", filter_trim},
    {"upper", "", filter_upper},
    {"lower", "", filter_lower},
    {"capitalize", "", filter_capitalize},
    {"title", "", filter_title},
    {"string", "", filter_string},
    {"safe", "", filter_string},
    {"replace", "old new count=", filter_replace},
    {"indent", "width= first= blank=", filter_indent},
    {"tojson", "ensure_ascii= indent= separators= sort_keys=", filter_tojson},
    {NULL, NULL, NULL},
};

/* ---- values ---- */

static struct mpj_value filter_default(struct mpj_render *r, const struct mpj_call *c)
{
    bool missing = c->self.kind == MPJ_UNDEFINED || (flag(c->a[1]) && !mpj_truth(c->self));
    struct mpj_value fallback = c->a[0].kind == MPJ_MISSING ? mpj_literal(&r->work, "") : c->a[0];
    return missing ? fallback : c->self;
}

/* A number as Python's int() or float() reads it, behind white space; NULL: it is none. */
static const char *number_text(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_value spaces = {.kind = MPJ_MISSING};
    const char *text =
        mpj_chars(&r->work, mpj_strip(&r->work, c->self.string, spaces, true, true).string);
    return text[0] != '\0' && text[strspn(text, "+-.0123456789eE")] == '\0' ? text : NULL;
}

static struct mpj_value filter_int(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_value fallback = c->a[0].kind == MPJ_MISSING ? mpj_int(0) : c->a[0];
    double real = NAN;
    if (c->self.kind == MPJ_INT || c->self.kind == MPJ_BOOL) {
        return mpj_int(mpj_whole(c->self));
    }
    if (c->self.kind == MPJ_FLOAT) {
        real = c->self.real;
    } else if (c->self.kind == MPJ_STRING) {
        const char *text = number_text(r, c);
        char *end = NULL;
        long long whole = text != NULL ? strtoll(text, &end, 10) : 0;
        if (text != NULL && *end == '\0') {
            return mpj_int(whole);
        }
        real = text != NULL ? strtod(text, &end) : NAN;
        real = text != NULL && *end == '\0' ? real : NAN;
    }
    return fabs(real) < 9e18 ? mpj_int((int64_t)real) : fallback;
}

static struct mpj_value filter_float(struct mpj_render *r, const struct mpj_call *c)
{
    if (mpj_is_number(c->self)) {
        return mpj_float(mpj_real(c->self));
    }
    const char *text = c->self.kind == MPJ_STRING ? number_text(r, c) : NULL;
    char *end = NULL;
    double real = text != NULL ? strtod(text, &end) : 0.0;
    bool read = text != NULL && *end == '\0';
    return read ? mpj_float(real) : c->a[0].kind == MPJ_MISSING ? mpj_float(0.0) : c->a[0];
}

static struct mpj_value filter_abs(struct mpj_render *r, const struct mpj_call *c)
{
    bool negative = mpj_is_number(c->self) && mpj_real(c->self) < 0.0;
    return mpj_binary(r, negative ? MPJ_O_SUB : MPJ_O_ADD, mpj_int(0), c->self);
}

static struct mpj_value filter_round(struct mpj_render *r, const struct mpj_call *c)
{
    if (!mpj_is_number(c->self)) {
        mpj_fail(&r->work, MP_ERR_FORMAT, "round: found %s", mpj_kind_name(c->self));
    }
    int64_t digits = mpj_int_argument(&r->work, c->a[0], 0);
    if (digits < 0 || digits > 15) {
        mpj_fail(&r->work, MP_ERR_UNSUPPORTED, "round: %lld digits, expected 0 to 15",
                 (long long)digits);
    }
    double scale = pow(10.0, (double)digits);
    double scaled = mpj_real(c->self) * scale;
    struct mpj_value method = c->a[1];
    if (method.kind == MPJ_MISSING || mpj_is(method, "common")) {
        return c->self.kind == MPJ_FLOAT ? mpj_float(nearbyint(scaled) / scale)
                                         : mpj_int(mpj_whole(c->self));
    }
    if (!mpj_is(method, "ceil") && !mpj_is(method, "floor")) {
        mpj_fail(&r->work, MP_ERR_FORMAT, "round: expected \"common\", \"ceil\" or \"floor\"");
    }
    return mpj_float((mpj_is(method, "ceil") ? ceil(scaled) : floor(scaled)) / scale);
}

const struct mpj_builtin mpj_value_filters[] = {
    {"default", "default_value= boolean=", filter_default},
    {"d", "default_value= boolean=", filter_default},
    {"int", "default=", filter_int},
    {"float", "default=", filter_float},
    {"abs", "", filter_abs},
    {"round", "precision= method=", filter_round},
    {NULL, NULL, NULL},
};
