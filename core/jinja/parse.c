/* Statements of a template. */
#include "core/jinja/internal.h"

#include <string.h>

static struct mpj_node *parse_body(struct mpj_parser *p, const char *const *ends);

static void end_tag(struct mpj_parser *p)
{
    mpj_expect(p, MPJ_T_BLOCK_END, NULL);
}

/* Whether "{%" and this word stand there. */
static bool at_word(const struct mpj_parser *p, const char *word)
{
    return p->at->kind == MPJ_T_BLOCK_BEGIN && p->at[1].kind == MPJ_T_NAME &&
           strcmp(p->at[1].text, word) == 0;
}

/* Statements up to "{% end %}", which is skipped. */
static struct mpj_node *parse_block(struct mpj_parser *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    struct mpj_node *body = parse_body(p, ends);
    p->at += 2;
    end_tag(p);
    return body;
}

/* ---- for, if ---- */

static bool is_target(const struct mpj_node *n)
{
    bool names = n->kind == MPJ_N_TUPLE && n->items != NULL;
    for (const struct mpj_node *item = n->items; item != NULL && names; item = item->next) {
        names = item->kind == MPJ_N_NAME;
    }
    return n->kind == MPJ_N_NAME || names;
}

/* A name, or names with commas between them. */
static struct mpj_node *parse_target(struct mpj_parser *p)
{
    const struct mpj_token *start = p->at;
    struct mpj_node *first = mpj_parse_primary(p);
    struct mpj_node *target = first;
    if (mpj_at_operator(p, ",")) {
        target = mpj_new_node(p, MPJ_N_TUPLE);
        target->items = first;
        for (struct mpj_node *last = first;
             mpj_skip_operator(p, ",") && !mpj_at(p, MPJ_T_NAME, "in") && !mpj_at_operator(p, "=");
             last = last->next) {
            last->next = mpj_parse_primary(p);
        }
    }
    if (!is_target(target)) {
        p->at = start;
        mpj_parse_fail(p, "a name to assign to");
    }
    return target;
}

static struct mpj_node *parse_for(struct mpj_parser *p)
{
    static const char *const ends[] = {"endfor", "else", NULL};
    struct mpj_node *n = mpj_new_node(p, MPJ_N_FOR);
    n->left = parse_target(p);
    mpj_expect(p, MPJ_T_NAME, "in");
    n->right = mpj_parse_tuple(p, false);
    n->other = mpj_skip_word(p, "if") ? mpj_parse_expression(p, true) : NULL;
    end_tag(p);
    p->loops++;
    n->items = parse_body(p, ends);
    p->loops--;
    if (at_word(p, "else")) {
        p->at += 2;
        end_tag(p);
        n->otherwise = parse_block(p, "endfor");
    } else {
        p->at += 2;
        end_tag(p);
    }
    return n;
}

/* From behind `if` or `elif` on. */
static struct mpj_node *parse_if(struct mpj_parser *p)
{
    static const char *const ends[] = {"endif", "elif", "else", NULL};
    struct mpj_node *first = mpj_new_node(p, MPJ_N_IF);
    for (struct mpj_node *n = first;; n = n->otherwise) {
        n->left = mpj_parse_tuple(p, true);
        end_tag(p);
        n->items = parse_body(p, ends);
        p->at++;
        if (!mpj_at(p, MPJ_T_NAME, "elif")) {
            bool otherwise = mpj_at(p, MPJ_T_NAME, "else");
            p->at++;
            end_tag(p);
            n->otherwise = otherwise ? parse_block(p, "endif") : NULL;
            return first;
        }
        p->at++;
        n->otherwise = mpj_new_node(p, MPJ_N_IF);
    }
}

/* ---- set, filter ---- */

static struct mpj_node *parse_set(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_SET);
    if (p->at[0].kind == MPJ_T_NAME && p->at[1].kind == MPJ_T_OPERATOR &&
        strcmp(p->at[1].text, ".") == 0) {
        n->left = mpj_new_node(p, MPJ_N_ATTRIBUTE);
        n->left->left = mpj_parse_primary(p);
        p->at++;
        n->left->name = mpj_expect_name(p, "an attribute's name");
    } else {
        n->left = parse_target(p);
    }
    if (mpj_skip_operator(p, "=")) {
        n->right = mpj_parse_tuple(p, true);
        end_tag(p);
        return n;
    }
    n->kind = MPJ_N_SET_BLOCK;
    n->right = mpj_new_node(p, MPJ_N_CAPTURED);
    if (mpj_skip_operator(p, "|")) {
        n->right = mpj_parse_filters(p, n->right);
    }
    end_tag(p);
    n->items = parse_block(p, "endset");
    return n;
}

static struct mpj_node *parse_filter_block(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_FILTER_BLOCK);
    n->right = mpj_parse_filters(p, mpj_new_node(p, MPJ_N_CAPTURED));
    end_tag(p);
    n->items = parse_block(p, "endfilter");
    return n;
}

/* ---- macro, call ---- */

