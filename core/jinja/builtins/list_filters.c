/* Filters of lists and dicts. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <string.h>

static bool flag(struct mpj_value v)
{
    return v.kind != MPJ_MISSING && mpj_truth(v);
}

static bool is_given(struct mpj_value v)
{
    return v.kind != MPJ_MISSING && v.kind != MPJ_NONE;
}

static struct mpj_value lower_if_text(struct mpj_work *w, struct mpj_value v)
{
    return v.kind == MPJ_STRING ? mpj_change_case(w, v.string, MPJ_LOWER) : v;
}

/* ---- one of it ---- */

static struct mpj_value filter_length(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_int((int64_t)mpj_length(&r->work, c->self));
}

static struct mpj_value filter_first(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    return items->count > 0 ? items->items[0] : mpj_undefined("the first item of nothing");
}

static struct mpj_value filter_last(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    return items->count > 0 ? items->items[items->count - 1]
                            : mpj_undefined("the last item of nothing");
}

/* What an item is sorted by, or found the same by. */
static struct mpj_value key_of(struct mpj_render *r, struct mpj_value item,
                               struct mpj_value attribute, bool case_sensitive)
{
    struct mpj_value key = is_given(attribute) ? mpj_path(r, item, attribute) : item;
    return case_sensitive ? key : lower_if_text(&r->work, key);
}

static struct mpj_value extreme(struct mpj_render *r, const struct mpj_call *c, int sign)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    struct mpj_value best = mpj_undefined("the least or greatest of nothing");
    for (size_t i = 0; i < items->count; i++) {
        struct mpj_value key = key_of(r, items->items[i], c->a[1], flag(c->a[0]));
        bool better =
            i == 0 ||
            sign * mpj_compare(&r->work, key, key_of(r, best, c->a[1], flag(c->a[0]))) > 0;
        best = better ? items->items[i] : best;
    }
    return best;
}

static struct mpj_value filter_min(struct mpj_render *r, const struct mpj_call *c)
{
    return extreme(r, c, -1);
}

static struct mpj_value filter_max(struct mpj_render *r, const struct mpj_call *c)
{
    return extreme(r, c, 1);
}

static struct mpj_value filter_sum(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    struct mpj_value sum = c->a[1].kind == MPJ_MISSING ? mpj_int(0) : c->a[1];
    for (size_t i = 0; i < items->count; i++) {
        sum = mpj_binary(r, MPJ_O_ADD, sum, key_of(r, items->items[i], c->a[0], true));
    }
    return sum;
}

static struct mpj_value filter_join(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_text t = {.work = &r->work};
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    for (size_t i = 0; i < items->count; i++) {
        if (i > 0 && c->a[0].kind != MPJ_MISSING) {
            mpj_put_value(&t, c->a[0]);
        }
        mpj_put_value(&t, key_of(r, items->items[i], c->a[1], true));
    }
    return mpj_text_value(&t);
}

/* ---- another order ---- */

static struct mpj_value filter_list(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    struct mpj_value list = mpj_new_list(&r->work);
    for (size_t i = 0; i < items->count; i++) {
        mpj_push(&r->work, list, items->items[i]);
    }
    return list;
}

static struct mpj_value filter_reverse(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    struct mpj_text t = {.work = &r->work};
    struct mpj_value list = mpj_new_list(&r->work);
    list.list->form = MPJ_IS_GENERATOR;
    for (size_t i = items->count; i-- > 0;) {
        if (c->self.kind == MPJ_STRING) {
            mpj_put_string(&t, items->items[i].string);
        } else {
            mpj_push(&r->work, list, items->items[i]);
        }
    }
    return c->self.kind == MPJ_STRING ? mpj_text_value(&t) : list;
}

/* Merges the sorted halves of pairs [count]; equal keys stay in their order. */
static void merge_sort(struct mpj_work *w, struct mpj_pair *pairs, size_t count, int sign)
{
    if (count < 2) {
        return;
    }
    size_t half = count / 2;
    merge_sort(w, pairs, half, sign);
    merge_sort(w, pairs + half, count - half, sign);
    struct mpj_pair *left = mpj_alloc(w, half, sizeof *left);
    memcpy(left, pairs, half * sizeof *left);
    size_t i = 0;
    size_t j = half;
    for (size_t out = 0; i < half; out++) {
        bool right = j < count && sign * mpj_compare(w, pairs[j].key, left[i].key) < 0;
        pairs[out] = right ? pairs[j++] : left[i++];
    }
}

