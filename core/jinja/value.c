/* Values: making them, comparing them, what they contain. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <math.h>
#include <string.h>

/* ---- making ---- */

struct mpj_value mpj_bool(bool truth)
{
    return (struct mpj_value){.kind = MPJ_BOOL, .truth = truth};
}

struct mpj_value mpj_int(int64_t number)
{
    return (struct mpj_value){.kind = MPJ_INT, .number = number};
}

struct mpj_value mpj_float(double real)
{
    return (struct mpj_value){.kind = MPJ_FLOAT, .real = real};
}

struct mpj_value mpj_none(void)
{
    return (struct mpj_value){.kind = MPJ_NONE};
}

struct mpj_value mpj_undefined(const char *name)
{
    return (struct mpj_value){.kind = MPJ_UNDEFINED, .name = name};
}

struct mpj_value mpj_plain(struct mpj_work *w, const char *data, size_t length)
{
    struct mpj_string *s = mpj_alloc(w, 1, sizeof *s);
    *s = (struct mpj_string){.data = data, .length = length};
    return (struct mpj_value){.kind = MPJ_STRING, .string = s};
}

struct mpj_value mpj_literal(struct mpj_work *w, const char *text)
{
    return mpj_plain(w, text, strlen(text));
}

struct mpj_value mpj_new_list(struct mpj_work *w)
{
    return (struct mpj_value){.kind = MPJ_LIST, .list = mpj_alloc(w, 1, sizeof(struct mpj_list))};
}

struct mpj_value mpj_new_tuple(struct mpj_work *w, struct mpj_value first, struct mpj_value second)
{
    struct mpj_value tuple = mpj_new_list(w);
    tuple.list->form = MPJ_IS_TUPLE;
    mpj_push(w, tuple, first);
    mpj_push(w, tuple, second);
    return tuple;
}

struct mpj_value mpj_new_dict(struct mpj_work *w)
{
    return (struct mpj_value){.kind = MPJ_DICT, .dict = mpj_alloc(w, 1, sizeof(struct mpj_dict))};
}

/* Twice as large, or 4 elements. */
static void *grow(struct mpj_work *w, const void *items, size_t count, size_t size)
{
    void *larger = mpj_alloc(w, count == 0 ? 4 : 2 * count, size);
    if (count > 0) {
        memcpy(larger, items, count * size);
    }
    return larger;
}

void mpj_push(struct mpj_work *w, struct mpj_value list, struct mpj_value item)
{
    struct mpj_list *l = list.list;
    mpj_step(w, 1);
    if (l->count == l->capacity) {
        l->items = grow(w, l->items, l->count, sizeof *l->items);
        l->capacity = l->capacity == 0 ? 4 : 2 * l->capacity;
    }
    l->items[l->count++] = item;
}

/* ---- dictionaries ---- */

static bool string_is(const struct mpj_string *s, const char *text, size_t length)
{
    return s->length == length && memcmp(s->data, text, length) == 0;
}

struct mpj_value *mpj_find(struct mpj_work *w, struct mpj_value dict, struct mpj_value key)
{
    struct mpj_dict *d = dict.dict;
    for (size_t i = 0; i < d->count; i++) {
        if (mpj_equal(w, d->pairs[i].key, key)) {
            return &d->pairs[i].value;
        }
    }
    return NULL;
}

struct mpj_value *mpj_find_name(struct mpj_work *w, struct mpj_value dict, const char *key)
{
    struct mpj_dict *d = dict.dict;
    size_t length = strlen(key);
    mpj_step(w, 1 + d->count / 4);
    for (size_t i = 0; i < d->count; i++) {
        if (d->pairs[i].key.kind == MPJ_STRING && string_is(d->pairs[i].key.string, key, length)) {
            return &d->pairs[i].value;
        }
    }
    return NULL;
}

void mpj_set(struct mpj_work *w, struct mpj_value dict, struct mpj_value key,
             struct mpj_value value)
{
    if (key.kind == MPJ_DICT || key.kind == MPJ_UNDEFINED ||
        (key.kind == MPJ_LIST && key.list->form != MPJ_IS_TUPLE)) {
        mpj_fail(w, MP_ERR_FORMAT, "%s cannot be a key of a dict", mpj_kind_name(key));
    }
    struct mpj_value *there = mpj_find(w, dict, key);
    if (there != NULL) {
        *there = value;
        return;
    }
    struct mpj_dict *d = dict.dict;
    if (d->count == d->capacity) {
        d->pairs = grow(w, d->pairs, d->count, sizeof *d->pairs);
        d->capacity = d->capacity == 0 ? 4 : 2 * d->capacity;
    }
    d->pairs[d->count++] = (struct mpj_pair){.key = key, .value = value};
}

