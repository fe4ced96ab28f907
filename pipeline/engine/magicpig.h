/* Text from very long prompts: the public interface, for C99 and C++.
 *
 * An engine is a model in memory with its runtime; a session is a set of requests decoded together.
 * One engine a process is enough, and no more than one may be started at a time. One thread drives
 * an engine and all its sessions: nothing here may be called by two threads at once. Several
 * sessions of one engine may take turns; each has memory of its own.
 *
 * Errors: functions that can fail return 0, or a nonzero mp_code and a message in *err, which is
 * never NULL (core/base/code.h). Structs of options start with their size, sizeof *options, so that
 * later versions can add fields; fields that are zero mean what is said of 0 or NULL. Texts are
 * UTF-8. Strings and arrays that are passed in are copied, unless said otherwise. */
#ifndef MP_PIPELINE_MAGICPIG_H
#define MP_PIPELINE_MAGICPIG_H

#include "core/base/code.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mp_config; /* opaque, as are the next two */
struct mp_engine;
struct mp_session;

/* "0.1.0"; static. */
MP_API const char *mp_version(void);

/* Frees what functions below return as the caller's. NULL does nothing. */
MP_API void mp_free(void *data);

/* ---- configuration ---- */

/* One with the defaults. The caller's: mp_config_destroy, which accepts NULL. */
MP_API struct mp_config *mp_config_create(void);
MP_API void mp_config_destroy(struct mp_config *c);

/* Reads a JSON file, such as magicpig_config.json, over what is set. MP_ERR_IO or MP_ERR_FORMAT
 * names the key and what was expected. */
MP_API int mp_config_load(struct mp_config *c, const char *path, struct mp_error *err);

/* Sets one key by its path in such a file, e.g. "lsh_K" or "runtime.batch". value: as text, lists
 * with commas ("0,16", "none"). MP_ERR_USAGE: an unknown key, or a value that it does not take. */
MP_API int mp_config_set(struct mp_config *c, const char *path, const char *value,
                         struct mp_error *err);

/* ---- engine ---- */

/* Gets each message for people: one line without a newline, valid during the call. Called by any
 * thread of the engine's, also by several at once. */
typedef void mp_log_callback(void *user, enum mp_log_level level, const char *message);

/* Of a session, only mp_session_cancel and mp_session_request may be called in the next two.
 *
 * How far long work has come: done of total units, both in `unit` ("tok": prompt tokens). The first
 * call for a piece of work has done 0, the last one -1: it has ended, finished or not. */
typedef void mp_progress_callback(void *user, const char *what, const char *unit, int64_t done,
                                  int64_t total);

/* Asked now and then while weights or a prompt are read or a text is made to tokens: true ends the
 * call with MP_ERR_INTERRUPTED, after the task that runs then. */
typedef bool mp_stop_callback(void *user);

struct mp_engine_options {
    size_t size;                    /* sizeof(struct mp_engine_options) */
    const struct mp_config *config; /* not copied: outlives the engine, unchanged; NULL: defaults */
    const char *model; /* directory as downloaded from Hugging Face, or a name in the local cache;
                          NULL: the configuration's model_path, which is looked for in the folder of
                          the file that was loaded too */
    mp_log_callback *log; /* NULL: messages are dropped, or go to that of another engine */
    mp_progress_callback *progress; /* NULL: nobody watches */
    mp_stop_callback *stop;         /* NULL: nothing stops it */
    void *user;                     /* first argument of these three */
};

/* Reads what the model directory says of the model and settles the kernels: enough to check
 * prompts and to translate text. MP_ERR_USAGE: settings that do not go together or with the model;
 * MP_ERR_IO, MP_ERR_FORMAT, MP_ERR_UNSUPPORTED: the model's files. *out: mp_engine_close. */
MP_API int mp_engine_open(const struct mp_engine_options *options, struct mp_engine **out,
                          struct mp_error *err);

/* Starts the runtime and loads the weights, once, for sessions of prompts of up to `tokens` tokens
 * and `new_tokens` generated after them, as many at a time as the configuration's runtime.batch.
 * MP_ERR_MEMORY, before anything is loaded: that would not fit; the message has the numbers.
 * MP_ERR_USAGE: a setting that this machine does not have, or sizes that no prompt can have. After
 * an error: only mp_engine_close. */
MP_API int mp_engine_start(struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                           struct mp_error *err);

