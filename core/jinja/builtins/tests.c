/* Tests, as in `x is defined`, and global functions. */
#include "core/jinja/internal.h"

#include <string.h>

/* ---- of what kind it is ---- */

static struct mpj_value test_defined(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind != MPJ_UNDEFINED);
}

static struct mpj_value test_undefined(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_UNDEFINED);
}

static struct mpj_value test_none(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_NONE);
}

static struct mpj_value test_boolean(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_BOOL);
}

static struct mpj_value test_true(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_BOOL && c->self.truth);
}

static struct mpj_value test_false(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_BOOL && !c->self.truth);
}

static struct mpj_value test_integer(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_INT);
}

static struct mpj_value test_float(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_FLOAT);
}

static struct mpj_value test_number(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(mpj_is_number(c->self));
}

static struct mpj_value test_string(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_STRING);
}

static struct mpj_value test_mapping(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_DICT);
}

static bool is_sequence(struct mpj_value v)
{
    bool generator = v.kind == MPJ_LIST && v.list->form == MPJ_IS_GENERATOR;
    return v.kind == MPJ_STRING || v.kind == MPJ_LIST || v.kind == MPJ_DICT ||
                   v.kind == MPJ_UNDEFINED
               ? !generator
               : false;
}

static struct mpj_value test_sequence(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(is_sequence(c->self));
}

static struct mpj_value test_iterable(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(is_sequence(c->self) || c->self.kind == MPJ_LIST);
}

static struct mpj_value test_callable(struct mpj_render *r, const struct mpj_call *c)
{
    (void)r;
    return mpj_bool(c->self.kind == MPJ_CALLABLE);
}

/* ---- how it compares ---- */

static struct mpj_value test_eq(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(mpj_equal(&r->work, c->self, c->a[0]));
}

static struct mpj_value test_ne(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(!mpj_equal(&r->work, c->self, c->a[0]));
}

static struct mpj_value test_lt(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(mpj_compare(&r->work, c->self, c->a[0]) < 0);
}

static struct mpj_value test_le(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(mpj_compare(&r->work, c->self, c->a[0]) <= 0);
}

static struct mpj_value test_gt(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(mpj_compare(&r->work, c->self, c->a[0]) > 0);
}

static struct mpj_value test_ge(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(mpj_compare(&r->work, c->self, c->a[0]) >= 0);
}

static struct mpj_value test_in(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(mpj_contains(&r->work, c->a[0], c->self));
}

static bool divides(struct mpj_render *r, struct mpj_value v, int64_t by)
{
    struct mpj_value remainder = mpj_binary(r, MPJ_O_MOD, v, mpj_int(by));
    return mpj_is_number(remainder) && mpj_real(remainder) == 0.0;
}

static struct mpj_value test_even(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(divides(r, c->self, 2));
}

static struct mpj_value test_odd(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(!divides(r, c->self, 2));
}

static struct mpj_value test_divisibleby(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_bool(divides(r, c->self, mpj_int_argument(&r->work, c->a[0], 1)));
}

const struct mpj_builtin mpj_tests[] = {
    {"defined", "", test_defined},
    {"undefined", "", test_undefined},
    {"none", "", test_none},
    {"boolean", "", test_boolean},
    {"true", "", test_true},
    {"false", "", test_false},
    {"integer", "", test_integer},
    {"float", "", test_float},
    {"number", "", test_number},
    {"string", "", test_string},
    {"mapping", "", test_mapping},
    {"sequence", "", test_sequence},
    {"iterable", "", test_iterable},
    {"callable", "", test_callable},
    {"eq", "other", test_eq},
    {"equalto", "other", test_eq},
    {"==", "other", test_eq},
    {"ne", "other", test_ne},
    {"!=", "other", test_ne},
    {"lt", "other", test_lt},
    {"lessthan", "other", test_lt},
    {"<", "other", test_lt},
    {"le", "other", test_le},
    {"<=", "other", test_le},
    {"gt", "other", test_gt},
    {"greaterthan", "other", test_gt},
    {">", "other", test_gt},
    {"ge", "other", test_ge},
    {">=", "other", test_ge},
    {"in", "container", test_in},
    {"even", "", test_even},
    {"odd", "", test_odd},
    {"divisibleby", "number", test_divisibleby},
    {NULL, NULL, NULL},
};

