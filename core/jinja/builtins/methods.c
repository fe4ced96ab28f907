/* Methods of strings, lists and dicts. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <string.h>
#include <utf8proc.h>

/* ---- parts of strings ---- */

static struct mpj_value run_strip(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_strip(&r->work, c->self.string, c->a[0], true, true);
}

static struct mpj_value run_lstrip(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_strip(&r->work, c->self.string, c->a[0], true, false);
}

static struct mpj_value run_rstrip(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_strip(&r->work, c->self.string, c->a[0], false, true);
}

static bool ends_with(const struct mpj_string *s, const struct mpj_string *text, bool at_end)
{
    return text->length <= s->length &&
           memcmp(at_end ? s->data + s->length - text->length : s->data, text->data,
                  text->length) == 0;
}

/* Whether it starts or ends with a string, or with one of a tuple. */
static struct mpj_value check_end(struct mpj_render *r, const struct mpj_call *c, bool at_end)
{
    const char *what = at_end ? "endswith" : "startswith";
    if (c->a[0].kind != MPJ_LIST || c->a[0].list->form != MPJ_IS_TUPLE) {
        return mpj_bool(
            ends_with(c->self.string, mpj_string_argument(&r->work, c->a[0], what), at_end));
    }
    bool found = false;
    for (size_t i = 0; i < c->a[0].list->count && !found; i++) {
        found = ends_with(c->self.string,
                          mpj_string_argument(&r->work, c->a[0].list->items[i], what), at_end);
    }
    return mpj_bool(found);
}

static struct mpj_value run_startswith(struct mpj_render *r, const struct mpj_call *c)
{
    return check_end(r, c, false);
}

static struct mpj_value run_endswith(struct mpj_render *r, const struct mpj_call *c)
{
    return check_end(r, c, true);
}

static struct mpj_value run_removeprefix(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_string *s = c->self.string;
    const struct mpj_string *text = mpj_string_argument(&r->work, c->a[0], "removeprefix");
    return mpj_part(&r->work, s, ends_with(s, text, false) ? text->length : 0, s->length);
}

static struct mpj_value run_removesuffix(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_string *s = c->self.string;
    const struct mpj_string *text = mpj_string_argument(&r->work, c->a[0], "removesuffix");
    return mpj_part(&r->work, s, 0, s->length - (ends_with(s, text, true) ? text->length : 0));
}

/* ---- split ---- */

/* At runs of white space; what stands at the ends is none. */
static struct mpj_value split_words(struct mpj_work *w, const struct mpj_string *s, int64_t most)
{
    struct mpj_value parts = mpj_new_list(w);
    const struct mpj_value spaces = {.kind = MPJ_MISSING};
    const struct mpj_string *rest = mpj_strip(w, s, spaces, true, false).string;
    while (rest->length > 0) {
        size_t end = 0;
        while (end < rest->length &&
               !mpj_is_space(mpj_char_at(rest->data + end, rest->length - end))) {
            end += mp_utf8_length(rest->data[end]);
        }
        end = (int64_t)parts.list->count == most ? rest->length : end;
        mpj_step(w, end / 16);
        mpj_push(w, parts, mpj_part(w, rest, 0, end));
        rest =
            mpj_strip(w, mpj_part(w, rest, end, rest->length).string, spaces, true, false).string;
    }
    return parts;
}

static const struct mpj_string *separator(struct mpj_work *w, struct mpj_value v)
{
    const struct mpj_string *s = mpj_string_argument(w, v, "split");
    if (s->length == 0) {
        mpj_fail(w, MP_ERR_FORMAT, "split: the separator is empty");
    }
    return s;
}

static struct mpj_value run_split(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_work *w = &r->work;
    const struct mpj_string *s = c->self.string;
    int64_t most = mpj_int_argument(w, c->a[1], -1);
    if (c->a[0].kind == MPJ_MISSING || c->a[0].kind == MPJ_NONE) {
        return split_words(w, s, most);
    }
    const struct mpj_string *by = separator(w, c->a[0]);
    struct mpj_value parts = mpj_new_list(w);
    size_t at = 0;
    for (int64_t i = 0; most < 0 || i < most; i++) {
        size_t found = mpj_search(w, s, by, at);
        if (found == SIZE_MAX) {
            break;
        }
        mpj_push(w, parts, mpj_part(w, s, at, found));
        at = found + by->length;
    }
    mpj_push(w, parts, mpj_part(w, s, at, s->length));
    return parts;
}

/* Where text is last in s[0 .. end), or SIZE_MAX. */
static size_t search_back(struct mpj_work *w, const struct mpj_string *s,
                          const struct mpj_string *text, size_t end)
{
    mpj_step(w, 1 + end / 8);
    for (size_t at = end; at + 1 > text->length; at--) {
        size_t start = at - text->length;
        if (memcmp(s->data + start, text->data, text->length) == 0) {
            return start;
        }
    }
    return SIZE_MAX;
}

