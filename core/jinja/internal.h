/* What the files of the template engine share. Private to core/jinja.
 *
 * lexer.c makes tokens of a template, parse.c and parse_expression.c a tree of them, execute.c and
 * evaluate.c walk it. All memory of a compilation or a rendering is in one arena, so that an error
 * may leave from any depth by longjmp (mpj_fail) and nothing is lost. */
#ifndef MP_CORE_JINJA_INTERNAL_H
#define MP_CORE_JINJA_INTERNAL_H

#include "core/jinja/jinja.h"

#include <setjmp.h>
#include <stdint.h>

enum {
    MPJ_MAX_NESTING = 200,     /* blocks and expressions in each other, in a template */
    MPJ_MAX_DEPTH = 400,       /* evaluations and values in each other */
    MPJ_MAX_RANGE = 100000,    /* numbers of range(), as in Jinja2's sandbox */
    MPJ_MAX_STEPS = 20000000,  /* of a rendering; one more for each byte that it is given */
    MPJ_MAX_BYTES = 64 << 20,  /* of its memory; 64 more for each byte that it is given */
    MPJ_MAX_OUTPUT = 16 << 20, /* of its text; 4 more for each byte that it is given */
    MPJ_MAX_TEMPLATE = 1 << 20,
};

/* ---- memory and errors (memory.c) ---- */

/* A compilation or a rendering. */
struct mpj_work {
    const char *name; /* of the template */
    size_t line;      /* of it, at work */
    struct mp_error *err;
    jmp_buf leave;
    struct mpj_block *blocks; /* of the arena; the newest first */
    size_t bytes;
    size_t max_bytes;
    size_t steps;
    size_t max_steps;
    int depth;
};
/* Zeroed memory that lives until mpj_free. */
void *mpj_alloc(struct mpj_work *w, size_t count, size_t size);
char *mpj_copy(struct mpj_work *w, const char *data, size_t length); /* NUL-terminated */
void mpj_free(struct mpj_work *w);
/* Fills w->err with "name:line: message" and jumps to w->leave. */
void mpj_fail(struct mpj_work *w, enum mp_code code, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));
/* Counts steps. */
void mpj_step(struct mpj_work *w, size_t steps);
/* One level deeper, as long as that can be; callers count down w->depth themselves. */
void mpj_enter(struct mpj_work *w);

/* ---- values (value.c) ---- */

enum mpj_kind {
    MPJ_MISSING, /* an argument that was not given; no value of a template */
    MPJ_UNDEFINED,
    MPJ_NONE,
    MPJ_BOOL,
    MPJ_INT,
    MPJ_FLOAT,
    MPJ_STRING,
    MPJ_LIST,
    MPJ_DICT,
    MPJ_NAMESPACE,
    MPJ_CALLABLE,
};

struct mpj_value {
    enum mpj_kind kind;
    union {
        const char *name; /* of what is undefined; NULL: unknown */
        bool truth;
        int64_t number;
        double real;
        const struct mpj_string *string;
        struct mpj_list *list;
        struct mpj_dict *dict; /* also of a namespace */
        const struct mpj_callable *callable;
    };
};

struct mpj_string {
    const char *data;  /* [length], UTF-8, not NUL-terminated */
    const char *marks; /* [length] 1: content; NULL: all bytes are as `content` says */
    size_t length;
    bool content;
};

struct mpj_list {
    /* What Python has it as. A generator is true even without items, and has no length. */
    enum { MPJ_IS_LIST, MPJ_IS_TUPLE, MPJ_IS_GENERATOR } form;
    struct mpj_value *items; /* [count] */
    size_t count;
    size_t capacity;
};

struct mpj_pair {
    struct mpj_value key;
    struct mpj_value value;
};
struct mpj_dict {
    struct mpj_pair *pairs; /* [count] in the order of insertion */
    size_t count;
    size_t capacity;
};

