/* Operands of expressions: what stands alone, and what stands behind it. */
#include "core/jinja/internal.h"

#include <string.h>

static struct mpj_node *new_constant(struct mpj_parser *p, struct mpj_value value)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_CONSTANT);
    n->value = value;
    return n;
}

/* ---- what stands alone ---- */

/* Neighbouring strings are one. */
static struct mpj_node *parse_string(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_CONSTANT);
    struct mpj_text text = {.work = p->work};
    for (; mpj_at(p, MPJ_T_STRING, NULL); p->at++) {
        mpj_put(&text, p->at->text, p->at->length, false);
    }
    n->value = mpj_text_value(&text);
    return n;
}

/* Expressions with commas between them, up to the closing bracket. */
static struct mpj_node *parse_list(struct mpj_parser *p)
{
    struct mpj_node *list = mpj_new_node(p, MPJ_N_LIST);
    struct mpj_node **end = &list->items;
    while (!mpj_skip_operator(p, "]")) {
        *end = mpj_parse_expression(p, true);
        end = &(*end)->next;
        if (!mpj_skip_operator(p, ",") && !mpj_at_operator(p, "]")) {
            mpj_parse_fail(p, "\",\" or \"]\"");
        }
    }
    return list;
}

static struct mpj_node *parse_dict(struct mpj_parser *p)
{
    struct mpj_node *dict = mpj_new_node(p, MPJ_N_DICT);
    struct mpj_node **end = &dict->items;
    while (!mpj_skip_operator(p, "}")) {
        struct mpj_node *key = mpj_parse_expression(p, true);
        mpj_expect(p, MPJ_T_OPERATOR, ":");
        *end = mpj_new_pair(p, MPJ_N_PAIR, key, mpj_parse_expression(p, true));
        end = &(*end)->next;
        if (!mpj_skip_operator(p, ",") && !mpj_at_operator(p, "}")) {
            mpj_parse_fail(p, "\",\" or \"}\"");
        }
    }
    return dict;
}

static struct mpj_node *parse_parentheses(struct mpj_parser *p)
{
    if (mpj_skip_operator(p, ")")) {
        return mpj_new_node(p, MPJ_N_TUPLE);
    }
    struct mpj_node *inner = mpj_parse_tuple(p, true);
    mpj_expect(p, MPJ_T_OPERATOR, ")");
    return inner;
}

static struct mpj_node *parse_word(struct mpj_parser *p)
{
    static const struct {
        const char *name;
        struct mpj_value value;
    } words[] = {
        {"true", {.kind = MPJ_BOOL, .truth = true}},
        {"True", {.kind = MPJ_BOOL, .truth = true}},
        {"false", {.kind = MPJ_BOOL}},
        {"False", {.kind = MPJ_BOOL}},
        {"none", {.kind = MPJ_NONE}},
        {"None", {.kind = MPJ_NONE}},
    };
    struct mpj_node *n = mpj_new_node(p, MPJ_N_NAME);
    n->name = p->at++->text;
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(words[i].name, n->name) == 0) {
            n->kind = MPJ_N_CONSTANT;
            n->value = words[i].value;
        }
    }
    return n;
}

struct mpj_node *mpj_parse_primary(struct mpj_parser *p)
{
    if (mpj_at(p, MPJ_T_STRING, NULL)) {
        return parse_string(p);
    }
    if (mpj_at(p, MPJ_T_NAME, NULL)) {
        return parse_word(p);
    }
    if (mpj_at(p, MPJ_T_INT, NULL)) {
        return new_constant(p, mpj_int(p->at++->number));
    }
    if (mpj_at(p, MPJ_T_FLOAT, NULL)) {
        return new_constant(p, mpj_float(p->at++->real));
    }
    if (mpj_skip_operator(p, "(")) {
        return parse_parentheses(p);
    }
    if (mpj_skip_operator(p, "[")) {
        return parse_list(p);
    }
    if (mpj_skip_operator(p, "{")) {
        return parse_dict(p);
    }
    mpj_parse_fail(p, "an expression");
}

/* ---- what stands behind ---- */

/* The arguments of a call, from behind its bracket on: those with keywords last. */
static struct mpj_node *parse_arguments(struct mpj_parser *p)
{
    struct mpj_node *first = NULL;
    struct mpj_node **end = &first;
    bool keywords = false;
    while (!mpj_skip_operator(p, ")")) {
        if (mpj_at_operator(p, "*") || mpj_at_operator(p, "**")) {
            p->work->line = p->at->line;
            mpj_fail(p->work, MP_ERR_UNSUPPORTED, "%s before an argument is not served",
                     p->at->text);
        }
        const char *keyword = NULL;
        if (mpj_at(p, MPJ_T_NAME, NULL) && p->at[1].kind == MPJ_T_OPERATOR &&
            strcmp(p->at[1].text, "=") == 0) {
            keyword = p->at->text;
            p->at += 2;
        } else if (keywords) {
            mpj_parse_fail(p, "an argument with a keyword");
        }
        keywords = keyword != NULL;
        *end = mpj_new_node(p, MPJ_N_ARGUMENT);
        (*end)->name = keyword;
        (*end)->left = mpj_parse_expression(p, true);
        end = &(*end)->next;
        if (!mpj_skip_operator(p, ",") && !mpj_at_operator(p, ")")) {
            mpj_parse_fail(p, "\",\" or \")\"");
        }
    }
    return first;
}

static bool slice_part_ends(const struct mpj_parser *p)
{
    return mpj_at_operator(p, ":") || mpj_at_operator(p, "]");
}