static struct mpj_value run_rsplit(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_work *w = &r->work;
    const struct mpj_string *s = c->self.string;
    const struct mpj_string *by = separator(w, c->a[0]);
    int64_t most = mpj_int_argument(w, c->a[1], -1);
    struct mpj_value backwards = mpj_new_list(w);
    size_t end = s->length;
    for (int64_t i = 0; most < 0 || i < most; i++) {
        size_t found = search_back(w, s, by, end);
        if (found == SIZE_MAX) {
            break;
        }
        mpj_push(w, backwards, mpj_part(w, s, found + by->length, end));
        end = found;
    }
    mpj_push(w, backwards, mpj_part(w, s, 0, end));
    struct mpj_value parts = mpj_new_list(w);
    for (size_t i = backwards.list->count; i-- > 0;) {
        mpj_push(w, parts, backwards.list->items[i]);
    }
    return parts;
}

static struct mpj_value run_splitlines(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_lines(&r->work, c->self.string, c->a[0].kind != MPJ_MISSING && mpj_truth(c->a[0]));
}

/* ---- other strings of a string ---- */

static struct mpj_value run_replace(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_replace(&r->work, c->self.string, mpj_string_argument(&r->work, c->a[0], "replace"),
                       mpj_string_argument(&r->work, c->a[1], "replace"),
                       mpj_int_argument(&r->work, c->a[2], -1));
}

static struct mpj_value run_upper(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, c->self.string, MPJ_UPPER);
}

static struct mpj_value run_lower(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, c->self.string, MPJ_LOWER);
}

static struct mpj_value run_title(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, c->self.string, MPJ_TITLE);
}

static struct mpj_value run_capitalize(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_change_case(&r->work, c->self.string, MPJ_CAPITAL);
}

static struct mpj_value run_join(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_text t = {.work = &r->work};
    const struct mpj_list *items = mpj_iterate(&r->work, c->a[0]);
    for (size_t i = 0; i < items->count; i++) {
        if (i > 0) {
            mpj_put_string(&t, c->self.string);
        }
        mpj_put_string(&t, mpj_string_argument(&r->work, items->items[i], "join"));
    }
    return mpj_text_value(&t);
}

/* ---- what is in a string ---- */

/* A byte offset as a number of characters; SIZE_MAX: -1. */
static struct mpj_value position(struct mpj_work *w, const struct mpj_string *s, size_t at)
{
    return mpj_int(at == SIZE_MAX ? -1 : (int64_t)mpj_characters(w, mpj_part(w, s, 0, at).string));
}

static struct mpj_value run_find(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_string *text = mpj_string_argument(&r->work, c->a[0], "find");
    return position(&r->work, c->self.string, mpj_search(&r->work, c->self.string, text, 0));
}

static struct mpj_value run_rfind(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_string *text = mpj_string_argument(&r->work, c->a[0], "rfind");
    return position(&r->work, c->self.string,
                    search_back(&r->work, c->self.string, text, c->self.string->length));
}

static struct mpj_value run_count(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_string *text = mpj_string_argument(&r->work, c->a[0], "count");
    if (text->length == 0) {
        return mpj_int((int64_t)mpj_characters(&r->work, c->self.string) + 1);
    }
    int64_t count = 0;
    for (size_t at = 0; (at = mpj_search(&r->work, c->self.string, text, at)) != SIZE_MAX;
         at += text->length) {
        count++;
    }
    return mpj_int(count);
}

/* Whether each of its characters is one of those, and there is one. */
static struct mpj_value all_are(struct mpj_render *r, const struct mpj_string *s,
                                bool (*is)(int32_t c))
{
    bool all = s->length > 0;
    mpj_step(&r->work, s->length / 16);
    for (size_t at = 0; at < s->length && all; at += mp_utf8_length(s->data[at])) {
        all = is(mpj_char_at(s->data + at, s->length - at));
    }
    return mpj_bool(all);
}

static bool is_digit(int32_t c)
{
    return utf8proc_category(c) == UTF8PROC_CATEGORY_ND;
}

