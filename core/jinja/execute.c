/* Statements: what they print, and the whole rendering. */
#include "core/jinja/internal.h"

#include "core/base/memory.h"
#include "core/base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* ---- scopes ---- */

struct mpj_scope *mpj_new_scope(struct mpj_render *r, struct mpj_scope *parent)
{
    struct mpj_scope *scope = mpj_alloc(&r->work, 1, sizeof *scope);
    *scope = (struct mpj_scope){.parent = parent, .names = mpj_new_dict(&r->work)};
    return scope;
}

void mpj_define(struct mpj_render *r, struct mpj_scope *scope, const char *name,
                struct mpj_value value)
{
    struct mpj_value *there = mpj_find_name(&r->work, scope->names, name);
    if (there != NULL) {
        *there = value;
    } else {
        mpj_set(&r->work, scope->names, mpj_literal(&r->work, name), value);
    }
}

/* Assigns to a name, to names or to an attribute of a namespace. */
static void assign(struct mpj_render *r, const struct mpj_node *target, struct mpj_value value)
{
    if (target->kind == MPJ_N_NAME) {
        mpj_define(r, r->scope, target->name, value);
        return;
    }
    if (target->kind == MPJ_N_ATTRIBUTE) {
        struct mpj_value space = mpj_evaluate(r, target->left);
        if (space.kind != MPJ_NAMESPACE) {
            mpj_fail(&r->work, MP_ERR_FORMAT,
                     "set: found an attribute of %s, expected a namespace's", mpj_kind_name(space));
        }
        mpj_set(&r->work, space, mpj_literal(&r->work, target->name), value);
        return;
    }
    const struct mpj_list *values = mpj_iterate(&r->work, value);
    size_t i = 0;
    for (const struct mpj_node *name = target->items; name != NULL; name = name->next, i++) {
        if (i < values->count) {
            mpj_define(r, r->scope, name->name, values->items[i]);
        }
    }
    if (i != values->count) {
        mpj_fail(&r->work, MP_ERR_FORMAT, "%zu names for %zu values", i, values->count);
    }
}

/* ---- text that is kept ---- */

struct mpj_value mpj_capture(struct mpj_render *r, const struct mpj_node *first,
                             struct mpj_scope *parent)
{
    struct mpj_text text = {.work = &r->work};
    struct mpj_text *out = r->out;
    struct mpj_scope *scope = r->scope;
    r->out = &text;
    r->scope = mpj_new_scope(r, parent);
    mpj_execute(r, first);
    r->out = out;
    r->scope = scope;
    return mpj_text_value(&text);
}

/* The text of a block behind its filters. */
static struct mpj_value filtered(struct mpj_render *r, const struct mpj_node *n)
{
    r->captured = mpj_capture(r, n->items, r->scope);
    return mpj_evaluate(r, n->right);
}

/* ---- loops ---- */

/* The items for which the loop's own condition holds. */
static const struct mpj_list *select_items(struct mpj_render *r, const struct mpj_node *n,
                                           const struct mpj_list *all)
{
    struct mpj_value chosen = mpj_new_list(&r->work);
    struct mpj_scope *outer = r->scope;
    for (size_t i = 0; i < all->count; i++) {
        r->scope = mpj_new_scope(r, outer);
        assign(r, n->left, all->items[i]);
        if (mpj_truth(mpj_evaluate(r, n->other))) {
            mpj_push(&r->work, chosen, all->items[i]);
        }
    }
    r->scope = outer;
    return chosen.list;
}

static struct mpj_value run_cycle(struct mpj_render *r, const struct mpj_call *c)
{
    if (c->all->count == 0) {
        mpj_fail(&r->work, MP_ERR_FORMAT, "loop.cycle: found no arguments");
    }
    return c->all->values[(size_t)c->self.number % c->all->count];
}

/* What `loop` has. */
enum {
    INDEX,
    INDEX0,
    REVINDEX,
    REVINDEX0,
    FIRST,
    LAST,
    LENGTH,
    DEPTH,
    DEPTH0,
    PREVIOUS,
    NEXT,
    CYCLE
};

/* A namespace, which has no methods of a dict. */
static struct mpj_value new_loop(struct mpj_work *w)
{
    static const char *const names[] = {
        [INDEX] = "index",         [INDEX0] = "index0", [REVINDEX] = "revindex",
        [REVINDEX0] = "revindex0", [FIRST] = "first",   [LAST] = "last",
        [LENGTH] = "length",       [DEPTH] = "depth",   [DEPTH0] = "depth0",
        [PREVIOUS] = "previtem",   [NEXT] = "nextitem", [CYCLE] = "cycle",
    };
    struct mpj_value loop = mpj_new_dict(w);
    loop.kind = MPJ_NAMESPACE;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        mpj_set(w, loop, mpj_literal(w, names[i]), mpj_none());
    }
    return loop;
}