struct mpj_value mpj_bool(bool truth);
struct mpj_value mpj_int(int64_t number);
struct mpj_value mpj_float(double real);
struct mpj_value mpj_none(void);
struct mpj_value mpj_undefined(const char *name);
/* The template's own text; data must live on. */
struct mpj_value mpj_plain(struct mpj_work *w, const char *data, size_t length);
struct mpj_value mpj_literal(struct mpj_work *w, const char *text);
struct mpj_value mpj_new_list(struct mpj_work *w);
struct mpj_value mpj_new_tuple(struct mpj_work *w, struct mpj_value first, struct mpj_value second);
struct mpj_value mpj_new_dict(struct mpj_work *w);

void mpj_push(struct mpj_work *w, struct mpj_value list, struct mpj_value item);
/* A key that is there gets the new value. */
void mpj_set(struct mpj_work *w, struct mpj_value dict, struct mpj_value key,
             struct mpj_value value);
/* NULL: there is none. */
struct mpj_value *mpj_find(struct mpj_work *w, struct mpj_value dict, struct mpj_value key);
struct mpj_value *mpj_find_name(struct mpj_work *w, struct mpj_value dict, const char *key);

bool mpj_is(struct mpj_value string, const char *text);
bool mpj_is_number(struct mpj_value v); /* also true and false, as in Python */
double mpj_real(struct mpj_value number);
int64_t mpj_whole(struct mpj_value number); /* of an int or a bool */
bool mpj_truth(struct mpj_value v);
bool mpj_equal(struct mpj_work *w, struct mpj_value a, struct mpj_value b);
/* < 0, 0, > 0; what has no order fails. */
int mpj_compare(struct mpj_work *w, struct mpj_value a, struct mpj_value b);
bool mpj_contains(struct mpj_work *w, struct mpj_value container, struct mpj_value item);
/* Characters or items; fails for what has no length. */
size_t mpj_length(struct mpj_work *w, struct mpj_value v);
/* The items of what can be iterated: characters, elements, keys. */
struct mpj_list *mpj_iterate(struct mpj_work *w, struct mpj_value v);
/* What messages call a value's kind. */
const char *mpj_kind_name(struct mpj_value v);

/* ---- texts (text.c) ---- */

/* A growing text. Start from {.work = w}. */
struct mpj_text {
    struct mpj_work *work;
    char *data;
    char *marks; /* NULL: no byte is content so far */
    size_t length;
    size_t capacity;
    size_t marked;     /* bytes that are content */
    size_t max_length; /* 0: only the arena limits it */
};
void mpj_put(struct mpj_text *t, const char *data, size_t length, bool content);
void mpj_put_char(struct mpj_text *t, int32_t c, bool content);
void mpj_put_string(struct mpj_text *t, const struct mpj_string *s);
/* As str() of Python has it. */
void mpj_put_value(struct mpj_text *t, struct mpj_value v);
struct mpj_value mpj_text_value(const struct mpj_text *t);

/* A part of a string, which shares its bytes. */
struct mpj_value mpj_part(struct mpj_work *w, const struct mpj_string *s, size_t start, size_t end);
bool mpj_content_at(const struct mpj_string *s, size_t at);
/* str(): a string as it is. */
const struct mpj_string *mpj_str(struct mpj_work *w, struct mpj_value v);
/* Bytes of s from `from` at which text starts, or SIZE_MAX. */
size_t mpj_search(struct mpj_work *w, const struct mpj_string *s, const struct mpj_string *text,
                  size_t from);
size_t mpj_characters(struct mpj_work *w, const struct mpj_string *s);
bool mpj_is_space(int32_t c);                         /* as str.isspace of Python */
int32_t mpj_char_at(const char *data, size_t length); /* the first of valid UTF-8 */
/* A NUL-terminated copy. */
const char *mpj_chars(struct mpj_work *w, const struct mpj_string *s);

/* ---- printing (print.c) ---- */

/* As repr() of Python has it. */
void mpj_put_repr(struct mpj_text *t, struct mpj_value v);
void mpj_put_float(struct mpj_text *t, double real);

struct mpj_json_style {
    const char *indent;               /* of a level; NULL: all in one line */
    const struct mpj_string *between; /* items */
    const struct mpj_string *after_key;
    bool ascii;
    bool sort_keys;
};
/* As json.dumps of Python has it. */
void mpj_put_json(struct mpj_text *t, struct mpj_value v, const struct mpj_json_style *style);