/* ---- what they are ---- */

const char *mpj_kind_name(struct mpj_value v)
{
    static const char *const names[] = {
        [MPJ_MISSING] = "nothing",     [MPJ_UNDEFINED] = "an undefined value",
        [MPJ_NONE] = "none",           [MPJ_BOOL] = "a boolean",
        [MPJ_INT] = "an integer",      [MPJ_FLOAT] = "a float",
        [MPJ_STRING] = "a string",     [MPJ_LIST] = "a list",
        [MPJ_DICT] = "a dict",         [MPJ_NAMESPACE] = "a namespace",
        [MPJ_CALLABLE] = "a function",
    };
    return names[v.kind];
}

bool mpj_is(struct mpj_value string, const char *text)
{
    return string.kind == MPJ_STRING && string_is(string.string, text, strlen(text));
}

bool mpj_is_number(struct mpj_value v)
{
    return v.kind == MPJ_BOOL || v.kind == MPJ_INT || v.kind == MPJ_FLOAT;
}

int64_t mpj_whole(struct mpj_value number)
{
    return number.kind == MPJ_BOOL ? number.truth : number.number;
}

double mpj_real(struct mpj_value number)
{
    return number.kind == MPJ_FLOAT ? number.real : (double)mpj_whole(number);
}

bool mpj_truth(struct mpj_value v)
{
    switch (v.kind) {
    case MPJ_MISSING:
    case MPJ_UNDEFINED:
    case MPJ_NONE:
        return false;
    case MPJ_BOOL:
        return v.truth;
    case MPJ_INT:
        return v.number != 0;
    case MPJ_FLOAT:
        return v.real != 0.0;
    case MPJ_STRING:
        return v.string->length > 0;
    case MPJ_LIST:
        return v.list->count > 0 || v.list->form == MPJ_IS_GENERATOR;
    case MPJ_DICT:
        return v.dict->count > 0;
    case MPJ_NAMESPACE:
    case MPJ_CALLABLE:
        return true;
    }
    return false;
}

/* ---- comparing ---- */

static bool lists_equal(struct mpj_work *w, const struct mpj_list *a, const struct mpj_list *b)
{
    bool equal = a->count == b->count && a->form == b->form;
    for (size_t i = 0; i < a->count && equal; i++) {
        equal = mpj_equal(w, a->items[i], b->items[i]);
    }
    return equal;
}

static bool dicts_equal(struct mpj_work *w, struct mpj_value a, struct mpj_value b)
{
    bool equal = a.dict->count == b.dict->count;
    for (size_t i = 0; i < a.dict->count && equal; i++) {
        const struct mpj_value *other = mpj_find(w, b, a.dict->pairs[i].key);
        equal = other != NULL && mpj_equal(w, a.dict->pairs[i].value, *other);
    }
    return equal;
}

static bool numbers_equal(struct mpj_value a, struct mpj_value b)
{
    return a.kind == MPJ_FLOAT || b.kind == MPJ_FLOAT ? mpj_real(a) == mpj_real(b)
                                                      : mpj_whole(a) == mpj_whole(b);
}

static bool same_kind_equal(struct mpj_work *w, struct mpj_value a, struct mpj_value b)
{
    switch (a.kind) {
    case MPJ_STRING:
        mpj_step(w,
                 (a.string->length < b.string->length ? a.string->length : b.string->length) / 64);
        return string_is(a.string, b.string->data, b.string->length);
    case MPJ_LIST:
        return a.list == b.list || lists_equal(w, a.list, b.list);
    case MPJ_DICT:
        return a.dict == b.dict || dicts_equal(w, a, b);
    case MPJ_NAMESPACE:
        return a.dict == b.dict;
    case MPJ_CALLABLE:
        return a.callable == b.callable;
    default:
        return true; /* undefined, none */
    }
}

