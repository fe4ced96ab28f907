/* What a request asks for: the body of /v1/completions or /v1/chat/completions, read and checked as
 * far as it can be without a model. */
#ifndef MP_SERVE_ASK_H
#define MP_SERVE_ASK_H

#include "core/json/json.h"
#include "core/tokenizer/tokenizer.h"
#include "pipeline/serve/api/api_error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum mp_ask_kind {
    MP_ASK_COMPLETION = 1 << 0,
    MP_ASK_CHAT = 1 << 1,
};

enum {
    MP_ASK_MOST_STOPS = 16,
    MP_ASK_MOST_LOGPROBS = 5,      /* of a completion */
    MP_ASK_MOST_CHAT_LOGPROBS = 20 /* of a chat */
};

/* One prompt, as text or as ids. */
struct mp_ask_prompt {
    char *text;    /* NULL: it came as ids */
    size_t length; /* bytes; they may contain NULs */
    struct mp_ids ids;
};

struct mp_ask {
    enum mp_ask_kind kind;
    const char *body; /* [length] as it came; not owned */
    size_t length;
    struct mp_json *doc;           /* the same, read; what follows points into it or is its own */
    const char *model;             /* NULL: not given */
    struct mp_ask_prompt *prompts; /* [num_prompts] of a completion; a chat gets its one when its
                                      messages are made to text */
    int num_prompts;
    const struct cJSON *messages; /* of a chat: an array of objects with a role */
    int64_t max_tokens;           /* -1: not given */
    float temperature, top_p, min_p;
    int top_k;     /* 0: off */
    bool has_seed; /* false: any will do */
    uint64_t seed;
    const char *stop[MP_ASK_MOST_STOPS]; /* [num_stop] */
    int num_stop;
    int logprobs; /* likeliest tokens beside each; -1: no logprobs */
    bool echo, stream, include_usage, prompt_progress, ignore_eos;
    bool special_text;     /* special tokens are shown in the text */
    bool add_special;      /* the tokenizer puts its special tokens around a text */
    const char *attention; /* NULL: whatever is loaded */
    int64_t samples;       /* 0: as loaded */
    double epsilon;        /* 0: as loaded */
};

/* Reads a body. Returns 0 or the status in *error, after which there is nothing to free. */
int mp_ask_read(enum mp_ask_kind kind, const char *body, size_t length, struct mp_ask *out,
                struct mp_api_error *error);
void mp_ask_free(struct mp_ask *ask);

/* ---- ask_prompt.c ---- */

/* The field "prompt": a string, ids, or a list of either. */
int mp_ask_read_prompts(struct mp_ask *ask, const struct cJSON *prompt, struct mp_api_error *error);

/* The field "messages": checks roles and contents. */
int mp_ask_read_messages(struct mp_ask *ask, const struct cJSON *messages,
                         struct mp_api_error *error);

/* The text of one message's content: its string, or its text parts with newlines between them, as
 * models/chat/chat.h joins them; *text is the caller's: free. */
int mp_ask_content(const struct mp_json *doc, const struct cJSON *message, char **text,
                   size_t *length, struct mp_error *err);

/* ---- neutral.c ---- */

/* A field that says nothing new: one that is not supported, with a value that asks for what happens
 * anyway. Else an error that names it. */
int mp_ask_check_neutral(enum mp_ask_kind kind, const struct cJSON *field,
                         struct mp_api_error *error);

#endif
