/* Values as text: str(), repr() and json.dumps() of Python. */
#include "core/base/utf8.h"
#include "core/jinja/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

static void put_text(struct mpj_text *t, const char *text)
{
    mpj_put(t, text, strlen(text), false);
}

/* ---- numbers ---- */

/* The fewest digits that are this number again, in Python's form: with an exponent from 1e16 on and
 * below 1e-4. */
void mpj_put_float(struct mpj_text *t, double real)
{
    char digits[32];
    char out[64];
    if (!isfinite(real)) {
        put_text(t, isnan(real) ? "nan" : real > 0 ? "inf" : "-inf");
        return;
    }
    for (int precision = 0; precision < 17; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, real);
        if (strtod(digits, NULL) == real) {
            break;
        }
    }
    int exponent = atoi(strchr(digits, 'e') + 1);
    int decimals = (int)strcspn(digits, "e") - (digits[0] == '-') - 2;
    decimals = decimals < 0 ? 0 : decimals;
    if (exponent < -4 || exponent >= 16) {
        snprintf(out, sizeof out, "%.*se%s%02d", (int)strcspn(digits, "e"), digits,
                 exponent < 0 ? "-" : "+", abs(exponent));
    } else {
        snprintf(out, sizeof out, "%.*f", decimals > exponent ? decimals - exponent : 1, real);
    }
    put_text(t, out);
}

static void put_int(struct mpj_text *t, int64_t number)
{
    char out[24];
    snprintf(out, sizeof out, "%" PRId64, number);
    put_text(t, out);
}

/* ---- str and repr ---- */

/* str.isprintable of Python, of one character. */
static bool prints(int32_t c)
{
    utf8proc_category_t category = utf8proc_category(c);
    return c == ' ' || (category != UTF8PROC_CATEGORY_CN && category < UTF8PROC_CATEGORY_ZS);
}

static void put_repr_char(struct mpj_text *t, int32_t c, char quote, bool content)
{
    char escape[16];
    if (c == quote || c == '\\') {
        snprintf(escape, sizeof escape, "\\%c", c);
    } else if (c == '\n' || c == '\r' || c == '\t') {
        snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
    } else if (prints(c)) {
        mpj_put_char(t, c, content);
        return;
    } else {
        snprintf(escape, sizeof escape,
                 c < 0x100     ? "\\x%02x"
                 : c < 0x10000 ? "\\u%04x"
                               : "\\U%08x",
                 (unsigned)c);
    }
    mpj_put(t, escape, strlen(escape), content);
}

static void put_repr_string(struct mpj_text *t, const struct mpj_string *s)
{
    bool single = s->length > 0 && memchr(s->data, '\'', s->length) != NULL;
    bool both = single && memchr(s->data, '"', s->length) != NULL;
    char quote = single && !both ? '"' : '\'';
    mpj_put(t, &quote, 1, false);
    for (size_t at = 0; at < s->length; at += mp_utf8_length(s->data[at])) {
        put_repr_char(t, mpj_char_at(s->data + at, s->length - at), quote, mpj_content_at(s, at));
    }
    mpj_put(t, &quote, 1, false);
}

static void put_repr_list(struct mpj_text *t, const struct mpj_list *list)
{
    bool tuple = list->form == MPJ_IS_TUPLE;
    put_text(t, tuple ? "(" : "[");
    for (size_t i = 0; i < list->count; i++) {
        put_text(t, i > 0 ? ", " : "");
        mpj_put_repr(t, list->items[i]);
    }
    put_text(t, tuple && list->count == 1 ? ",)" : tuple ? ")" : "]");
}

static void put_repr_dict(struct mpj_text *t, const struct mpj_dict *dict)
{
    put_text(t, "{");
    for (size_t i = 0; i < dict->count; i++) {
        put_text(t, i > 0 ? ", " : "");
        mpj_put_repr(t, dict->pairs[i].key);
        put_text(t, ": ");
        mpj_put_repr(t, dict->pairs[i].value);
    }
    put_text(t, "}");
}

void mpj_put_repr(struct mpj_text *t, struct mpj_value v)
{
    mpj_enter(t->work);
    switch (v.kind) {
    case MPJ_STRING:
        put_repr_string(t, v.string);
        break;
    case MPJ_LIST:
        put_repr_list(t, v.list);
        break;
    case MPJ_DICT:
        put_repr_dict(t, v.dict);
        break;
    case MPJ_INT:
        put_int(t, v.number);
        break;
    case MPJ_FLOAT:
        mpj_put_float(t, v.real);
        break;
    case MPJ_BOOL:
        put_text(t, v.truth ? "True" : "False");
        break;
    case MPJ_NONE:
        put_text(t, "None");
        break;
    case MPJ_UNDEFINED:
        put_text(t, "Undefined");
        break;
    default:
        mpj_fail(t->work, MP_ERR_UNSUPPORTED, "cannot print %s", mpj_kind_name(v));
    }
    t->work->depth--;
}

void mpj_put_value(struct mpj_text *t, struct mpj_value v)
{
    if (v.kind == MPJ_STRING) {
        mpj_put_string(t, v.string);
    } else if (v.kind == MPJ_LIST && v.list->form == MPJ_IS_GENERATOR) {
        mpj_fail(t->work, MP_ERR_UNSUPPORTED,
                 "cannot print a generator, expected | list behind it");
    } else if (v.kind != MPJ_UNDEFINED) {
        mpj_put_repr(t, v);
    }
}

