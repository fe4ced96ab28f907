/* Expressions: their values. */
#include "core/jinja/internal.h"

#include <math.h>

void mpj_need(struct mpj_work *w, struct mpj_value v)
{
    if (v.kind == MPJ_UNDEFINED) {
        mpj_fail(w, MP_ERR_FORMAT, "%.80s is undefined", v.name != NULL ? v.name : "a value");
    }
}

/* ---- arithmetic ---- */

static void __attribute__((noreturn))
fail_operands(struct mpj_work *w, struct mpj_value a, struct mpj_value b)
{
    mpj_fail(w, MP_ERR_FORMAT, "no such operation on %s and %s", mpj_kind_name(a),
             mpj_kind_name(b));
}

static int64_t whole(struct mpj_work *w, bool overflow, int64_t result)
{
    if (overflow) {
        mpj_fail(w, MP_ERR_RUNTIME, "an integer of more than 64 bits is not served");
    }
    return result;
}

static int64_t power(struct mpj_work *w, int64_t base, int64_t exponent)
{
    int64_t result = 1;
    bool overflow = false;
    for (int64_t i = 0; i < exponent && !overflow && base != 0 && base != 1 && base != -1; i++) {
        overflow = __builtin_mul_overflow(result, base, &result);
    }
    if (base == 0 && exponent > 0) {
        result = 0;
    } else if (base == -1 && exponent % 2 != 0) {
        result = -1;
    }
    return whole(w, overflow, result);
}

/* Rounded towards minus infinity, as in Python. */
static int64_t floor_divide(struct mpj_work *w, int64_t a, int64_t b)
{
    whole(w, a == INT64_MIN && b == -1, 0);
    return a / b - (a % b != 0 && (a < 0) != (b < 0));
}

static struct mpj_value whole_arithmetic(struct mpj_work *w, enum mpj_operator operator, int64_t a,
                                         int64_t b)
{
    int64_t result = 0;
    bool overflow = false;
    switch (operator) {
    case MPJ_O_ADD:
        overflow = __builtin_add_overflow(a, b, &result);
        break;
    case MPJ_O_SUB:
        overflow = __builtin_sub_overflow(a, b, &result);
        break;
    case MPJ_O_MUL:
        overflow = __builtin_mul_overflow(a, b, &result);
        break;
    case MPJ_O_DIV:
        return mpj_float((double)a / (double)b);
    case MPJ_O_FLOOR:
        return mpj_int(floor_divide(w, a, b));
    case MPJ_O_MOD:
        return mpj_int(b == -1 ? 0 : a - floor_divide(w, a, b) * b);
    default: /* a negative exponent is left to floats */
        return mpj_int(power(w, a, b));
    }
    return mpj_int(whole(w, overflow, result));
}

static struct mpj_value real_arithmetic(enum mpj_operator operator, double a, double b)
{
    double rest;
    switch (operator) {
    case MPJ_O_ADD:
        return mpj_float(a + b);
    case MPJ_O_SUB:
        return mpj_float(a - b);
    case MPJ_O_MUL:
        return mpj_float(a * b);
    case MPJ_O_DIV:
        return mpj_float(a / b);
    case MPJ_O_FLOOR:
        return mpj_float(floor(a / b));
    case MPJ_O_MOD:
        rest = fmod(a, b);
        return mpj_float(rest != 0.0 && (rest < 0.0) != (b < 0.0) ? rest + b : rest);
    default:
        return mpj_float(pow(a, b));
    }
}

static struct mpj_value numbers(struct mpj_work *w, enum mpj_operator operator, struct mpj_value a,
                                struct mpj_value b)
{
    bool divides = operator== MPJ_O_DIV || operator== MPJ_O_FLOOR || operator== MPJ_O_MOD;
    if (divides && mpj_real(b) == 0.0) {
        mpj_fail(w, MP_ERR_FORMAT, "division by zero");
    }
    bool real =
        a.kind == MPJ_FLOAT || b.kind == MPJ_FLOAT || (operator== MPJ_O_POW && mpj_whole(b) < 0);
    return real ? real_arithmetic(operator, mpj_real(a), mpj_real(b))
                : whole_arithmetic(w, operator, mpj_whole(a), mpj_whole(b));
}