/* At item i of items. */
static void move_loop(struct mpj_work *w, struct mpj_value loop, const struct mpj_list *items,
                      size_t i)
{
    static const struct mpj_builtin cycle = {"cycle", "*", run_cycle};
    struct mpj_pair *of = loop.dict->pairs;
    int64_t index = (int64_t)i;
    int64_t left = (int64_t)(items->count - i);
    of[INDEX].value = mpj_int(index + 1);
    of[INDEX0].value = mpj_int(index);
    of[REVINDEX].value = mpj_int(left);
    of[REVINDEX0].value = mpj_int(left - 1);
    of[FIRST].value = mpj_bool(i == 0);
    of[LAST].value = mpj_bool(left == 1);
    of[LENGTH].value = mpj_int((int64_t)items->count);
    of[DEPTH].value = mpj_int(1);
    of[DEPTH0].value = mpj_int(0);
    of[PREVIOUS].value = i > 0 ? items->items[i - 1] : mpj_undefined("loop.previtem");
    of[NEXT].value = left > 1 ? items->items[i + 1] : mpj_undefined("loop.nextitem");
    of[CYCLE].value = mpj_method(w, &cycle, mpj_int(index));
}

static enum mpj_flow execute_for(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_scope *outer = r->scope;
    const struct mpj_list *items = mpj_iterate(&r->work, mpj_evaluate(r, n->right));
    if (n->other != NULL) {
        items = select_items(r, n, items);
    }
    struct mpj_value loop = new_loop(&r->work);
    enum mpj_flow flow = MPJ_GO_ON;
    for (size_t i = 0; i < items->count && flow != MPJ_DO_BREAK; i++) {
        r->scope = mpj_new_scope(r, outer);
        move_loop(&r->work, loop, items, i);
        mpj_define(r, r->scope, "loop", loop);
        assign(r, n->left, items->items[i]);
        flow = mpj_execute(r, n->items);
    }
    r->scope = outer;
    /* `else` is for loops without an iteration; break and continue in it are of the loop around. */
    return items->count == 0 ? mpj_execute(r, n->otherwise) : MPJ_GO_ON;
}

/* ---- the other statements ---- */

static enum mpj_flow execute_if(struct mpj_render *r, const struct mpj_node *n)
{
    while (!mpj_truth(mpj_evaluate(r, n->left))) {
        const struct mpj_node *otherwise = n->otherwise;
        bool is_elif = otherwise != NULL && otherwise->kind == MPJ_N_IF && otherwise->next == NULL;
        if (!is_elif) {
            return mpj_execute(r, otherwise);
        }
        n = otherwise;
        mpj_step(&r->work, 1);
    }
    return mpj_execute(r, n->items);
}

static struct mpj_value new_macro(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_callable *c = mpj_alloc(&r->work, 1, sizeof *c);
    *c = (struct mpj_callable){.name = n->name, .macro = n, .scope = r->scope};
    return (struct mpj_value){.kind = MPJ_CALLABLE, .callable = c};
}

static enum mpj_flow execute_one(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value caller;
    switch (n->kind) {
    case MPJ_N_OUTPUT:
        mpj_put_value(r->out, mpj_evaluate(r, n->left));
        return MPJ_GO_ON;
    case MPJ_N_FOR:
        return execute_for(r, n);
    case MPJ_N_IF:
        return execute_if(r, n);
    case MPJ_N_SET:
        assign(r, n->left, mpj_evaluate(r, n->right));
        return MPJ_GO_ON;
    case MPJ_N_SET_BLOCK:
        assign(r, n->left, filtered(r, n));
        return MPJ_GO_ON;
    case MPJ_N_FILTER_BLOCK:
        mpj_put_value(r->out, filtered(r, n));
        return MPJ_GO_ON;
    case MPJ_N_MACRO:
        mpj_define(r, r->scope, n->name, new_macro(r, n));
        return MPJ_GO_ON;
    case MPJ_N_CALL_BLOCK:
        caller = new_macro(r, n->right);
        mpj_put_value(r->out, mpj_evaluate_call(r, n->left, &caller));
        return MPJ_GO_ON;
    case MPJ_N_GENERATION:
        mpj_put_value(r->out, mpj_capture(r, n->items, r->scope));
        return MPJ_GO_ON;
    case MPJ_N_BREAK:
        return MPJ_DO_BREAK;
    default:
        return MPJ_DO_CONTINUE;
    }
}

