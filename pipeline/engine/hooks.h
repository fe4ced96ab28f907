/* What the verbs need of the engine beyond its public interface. Not exported by the library. */
#ifndef MP_PIPELINE_HOOKS_H
#define MP_PIPELINE_HOOKS_H

#include "core/config/config.h"
#include "core/trace/trace.h"
#include "pipeline/engine/magicpig.h"

#include <stdbool.h>
#include <stdint.h>

struct cJSON;
struct mp_plan;
struct mp_shape; /* core/base/shape.h */
struct mp_chat;  /* models/chat/chat.h */
struct mp_ids;
struct mp_tokenizer;

/* ---- open.c ---- */

/* An engine for a well-known shape, with weights that are drawn at random when it starts;
 * options->model is not used. num_layers 0: as many as the shape has. */
int mp_engine_open_shape(const struct mp_engine_options *options, const char *name, int num_layers,
                         struct mp_engine **out, struct mp_error *err);

/* ---- ranks.c: an engine on several machines ---- */

struct mp_ranks; /* core/ranks/ranks.h */

/* Before it is started: the engine is one of those of `ranks`, which do the same calls with the
 * same arguments. Each keeps, selects and attends to its share of the KV heads of sparse layers,
 * and does all other work itself. They step together: rank 0's answers are everybody's, and a call
 * of another's returns MP_ERR_INTERRUPTED once rank 0 has ended the run. No request fails alone.
 * MP_ERR_USAGE: there are fewer KV heads than ranks. NULL: it is the only one. */
int mp_engine_join_ranks(struct mp_engine *e, struct mp_ranks *ranks, struct mp_error *err);

/* For mp_engine_plan alone: as if it were the one with the most heads of so many ranks. Like
 * mp_engine_join_ranks in its errors. */
int mp_engine_plan_ranks(struct mp_engine *e, int ranks, struct mp_error *err);

/* ---- text.c ---- */

/* The tokenizer of a model directory, whose mp_tokenizer_encode asks whether to stop. The caller's:
 * mp_tokenizer_free. */
int mp_engine_load_tokenizer(const char *model_dir, mp_stop_callback *stop, void *user,
                             struct mp_tokenizer **out, struct mp_error *err);

/* Opens the engine's, if that has not been done: mp_engine_encode can then fail for its text alone.
 */
int mp_engine_open_tokenizer(struct mp_engine *e, struct mp_error *err);

/* It, once it is open; NULL before. From then on mp_engine_encode and mp_engine_decode may be
 * called by any threads, also while the engine is driven by another one; once its chat template is
 * open too, so may mp_engine_encode_chat. */
const struct mp_tokenizer *mp_engine_tokenizer(const struct mp_engine *e);

/* mp_engine_encode for a text in which special tokens are not looked for: their strings are text.
 */
int mp_engine_encode_plain(struct mp_engine *e, const char *text, size_t length, int32_t **ids,
                           int64_t *count, struct mp_error *err);

/* A conversation for a model's chat template. */
struct mp_conversation {
    const char *name; /* stands for it in messages, such as "FILE:LINE" */
    const char *json; /* [length] as mp_chat_render has it (models/chat/chat.h) */
    size_t length;
    const char *answer; /* what the answer is to start with; NULL: nothing */
    bool parse_special; /* special tokens are found in what the conversation says, too */
};
/* Its token ids as a prompt, with a BOS only if the template has one; the template is opened if
 * that has not been done. Like mp_engine_encode in the rest. */
int mp_engine_encode_chat(struct mp_engine *e, const struct mp_conversation *c, int32_t **ids,
                          int64_t *count, struct mp_error *err);
/* Opens the engine's chat template, if that has not been done. */
int mp_engine_open_chat(struct mp_engine *e, struct mp_error *err);

/* The same without an engine: appended to *out. */
int mp_hook_encode_chat(const struct mp_chat *chat, const struct mp_tokenizer *t,
                        const struct mp_conversation *c, struct mp_ids *out, struct mp_error *err);
int mp_hook_load_chat(const char *model_dir, struct mp_chat **out, struct mp_error *err);
void mp_hook_free_chat(struct mp_chat *chat);
/* What a template has around a user's text (models/chat/chat.h); malloc'ed. */
int mp_hook_chat_around(const struct mp_chat *chat, char **before, char **after,
                        struct mp_error *err);
/* A conversation of one message of a user; malloc'ed JSON. */
char *mp_hook_chat_of_text(const char *text, size_t length);

/* Whether there is a tokenizer to open: the model's folder has a tokenizer.json. */
bool mp_engine_has_tokenizer(const struct mp_engine *e);

/* ---- engine.c ---- */

/* Whether the model's generation_config.json asks for tokens to be sampled, and how. */
bool mp_engine_suggested_sampling(const struct mp_engine *e, struct mp_sampling *out);

/* The memory plan that mp_engine_start will check, for prompts of up to `tokens` and `new_tokens`
 * generated after them (0: only the logits of one prompt are wanted). */
void mp_engine_plan(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                    struct mp_plan *out);

