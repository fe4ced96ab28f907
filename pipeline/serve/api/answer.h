/* What has come of a call, as JSON: whole, or in pieces for a stream. */
#ifndef MP_SERVE_ANSWER_H
#define MP_SERVE_ANSWER_H

#include "pipeline/serve/server.h"

struct cJSON;

/* What has come of a job since it was looked at last. */
struct mp_news {
    char *text;      /* [length], may contain NULs */
    size_t length;   /* bytes */
    int32_t *ids;    /* [rows][width] as in struct mp_job_logprobs */
    float *logprobs; /* the same */
    int64_t rows;
    bool ended;          /* nothing more will come */
    int64_t read_tokens; /* of the prompt, in all */
};

/* How far a job has been told. */
struct mp_teller {
    const struct mp_job *job;
    size_t told_text; /* bytes of its text */
    int64_t told_rows;
    int64_t told_read;
    bool begun;                     /* something has been told */
    bool done;                      /* all of it */
    struct mp_token_stream *stream; /* of the texts' offsets; NULL without logprobs */
    int64_t offset;                 /* characters before the next token */
};

void mp_teller_open(struct mp_teller *t, const struct mp_job *job);
void mp_teller_close(struct mp_teller *t);

/* Under the server's lock: whether there is anything new, and all of it, which is then told. Free
 * with mp_news_free. */
bool mp_teller_has_news(const struct mp_teller *t);
struct mp_news mp_teller_take(struct mp_teller *t);
void mp_news_free(struct mp_news *news);

/* The choice that a job is: its news so far as all of it, or as a piece of a stream. The caller's:
 * cJSON_Delete. */
struct cJSON *mp_answer_choice(struct mp_teller *t, const struct mp_news *news, bool piece);

/* The object around choices: {"id", "object", "created", "model"}. */
struct cJSON *mp_answer_frame(const struct mp_call *call, bool piece);

/* {"prompt_tokens", ...} of all jobs, which have ended. */
struct cJSON *mp_answer_usage(const struct mp_call *call);

/* What a job has cost, for the key "magicpig". */
struct cJSON *mp_answer_extras(const struct mp_job *job);

/* The answer to a call whose jobs have ended well. */
struct cJSON *mp_answer_whole(const struct mp_call *call);

/* ---- logprobs.c ---- */

/* The logprobs of the news in the form of the call's kind. */
struct cJSON *mp_answer_logprobs(struct mp_teller *t, const struct mp_news *news);

/* A token's text, or "bytes:\xe2\x80" if it is none by itself. The caller's: free. */
char *mp_token_text(const struct mp_tokenizer *t, int32_t id);

/* A text that may contain NULs. */
struct cJSON *mp_json_text_value(const char *text, size_t length);

#endif