static struct mpj_value join_lists(struct mpj_work *w, const struct mpj_list *a,
                                   const struct mpj_list *b)
{
    struct mpj_value joined = mpj_new_list(w);
    joined.list->form = a->form;
    for (size_t i = 0; i < a->count; i++) {
        mpj_push(w, joined, a->items[i]);
    }
    for (size_t i = 0; i < b->count; i++) {
        mpj_push(w, joined, b->items[i]);
    }
    return joined;
}

static struct mpj_value add(struct mpj_work *w, struct mpj_value a, struct mpj_value b)
{
    if (a.kind == MPJ_STRING && b.kind == MPJ_STRING) {
        struct mpj_text t = {.work = w};
        mpj_put_string(&t, a.string);
        mpj_put_string(&t, b.string);
        return mpj_text_value(&t);
    }
    if (a.kind == MPJ_LIST && b.kind == MPJ_LIST && a.list->form == b.list->form &&
        a.list->form != MPJ_IS_GENERATOR) {
        return join_lists(w, a.list, b.list);
    }
    fail_operands(w, a, b);
}

/* A string or a list, count times. */
static struct mpj_value repeat(struct mpj_work *w, struct mpj_value v, int64_t count)
{
    if (v.kind == MPJ_STRING) {
        struct mpj_text t = {.work = w};
        for (int64_t i = 0; i < count && v.string->length > 0; i++) {
            mpj_step(w, 1);
            mpj_put_string(&t, v.string);
        }
        return mpj_text_value(&t);
    }
    struct mpj_value list = mpj_new_list(w);
    list.list->form = v.list->form;
    for (int64_t i = 0; i < count && v.list->count > 0; i++) {
        for (size_t j = 0; j < v.list->count; j++) {
            mpj_push(w, list, v.list->items[j]);
        }
    }
    return list;
}

static bool repeats(struct mpj_value a, struct mpj_value b)
{
    bool sequence =
        a.kind == MPJ_STRING || (a.kind == MPJ_LIST && a.list->form != MPJ_IS_GENERATOR);
    return sequence && (b.kind == MPJ_INT || b.kind == MPJ_BOOL);
}

struct mpj_value mpj_binary(struct mpj_render *r, enum mpj_operator operator, struct mpj_value a,
                            struct mpj_value b)
{
    struct mpj_work *w = &r->work;
    mpj_need(w, a);
    mpj_need(w, b);
    if (mpj_is_number(a) && mpj_is_number(b)) {
        return numbers(w, operator, a, b);
    }
    if (operator== MPJ_O_ADD) {
        return add(w, a, b);
    }
    if (operator== MPJ_O_MUL && repeats(a, b)) {
        return repeat(w, a, mpj_whole(b));
    }
    if (operator== MPJ_O_MUL && repeats(b, a)) {
        return repeat(w, b, mpj_whole(a));
    }
    if (operator== MPJ_O_MOD && a.kind == MPJ_STRING) {
        mpj_fail(w, MP_ERR_UNSUPPORTED, "%% on a string is not served");
    }
    fail_operands(w, a, b);
}

/* ---- comparisons ---- */

static bool compare(struct mpj_work *w, enum mpj_operator operator, struct mpj_value a,
                    struct mpj_value b)
{
    switch (operator) {
    case MPJ_O_EQ:
        return mpj_equal(w, a, b);
    case MPJ_O_NE:
        return !mpj_equal(w, a, b);
    case MPJ_O_IN:
        return mpj_contains(w, b, a);
    case MPJ_O_NOT_IN:
        return !mpj_contains(w, b, a);
    case MPJ_O_LT:
        return mpj_compare(w, a, b) < 0;
    case MPJ_O_LE:
        return mpj_compare(w, a, b) <= 0;
    case MPJ_O_GT:
        return mpj_compare(w, a, b) > 0;
    default:
        return mpj_compare(w, a, b) >= 0;
    }
}