/* The items of a list, sorted by keys. */
static struct mpj_value sorted(struct mpj_render *r, const struct mpj_list *items,
                               struct mpj_value attribute, bool case_sensitive, bool reverse)
{
    struct mpj_pair *pairs = mpj_alloc(&r->work, items->count, sizeof *pairs);
    for (size_t i = 0; i < items->count; i++) {
        pairs[i] = (struct mpj_pair){.key = key_of(r, items->items[i], attribute, case_sensitive),
                                     .value = items->items[i]};
    }
    merge_sort(&r->work, pairs, items->count, reverse ? -1 : 1);
    struct mpj_value list = mpj_new_list(&r->work);
    for (size_t i = 0; i < items->count; i++) {
        mpj_push(&r->work, list, pairs[i].value);
    }
    return list;
}

static struct mpj_value filter_sort(struct mpj_render *r, const struct mpj_call *c)
{
    return sorted(r, mpj_iterate(&r->work, c->self), c->a[2], flag(c->a[1]), flag(c->a[0]));
}

static void need_dict(struct mpj_work *w, struct mpj_value v, const char *filter)
{
    mpj_need(w, v);
    if (v.kind != MPJ_DICT) {
        mpj_fail(w, MP_ERR_FORMAT, "%s: found %s, expected a dict", filter, mpj_kind_name(v));
    }
}

static struct mpj_value filter_dictsort(struct mpj_render *r, const struct mpj_call *c)
{
    bool by_value = c->a[1].kind != MPJ_MISSING && mpj_is(c->a[1], "value");
    need_dict(&r->work, c->self, "dictsort");
    return sorted(r, mpj_items(&r->work, c->self).list, mpj_int(by_value), flag(c->a[0]),
                  flag(c->a[2]));
}

static struct mpj_value filter_items(struct mpj_render *r, const struct mpj_call *c)
{
    if (c->self.kind == MPJ_UNDEFINED) {
        return mpj_new_list(&r->work);
    }
    need_dict(&r->work, c->self, "items");
    return mpj_items(&r->work, c->self);
}

static struct mpj_value filter_unique(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    struct mpj_value seen = mpj_new_list(&r->work);
    struct mpj_value list = mpj_new_list(&r->work);
    list.list->form = MPJ_IS_GENERATOR;
    for (size_t i = 0; i < items->count; i++) {
        struct mpj_value key = key_of(r, items->items[i], c->a[1], flag(c->a[0]));
        if (!mpj_contains(&r->work, seen, key)) {
            mpj_push(&r->work, seen, key);
            mpj_push(&r->work, list, items->items[i]);
        }
    }
    return list;
}

/* ---- some of it, or something of each ---- */

/* The arguments behind the first `skipped` ones. */
static struct mpj_args rest(const struct mpj_args *all, size_t skipped)
{
    skipped = skipped < all->count ? skipped : all->count;
    return (struct mpj_args){.values = all->values + skipped,
                             .names = all->names + skipped,
                             .count = all->count - skipped};
}

static const struct mpj_builtin *named(struct mpj_work *w, const struct mpj_args *all, size_t index,
                                       bool test)
{
    if (index >= all->count || all->values[index].kind != MPJ_STRING) {
        mpj_fail(w, MP_ERR_FORMAT, "expected the name of a %s", test ? "test" : "filter");
    }
    const char *name = mpj_chars(w, all->values[index].string);
    const struct mpj_builtin *b = test ? mpj_lookup(mpj_tests, name) : mpj_find_filter(name);
    if (b == NULL) {
        mpj_fail(w, MP_ERR_UNSUPPORTED, "%s \"%.80s\" is not served", test ? "test" : "filter",
                 name);
    }
    return b;
}

