/* The engine's public interface. An engine is a model in memory with its runtime; a session is a
 * set of requests decoded together. One thread drives them; neither is thread-safe.
 *
 * Errors: a nonzero mp_code and a message (core/base/error.h). */
#ifndef MP_PIPELINE_ENGINE_H
#define MP_PIPELINE_ENGINE_H

#include "core/base/error.h"
#include "core/config/config.h"
#include "core/trace/trace.h"

#include <stdbool.h>
#include <stdint.h>

struct mp_engine;
struct mp_session;

/* Reads what the model directory says of the model and settles the kernels: enough to check
 * prompts and to plan. config must outlive the engine. */
int mp_engine_open(const struct mp_config *config, const char *model_dir, struct mp_engine **out,
                   struct mp_error *err);
/* The same for a well-known shape, with weights that are drawn at random when the engine starts.
 * num_layers 0: as many as the shape has. */
int mp_engine_open_shape(const struct mp_config *config, const char *name, int num_layers,
                         struct mp_engine **out, struct mp_error *err);
void mp_engine_close(struct mp_engine *e);

/* Whether a prompt can run here: 1 to max_positions ids, each in [0, vocab_size), at least one
 * token to generate, not too many chunks. MP_ERR_USAGE says why not. */
int mp_engine_check_prompt(const struct mp_engine *e, const int32_t *ids, int64_t count,
                           int64_t max_new_tokens, struct mp_error *err);

/* The part of it that depends on the length alone. */
int mp_engine_check_length(const struct mp_engine *e, int64_t count, struct mp_error *err);

/* The memory plan for prompts of up to `tokens` and `new_tokens` generated after them (0: only the
 * logits of one prompt are wanted). */
struct mp_plan;
void mp_engine_plan(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                    struct mp_plan *out);

/* Checks a plan against the memory limit, starts StarPU and loads the weights. Everything below
 * needs a started engine. */
int mp_engine_start(struct mp_engine *e, const struct mp_plan *plan, struct mp_error *err);

/* What runs here, for people: the model, and once started the workers and their kernels. */
const char *mp_engine_model(const struct mp_engine *e);
const char *mp_engine_runtime(const struct mp_engine *e);
const char *mp_engine_kernels(const struct mp_engine *e);

/* Logs the workers of a started engine, their kernels and their cores. */
void mp_engine_log_workers(const struct mp_engine *e);

int mp_engine_vocab_size(const struct mp_engine *e);
int mp_engine_num_layers(const struct mp_engine *e);

/* Measures the bytes/s at which each kind of device reads its memory; 0 for kinds there are not.
 * The recorder is on (pipeline/engine/recording.h). */
int mp_engine_bandwidth(const struct mp_engine *e, double bandwidth[MP_TRACK_KINDS],
                        struct mp_error *err);

/* Bytes of GPU memory taken since the engine was opened, as the device tells; 0 without a GPU. */
int64_t mp_engine_gpu_used(const struct mp_engine *e);

/* Full-attention logits of every position of ids[0 .. count): calls sink with consecutive row
 * blocks [rows][vocab_size], rows <= MP_LOGITS_ROWS; a nonzero return of sink stops. */
enum { MP_LOGITS_ROWS = 256 };
typedef int mp_logits_sink(void *arg, const float *logits, int64_t rows, struct mp_error *err);
int mp_engine_logits(struct mp_engine *e, const int32_t *ids, int64_t count, mp_logits_sink *sink,
                     void *arg, struct mp_error *err);

/* ---- sessions ---- */

enum mp_finish {
    MP_FINISH_NONE,   /* still generating */
    MP_FINISH_EOS,    /* the last token is an end token */
    MP_FINISH_LENGTH, /* max_new_tokens, or the model's positions are used up */
    MP_FINISH_FAILED, /* there was no memory for it */
};

/* What a session knows of one request. */
struct mp_request {
    const int32_t *ids; /* prompt, then generated tokens */
    int64_t prompt_tokens;
    int64_t generated_tokens; /* includes the end token */
    enum mp_finish finish;
    struct mp_error failure; /* why it failed, if it did */
    double prefill_seconds;  /* from the start of its prefill to its first token */
    double decode_seconds;   /* after the first token, steps shared with other requests */
    const double *sampled;   /* [num_layers] mean share of the offloaded tokens that each sparse
                                layer sampled, over heads and steps; NaN: dense layer, nothing
                                offloaded or nothing decoded */
    double sampled_mean;     /* over the sparse layers; NaN if all of those are */
    int num_layers;
};

/* A session of config->batch slots. */
int mp_session_open(struct mp_engine *e, struct mp_session **out, struct mp_error *err);
void mp_session_close(struct mp_session *s);

/* Whether a prompt can be added: a slot is free and no prompt is being read. */
bool mp_session_can_add(const struct mp_session *s);

/* Puts a prompt into a free slot, to be read by the steps that follow. stream separates the random
 * numbers of requests. After an error the slot is free again and the session goes on. */
int mp_session_add(struct mp_session *s, const int32_t *ids, int64_t count, int64_t max_new_tokens,
                   uint64_t stream, int *slot, struct mp_error *err);

/* Requests that get a token in the next step; 0: it reads a prompt. */
int mp_session_decoding(const struct mp_session *s);

/* Units, of one chunk in one layer, still to be read of the prompt that was added last; 0: all. */
int mp_session_units_left(const struct mp_session *s);

/* Reads the prompt that was added last to its end, and samples its first token. Like a step in its
 * errors. */
int mp_session_read(struct mp_session *s, struct mp_error *err);

/* Fills a free slot as if a prompt of `tokens` had been read, with random keys and values. sampled:
 * share of the offloaded tokens that lookups are to select, for models with random weights; 0:
 * whatever comes. A share that cannot be had is MP_ERR_USAGE, or with `nearest` the nearest one
 * serves. For benchmarks. */
int mp_session_add_synthetic(struct mp_session *s, int64_t tokens, int64_t max_new_tokens,
                             double sampled, bool nearest, int *slot, struct mp_error *err);

/* Generates one token for every request that has been read and is not finished, and reads on in the
 * prompt that was added last: a part that leaves the others most of the time
 * (config->prefill_share), or all of it if nobody decodes. *active gets how many are still
 * unfinished. After an error (MP_ERR_INTERRUPTED among them) the session can only be closed. */
int mp_session_step(struct mp_session *s, int *active, struct mp_error *err);

/* Makes the next step feed in this token instead of the one sampled last. For benchmarks. */
void mp_session_feed(struct mp_session *s, int slot, int32_t id);

/* Micro-batches that steps are split into at present. */
int mp_session_micro_batches(const struct mp_session *s);
/* Seconds of the shortest step with that many, from 1, if the search has tried it; else 0. */
double mp_session_tried(const struct mp_session *s, int micro_batches);

const struct mp_request *mp_session_request(const struct mp_session *s, int slot);

/* Frees the slot and its KV. */
void mp_session_remove(struct mp_session *s, int slot);

#endif