/* a < b < c is a < b and b < c. */
static struct mpj_value evaluate_comparison(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value left = mpj_evaluate(r, n->left);
    bool holds = true;
    for (const struct mpj_node *o = n->items; o != NULL && holds; o = o->next) {
        struct mpj_value right = mpj_evaluate(r, o->right);
        holds = compare(&r->work, o->operator, left, right);
        left = right;
    }
    return mpj_bool(holds);
}

/* ---- containers ---- */

static struct mpj_value evaluate_list(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value list = mpj_new_list(&r->work);
    list.list->form = n->kind == MPJ_N_TUPLE ? MPJ_IS_TUPLE : MPJ_IS_LIST;
    for (const struct mpj_node *item = n->items; item != NULL; item = item->next) {
        mpj_push(&r->work, list, mpj_evaluate(r, item));
    }
    return list;
}

static struct mpj_value evaluate_dict(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value dict = mpj_new_dict(&r->work);
    for (const struct mpj_node *pair = n->items; pair != NULL; pair = pair->next) {
        struct mpj_value key = mpj_evaluate(r, pair->left);
        mpj_set(&r->work, dict, key, mpj_evaluate(r, pair->right));
    }
    return dict;
}

static struct mpj_value evaluate_concat(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_text t = {.work = &r->work};
    for (const struct mpj_node *item = n->items; item != NULL; item = item->next) {
        mpj_put_value(&t, mpj_evaluate(r, item));
    }
    return mpj_text_value(&t);
}

static struct mpj_value evaluate_slice(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value v = mpj_evaluate(r, n->left);
    struct mpj_value bounds[3];
    int i = 0;
    for (const struct mpj_node *part = n->items; part != NULL; part = part->next) {
        bounds[i++] = mpj_evaluate(r, part);
    }
    return mpj_slice(r, v, bounds);
}

/* ---- names and calls ---- */

static struct mpj_value evaluate_name(struct mpj_render *r, const char *name)
{
    static const char *const refused[] = {"lipsum", "cycler", "joiner", "self", "super"};
    for (const struct mpj_scope *s = r->scope; s != NULL; s = s->parent) {
        const struct mpj_value *v = mpj_find_name(&r->work, s->names, name);
        if (v != NULL) {
            return *v;
        }
    }
    const struct mpj_builtin *global = mpj_lookup(mpj_globals, name);
    if (global != NULL) {
        return mpj_method(&r->work, global, mpj_none());
    }
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        if (mpj_is(mpj_literal(&r->work, name), refused[i])) {
            mpj_fail(&r->work, MP_ERR_UNSUPPORTED, "%s is not served", name);
        }
    }
    return mpj_undefined(name);
}

/* caller: one more of this name; NULL: there is none. */
static void evaluate_arguments(struct mpj_render *r, const struct mpj_node *first,
                               const struct mpj_value *caller, struct mpj_args *out)
{
    size_t count = caller != NULL;
    for (const struct mpj_node *n = first; n != NULL; n = n->next) {
        count++;
    }
    out->values = mpj_alloc(&r->work, count, sizeof *out->values);
    out->names = mpj_alloc(&r->work, count, sizeof *out->names);
    out->count = 0;
    for (const struct mpj_node *n = first; n != NULL; n = n->next) {
        out->names[out->count] = n->name;
        out->values[out->count++] = mpj_evaluate(r, n->left);
    }
    if (caller != NULL) {
        out->names[out->count] = "caller";
        out->values[out->count++] = *caller;
    }
}