/* [start:stop:step], or [key]. */
static struct mpj_node *parse_subscript(struct mpj_parser *p, struct mpj_node *left)
{
    struct mpj_node *parts = NULL;
    struct mpj_node **end = &parts;
    int colons = 0;
    for (int i = 0; i < 3 && colons == i; i++) {
        *end = slice_part_ends(p) ? new_constant(p, mpj_none()) : mpj_parse_expression(p, true);
        end = &(*end)->next;
        colons += mpj_skip_operator(p, ":");
    }
    if (colons == 0 && mpj_at_operator(p, ",")) {
        mpj_parse_fail(p, "\"]\": tuples as keys are not served");
    }
    mpj_expect(p, MPJ_T_OPERATOR, "]");
    if (colons == 0) {
        return mpj_new_pair(p, MPJ_N_ITEM, left, parts);
    }
    for (int i = colons + 1; i < 3; i++) {
        *end = new_constant(p, mpj_none());
        end = &(*end)->next;
    }
    struct mpj_node *slice = mpj_new_pair(p, MPJ_N_SLICE, left, NULL);
    slice->items = parts;
    return slice;
}

static struct mpj_node *parse_attribute(struct mpj_parser *p, struct mpj_node *left)
{
    if (mpj_at(p, MPJ_T_INT, NULL)) {
        return mpj_new_pair(p, MPJ_N_ITEM, left, new_constant(p, mpj_int(p->at++->number)));
    }
    struct mpj_node *n = mpj_new_pair(p, MPJ_N_ATTRIBUTE, left, NULL);
    n->name = mpj_expect_name(p, "an attribute's name");
    return n;
}

static struct mpj_node *parse_call(struct mpj_parser *p, struct mpj_node *left)
{
    struct mpj_node *n = mpj_new_pair(p, MPJ_N_CALL, left, NULL);
    n->items = parse_arguments(p);
    return n;
}

struct mpj_node *mpj_parse_postfix(struct mpj_parser *p, struct mpj_node *left, bool calls)
{
    for (int layers = 0;; mpj_count_layer(p, &layers)) {
        if (mpj_skip_operator(p, ".")) {
            left = parse_attribute(p, left);
        } else if (mpj_skip_operator(p, "[")) {
            left = parse_subscript(p, left);
        } else if (calls && mpj_skip_operator(p, "(")) {
            left = parse_call(p, left);
        } else {
            return left;
        }
    }
}

static struct mpj_node *parse_filter(struct mpj_parser *p, struct mpj_node *left)
{
    struct mpj_node *n = mpj_new_pair(p, MPJ_N_FILTER, left, NULL);
    n->name = mpj_expect_name(p, "a filter's name");
    n->builtin = mpj_find_filter(n->name);
    if (n->builtin == NULL || mpj_at_operator(p, ".")) {
        p->work->line = n->line;
        mpj_fail(p->work, MP_ERR_UNSUPPORTED, "filter \"%.80s\" is not served", n->name);
    }
    n->items = mpj_skip_operator(p, "(") ? parse_arguments(p) : NULL;
    return n;
}

struct mpj_node *mpj_parse_filters(struct mpj_parser *p, struct mpj_node *left)
{
    int layers = 0;
    left = parse_filter(p, left);
    for (; mpj_skip_operator(p, "|"); mpj_count_layer(p, &layers)) {
        left = parse_filter(p, left);
    }
    return left;
}

/* Whether the argument of a test without brackets starts here. */
static bool at_test_argument(const struct mpj_parser *p)
{
    static const char *const others[] = {"else", "or", "and", "is", "in", "not", "if"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (mpj_at(p, MPJ_T_NAME, others[i])) {
            return false;
        }
    }
    enum mpj_token_kind kind = p->at->kind;
    return kind == MPJ_T_NAME || kind == MPJ_T_STRING || kind == MPJ_T_INT || kind == MPJ_T_FLOAT ||
           mpj_at_operator(p, "[") || mpj_at_operator(p, "{");
}

/* From behind `is` on. */
static struct mpj_node *parse_test(struct mpj_parser *p, struct mpj_node *left)
{
    bool negated = mpj_skip_word(p, "not");
    struct mpj_node *n = mpj_new_pair(p, MPJ_N_TEST, left, NULL);
    n->name = mpj_expect_name(p, "a test's name");
    n->builtin = mpj_lookup(mpj_tests, n->name);
    if (n->builtin == NULL || mpj_at_operator(p, ".")) {
        p->work->line = n->line;
        mpj_fail(p->work, MP_ERR_UNSUPPORTED, "test \"%.80s\" is not served", n->name);
    }
    if (mpj_skip_operator(p, "(")) {
        n->items = parse_arguments(p);
    } else if (at_test_argument(p)) {
        n->items = mpj_new_node(p, MPJ_N_ARGUMENT);
        n->items->left = mpj_parse_postfix(p, mpj_parse_primary(p), true);
    }
    return negated ? mpj_new_pair(p, MPJ_N_NOT, n, NULL) : n;
}

struct mpj_node *mpj_parse_filter_expression(struct mpj_parser *p, struct mpj_node *left)
{
    for (int layers = 0;; mpj_count_layer(p, &layers)) {
        if (mpj_skip_operator(p, "|")) {
            left = parse_filter(p, left);
        } else if (mpj_skip_word(p, "is")) {
            left = parse_test(p, left);
        } else if (mpj_skip_operator(p, "(")) {
            left = parse_call(p, left);
        } else {
            return left;
        }
    }
}
