/* Attributes, items and slices of values, and calls of functions. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- attributes ---- */

const struct mpj_builtin *mpj_lookup(const struct mpj_builtin *table, const char *name)
{
    while (table->name != NULL && strcmp(table->name, name) != 0) {
        table++;
    }
    return table->name != NULL ? table : NULL;
}

struct mpj_value mpj_method(struct mpj_work *w, const struct mpj_builtin *b, struct mpj_value self)
{
    struct mpj_callable *c = mpj_alloc(w, 1, sizeof *c);
    *c = (struct mpj_callable){.name = b->name, .builtin = b, .self = self};
    return (struct mpj_value){.kind = MPJ_CALLABLE, .callable = c};
}

/* What Python's strings, lists and dicts have beside what is served here. */
static bool is_refused(const char *name)
{
    static const char *const names[] = {
        "append",       "casefold",  "center",      "clear",      "copy",     "encode",
        "expandtabs",   "extend",    "format",      "format_map", "fromkeys", "index",
        "insert",       "partition", "rindex",      "rpartition", "isascii",  "isdecimal",
        "isidentifier", "isnumeric", "isprintable", "istitle",    "ljust",    "maketrans",
        "pop",          "popitem",   "remove",      "reverse",    "rjust",    "setdefault",
        "sort",         "swapcase",  "translate",   "update",     "zfill",
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(names[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static const struct mpj_builtin *methods_of(struct mpj_value v)
{
    static const struct mpj_builtin none[] = {{NULL, NULL, NULL}};
    return v.kind == MPJ_STRING ? mpj_string_methods
           : v.kind == MPJ_LIST ? mpj_list_methods
           : v.kind == MPJ_DICT ? mpj_dict_methods
                                : none;
}

/* What messages call a member that is not there. */
static struct mpj_value no_member(struct mpj_work *w, struct mpj_value v, const char *name)
{
    struct mpj_text text = {.work = w};
    mpj_put(&text, "\"", 1, false);
    mpj_put(&text, name, strlen(name), false);
    mpj_put(&text, "\" of ", 5, false);
    mpj_put(&text, mpj_kind_name(v), strlen(mpj_kind_name(v)) + 1, false); /* with its NUL */
    return mpj_undefined(text.data);
}

static struct mpj_value find_key(struct mpj_work *w, struct mpj_value v, const char *name)
{
    bool has_names = v.kind == MPJ_DICT || v.kind == MPJ_NAMESPACE;
    const struct mpj_value *found = has_names ? mpj_find_name(w, v, name) : NULL;
    return found != NULL ? *found : no_member(w, v, name);
}

/* Methods and keys of this name, in the order that the syntax asks for. */
static struct mpj_value member(struct mpj_render *r, struct mpj_value v, const char *name,
                               bool method_first)
{
    struct mpj_work *w = &r->work;
    mpj_need(w, v);
    const struct mpj_builtin *method = mpj_lookup(methods_of(v), name);
    struct mpj_value key = find_key(w, v, name);
    if (method != NULL && (method_first || key.kind == MPJ_UNDEFINED)) {
        return mpj_method(w, method, v);
    }
    bool refused =
        v.kind == MPJ_STRING || v.kind == MPJ_LIST || (v.kind == MPJ_DICT && method_first);
    if (refused && key.kind == MPJ_UNDEFINED && is_refused(name)) {
        mpj_fail(w, MP_ERR_UNSUPPORTED, "method %s of %s is not served", name, mpj_kind_name(v));
    }
    return key;
}

struct mpj_value mpj_attribute(struct mpj_render *r, struct mpj_value v, const char *name)
{
    if (v.kind == MPJ_CALLABLE && v.callable->macro != NULL && strcmp(name, "name") == 0) {
        return mpj_literal(&r->work, v.callable->name);
    }
    return member(r, v, name, true);
}

/* ---- items ---- */

/* Byte offset of the character `index` of s, or its length. */
static size_t offset_of(const struct mpj_string *s, size_t index)
{
    size_t at = 0;
    while (index-- > 0 && at < s->length) {
        at += mp_utf8_length(s->data[at]);
    }
    return at;
}

static struct mpj_value item_at(struct mpj_work *w, struct mpj_value v, int64_t index)
{
    int64_t length = (int64_t)mpj_length(w, v);
    index += index < 0 ? length : 0;
    if (index < 0 || index >= length) {
        return mpj_undefined("an item that is not there");
    }
    if (v.kind == MPJ_LIST) {
        return v.list->items[index];
    }
    size_t start = offset_of(v.string, (size_t)index);
    return mpj_part(w, v.string, start, start + mp_utf8_length(v.string->data[start]));
}

struct mpj_value mpj_item(struct mpj_render *r, struct mpj_value v, struct mpj_value key)
{
    mpj_need(&r->work, v);
    if (v.kind == MPJ_DICT && key.kind != MPJ_STRING) {
        const struct mpj_value *found = mpj_find(&r->work, v, key);
        return found != NULL ? *found : mpj_undefined("an item that is not there");
    }
    bool sequence =
        v.kind == MPJ_STRING || (v.kind == MPJ_LIST && v.list->form != MPJ_IS_GENERATOR);
    if (sequence && (key.kind == MPJ_INT || key.kind == MPJ_BOOL)) {
        return item_at(&r->work, v, mpj_whole(key));
    }
    if (key.kind == MPJ_STRING) {
        return member(r, v, mpj_chars(&r->work, key.string), false);
    }
    return mpj_undefined("an item that is not there");
}

struct mpj_value mpj_path(struct mpj_render *r, struct mpj_value v, struct mpj_value path)
{
    if (path.kind != MPJ_STRING) {
        return mpj_item(r, v, path);
    }
    char *names = (char *)mpj_chars(&r->work, path.string);
    char *rest;
    for (char *name = strtok_r(names, ".", &rest); name != NULL;
         name = strtok_r(NULL, ".", &rest)) {
        bool number = name[strspn(name, "0123456789")] == '\0' && strlen(name) < 18;
        struct mpj_value key = mpj_literal(&r->work, name);
        v = mpj_item(r, v, number ? mpj_int(atoll(name)) : key);
    }
    return v;
}

/* ---- slices ---- */

/* A bound as an index from 0, cut to low .. high. */
static int64_t bound(struct mpj_work *w, struct mpj_value v, int64_t fallback, int64_t length,
                     int64_t low, int64_t high)
{
    if (v.kind == MPJ_NONE) {
        return fallback;
    }
    if (v.kind != MPJ_INT && v.kind != MPJ_BOOL) {
        mpj_need(w, v);
        mpj_fail(w, MP_ERR_FORMAT, "a bound of a slice: found %s, expected an integer",
                 mpj_kind_name(v));
    }
    int64_t index = mpj_whole(v);
    index = index < -length ? low : index < 0 ? index + length : index;
    return index < low ? low : index > high ? high : index;
}

/* The characters of a string, one after another: a part of it. */
static struct mpj_value cut_string(struct mpj_work *w, const struct mpj_string *s, int64_t start,
                                   int64_t stop)
{
    size_t from = offset_of(s, (size_t)start);
    size_t to = stop > start ? offset_of(s, (size_t)stop) : from;
    return mpj_part(w, s, from, to);
}

struct mpj_value mpj_slice(struct mpj_render *r, struct mpj_value v,
                           const struct mpj_value bounds[3])
{
    struct mpj_work *w = &r->work;
    mpj_need(w, v);
    if (v.kind != MPJ_STRING && (v.kind != MPJ_LIST || v.list->form == MPJ_IS_GENERATOR)) {
        return mpj_undefined("a slice");
    }
    int64_t length = (int64_t)mpj_length(w, v);
    int64_t step = bounds[2].kind == MPJ_NONE ? 1 : mpj_int_argument(w, bounds[2], 1);
    if (step == 0) {
        mpj_fail(w, MP_ERR_FORMAT, "the step of a slice is 0");
    }
    bool up = step > 0;
    int64_t low = up ? 0 : -1;
    int64_t high = up ? length : length - 1;
    int64_t start = bound(w, bounds[0], up ? 0 : high, length, low, high);
    int64_t stop = bound(w, bounds[1], up ? high : -1, length, low, high);
    if (v.kind == MPJ_STRING && step == 1) {
        return cut_string(w, v.string, start, stop);
    }
    const struct mpj_list *items = mpj_iterate(w, v);
    struct mpj_value out = mpj_new_list(w);
    struct mpj_text text = {.work = w};
    step = step > length ? length + 1 : step < -length ? -length - 1 : step;
    for (int64_t i = start; up ? i < stop : i > stop; i += step) {
        if (v.kind == MPJ_STRING) {
            mpj_put_string(&text, items->items[i].string);
        } else {
            mpj_push(w, out, items->items[i]);
        }
    }
    out.list->form = v.kind == MPJ_LIST ? v.list->form : MPJ_IS_LIST;
    return v.kind == MPJ_STRING ? mpj_text_value(&text) : out;
}

/* ---- calls ---- */

/* The next of the names that parameters lists; NULL: there are no more. *required: it has no "=".
 */
static const char *next_parameter(const char *parameters, size_t *length, bool *required)
{
    parameters += strspn(parameters, " ");
    *length = strcspn(parameters, " =");
    *required = parameters[*length] != '=';
    return *length > 0 ? parameters : NULL;
}

static void __attribute__((noreturn))
fail_argument(struct mpj_work *w, const char *name, const char *keyword)
{
    if (keyword != NULL) {
        mpj_fail(w, MP_ERR_UNSUPPORTED, "%s: argument %.80s is not served", name, keyword);
    }
    mpj_fail(w, MP_ERR_FORMAT, "%s: found more arguments than it has", name);
}

/* Puts the arguments of a call into a[], by their positions and keywords. */
static void bind(struct mpj_work *w, const struct mpj_builtin *b, const struct mpj_args *args,
                 struct mpj_value *a)
{
    const char *p = b->parameters;
    size_t length;
    bool required;
    size_t used = 0;
    for (int i = 0; (p = next_parameter(p, &length, &required)) != NULL; i++) {
        for (size_t j = 0; j < args->count; j++) {
            const char *name = args->names[j];
            if (name == NULL ? j == (size_t)i
                             : strlen(name) == length && memcmp(name, p, length) == 0) {
                a[i] = args->values[j];
                used++;
            }
        }
        if (required && a[i].kind == MPJ_MISSING) {
            mpj_fail(w, MP_ERR_FORMAT, "%s: argument %.*s is missing", b->name, (int)length, p);
        }
        p += length + !required;
    }
    if (used != args->count) {
        fail_argument(w, b->name, args->count > 0 ? args->names[args->count - 1] : NULL);
    }
}

struct mpj_value mpj_call_builtin(struct mpj_render *r, const struct mpj_builtin *b,
                                  struct mpj_value self, const struct mpj_args *args)
{
    struct mpj_call call = {.self = self, .all = args};
    if (b->parameters[0] != '*') {
        bind(&r->work, b, args, call.a);
    }
    return b->run(r, &call);
}

/* The value of a macro's parameter, or MPJ_MISSING. */
static struct mpj_value given(const struct mpj_args *args, size_t position, const char *name,
                              size_t *used)
{
    struct mpj_value v = {.kind = MPJ_MISSING};
    for (size_t i = 0; i < args->count; i++) {
        if (args->names[i] == NULL ? i == position : strcmp(args->names[i], name) == 0) {
            v = args->values[i];
            ++*used;
        }
    }
    return v;
}

static struct mpj_value call_macro(struct mpj_render *r, const struct mpj_callable *c,
                                   const struct mpj_args *args)
{
    struct mpj_scope *scope = mpj_new_scope(r, c->scope);
    struct mpj_scope *caller_scope = r->scope;
    size_t position = 0;
    size_t used = 0;
    r->scope = scope; /* a default may name the parameters before it */
    for (const struct mpj_node *p = c->macro->otherwise; p != NULL; p = p->next) {
        struct mpj_value v = given(args, position++, p->name, &used);
        if (v.kind == MPJ_MISSING) {
            v = p->left != NULL ? mpj_evaluate(r, p->left) : mpj_undefined(p->name);
        }
        mpj_define(r, scope, p->name, v);
    }
    struct mpj_value caller = given(args, SIZE_MAX, "caller", &used);
    if (caller.kind != MPJ_MISSING) {
        mpj_define(r, scope, "caller", caller);
    }
    if (used != args->count) {
        fail_argument(&r->work, c->name, args->names[args->count - 1]);
    }
    struct mpj_value text = mpj_capture(r, c->macro->items, scope);
    r->scope = caller_scope;
    return text;
}

struct mpj_value mpj_call_value(struct mpj_render *r, struct mpj_value callee,
                                const struct mpj_args *args)
{
    mpj_need(&r->work, callee);
    if (callee.kind != MPJ_CALLABLE) {
        mpj_fail(&r->work, MP_ERR_FORMAT, "cannot call %s", mpj_kind_name(callee));
    }
    mpj_enter(&r->work);
    const struct mpj_callable *c = callee.callable;
    struct mpj_value v = c->builtin != NULL ? mpj_call_builtin(r, c->builtin, c->self, args)
                                            : call_macro(r, c, args);
    r->work.depth--;
    return v;
}