/* The part of mp_engine_check_prompt that depends on the length alone. */
int mp_engine_check_length(const struct mp_engine *e, int64_t count, struct mp_error *err);

/* Logs the workers of a started engine, their kernels and their cores. */
void mp_engine_log_workers(const struct mp_engine *e);

int mp_engine_num_layers(const struct mp_engine *e);
const struct mp_shape *mp_engine_shape(const struct mp_engine *e);

/* What answers depend on beside prompts and settings, in one word: the model's weights and the
 * arithmetic of a prompt's activations. For programs; the caller's: free. */
char *mp_engine_fingerprint(const struct mp_engine *e);

/* Whether a layer attends to all tokens, whatever the method. */
bool mp_engine_is_dense(const struct mp_engine *e, int layer);

/* Measures the bytes/s at which each kind of device reads its memory; 0 for kinds there are not.
 * The recorder is on (pipeline/engine/recording.h). */
int mp_engine_bandwidth(const struct mp_engine *e, double bandwidth[MP_TRACK_KINDS],
                        struct mp_error *err);

/* Bytes of GPU memory taken since the engine was opened, as the device tells: of the one that has
 * least left, if there are several; 0 without a GPU. */
int64_t mp_engine_gpu_used(const struct mp_engine *e);

/* ---- variants.c: several attentions over one model in memory ---- */

/* An engine with the model, the weights and the runtime of `base`, but the attention of another
 * configuration, which outlives it: that differs from base's in the attention's keys, cache_layers,
 * device_budget and window_size alone. Before base is started: this starts it too. Its sessions
 * read no prompts, but adopt those of base's, which keep their KV in CPU memory. To be closed
 * before base. MP_ERR_USAGE: such an attention cannot be. */
int mp_engine_open_variant(struct mp_engine *base, const struct mp_config *config,
                           struct mp_engine **out, struct mp_error *err);

/* Full-attention logits of every position of ids[0 .. count): calls sink with consecutive row
 * blocks [rows][vocab_size], rows <= MP_LOGITS_ROWS; a nonzero return of sink stops. */
enum { MP_LOGITS_ROWS = 256 };
typedef int mp_logits_sink(void *arg, const float *logits, int64_t rows, struct mp_error *err);
int mp_engine_logits(struct mp_engine *e, const int32_t *ids, int64_t count, mp_logits_sink *sink,
                     void *arg, struct mp_error *err);

/* ---- session.c ---- */

/* Requests that get a token in the next step; 0: it reads a prompt. */
int mp_session_decoding(const struct mp_session *s);

/* A step of mp_session_step in its two halves, where mp_session_decoding is not 0: its submission,
 * and waiting for it. Between them other sessions may submit and wait, and of this one requests may
 * be cancelled and removed, but none added. After an error of either the session can only be
 * closed. */
int mp_session_begin_step(struct mp_session *s, struct mp_error *err);
int mp_session_end_step(struct mp_session *s, int *active, struct mp_error *err);

/* Units, of one chunk in one layer, still to be read of the prompt that was added last; 0: all. */
int mp_session_units_left(const struct mp_session *s);

/* Reads the prompt that was added last to its end, and samples its first token; where another one
 * is to be let in (mp_hook_interrupt), to the end of a layer. Like a step in its errors. */
int mp_session_read(struct mp_session *s, struct mp_error *err);

/* A prompt that a session of the base has read, for a variant's. */
struct mp_adoption {
    const struct mp_session *from; /* at no step; unchanged until the call has returned */
    int slot;                      /* of it: the prompt is read, and its first token sampled */
    int64_t exact;                 /* first tokens of it whose KV are taken over, 1 .. all */
    int64_t max_new_tokens;        /* after the prompt, at least 1 */
    uint64_t stream;               /* as of a request's options */
};

/* Puts the prompt into a free slot as if this session had read its first `exact` tokens. The others
 * are fed in by the steps that follow, one a step, and count as generated; after the last of them
 * follows what is generated. Where all are exact, the first token is the one that was sampled
 * there. Like mp_session_add in its errors. */
int mp_session_adopt(struct mp_session *s, const struct mp_adoption *a, int *slot,
                     struct mp_error *err);

/* What a step computes in every layer, of one request. */
struct mp_probe {
    float *x; /* [num_layers][hidden_size] the residual stream that enters the layer */
    float *o; /* [num_layers][num_attention_heads][head_dim] the attention's output, before the O
                 projection */
    float *error; /* [num_layers][num_attention_heads] what the step estimates o's error to be; NaN:
                     nothing */
};

/* A step of a session with one request, layer by layer: *out gets what it computes. given
 * [num_layers][hidden_size]: what enters each layer instead of what comes from the one before;
 * NULL: nothing else does. Like mp_session_step in its errors. */
int mp_session_probe(struct mp_session *s, const float *given, const struct mp_probe *out,
                     struct mp_error *err);