enum mpj_flow mpj_execute(struct mpj_render *r, const struct mpj_node *first)
{
    enum mpj_flow flow = MPJ_GO_ON;
    mpj_enter(&r->work);
    for (const struct mpj_node *n = first; n != NULL && flow == MPJ_GO_ON; n = n->next) {
        mpj_step(&r->work, 1);
        r->work.line = n->line;
        flow = execute_one(r, n);
    }
    r->work.depth--;
    return flow;
}

/* ---- the whole ---- */

struct mp_jinja {
    struct mpj_work work; /* whose arena holds the tree */
    char *name;
    struct mpj_node *tree;
};

int mp_jinja_compile(const char *name, const char *text, size_t length, struct mp_jinja **out,
                     struct mp_error *err)
{
    for (size_t at = 0; at < length;) {
        int n = mp_utf8_next(text + at, length - at);
        if (n <= 0 || text[at] == '\0') {
            return mp_fail(err, MP_ERR_FORMAT, "%s: invalid UTF-8 or a NUL at byte offset %zu",
                           name, at);
        }
        at += (size_t)n;
    }
    if (length > MPJ_MAX_TEMPLATE) {
        return mp_fail(err, MP_ERR_UNSUPPORTED, "%s: a template of %zu bytes, expected at most %d",
                       name, length, MPJ_MAX_TEMPLATE);
    }
    struct mp_error failure;
    struct mp_jinja *t = mp_xcalloc(1, sizeof *t);
    t->name = mp_xstrdup(name);
    t->work = (struct mpj_work){.name = t->name,
                                .line = 1,
                                .err = &failure,
                                .max_bytes = MPJ_MAX_BYTES + 256 * length,
                                .max_steps = MPJ_MAX_STEPS};
    if (setjmp(t->work.leave) != 0) {
        mp_jinja_free(t);
        return mp_fail(err, failure.code, "%s", failure.message);
    }
    t->tree = mpj_parse(&t->work, mpj_lex(&t->work, text, length));
    *out = t;
    return MP_OK;
}

void mp_jinja_free(struct mp_jinja *t)
{
    if (t != NULL) {
        mpj_free(&t->work);
        free(t->name);
        free(t);
    }
}

/* Copies the text out of the arena. */
static int take_text(const struct mpj_text *t, struct mp_jinja_text *out, struct mp_error *err)
{
    *out = (struct mp_jinja_text){
        .data = malloc(t->length + 1), .content = malloc(t->length + 1), .length = t->length};
    if (out->data == NULL || out->content == NULL) {
        mp_jinja_text_free(out);
        return mp_fail(err, MP_ERR_MEMORY, "no memory for a rendered chat of %zu bytes", t->length);
    }
    if (t->length > 0) {
        memcpy(out->data, t->data, t->length);
    }
    out->data[t->length] = '\0';
    memset(out->content, 0, t->length + 1);
    if (t->marks != NULL) {
        memcpy(out->content, t->marks, t->length);
    }
    return MP_OK;
}

int mp_jinja_render(const struct mp_jinja *t, const struct mp_jinja_variable *variables,
                    size_t count, time_t now, struct mp_jinja_text *out, struct mp_error *err)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += variables[i].length;
    }
    struct mp_error failure;
    struct mpj_render *r = mp_xcalloc(1, sizeof *r);
    r->work = (struct mpj_work){.name = t->name,
                                .line = 1,
                                .err = &failure,
                                .max_bytes = MPJ_MAX_BYTES + 64 * bytes,
                                .max_steps = MPJ_MAX_STEPS + bytes};
    struct mpj_text text = {.work = &r->work, .max_length = MPJ_MAX_OUTPUT + 4 * bytes};
    r->out = &text;
    r->now = now;
    int code;
    if (setjmp(r->work.leave) != 0) {
        code = mp_fail(err, failure.code, "%s", failure.message);
    } else {
        r->scope = mpj_new_scope(r, NULL);
        for (size_t i = 0; i < count; i++) {
            mpj_define(r, r->scope, variables[i].name, mpj_read_json(&r->work, &variables[i]));
        }
        mpj_execute(r, t->tree);
        code = take_text(&text, out, err);
    }
    mpj_free(&r->work);
    free(r);
    return code;
}

void mp_jinja_text_free(struct mp_jinja_text *text)
{
    free(text->data);
    free(text->content);
    *text = (struct mp_jinja_text){0};
}