/* ---- JSON ---- */

static void put_json_char(struct mpj_text *t, int32_t c, bool ascii, bool content)
{
    static const char letters[] = "\nn\rr\tt\bb\ff\"\"\\\\";
    char escape[16] = "";
    for (const char *p = letters; *p != '\0'; p += 2) {
        if (*p == c) {
            snprintf(escape, sizeof escape, "\\%c", p[1]);
        }
    }
    if (escape[0] == '\0' && (c < 0x20 || (ascii && c > 0x7e))) {
        if (c > 0xffff) {
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd7c0 + (unsigned)c / 0x400,
                     0xdc00 + (unsigned)c % 0x400);
        } else {
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
        }
    }
    if (escape[0] != '\0') {
        mpj_put(t, escape, strlen(escape), content);
    } else {
        mpj_put_char(t, c, content);
    }
}

static void put_json_string(struct mpj_text *t, const struct mpj_string *s, bool ascii)
{
    put_text(t, "\"");
    for (size_t at = 0; at < s->length; at += mp_utf8_length(s->data[at])) {
        put_json_char(t, mpj_char_at(s->data + at, s->length - at), ascii, mpj_content_at(s, at));
    }
    put_text(t, "\"");
}

static void new_line(struct mpj_text *t, const struct mpj_json_style *style, int level)
{
    if (style->indent == NULL) {
        return;
    }
    put_text(t, "\n");
    for (int i = 0; i < level; i++) {
        put_text(t, style->indent);
    }
}

static void put_json(struct mpj_text *t, struct mpj_value v, const struct mpj_json_style *style,
                     int level);

static void put_json_list(struct mpj_text *t, const struct mpj_list *list,
                          const struct mpj_json_style *style, int level)
{
    put_text(t, "[");
    for (size_t i = 0; i < list->count; i++) {
        if (i > 0) {
            mpj_put_string(t, style->between);
        }
        new_line(t, style, level + 1);
        put_json(t, list->items[i], style, level + 1);
    }
    if (list->count > 0) {
        new_line(t, style, level);
    }
    put_text(t, "]");
}

/* Keys that are no strings become strings. */
static void put_json_key(struct mpj_text *t, struct mpj_value key,
                         const struct mpj_json_style *style)
{
    if (key.kind == MPJ_STRING) {
        put_json_string(t, key.string, style->ascii);
    } else if (key.kind == MPJ_LIST) {
        mpj_fail(t->work, MP_ERR_FORMAT, "tojson: found a tuple as a key");
    } else {
        put_text(t, "\"");
        put_json(t, key, style, 0);
        put_text(t, "\"");
    }
}

/* The order of the keys: *order, [count] pairs. */
static const struct mpj_pair **sorted(struct mpj_work *w, const struct mpj_dict *dict, bool sort)
{
    const struct mpj_pair **order = mpj_alloc(w, dict->count, sizeof(struct mpj_pair *));
    for (size_t i = 0; i < dict->count; i++) {
        size_t at = i;
        for (; sort && at > 0 && mpj_compare(w, order[at - 1]->key, dict->pairs[i].key) > 0; at--) {
            order[at] = order[at - 1];
        }
        order[at] = &dict->pairs[i];
    }
    return order;
}

static void put_json_dict(struct mpj_text *t, const struct mpj_dict *dict,
                          const struct mpj_json_style *style, int level)
{
    const struct mpj_pair **order = sorted(t->work, dict, style->sort_keys);
    put_text(t, "{");
    for (size_t i = 0; i < dict->count; i++) {
        if (i > 0) {
            mpj_put_string(t, style->between);
        }
        new_line(t, style, level + 1);
        put_json_key(t, order[i]->key, style);
        mpj_put_string(t, style->after_key);
        put_json(t, order[i]->value, style, level + 1);
    }
    if (dict->count > 0) {
        new_line(t, style, level);
    }
    put_text(t, "}");
}

static void put_json_float(struct mpj_text *t, double real)
{
    if (isfinite(real)) {
        mpj_put_float(t, real);
    } else {
        put_text(t, isnan(real) ? "NaN" : real > 0 ? "Infinity" : "-Infinity");
    }
}

static void put_json(struct mpj_text *t, struct mpj_value v, const struct mpj_json_style *style,
                     int level)
{
    mpj_enter(t->work);
    switch (v.kind) {
    case MPJ_STRING:
        put_json_string(t, v.string, style->ascii);
        break;
    case MPJ_LIST:
        put_json_list(t, v.list, style, level);
        break;
    case MPJ_DICT:
        put_json_dict(t, v.dict, style, level);
        break;
    case MPJ_INT:
        put_int(t, v.number);
        break;
    case MPJ_FLOAT:
        put_json_float(t, v.real);
        break;
    case MPJ_BOOL:
        put_text(t, v.truth ? "true" : "false");
        break;
    case MPJ_NONE:
        put_text(t, "null");
        break;
    default:
        mpj_need(t->work, v);
        mpj_fail(t->work, MP_ERR_FORMAT, "tojson: found %s", mpj_kind_name(v));
    }
    t->work->depth--;
}

void mpj_put_json(struct mpj_text *t, struct mpj_value v, const struct mpj_json_style *style)
{
    put_json(t, v, style, 0);
}