/* The items that a test holds for, or does not; without a test, those that are true. */
static struct mpj_value choose(struct mpj_render *r, const struct mpj_call *c, bool by_attribute,
                               bool wanted)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    size_t first = by_attribute; /* argument of the test */
    if (by_attribute && c->all->count == 0) {
        mpj_fail(&r->work, MP_ERR_FORMAT, "selectattr: expected the name of an attribute");
    }
    const struct mpj_builtin *test =
        c->all->count > first ? named(&r->work, c->all, first, true) : NULL;
    struct mpj_args args = rest(c->all, first + 1);
    struct mpj_value list = mpj_new_list(&r->work);
    list.list->form = MPJ_IS_GENERATOR;
    for (size_t i = 0; i < items->count; i++) {
        struct mpj_value item = items->items[i];
        struct mpj_value v = by_attribute ? mpj_path(r, item, c->all->values[0]) : item;
        bool holds = mpj_truth(test != NULL ? mpj_call_builtin(r, test, v, &args) : v);
        if (holds == wanted) {
            mpj_push(&r->work, list, item);
        }
    }
    return list;
}

static struct mpj_value filter_select(struct mpj_render *r, const struct mpj_call *c)
{
    return choose(r, c, false, true);
}

static struct mpj_value filter_reject(struct mpj_render *r, const struct mpj_call *c)
{
    return choose(r, c, false, false);
}

static struct mpj_value filter_selectattr(struct mpj_render *r, const struct mpj_call *c)
{
    return choose(r, c, true, true);
}

static struct mpj_value filter_rejectattr(struct mpj_render *r, const struct mpj_call *c)
{
    return choose(r, c, true, false);
}

/* map(attribute=..., default=...) or map(filter, arguments of it). */
static struct mpj_value filter_map(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_list *items = mpj_iterate(&r->work, c->self);
    struct mpj_value attribute = {.kind = MPJ_MISSING};
    struct mpj_value fallback = {.kind = MPJ_MISSING};
    for (size_t i = 0; i < c->all->count; i++) {
        const char *name = c->all->names[i];
        if (name != NULL && strcmp(name, "attribute") == 0) {
            attribute = c->all->values[i];
        } else if (name != NULL && strcmp(name, "default") == 0) {
            fallback = c->all->values[i];
        }
    }
    bool by_attribute = is_given(attribute);
    const struct mpj_builtin *filter = by_attribute ? NULL : named(&r->work, c->all, 0, false);
    struct mpj_args args = rest(c->all, 1);
    struct mpj_value list = mpj_new_list(&r->work);
    list.list->form = MPJ_IS_GENERATOR;
    for (size_t i = 0; i < items->count; i++) {
        struct mpj_value v = by_attribute ? mpj_path(r, items->items[i], attribute)
                                          : mpj_call_builtin(r, filter, items->items[i], &args);
        bool missing = v.kind == MPJ_UNDEFINED && fallback.kind != MPJ_MISSING && by_attribute;
        mpj_push(&r->work, list, missing ? fallback : v);
    }
    return list;
}

const struct mpj_builtin mpj_list_filters[] = {
    {"length", "", filter_length},
    {"count", "", filter_length},
    {"first", "", filter_first},
    {"last", "", filter_last},
    {"min", "case_sensitive= attribute=", filter_min},
    {"max", "case_sensitive= attribute=", filter_max},
    {"sum", "attribute= start=", filter_sum},
    {"join", "d= attribute=", filter_join},
    {"list", "", filter_list},
    {"reverse", "", filter_reverse},
    {"sort", "reverse= case_sensitive= attribute=", filter_sort},
    {"dictsort", "case_sensitive= by= reverse=", filter_dictsort},
    {"items", "", filter_items},
    {"unique", "case_sensitive= attribute=", filter_unique},
    {"select", "*", filter_select},
    {"reject", "*", filter_reject},
    {"selectattr", "*", filter_selectattr},
    {"rejectattr", "*", filter_rejectattr},
    {"map", "*", filter_map},
    {NULL, NULL, NULL},
};

const struct mpj_builtin *mpj_find_filter(const char *name)
{
    const struct mpj_builtin *tables[] = {mpj_string_filters, mpj_value_filters, mpj_list_filters};
    const struct mpj_builtin *found = NULL;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0] && found == NULL; i++) {
        found = mpj_lookup(tables[i], name);
    }
    return found;
}