/* Its sessions must have been closed. NULL does nothing. */
MP_API void mp_engine_close(struct mp_engine *e);

/* One line each, for people: the model, and once started the workers and the kernels. The engine's.
 */
MP_API const char *mp_engine_model(const struct mp_engine *e);
MP_API const char *mp_engine_runtime(const struct mp_engine *e);
MP_API const char *mp_engine_kernels(const struct mp_engine *e);

/* Token ids are below this. */
MP_API int mp_engine_vocab_size(const struct mp_engine *e);

/* Whether a prompt can run: 1 to the model's positions of ids, each in [0, vocab_size), at least
 * one token to generate, not too many chunks. MP_ERR_USAGE says why not. */
MP_API int mp_engine_check_prompt(const struct mp_engine *e, const int32_t *ids, int64_t count,
                                  int64_t max_new_tokens, struct mp_error *err);

/* ---- text ---- */

/* The token ids of text[0 .. length) as a prompt, with what the model's tokenizer puts around it
 * (such as one BOS): *ids [*count], the caller's: mp_free. The tokenizer is read from the model
 * directory on first use: MP_ERR_IO, MP_ERR_FORMAT, MP_ERR_UNSUPPORTED. MP_ERR_FORMAT also for
 * invalid UTF-8, MP_ERR_RUNTIME if the tokenizer makes too much of it, MP_ERR_INTERRUPTED. */
MP_API int mp_engine_encode(struct mp_engine *e, const char *text, size_t length, int32_t **ids,
                            int64_t *count, struct mp_error *err);

/* The text of ids[0 .. count) without special tokens: *text, NUL-terminated and the caller's
 * (mp_free), of *length bytes (may be NULL). Incomplete UTF-8 becomes U+FFFD, ids that no token has
 * are no text. MP_ERR_IO, MP_ERR_FORMAT, MP_ERR_UNSUPPORTED: the tokenizer. Once that is read, ids
 * that no token has are not generated, unless they are end tokens of the configuration or model. */
MP_API int mp_engine_decode(struct mp_engine *e, const int32_t *ids, int64_t count, char **text,
                            size_t *length, struct mp_error *err);

/* ---- sessions ---- */

enum mp_finish {
    MP_FINISH_NONE,      /* still generating */
    MP_FINISH_EOS,       /* the last token is an end token */
    MP_FINISH_LENGTH,    /* max_new_tokens, or the model's positions are used up */
    MP_FINISH_FAILED,    /* there was no memory for it: `failure` */
    MP_FINISH_STOP,      /* its text has come to a stop string */
    MP_FINISH_CANCELLED, /* mp_session_cancel */
};

/* What a session knows of one request. */
struct mp_request {
    const int32_t *ids; /* [prompt_tokens + generated_tokens] prompt, then generated tokens */
    int64_t prompt_tokens;
    int64_t generated_tokens; /* includes the end token, and the one that completed a stop string */
    enum mp_finish finish;
    struct mp_error failure; /* why it failed, if it did */
    double prefill_seconds;  /* from the start of its prefill to its first token */
    double decode_seconds;   /* after the first token, steps shared with other requests */
    const double *sampled;   /* [num_layers] mean share of the offloaded tokens that each sparse
                                layer sampled, over heads and steps; NaN: dense layer, nothing
                                offloaded or nothing decoded */
    double sampled_mean;     /* over the sparse layers; NaN if all of those are */
    const double *error;     /* [num_layers] error of the attention's output, relative to exact
                                attention's: the root mean square over heads and steps as estimated
                                from what some steps sampled; NaN: there is no estimate */
    double error_mean;       /* over the layers that have one; NaN: none has */
    int num_layers;
    int64_t read_tokens; /* of the prompt that have been read, as far as is known: all layers have;
                            those whose KV was known already count as read */
    int64_t cached_tokens; /* of the prompt whose KV was known already, from another prompt */
};

/* Called once for each token a request gets, within mp_session_step. piece[0 .. length): the text
 * that is certain by now, NUL-terminated and valid during the call, maybe "": characters that
 * are not complete and what may become a stop string are held back. All pieces together are the
 * request's text, the last one comes with its last token. A stop string and what follows it are
 * left out. Of a session, only mp_session_cancel and mp_session_request may be called in it. */
typedef void mp_token_callback(void *user, int slot, int32_t id, const char *piece, size_t length);