/* ---- global functions ---- */

static struct mpj_value run_range(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_work *w = &r->work;
    bool one = c->a[1].kind == MPJ_MISSING;
    int64_t start = one ? 0 : mpj_int_argument(w, c->a[0], 0);
    int64_t stop = mpj_int_argument(w, one ? c->a[0] : c->a[1], 0);
    int64_t step = mpj_int_argument(w, c->a[2], 1);
    if (step == 0) {
        mpj_fail(w, MP_ERR_FORMAT, "range: the step is 0");
    }
    struct mpj_value list = mpj_new_list(w);
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (list.list->count == MPJ_MAX_RANGE) {
            mpj_fail(w, MP_ERR_RUNTIME, "range: more than %d numbers", MPJ_MAX_RANGE);
        }
        mpj_push(w, list, mpj_int(i));
        if (__builtin_add_overflow(i, step, &i)) {
            break;
        }
    }
    return list;
}

/* The keywords as keys, behind the pairs of a dict if one is given. */
static struct mpj_value dict_of(struct mpj_render *r, const struct mpj_call *c,
                                const char *function)
{
    struct mpj_work *w = &r->work;
    struct mpj_value dict = mpj_new_dict(w);
    for (size_t i = 0; i < c->all->count; i++) {
        struct mpj_value v = c->all->values[i];
        if (c->all->names[i] != NULL) {
            mpj_set(w, dict, mpj_literal(w, c->all->names[i]), v);
            continue;
        }
        if (v.kind != MPJ_DICT) {
            mpj_fail(w, MP_ERR_UNSUPPORTED, "%s: found %s, expected a dict or keywords", function,
                     mpj_kind_name(v));
        }
        for (size_t j = 0; j < v.dict->count; j++) {
            mpj_set(w, dict, v.dict->pairs[j].key, v.dict->pairs[j].value);
        }
    }
    return dict;
}

static struct mpj_value run_dict(struct mpj_render *r, const struct mpj_call *c)
{
    return dict_of(r, c, "dict");
}

static struct mpj_value run_namespace(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_value space = dict_of(r, c, "namespace");
    space.kind = MPJ_NAMESPACE;
    return space;
}

static struct mpj_value run_raise(struct mpj_render *r, const struct mpj_call *c)
{
    mpj_fail(&r->work, MP_ERR_FORMAT, "%.500s", mpj_chars(&r->work, mpj_str(&r->work, c->a[0])));
}

/* strftime of C, with the conversions that mean the same in Python. */
static struct mpj_value run_strftime(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_work *w = &r->work;
    const char *format = mpj_chars(w, mpj_string_argument(w, c->a[0], "strftime_now"));
    for (const char *p = strchr(format, '%'); p != NULL; p = strchr(p + 1, '%')) {
        p++;
        p += *p == '-' || *p == '_';
        if (*p == '\0' || strchr("aAbBcdDeFHIjmMnpSTuUVwWxXyY%", *p) == NULL) {
            mpj_fail(w, MP_ERR_UNSUPPORTED, "strftime_now: %%%.1s is not served", p);
        }
    }
    char text[1024] = "";
    struct tm tm;
    if (localtime_r(&r->now, &tm) == NULL ||
        (strftime(text, sizeof text, format, &tm) == 0 && format[0] != '\0')) {
        mpj_fail(w, MP_ERR_FORMAT, "strftime_now: more than %zu bytes", sizeof text);
    }
    return mpj_plain(w, mpj_copy(w, text, strlen(text)), strlen(text));
}

const struct mpj_builtin mpj_globals[] = {
    {"range", "start stop= step=", run_range}, {"dict", "*", run_dict},
    {"namespace", "*", run_namespace},         {"raise_exception", "message", run_raise},
    {"strftime_now", "format", run_strftime},  {NULL, NULL, NULL},
};