/* ---- reading JSON (read_json.c) ---- */

/* The value of a variable, whose JSON has been checked before. */
struct mpj_value mpj_read_json(struct mpj_work *w, const struct mp_jinja_variable *variable);

/* ---- tokens (lexer.c) ---- */

enum mpj_token_kind {
    MPJ_T_DATA, /* text between tags */
    MPJ_T_PRINT_BEGIN,
    MPJ_T_PRINT_END,
    MPJ_T_BLOCK_BEGIN,
    MPJ_T_BLOCK_END,
    MPJ_T_NAME,
    MPJ_T_STRING,
    MPJ_T_INT,
    MPJ_T_FLOAT,
    MPJ_T_OPERATOR,
    MPJ_T_END, /* of the template */
};
struct mpj_token {
    enum mpj_token_kind kind;
    uint32_t line;
    const char *text; /* [length], NUL-terminated: data, name, operator, the string's value */
    size_t length;
    union {
        int64_t number;
        double real;
    };
};
/* All tokens, the last of them MPJ_T_END. */
struct mpj_token *mpj_lex(struct mpj_work *w, const char *text, size_t length);

/* ---- the tree (parse*.c) ---- */

enum mpj_node_kind {
    MPJ_N_CONSTANT,  /* value */
    MPJ_N_NAME,      /* name */
    MPJ_N_CAPTURED,  /* the text of the block that a filter stands on */
    MPJ_N_LIST,      /* items */
    MPJ_N_TUPLE,     /* items */
    MPJ_N_DICT,      /* items: MPJ_N_PAIR */
    MPJ_N_PAIR,      /* left: right */
    MPJ_N_CONCAT,    /* items, joined by ~ */
    MPJ_N_COMPARE,   /* left, then items: MPJ_N_OPERAND */
    MPJ_N_OPERAND,   /* operator right */
    MPJ_N_BINARY,    /* left operator right */
    MPJ_N_NOT,       /* left */
    MPJ_N_NEGATE,    /* left */
    MPJ_N_PLUS,      /* left */
    MPJ_N_AND,       /* left, right */
    MPJ_N_OR,        /* left, right */
    MPJ_N_IF_ELSE,   /* left if other else right, which may be NULL */
    MPJ_N_ATTRIBUTE, /* left.name */
    MPJ_N_ITEM,      /* left[right] */
    MPJ_N_SLICE,     /* left[items: start, stop, step], MPJ_N_CONSTANT none where not given */
    MPJ_N_CALL,      /* left(items: MPJ_N_ARGUMENT) */
    MPJ_N_ARGUMENT,  /* left; name: its keyword, or NULL */
    MPJ_N_FILTER,    /* left | builtin(items) */
    MPJ_N_TEST,      /* left is builtin(items) */

    MPJ_N_OUTPUT,       /* left */
    MPJ_N_FOR,          /* left: target, right: what is iterated, other: filter; items, otherwise */
    MPJ_N_IF,           /* left: condition; items, otherwise */
    MPJ_N_SET,          /* left: target, right */
    MPJ_N_SET_BLOCK,    /* left: target, right: filters over MPJ_N_CAPTURED; items */
    MPJ_N_FILTER_BLOCK, /* right: filters over MPJ_N_CAPTURED; items */
    MPJ_N_MACRO,        /* name, parameters in otherwise: name = left; items */
    MPJ_N_CALL_BLOCK,   /* left: the call, right: MPJ_N_MACRO, its caller */
    MPJ_N_GENERATION,   /* items */
    MPJ_N_BREAK,
    MPJ_N_CONTINUE,
};

enum mpj_operator {
    MPJ_O_ADD,
    MPJ_O_SUB,
    MPJ_O_MUL,
    MPJ_O_DIV,
    MPJ_O_FLOOR,
    MPJ_O_MOD,
    MPJ_O_POW,
    MPJ_O_EQ,
    MPJ_O_NE,
    MPJ_O_LT,
    MPJ_O_LE,
    MPJ_O_GT,
    MPJ_O_GE,
    MPJ_O_IN,
    MPJ_O_NOT_IN,
};

