/* One request of a session: its tokens, its KV, and its progress. */
#ifndef MP_PIPELINE_SLOT_H
#define MP_PIPELINE_SLOT_H

#include "core/base/rng.h"
#include "core/base/sampling.h"
#include "pipeline/engine/prefixes/segment.h"
#include "pipeline/engine/request/request_text.h"

/* What the steps that were observed say of the error of a request's attention. */
struct mp_observation {
    int64_t steps;    /* observed */
    int64_t last;     /* the last of them, counted in the request's decode steps from 1 */
    double *squares;  /* [num_hidden_layers] sum over these of the mean square over the heads */
    double *error;    /* [num_hidden_layers] the root of its mean; info.error */
    double *variance; /* [num_hidden_layers] the square over (1 / samples - 1 / tokens), of the last
                         steps */
    int64_t *samples; /* [num_hidden_layers] that a KV head is to draw */
};

/* Who hears the probabilities of a request's tokens. */
struct mp_slot_logprobs {
    mp_logprobs_callback *call; /* NULL: nobody */
    void *user;
    int slot;
    int top;        /* likeliest tokens beside each */
    bool prompt;    /* those of the prompt too */
    int64_t told;   /* tokens of the prompt that the next row of logits follows */
    int vocab_size; /* of a row */
};

struct mp_slot {
    bool used;
    struct mp_request info;
    int32_t *ids;  /* prompt, then generated tokens */
    int64_t given; /* tokens of them that were there at first: the prompt, or, if it was adopted,
                      what its session has read and what is fed in after that */
    int64_t max_new_tokens;     /* after the prompt; of an adopted one, after what was read of it */
    struct mp_segment *segment; /* its KV */
    int64_t shared;             /* tokens of the prompt that the segment's lender keeps; 0: none */
    int64_t static_prompt;      /* prompt tokens in the static caches of sparse layers at first */
    int64_t grown;              /* tokens that have left them since */
    struct mp_rope rope;
    double epsilon; /* error that its samples are to give; 0: their number stays */
    struct mp_slot_logprobs logprobs;
    struct mp_sampling sampling; /* how its tokens are drawn */
    struct mp_rng rng;
    uint64_t stream;    /* separates its random numbers from those of other requests */
    const int32_t *eos; /* [num_eos] its end tokens: the engine's, or own_eos */
    int num_eos;
    int32_t *own_eos;                  /* NULL: it has none of its own */
    struct mp_request_text *text;      /* NULL: nobody wants it as it comes */
    struct mp_selection ***selections; /* [parts] -> [cuts] -> [shards] */
    double *expected_nnz;  /* [num_hidden_layers] tokens the last step selected, all heads */
    double *sampled_sum;   /* [num_hidden_layers] sum over steps of the share sampled */
    double *sampled_mean;  /* [num_hidden_layers] the same as a mean; info.sampled */
    int64_t steps;         /* decode steps done */
    int64_t sampled_steps; /* of them those that had something to sample from */
    struct mp_observation observation;
};

/* Fills a free slot: tokens, room for selections; its KV is yet to be created. prefix: what is
 * known of the prompt already. After an error the slot is to be closed. */
int mp_slot_open(struct mp_slot *r, const struct mp_engine *e, const int32_t *ids, int64_t count,
                 int64_t max_new_tokens, uint64_t stream, const struct mp_prefix *prefix,
                 struct mp_error *err);
void mp_slot_close(struct mp_slot *r, const struct mp_engine *e);

/* ---- request_options.c ---- */

/* MP_ERR_USAGE: what a request is to have of its own makes no sense. */
int mp_request_options_check(const struct mp_engine *e, const struct mp_request_options *o,
                             struct mp_error *err);

/* Gives an open slot, number `slot`, what the options have of their own: sampling, end tokens, stop
 * strings, samples, callbacks. Those must have been checked. */
int mp_slot_configure(struct mp_slot *r, struct mp_engine *e, const struct mp_request_options *o,
                      int slot, struct mp_error *err);

/* ---- slot.c ---- */

/* Tokens outside the static caches of sparse layers. */
int64_t mp_slot_offloaded(const struct mp_slot *r);

/* Where the token that is fed in next goes in them. */
int64_t mp_slot_static_index(const struct mp_slot *r);

/* Tokens that will leave them, at most: of the request's prompt and max_new_tokens. */
int64_t mp_slot_growth(const struct mp_slot *r, const struct mp_engine *e);

/* Appends a generated token, which may finish the request, and passes its text on; or, while there
 * are given tokens, the next one of these instead. */
void mp_slot_append(struct mp_slot *r, const struct mp_engine *e, int32_t id);

/* Makes room in its caches for the token that is fed in next. Between its steps. MP_ERR_MEMORY: as
 * it was; MP_ERR_RUNTIME. */
int mp_slot_reserve(struct mp_slot *r, const struct mp_engine *e, struct mp_error *err);

/* How its next token is chosen. */
struct sample_row mp_slot_sample(struct mp_slot *r, const struct mp_engine *e);

/* Makes row n of a step out of the request, for which there is room: its last token is fed in. The
 * step's ids are acquired for writing. b [parts]; rows [parts]: each gets its n-th. */
void mp_slot_feed(struct mp_slot *r, const struct mp_engine *e, struct mp_step_buffers *b, int n,
                  struct mp_decode_row *const *rows);

/* Adds what a step selected for its row n to the statistics. Returns its part of the offloaded
 * tokens, the mean of the sparse layers; NAN if there is none of either. The step's tasks have
 * run. b [parts] */
double mp_slot_count(struct mp_slot *r, const struct mp_engine *e, const struct mp_step_buffers *b,
                     int n);

/* ---- logprobs.c ---- */

/* Tells the probability of the token that comes next, id, by its logits [vocab_size], if anybody
 * listens and the request is not finished. */
void mp_slot_tell_logprobs(const struct mp_slot *r, const float *logits, int32_t id);

/* Tells those of the prompt's tokens: an mp_logits_sink whose argument is the slot.
 * MP_ERR_INTERRUPTED: the request was cancelled. */
int mp_slot_prompt_logprobs(void *slot, const float *logits, int64_t rows, struct mp_error *err);

/* ---- growth.c ---- */

/* If the static caches are full: their oldest tokens leave. Between the steps of the request,
 * number `slot`, and before there is made room for the next one. */
void mp_slot_grow(struct mp_slot *r, const struct mp_engine *e, int slot, struct mp_submit *sub);

/* ---- observe.c ---- */

void mp_observation_create(struct mp_observation *o, const struct mp_engine *e);
void mp_observation_destroy(struct mp_observation *o);

/* Whether the next step of the request is to be observed. */
bool mp_slot_observes(const struct mp_slot *r, const struct mp_engine *e);

/* Takes over the errors that an observed step has found for its row n, and, for attention.epsilon,
 * how many samples follow. Returns the error, the mean of the sparse layers; NAN if there are none.
 * The row was due, and the step's tasks have run. */
double mp_slot_observe(struct mp_slot *r, const struct mp_engine *e,
                       const struct mp_step_buffers *b, int n);

#endif
