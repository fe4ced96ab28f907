/* Expressions of a template: operators, from the tightest to the loosest. */
#include "core/jinja/internal.h"

#include <string.h>

static struct mpj_node *parse_unary(struct mpj_parser *p, bool with_filter)
{
    struct mpj_node *n;
    mpj_go_down(p);
    if (mpj_skip_operator(p, "-")) {
        n = mpj_new_pair(p, MPJ_N_NEGATE, parse_unary(p, false), NULL);
    } else if (mpj_skip_operator(p, "+")) {
        n = mpj_new_pair(p, MPJ_N_PLUS, parse_unary(p, false), NULL);
    } else {
        n = mpj_parse_primary(p);
    }
    n = mpj_parse_postfix(p, n, true);
    n = with_filter ? mpj_parse_filter_expression(p, n) : n;
    p->work->depth--;
    return n;
}

struct operators {
    const char *text;
    enum mpj_operator operator;
};

/* next (operator next)*, from the left. */
static struct mpj_node *parse_binary(struct mpj_parser *p, const struct operators *operators,
                                     struct mpj_node *(*next)(struct mpj_parser *))
{
    struct mpj_node *left = next(p);
    int layers = 0;
    for (const struct operators *o = operators; o->text != NULL;) {
        if (!mpj_skip_operator(p, o->text)) {
            o++;
            continue;
        }
        left = mpj_new_pair(p, MPJ_N_BINARY, left, next(p));
        left->operator= o->operator;
        mpj_count_layer(p, &layers);
        o = operators;
    }
    return left;
}

static struct mpj_node *parse_operand(struct mpj_parser *p)
{
    return parse_unary(p, true);
}

static struct mpj_node *parse_power(struct mpj_parser *p)
{
    static const struct operators operators[] = {{"**", MPJ_O_POW}, {NULL, MPJ_O_ADD}};
    return parse_binary(p, operators, parse_operand);
}

static struct mpj_node *parse_product(struct mpj_parser *p)
{
    static const struct operators operators[] = {{"*", MPJ_O_MUL},
                                                 {"/", MPJ_O_DIV},
                                                 {"//", MPJ_O_FLOOR},
                                                 {"%", MPJ_O_MOD},
                                                 {NULL, MPJ_O_ADD}};
    return parse_binary(p, operators, parse_power);
}

static struct mpj_node *parse_concat(struct mpj_parser *p)
{
    struct mpj_node *first = parse_product(p);
    if (!mpj_at_operator(p, "~")) {
        return first;
    }
    struct mpj_node *n = mpj_new_node(p, MPJ_N_CONCAT);
    n->items = first;
    for (struct mpj_node *last = first; mpj_skip_operator(p, "~"); last = last->next) {
        last->next = parse_product(p);
    }
    return n;
}

static struct mpj_node *parse_sum(struct mpj_parser *p)
{
    static const struct operators operators[] = {
        {"+", MPJ_O_ADD}, {"-", MPJ_O_SUB}, {NULL, MPJ_O_ADD}};
    return parse_binary(p, operators, parse_concat);
}

static bool skip_comparison(struct mpj_parser *p, enum mpj_operator *operator)
{
    static const struct operators comparisons[] = {{"==", MPJ_O_EQ}, {"!=", MPJ_O_NE},
                                                   {"<", MPJ_O_LT},  {"<=", MPJ_O_LE},
                                                   {">", MPJ_O_GT},  {">=", MPJ_O_GE}};
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        if (mpj_skip_operator(p, comparisons[i].text)) {
            *operator= comparisons[i].operator;
            return true;
        }
    }
    bool not_in = mpj_at(p, MPJ_T_NAME, "not") && p->at[1].kind == MPJ_T_NAME &&
                  strcmp(p->at[1].text, "in") == 0;
    p->at += not_in;
    *operator= not_in ? MPJ_O_NOT_IN : MPJ_O_IN;
    return mpj_skip_word(p, "in");
}

static struct mpj_node *parse_comparison(struct mpj_parser *p)
{
    struct mpj_node *left = parse_sum(p);
    struct mpj_node *n = NULL;
    struct mpj_node **end = NULL;
    enum mpj_operator operator;
    while (skip_comparison(p, &operator)) {
        if (n == NULL) {
            n = mpj_new_pair(p, MPJ_N_COMPARE, left, NULL);
            end = &n->items;
        }
        *end = mpj_new_node(p, MPJ_N_OPERAND);
        (*end)->operator= operator;
        (*end)->right = parse_sum(p);
        end = &(*end)->next;
    }
    return n != NULL ? n : left;
}

static struct mpj_node *parse_not(struct mpj_parser *p)
{
    struct mpj_node *n;
    mpj_go_down(p);
    if (mpj_skip_word(p, "not")) {
        n = mpj_new_pair(p, MPJ_N_NOT, parse_not(p), NULL);
    } else {
        n = parse_comparison(p);
    }
    p->work->depth--;
    return n;
}

/* next (word next)*, from the left. */
static struct mpj_node *parse_logic(struct mpj_parser *p, const char *word, enum mpj_node_kind kind,
                                    struct mpj_node *(*next)(struct mpj_parser *))
{
    struct mpj_node *left = next(p);
    int layers = 0;
    while (mpj_skip_word(p, word)) {
        left = mpj_new_pair(p, kind, left, next(p));
        mpj_count_layer(p, &layers);
    }
    return left;
}

static struct mpj_node *parse_and(struct mpj_parser *p)
{
    return parse_logic(p, "and", MPJ_N_AND, parse_not);
}

static struct mpj_node *parse_or(struct mpj_parser *p)
{
    return parse_logic(p, "or", MPJ_N_OR, parse_and);
}

struct mpj_node *mpj_parse_expression(struct mpj_parser *p, bool with_if)
{
    mpj_go_down(p);
    struct mpj_node *n = parse_or(p);
    int layers = 0;
    while (with_if && mpj_skip_word(p, "if")) {
        n = mpj_new_pair(p, MPJ_N_IF_ELSE, n, NULL);
        n->other = parse_or(p);
        n->right = mpj_skip_word(p, "else") ? mpj_parse_expression(p, true) : NULL;
        mpj_count_layer(p, &layers);
    }
    p->work->depth--;
    return n;
}

/* Whether a tuple without brackets ends here, behind a comma. */
static bool tuple_ends(const struct mpj_parser *p)
{
    return p->at->kind == MPJ_T_PRINT_END || p->at->kind == MPJ_T_BLOCK_END ||
           mpj_at_operator(p, ")") || mpj_at(p, MPJ_T_NAME, "in");
}

struct mpj_node *mpj_parse_tuple(struct mpj_parser *p, bool with_if)
{
    struct mpj_node *first = mpj_parse_expression(p, with_if);
    if (!mpj_at_operator(p, ",")) {
        return first;
    }
    struct mpj_node *tuple = mpj_new_node(p, MPJ_N_TUPLE);
    tuple->items = first;
    for (struct mpj_node *last = first; mpj_skip_operator(p, ",") && !tuple_ends(p);
         last = last->next) {
        last->next = mpj_parse_expression(p, with_if);
    }
    return tuple;
}