struct mpj_node {
    enum mpj_node_kind kind;
    enum mpj_operator operator;
    uint32_t line;
    const char *name;
    struct mpj_value value;
    struct mpj_node *left, *right, *other;
    struct mpj_node *items, *otherwise; /* the first of each list */
    struct mpj_node *next;              /* in the list that it is in */
    const struct mpj_builtin *builtin;
};

struct mpj_parser {
    struct mpj_work *work;
    const struct mpj_token *at;
    int loops; /* that the statement is inside */
};
struct mpj_node *mpj_parse(struct mpj_work *w, const struct mpj_token *tokens);

struct mpj_node *mpj_new_node(struct mpj_parser *p, enum mpj_node_kind kind);
struct mpj_node *mpj_new_pair(struct mpj_parser *p, enum mpj_node_kind kind, struct mpj_node *left,
                              struct mpj_node *right);
/* Whether this token stands there (text NULL: any of the kind); skipped if so. */
bool mpj_at(const struct mpj_parser *p, enum mpj_token_kind kind, const char *text);
bool mpj_skip(struct mpj_parser *p, enum mpj_token_kind kind, const char *text);
bool mpj_at_operator(const struct mpj_parser *p, const char *text);
bool mpj_skip_operator(struct mpj_parser *p, const char *text);
bool mpj_skip_word(struct mpj_parser *p, const char *word);
/* Skips it, or fails: "found ..., expected ...". */
void mpj_expect(struct mpj_parser *p, enum mpj_token_kind kind, const char *text);
const char *mpj_expect_name(struct mpj_parser *p, const char *what);
void mpj_parse_fail(struct mpj_parser *p, const char *expected) __attribute__((noreturn));
/* One more of the nesting that the parser recurses into; callers count down work->depth. */
void mpj_go_down(struct mpj_parser *p);
/* Each operation behind another, of one expression, is evaluated one level deeper. */
void mpj_count_layer(struct mpj_parser *p, int *layers);

/* with_if: `a if b else c` may follow. A tuple has no parentheses. */
struct mpj_node *mpj_parse_expression(struct mpj_parser *p, bool with_if);
struct mpj_node *mpj_parse_tuple(struct mpj_parser *p, bool with_if);
struct mpj_node *mpj_parse_primary(struct mpj_parser *p);
/* .name, [key] and, with calls, (arguments). */
struct mpj_node *mpj_parse_postfix(struct mpj_parser *p, struct mpj_node *left, bool calls);
/* Filters, tests, and calls of what they give. */
struct mpj_node *mpj_parse_filter_expression(struct mpj_parser *p, struct mpj_node *left);
/* Filters alone; the first one without its `|`. */
struct mpj_node *mpj_parse_filters(struct mpj_parser *p, struct mpj_node *left);

/* ---- evaluation (execute.c, evaluate.c, access.c, call.c) ---- */

struct mpj_scope {
    struct mpj_scope *parent;
    struct mpj_value names; /* a dict */
};

struct mpj_render {
    struct mpj_work work; /* the first: builtins need no more */
    struct mpj_scope *scope;
    struct mpj_text *out;
    struct mpj_value captured; /* what MPJ_N_CAPTURED stands for */
    time_t now;
};

struct mpj_args {
    struct mpj_value *values; /* [count] */
    const char **names;       /* [count] keywords, which come last; NULL: by position */
    size_t count;
};

enum { MPJ_MAX_PARAMETERS = 6 };

/* A call of a builtin. */
struct mpj_call {
    struct mpj_value self;                  /* what a filter, test or method stands on */
    struct mpj_value a[MPJ_MAX_PARAMETERS]; /* by the parameters' order */
    const struct mpj_args *all;             /* as they were given */
};
typedef struct mpj_value mpj_builtin_run(struct mpj_render *r, const struct mpj_call *c);
struct mpj_builtin {
    const char *name;
    const char *parameters; /* "old new count=": the last may be missing; "*": any number */
    mpj_builtin_run *run;
};

struct mpj_callable {
    const char *name;
    const struct mpj_builtin *builtin; /* NULL: a macro */
    struct mpj_value self;             /* of a method */
    const struct mpj_node *macro;
    struct mpj_scope *scope; /* in which the macro was defined */
};

