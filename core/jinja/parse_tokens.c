/* The tokens that a parser looks at, and the nodes that it makes of them. */
#include "core/jinja/internal.h"

#include <string.h>

bool mpj_at(const struct mpj_parser *p, enum mpj_token_kind kind, const char *text)
{
    return p->at->kind == kind && (text == NULL || strcmp(p->at->text, text) == 0);
}

bool mpj_skip(struct mpj_parser *p, enum mpj_token_kind kind, const char *text)
{
    bool there = mpj_at(p, kind, text);
    p->at += there;
    return there;
}

static const char *const NAMES[] = {
    [MPJ_T_DATA] = "text",
    [MPJ_T_PRINT_BEGIN] = "{{",
    [MPJ_T_PRINT_END] = "}}",
    [MPJ_T_BLOCK_BEGIN] = "{%",
    [MPJ_T_BLOCK_END] = "%}",
    [MPJ_T_STRING] = "a string",
    [MPJ_T_NAME] = NULL,
    [MPJ_T_INT] = NULL,
    [MPJ_T_FLOAT] = NULL,
    [MPJ_T_OPERATOR] = NULL,
    [MPJ_T_END] = "the template's end",
};

void mpj_parse_fail(struct mpj_parser *p, const char *expected)
{
    const char *name = NAMES[p->at->kind];
    p->work->line = p->at->line;
    if (name == NULL) {
        mpj_fail(p->work, MP_ERR_FORMAT, "found \"%.80s\", expected %s", p->at->text, expected);
    }
    mpj_fail(p->work, MP_ERR_FORMAT, "found %s, expected %s", name, expected);
}

void mpj_expect(struct mpj_parser *p, enum mpj_token_kind kind, const char *text)
{
    if (!mpj_skip(p, kind, text)) {
        mpj_parse_fail(p, text != NULL ? text : NAMES[kind]);
    }
}

const char *mpj_expect_name(struct mpj_parser *p, const char *what)
{
    if (!mpj_at(p, MPJ_T_NAME, NULL)) {
        mpj_parse_fail(p, what);
    }
    return p->at++->text;
}

struct mpj_node *mpj_new_node(struct mpj_parser *p, enum mpj_node_kind kind)
{
    struct mpj_node *n = mpj_alloc(p->work, 1, sizeof *n);
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

bool mpj_at_operator(const struct mpj_parser *p, const char *text)
{
    return mpj_at(p, MPJ_T_OPERATOR, text);
}

bool mpj_skip_operator(struct mpj_parser *p, const char *text)
{
    return mpj_skip(p, MPJ_T_OPERATOR, text);
}

bool mpj_skip_word(struct mpj_parser *p, const char *word)
{
    return mpj_skip(p, MPJ_T_NAME, word);
}

struct mpj_node *mpj_new_pair(struct mpj_parser *p, enum mpj_node_kind kind, struct mpj_node *left,
                              struct mpj_node *right)
{
    struct mpj_node *n = mpj_new_node(p, kind);
    n->left = left;
    n->right = right;
    return n;
}

void mpj_go_down(struct mpj_parser *p)
{
    p->work->line = p->at->line;
    if (p->work->depth++ == MPJ_MAX_NESTING) {
        mpj_fail(p->work, MP_ERR_UNSUPPORTED, "more than %d expressions and blocks in each other",
                 MPJ_MAX_NESTING);
    }
}

void mpj_count_layer(struct mpj_parser *p, int *layers)
{
    p->work->line = p->at->line;
    if (++*layers > MPJ_MAX_NESTING) {
        mpj_fail(p->work, MP_ERR_UNSUPPORTED, "more than %d operations in a row", MPJ_MAX_NESTING);
    }
}