static bool is_letter(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

static bool is_letter_or_digit(int32_t c)
{
    return is_letter(c) || is_digit(c);
}

static struct mpj_value run_isdigit(struct mpj_render *r, const struct mpj_call *c)
{
    return all_are(r, c->self.string, is_digit);
}

static struct mpj_value run_isalpha(struct mpj_render *r, const struct mpj_call *c)
{
    return all_are(r, c->self.string, is_letter);
}

static struct mpj_value run_isalnum(struct mpj_render *r, const struct mpj_call *c)
{
    return all_are(r, c->self.string, is_letter_or_digit);
}

static struct mpj_value run_isspace(struct mpj_render *r, const struct mpj_call *c)
{
    return all_are(r, c->self.string, mpj_is_space);
}

/* Whether it stays itself in a case, and is another in the other one. */
static struct mpj_value is_case(struct mpj_render *r, const struct mpj_call *c, enum mpj_case is,
                                enum mpj_case other)
{
    struct mpj_work *w = &r->work;
    return mpj_bool(mpj_equal(w, c->self, mpj_change_case(w, c->self.string, is)) &&
                    !mpj_equal(w, c->self, mpj_change_case(w, c->self.string, other)));
}

static struct mpj_value run_isupper(struct mpj_render *r, const struct mpj_call *c)
{
    return is_case(r, c, MPJ_UPPER, MPJ_LOWER);
}

static struct mpj_value run_islower(struct mpj_render *r, const struct mpj_call *c)
{
    return is_case(r, c, MPJ_LOWER, MPJ_UPPER);
}

const struct mpj_builtin mpj_string_methods[] = {
    {"strip", "chars=", run_strip},
    {"lstrip", "chars=", run_lstrip},
    {"rstrip", "chars=", run_rstrip},
    {"startswith", "prefix", run_startswith},
    {"endswith", "suffix", run_endswith},
    {"removeprefix", "prefix", run_removeprefix},
    {"removesuffix", "suffix", run_removesuffix},
    {"split", "sep= maxsplit=", run_split},
    {"rsplit", "sep maxsplit=", run_rsplit},
    {"splitlines", "keepends=", run_splitlines},
    {"replace", "old new count=", run_replace},
    {"upper", "", run_upper},
    {"lower", "", run_lower},
    {"title", "", run_title},
    {"capitalize", "", run_capitalize},
    {"join", "items", run_join},
    {"find", "text", run_find},
    {"rfind", "text", run_rfind},
    {"count", "text", run_count},
    {"isdigit", "", run_isdigit},
    {"isalpha", "", run_isalpha},
    {"isalnum", "", run_isalnum},
    {"isspace", "", run_isspace},
    {"isupper", "", run_isupper},
    {"islower", "", run_islower},
    {NULL, NULL, NULL},
};

/* ---- lists ---- */

static struct mpj_value run_list_count(struct mpj_render *r, const struct mpj_call *c)
{
    int64_t count = 0;
    for (size_t i = 0; i < c->self.list->count; i++) {
        count += mpj_equal(&r->work, c->self.list->items[i], c->a[0]);
    }
    return mpj_int(count);
}

static struct mpj_value run_index(struct mpj_render *r, const struct mpj_call *c)
{
    for (size_t i = 0; i < c->self.list->count; i++) {
        if (mpj_equal(&r->work, c->self.list->items[i], c->a[0])) {
            return mpj_int((int64_t)i);
        }
    }
    mpj_fail(&r->work, MP_ERR_FORMAT, "index: the list does not have this item");
}

const struct mpj_builtin mpj_list_methods[] = {
    {"count", "item", run_list_count},
    {"index", "item", run_index},
    {NULL, NULL, NULL},
};

/* ---- dicts ---- */

struct mpj_value mpj_items(struct mpj_work *w, struct mpj_value dict)
{
    struct mpj_value items = mpj_new_list(w);
    for (size_t i = 0; i < dict.dict->count; i++) {
        const struct mpj_pair *pair = &dict.dict->pairs[i];
        mpj_push(w, items, mpj_new_tuple(w, pair->key, pair->value));
    }
    return items;
}

static struct mpj_value run_items(struct mpj_render *r, const struct mpj_call *c)
{
    return mpj_items(&r->work, c->self);
}

static struct mpj_value run_keys(struct mpj_render *r, const struct mpj_call *c)
{
    return (struct mpj_value){.kind = MPJ_LIST, .list = mpj_iterate(&r->work, c->self)};
}

static struct mpj_value run_values(struct mpj_render *r, const struct mpj_call *c)
{
    struct mpj_value values = mpj_new_list(&r->work);
    for (size_t i = 0; i < c->self.dict->count; i++) {
        mpj_push(&r->work, values, c->self.dict->pairs[i].value);
    }
    return values;
}

static struct mpj_value run_get(struct mpj_render *r, const struct mpj_call *c)
{
    const struct mpj_value *found = mpj_find(&r->work, c->self, c->a[0]);
    return found != NULL ? *found : c->a[1].kind == MPJ_MISSING ? mpj_none() : c->a[1];
}

const struct mpj_builtin mpj_dict_methods[] = {
    {"items", "", run_items},         {"keys", "", run_keys}, {"values", "", run_values},
    {"get", "key default=", run_get}, {NULL, NULL, NULL},
};