bool mpj_equal(struct mpj_work *w, struct mpj_value a, struct mpj_value b)
{
    mpj_enter(w);
    bool equal = false;
    if (mpj_is_number(a) && mpj_is_number(b)) {
        equal = numbers_equal(a, b);
    } else if (a.kind == b.kind) {
        equal = same_kind_equal(w, a, b);
    }
    w->depth--;
    return equal;
}

static int order_of(double a, double b)
{
    return (a > b) - (a < b);
}

static int compare_strings(struct mpj_work *w, const struct mpj_string *a,
                           const struct mpj_string *b)
{
    size_t common = a->length < b->length ? a->length : b->length;
    mpj_step(w, common / 64);
    int order = memcmp(a->data, b->data, common);
    return order != 0 ? order : (a->length > b->length) - (a->length < b->length);
}

static int compare_lists(struct mpj_work *w, const struct mpj_list *a, const struct mpj_list *b)
{
    for (size_t i = 0; i < a->count && i < b->count; i++) {
        if (!mpj_equal(w, a->items[i], b->items[i])) {
            return mpj_compare(w, a->items[i], b->items[i]);
        }
    }
    return (a->count > b->count) - (a->count < b->count);
}

int mpj_compare(struct mpj_work *w, struct mpj_value a, struct mpj_value b)
{
    int order = 0;
    mpj_enter(w);
    mpj_need(w, a);
    mpj_need(w, b);
    if (mpj_is_number(a) && mpj_is_number(b)) {
        bool whole = a.kind != MPJ_FLOAT && b.kind != MPJ_FLOAT;
        order = whole ? (mpj_whole(a) > mpj_whole(b)) - (mpj_whole(a) < mpj_whole(b))
                      : order_of(mpj_real(a), mpj_real(b));
    } else if (a.kind == MPJ_STRING && b.kind == MPJ_STRING) {
        order = compare_strings(w, a.string, b.string);
    } else if (a.kind == MPJ_LIST && b.kind == MPJ_LIST) {
        order = compare_lists(w, a.list, b.list);
    } else {
        mpj_fail(w, MP_ERR_FORMAT, "cannot tell which of %s and %s is less", mpj_kind_name(a),
                 mpj_kind_name(b));
    }
    w->depth--;
    return order;
}

/* ---- containers ---- */

bool mpj_contains(struct mpj_work *w, struct mpj_value container, struct mpj_value item)
{
    if (container.kind == MPJ_STRING) {
        if (item.kind != MPJ_STRING) {
            mpj_fail(w, MP_ERR_FORMAT, "`in` a string: found %s, expected a string",
                     mpj_kind_name(item));
        }
        return mpj_search(w, container.string, item.string, 0) != SIZE_MAX;
    }
    if (container.kind == MPJ_DICT) {
        return mpj_find(w, container, item) != NULL;
    }
    const struct mpj_list *items = mpj_iterate(w, container);
    for (size_t i = 0; i < items->count; i++) {
        if (mpj_equal(w, items->items[i], item)) {
            return true;
        }
    }
    return false;
}

size_t mpj_length(struct mpj_work *w, struct mpj_value v)
{
    if (v.kind == MPJ_STRING) {
        return mpj_characters(w, v.string);
    }
    if (v.kind == MPJ_LIST && v.list->form != MPJ_IS_GENERATOR) {
        return v.list->count;
    }
    if (v.kind == MPJ_DICT) {
        return v.dict->count;
    }
    if (v.kind != MPJ_UNDEFINED) {
        mpj_fail(w, MP_ERR_FORMAT, "%s has no length",
                 v.kind == MPJ_LIST ? "a generator" : mpj_kind_name(v));
    }
    return 0;
}

struct mpj_list *mpj_iterate(struct mpj_work *w, struct mpj_value v)
{
    if (v.kind == MPJ_LIST) {
        return v.list;
    }
    struct mpj_value items = mpj_new_list(w);
    if (v.kind == MPJ_STRING) {
        for (size_t at = 0, n; at < v.string->length; at += n) {
            n = mp_utf8_length(v.string->data[at]);
            mpj_push(w, items, mpj_part(w, v.string, at, at + n));
        }
    } else if (v.kind == MPJ_DICT) {
        for (size_t i = 0; i < v.dict->count; i++) {
            mpj_push(w, items, v.dict->pairs[i].key);
        }
    } else if (v.kind != MPJ_UNDEFINED) {
        mpj_fail(w, MP_ERR_FORMAT, "cannot iterate over %s", mpj_kind_name(v));
    }
    return items.list;
}