struct mpj_value mpj_evaluate_call(struct mpj_render *r, const struct mpj_node *n,
                                   const struct mpj_value *caller)
{
    struct mpj_args args;
    struct mpj_value callee = mpj_evaluate(r, n->left);
    evaluate_arguments(r, n->items, caller, &args);
    r->work.line = n->line;
    return mpj_call_value(r, callee, &args);
}

/* A filter or a test. */
static struct mpj_value evaluate_builtin(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_args args;
    struct mpj_value self = mpj_evaluate(r, n->left);
    evaluate_arguments(r, n->items, NULL, &args);
    r->work.line = n->line;
    return mpj_call_builtin(r, n->builtin, self, &args);
}

/* ---- all ---- */

static struct mpj_value sign(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value v = mpj_evaluate(r, n->left);
    return mpj_binary(r, n->kind == MPJ_N_NEGATE ? MPJ_O_SUB : MPJ_O_ADD, mpj_int(0), v);
}

static struct mpj_value evaluate_logic(struct mpj_render *r, const struct mpj_node *n)
{
    if (n->kind == MPJ_N_NOT) {
        return mpj_bool(!mpj_truth(mpj_evaluate(r, n->left)));
    }
    if (n->kind == MPJ_N_IF_ELSE) {
        const struct mpj_node *chosen = mpj_truth(mpj_evaluate(r, n->other)) ? n->left : n->right;
        return chosen != NULL ? mpj_evaluate(r, chosen) : mpj_undefined(NULL);
    }
    struct mpj_value left = mpj_evaluate(r, n->left);
    return mpj_truth(left) == (n->kind == MPJ_N_AND) ? mpj_evaluate(r, n->right) : left;
}

static struct mpj_value evaluate_access(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value v = mpj_evaluate(r, n->left);
    if (n->kind == MPJ_N_ATTRIBUTE) {
        r->work.line = n->line;
        return mpj_attribute(r, v, n->name);
    }
    struct mpj_value key = mpj_evaluate(r, n->right);
    r->work.line = n->line;
    return mpj_item(r, v, key);
}

static struct mpj_value evaluate_binary(struct mpj_render *r, const struct mpj_node *n)
{
    struct mpj_value left = mpj_evaluate(r, n->left);
    struct mpj_value right = mpj_evaluate(r, n->right);
    r->work.line = n->line;
    return mpj_binary(r, n->operator, left, right);
}

static struct mpj_value evaluate(struct mpj_render *r, const struct mpj_node *n)
{
    switch (n->kind) {
    case MPJ_N_CONSTANT:
        return n->value;
    case MPJ_N_NAME:
        return evaluate_name(r, n->name);
    case MPJ_N_CAPTURED:
        return r->captured;
    case MPJ_N_LIST:
    case MPJ_N_TUPLE:
        return evaluate_list(r, n);
    case MPJ_N_DICT:
        return evaluate_dict(r, n);
    case MPJ_N_CONCAT:
        return evaluate_concat(r, n);
    case MPJ_N_COMPARE:
        return evaluate_comparison(r, n);
    case MPJ_N_BINARY:
        return evaluate_binary(r, n);
    case MPJ_N_NEGATE:
    case MPJ_N_PLUS:
        return sign(r, n);
    case MPJ_N_ATTRIBUTE:
    case MPJ_N_ITEM:
        return evaluate_access(r, n);
    case MPJ_N_SLICE:
        return evaluate_slice(r, n);
    case MPJ_N_CALL:
        return mpj_evaluate_call(r, n, NULL);
    case MPJ_N_FILTER:
    case MPJ_N_TEST:
        return evaluate_builtin(r, n);
    default: /* not, and, or, if-else */
        return evaluate_logic(r, n);
    }
}

struct mpj_value mpj_evaluate(struct mpj_render *r, const struct mpj_node *n)
{
    mpj_enter(&r->work);
    r->work.line = n->line;
    struct mpj_value v = evaluate(r, n);
    r->work.depth--;
    return v;
}