/* Called for each token a request gets, before its mp_token_callback, and with prompt_logprobs also
 * for each token of the prompt but the first, in their order. position: of the token in the
 * request's ids. ids [count], logprobs [count]: the token and the natural logarithm of its
 * probability, before temperature and all that restricts the choice; then those of the likeliest
 * tokens, from the likeliest on. Of a session, only mp_session_cancel and mp_session_request may be
 * called in it. */
typedef void mp_logprobs_callback(void *user, int slot, int64_t position, const int32_t *ids,
                                  const float *logprobs, int count);

enum { MP_MOST_LOGPROBS = 32 }; /* likeliest tokens that can be asked for */

struct mp_request_options {
    size_t size;        /* sizeof(struct mp_request_options) */
    const int32_t *ids; /* [count] the prompt */
    int64_t count;      /* 1 .. the model's positions; what goes beyond mp_engine_start may find no
                           memory */
    int64_t max_new_tokens; /* at least 1 */
    uint64_t stream;        /* separates the random numbers of requests */
    /* Sampling of its own; or the configuration's, if own_sampling is false. */
    bool own_sampling;
    float temperature; /* 0: always the likeliest token */
    float top_p;       /* (0, 1]; 1: off */
    int top_k;         /* sample from so many likeliest tokens; 0: from all */
    uint64_t seed;
    /* End tokens of its own, maybe none; or the configuration's, if own_end_tokens is false. */
    bool own_end_tokens;
    const int32_t *end_tokens; /* [num_end_tokens] */
    int num_end_tokens;
    /* Texts that end it, none of them empty; matched also across tokens. */
    const char *const *stop; /* [num_stop] NUL-terminated */
    int num_stop;
    mp_token_callback *on_token; /* NULL: not called */
    void *user;                  /* first argument of the callbacks */
    float min_p;                 /* own_sampling: tokens less likely than this share, [0, 1], of the
                                    likeliest one are left out; 0: none */
    bool special_text;           /* the text shows special tokens, but for the end token */
    mp_logprobs_callback *on_logprobs; /* NULL: not called */
    int num_logprobs;                  /* likeliest tokens it gets, 0 .. MP_MOST_LOGPROBS */
    bool prompt_logprobs;              /* it is called for the prompt too, once that is read */
    /* Of attention.method pps: tokens that a KV head samples, or the error that they are to give,
     * instead of the configuration's; 0: that. At most what that leaves room for: its samples, and
     * an error only where it has one. */
    int64_t samples;
    float epsilon;
};

/* A session of the configuration's runtime.batch slots, in a started engine. MP_ERR_MEMORY;
 * MP_ERR_USAGE: the engine is not started. */
MP_API int mp_session_open(struct mp_engine *e, struct mp_session **out, struct mp_error *err);
/* NULL does nothing. */
MP_API void mp_session_close(struct mp_session *s);

/* Whether a prompt can be added: a slot is free, and no prompt is being read. */
MP_API bool mp_session_can_add(const struct mp_session *s);

/* Puts a prompt into a free slot, to be read by the steps that follow. MP_ERR_USAGE: it cannot run
 * (mp_engine_check_prompt), its options are wrong, or nothing can be added now; MP_ERR_MEMORY.
 * After an error the slot is free again and the session goes on. Stop strings and on_token need the
 * model's tokenizer, and can fail as mp_engine_encode does. */
MP_API int mp_session_add(struct mp_session *s, const struct mp_request_options *options, int *slot,
                          struct mp_error *err);

/* Generates one token for every request that has been read and is not finished, and reads on in the
 * prompt that was added last: a part that leaves the others most of the time
 * (runtime.prefill_share), or all of it if nobody decodes. *active gets how many are still
 * unfinished; with none there is nothing to do. A request that finds no memory fails alone. After
 * an error (MP_ERR_INTERRUPTED among them) the session can only be closed. */
MP_API int mp_session_step(struct mp_session *s, int *active, struct mp_error *err);

/* Ends a request that is not finished: no more tokens, no more text. Its slot stays in use. */
MP_API void mp_session_cancel(struct mp_session *s, int slot);

/* A slot that is in use. The session's, valid until the slot is removed. */
MP_API const struct mp_request *mp_session_request(const struct mp_session *s, int slot);

/* Frees the slot and its KV. Does nothing if it is free. */
MP_API void mp_session_remove(struct mp_session *s, int slot);

#ifdef __cplusplus
}
#endif

#endif