/* (name, name=default, ...): MPJ_N_ARGUMENT each. */
static struct mpj_node *parse_parameters(struct mpj_parser *p)
{
    struct mpj_node *first = NULL;
    struct mpj_node **end = &first;
    mpj_expect(p, MPJ_T_OPERATOR, "(");
    while (!mpj_skip_operator(p, ")")) {
        struct mpj_node *n = mpj_new_node(p, MPJ_N_ARGUMENT);
        n->name = mpj_expect_name(p, "a parameter's name");
        n->left = mpj_skip_operator(p, "=") ? mpj_parse_expression(p, true) : NULL;
        *end = n;
        end = &n->next;
        if (!mpj_skip_operator(p, ",") && !mpj_at_operator(p, ")")) {
            mpj_parse_fail(p, "\",\" or \")\"");
        }
    }
    return first;
}

/* The body of a macro is in none of the loops around it. */
static struct mpj_node *parse_macro_body(struct mpj_parser *p, const char *end)
{
    int loops = p->loops;
    p->loops = 0;
    struct mpj_node *body = parse_block(p, end);
    p->loops = loops;
    return body;
}

static struct mpj_node *parse_macro(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_MACRO);
    n->name = mpj_expect_name(p, "a macro's name");
    n->otherwise = parse_parameters(p);
    end_tag(p);
    n->items = parse_macro_body(p, "endmacro");
    return n;
}

static struct mpj_node *parse_call_block(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_CALL_BLOCK);
    n->right = mpj_new_node(p, MPJ_N_MACRO);
    n->right->name = "caller";
    n->right->otherwise = mpj_at_operator(p, "(") ? parse_parameters(p) : NULL;
    n->left = mpj_parse_postfix(p, mpj_parse_primary(p), true);
    if (n->left->kind != MPJ_N_CALL) {
        mpj_parse_fail(p, "the call of a macro");
    }
    end_tag(p);
    n->right->items = parse_macro_body(p, "endcall");
    return n;
}

static struct mpj_node *parse_generation(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_GENERATION);
    end_tag(p);
    n->items = parse_macro_body(p, "endgeneration");
    return n;
}

/* ---- break, continue ---- */

static struct mpj_node *parse_jump(struct mpj_parser *p, enum mpj_node_kind kind)
{
    struct mpj_node *n = mpj_new_node(p, kind);
    if (p->loops == 0) {
        p->at--;
        mpj_parse_fail(p, "it inside a loop");
    }
    end_tag(p);
    return n;
}

static struct mpj_node *parse_break(struct mpj_parser *p)
{
    return parse_jump(p, MPJ_N_BREAK);
}

static struct mpj_node *parse_continue(struct mpj_parser *p)
{
    return parse_jump(p, MPJ_N_CONTINUE);
}

/* ---- all ---- */

static struct mpj_node *parse_statement(struct mpj_parser *p)
{
    static const struct {
        const char *name;
        struct mpj_node *(*parse)(struct mpj_parser *);
    } statements[] = {
        {"for", parse_for},
        {"if", parse_if},
        {"set", parse_set},
        {"macro", parse_macro},
        {"call", parse_call_block},
        {"filter", parse_filter_block},
        {"break", parse_break},
        {"continue", parse_continue},
        {"generation", parse_generation},
    };
    if (!mpj_at(p, MPJ_T_NAME, NULL)) {
        mpj_parse_fail(p, "the name of a statement");
    }
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        if (mpj_skip_word(p, statements[i].name)) {
            return statements[i].parse(p);
        }
    }
    p->work->line = p->at->line;
    mpj_fail(p->work, MP_ERR_UNSUPPORTED, "{%% %.80s %%} is not served here", p->at->text);
}

/* A constant output. */
static struct mpj_node *parse_data(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_OUTPUT);
    n->left = mpj_new_node(p, MPJ_N_CONSTANT);
    n->left->value = mpj_plain(p->work, p->at->text, p->at->length);
    p->at++;
    return n;
}

static struct mpj_node *parse_print(struct mpj_parser *p)
{
    struct mpj_node *n = mpj_new_node(p, MPJ_N_OUTPUT);
    p->at++;
    n->left = mpj_parse_tuple(p, true);
    mpj_expect(p, MPJ_T_PRINT_END, NULL);
    return n;
}

static bool at_end(const struct mpj_parser *p, const char *const *ends)
{
    for (; *ends != NULL; ends++) {
        if (at_word(p, *ends)) {
            return true;
        }
    }
    return false;
}

/* Statements up to one of the ends, which is not skipped; without ends, to that of the template. */
static struct mpj_node *parse_body(struct mpj_parser *p, const char *const *ends)
{
    struct mpj_node *first = NULL;
    struct mpj_node **end = &first;
    uint32_t line = *ends != NULL ? p->at[-1].line : 1; /* of the block */
    mpj_go_down(p);
    while (p->at->kind != MPJ_T_END && !at_end(p, ends)) {
        if (p->at->kind == MPJ_T_DATA) {
            *end = parse_data(p);
        } else if (p->at->kind == MPJ_T_PRINT_BEGIN) {
            *end = parse_print(p);
        } else {
            p->at++;
            *end = parse_statement(p);
        }
        end = &(*end)->next;
    }
    if (p->at->kind == MPJ_T_END && *ends != NULL) {
        p->work->line = line;
        mpj_fail(p->work, MP_ERR_FORMAT, "a block does not end, expected {%% %s %%}", *ends);
    }
    p->work->depth--;
    return first;
}

struct mpj_node *mpj_parse(struct mpj_work *w, const struct mpj_token *tokens)
{
    static const char *const none[] = {NULL};
    struct mpj_parser p = {.work = w, .at = tokens};
    return parse_body(&p, none);
}