/* Fills a free slot as if a prompt of `tokens` had been read, with random keys and values. sampled:
 * share of the offloaded tokens that lookups are to select, for models with random weights; 0:
 * whatever comes. A share that cannot be had is MP_ERR_USAGE, or with `nearest` the nearest one
 * serves. */
int mp_session_add_synthetic(struct mp_session *s, int64_t tokens, int64_t max_new_tokens,
                             double sampled, bool nearest, int *slot, struct mp_error *err);

/* Bytes that the attention of all steps and requests so far has moved, estimated from what their
 * last steps selected: keys, values, and what the method selects by. */
double mp_session_attention_bytes(const struct mp_session *s);

/* Makes the next step feed in this token instead of the one sampled last. */
void mp_session_feed(struct mp_session *s, int slot, int32_t id);

enum { MP_MOST_MICRO_BATCHES = 8 }; /* that a search for their number tries */

/* Micro-batches that steps are split into at present. */
int mp_session_micro_batches(const struct mp_session *s);
/* Seconds of the shortest step with that many, from 1, if the search has tried it; else 0. */
double mp_session_tried(const struct mp_session *s, int micro_batches);

/* ---- hooks.c: what there is below the engine ---- */

/* Whether there is a GPU that this program can use; name[0 .. size), if not NULL, gets what it is
 * called. MP_ERR_UNSUPPORTED or MP_ERR_RUNTIME says why there is none. */
int mp_hook_find_gpu(char *name, size_t size, struct mp_error *err);

/* Name of the runtime's scheduling policy `index`, from 0; NULL past the last. */
const char *mp_hook_scheduler(int index);

/* The well-known shapes, separated by ", "; static. */
const char *mp_hook_shapes(void);

/* Well-known forms of questions by name (models/chat/chat.h), and the names, separated by ", ";
 * static.
 */
int mp_hook_chat(const char *name, const char **before, const char **after, struct mp_error *err);
const char *mp_hook_chat_names(void);

/* Share of the time since the engine was started for which the thread that waited longest was ready
 * to run without a core. */
double mp_hook_waited(const struct mp_engine *e);

/* Whether a prompt could be added without waiting for its file in runtime.kv_dir: false until that
 * is loaded, beside the steps. Between two steps. */
bool mp_hook_prepare_prompt(struct mp_session *s, const int32_t *ids, int64_t count,
                            int64_t max_new_tokens);

/* Whether a prompt need not wait for the one that is being read: a slot is free, the other is of
 * several chunks, and this one has no more tokens than one of them, besides those that it shares
 * in place with another prompt in memory. It is let in between two layers, unless more has been
 * read of others that were than of the one that lets them in: that takes about twice its time at
 * most. Never where layers are on several GPUs. Also in callbacks. */
bool mp_hook_lets_in(const struct mp_session *s, const int32_t *ids, int64_t count,
                     int64_t max_new_tokens);

/* After that: whether mp_session_add may be called now for such a prompt, which is then read before
 * the other. If not, the step that is under way, or the next one, ends with a layer. Also in
 * callbacks. */
bool mp_hook_interrupt(struct mp_session *s);

/* Between two steps, with nothing to do for a while: the workers of a started engine sleep instead
 * of looking for tasks, until they are resumed. Meanwhile no other call may be made. */
void mp_hook_pause(void);
void mp_hook_resume(void);

/* From now on a task has run when its submission returns, to time ops alone; or no longer so. */
void mp_hook_one_task_at_a_time(bool on);

/* ---- attention.c: the attention that a configuration asks for ---- */

/* For people: "magicpig, (K, L) = (10, 150)", or "full". The caller's: free. */
char *mp_attention_describe(const struct mp_config *config);

/* For programs: {"method": "magicpig", "lsh_K": 10, ...}, the method and its settings by their
 * keys. The caller's: cJSON_Delete. */
struct cJSON *mp_attention_json(const struct mp_config *config);

/* Name of the method that a configuration asks for; static. */
const char *mp_attention_name(const struct mp_config *config);

/* Whether a session of the engine takes a request's samples and epsilon: MP_ERR_USAGE says why
 * not. */
int mp_engine_check_attention(const struct mp_engine *e, const struct mp_request_options *o,
                              struct mp_error *err);

/* Whether there is such a method, with settings that can be: MP_ERR_USAGE says why not. */
int mp_attention_check(const struct mp_config *config, struct mp_error *err);

/* Whether a key, by its path, acts for the configuration's method: it is common to all methods, or
 * one of the method's own, or one of the default's where no method is named. */
bool mp_attention_takes(const struct mp_config *config, const char *path);

/* Whether it selects from offloaded tokens, which then can be placed; and whether it selects a
 * token by its direction alone, so that synthetic keys can be made to be selected as often as
 * wanted. */
bool mp_attention_selects(const struct mp_config *config);
bool mp_attention_has_chance(const struct mp_config *config);

/* Name, for attention.method, of the method that attends to every token exactly. Static. */
const char *mp_attention_exact(void);

/* Method `index`, from 0: its name and a line on what it does, both static. false past the last. */
bool mp_attention_method(int index, const char **name, const char **summary);

#endif