/* Output of statements, from the first of a list. */
enum mpj_flow { MPJ_GO_ON, MPJ_DO_BREAK, MPJ_DO_CONTINUE };
enum mpj_flow mpj_execute(struct mpj_render *r, const struct mpj_node *first);
/* The text that they make, in a scope of their own below parent. */
struct mpj_value mpj_capture(struct mpj_render *r, const struct mpj_node *first,
                             struct mpj_scope *parent);
struct mpj_scope *mpj_new_scope(struct mpj_render *r, struct mpj_scope *parent);
void mpj_define(struct mpj_render *r, struct mpj_scope *scope, const char *name,
                struct mpj_value value);

struct mpj_value mpj_evaluate(struct mpj_render *r, const struct mpj_node *n);
/* MPJ_N_CALL, with the argument "caller" if it is not NULL. */
struct mpj_value mpj_evaluate_call(struct mpj_render *r, const struct mpj_node *n,
                                   const struct mpj_value *caller);
struct mpj_value mpj_binary(struct mpj_render *r, enum mpj_operator operator, struct mpj_value a,
                            struct mpj_value b);
/* v.name and v[key]; undefined where there is none. */
struct mpj_value mpj_attribute(struct mpj_render *r, struct mpj_value v, const char *name);
struct mpj_value mpj_item(struct mpj_render *r, struct mpj_value v, struct mpj_value key);
/* bounds: start, stop, step; none where not given. */
struct mpj_value mpj_slice(struct mpj_render *r, struct mpj_value v,
                           const struct mpj_value bounds[3]);
/* A dotted path, "a.b.0", as filters name attributes. */
struct mpj_value mpj_path(struct mpj_render *r, struct mpj_value v, struct mpj_value path);
/* Fails, as Jinja2 does, where the value is undefined. */
void mpj_need(struct mpj_work *w, struct mpj_value v);

struct mpj_value mpj_call_value(struct mpj_render *r, struct mpj_value callee,
                                const struct mpj_args *args);
struct mpj_value mpj_call_builtin(struct mpj_render *r, const struct mpj_builtin *b,
                                  struct mpj_value self, const struct mpj_args *args);
struct mpj_value mpj_method(struct mpj_work *w, const struct mpj_builtin *b, struct mpj_value self);

/* ---- builtins (builtins/) ---- */

const struct mpj_builtin *mpj_lookup(const struct mpj_builtin *table, const char *name);
/* Tables that end with a NULL name. */
extern const struct mpj_builtin mpj_string_methods[];
extern const struct mpj_builtin mpj_list_methods[];
extern const struct mpj_builtin mpj_dict_methods[];
extern const struct mpj_builtin mpj_string_filters[];
extern const struct mpj_builtin mpj_value_filters[];
extern const struct mpj_builtin mpj_list_filters[];
extern const struct mpj_builtin mpj_tests[];
extern const struct mpj_builtin mpj_globals[];
/* NULL: there is none of this name. */
const struct mpj_builtin *mpj_find_filter(const char *name);

/* Methods that filters have too. chars: MPJ_MISSING or none for white space. */
struct mpj_value mpj_strip(struct mpj_work *w, const struct mpj_string *s, struct mpj_value chars,
                           bool left, bool right);
struct mpj_value mpj_replace(struct mpj_work *w, const struct mpj_string *s,
                             const struct mpj_string *old, const struct mpj_string *new,
                             int64_t count);
enum mpj_case { MPJ_UPPER, MPJ_LOWER, MPJ_TITLE, MPJ_CAPITAL };
struct mpj_value mpj_change_case(struct mpj_work *w, const struct mpj_string *s, enum mpj_case to);
struct mpj_value mpj_lines(struct mpj_work *w, const struct mpj_string *s, bool keep_ends);
struct mpj_value mpj_items(struct mpj_work *w, struct mpj_value dict); /* a list of tuples */
/* The arguments of a call: an int, or fallback if it is missing. */
int64_t mpj_int_argument(struct mpj_work *w, struct mpj_value v, int64_t fallback);
const struct mpj_string *mpj_string_argument(struct mpj_work *w, struct mpj_value v,
                                             const char *what);

#endif
