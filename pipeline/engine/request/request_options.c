/* Whether a request can run, and what it has of its own: sampling, end tokens, stop strings, a
 * callback. */
#include "core/base/memory.h"
#include "pipeline/engine/request/request_text.h"
#include "pipeline/engine/request/slot.h"

#include <math.h>
#include <stdlib.h>

/* ---- the prompt ---- */

/* Each chunk's attention depends on all chunks before it: their number squared is bounded. */
enum { MAX_CHUNKS = 1024 };

int mp_engine_check_length(const struct mp_engine *e, int64_t count, struct mp_error *err)
{
    int64_t limit = mp_model_max_positions(e->model);
    if (count < 1) {
        return mp_fail(err, MP_ERR_USAGE,
                       "the prompt is empty: found 0 tokens, expected at least 1");
    }
    if (count > limit) {
        return mp_fail(err, MP_ERR_USAGE,
                       "the prompt is too long: found %lld tokens, the model has %lld positions",
                       (long long)count, (long long)limit);
    }
    if ((count - 1) / e->config->chunk_size >= MAX_CHUNKS) {
        return mp_fail(err, MP_ERR_USAGE,
                       "chunk_size: found %lld, which cuts a prompt of %lld tokens into more than "
                       "%d chunks; expected at least %lld",
                       (long long)e->config->chunk_size, (long long)count, MAX_CHUNKS,
                       (long long)((count + MAX_CHUNKS - 1) / MAX_CHUNKS));
    }
    return 0;
}

int mp_engine_check_prompt(const struct mp_engine *e, const int32_t *ids, int64_t count,
                           int64_t max_new_tokens, struct mp_error *err)
{
    int code = mp_engine_check_length(e, count, err);
    if (code != 0) {
        return code;
    }
    if (max_new_tokens < 1) {
        return mp_fail(err, MP_ERR_USAGE, "max_new_tokens: found %lld, expected at least 1",
                       (long long)max_new_tokens);
    }
    for (int64_t i = 0; i < count; i++) {
        if (ids[i] < 0 || ids[i] >= e->shape->vocab_size) {
            return mp_fail(err, MP_ERR_USAGE, "token %lld: found id %d, expected 0 to %d",
                           (long long)i, (int)ids[i], e->shape->vocab_size - 1);
        }
    }
    return 0;
}

/* ---- what it has of its own ---- */

static int check_sampling(const struct mp_request_options *o, struct mp_error *err)
{
    if (!(o->temperature >= 0.0f && isfinite(o->temperature))) {
        return mp_fail(err, MP_ERR_USAGE, "temperature: found %g, expected a number from 0",
                       (double)o->temperature);
    }
    if (!(o->top_p > 0.0f && o->top_p <= 1.0f)) {
        return mp_fail(err, MP_ERR_USAGE, "top_p: found %g, expected a number above 0, up to 1",
                       (double)o->top_p);
    }
    if (o->top_k < 0) {
        return mp_fail(err, MP_ERR_USAGE, "top_k: found %d, expected at least 0", o->top_k);
    }
    if (!(o->min_p >= 0.0f && o->min_p <= 1.0f)) {
        return mp_fail(err, MP_ERR_USAGE, "min_p: found %g, expected a number from 0 to 1",
                       (double)o->min_p);
    }
    return 0;
}

/* What the engine has made room for bounds what a request may ask of its method. */
int mp_engine_check_attention(const struct mp_engine *e, const struct mp_request_options *o,
                              struct mp_error *err)
{
    const struct mp_config *c = e->config;
    bool follows = c->epsilon > 0.0f;
    int64_t most = follows ? MP_MOST_SAMPLES : c->samples;
    if (o->samples == 0 && o->epsilon == 0.0f) {
        return 0;
    }
    if (!e->attention.method->estimates_error) {
        return mp_fail(err, MP_ERR_USAGE, "samples and epsilon do nothing in attention.method %s",
                       e->attention.method->name);
    }
    if (o->samples < 0 || o->samples > most) {
        return mp_fail(err, MP_ERR_USAGE, "samples: found %lld, expected at most %lld",
                       (long long)o->samples, (long long)most);
    }
    if (o->epsilon != 0.0f && !(follows && o->epsilon > 0.0f && o->epsilon <= 1.0f)) {
        return mp_fail(err, MP_ERR_USAGE, "epsilon: found %g, expected %s", (double)o->epsilon,
                       follows ? "a number above 0, up to 1"
                               : "none, as the configuration has no attention.epsilon");
    }
    return 0;
}

int mp_request_options_check(const struct mp_engine *e, const struct mp_request_options *o,
                             struct mp_error *err)
{
    if (o->num_stop < 0 || o->num_end_tokens < 0) {
        return mp_fail(err, MP_ERR_USAGE, "found %d stop strings and %d end tokens", o->num_stop,
                       o->num_end_tokens);
    }
    if (o->num_logprobs < 0 || o->num_logprobs > MP_MOST_LOGPROBS) {
        return mp_fail(err, MP_ERR_USAGE, "num_logprobs: found %d, expected 0 to %d",
                       o->num_logprobs, MP_MOST_LOGPROBS);
    }
    int code = o->own_sampling ? check_sampling(o, err) : 0;
    return code == 0 ? mp_engine_check_attention(e, o, err) : code;
}

static void configure_attention(struct mp_slot *r, const struct mp_engine *e,
                                const struct mp_request_options *o)
{
    r->epsilon = (double)(o->samples == 0 && o->epsilon == 0.0f ? e->config->epsilon : o->epsilon);
    for (int l = 0; o->samples > 0 && l < e->shape->num_hidden_layers; l++) {
        r->observation.samples[l] = o->samples;
    }
}

int mp_slot_configure(struct mp_slot *r, struct mp_engine *e, const struct mp_request_options *o,
                      int slot, struct mp_error *err)
{
    if (o->own_sampling) {
        r->sampling = (struct mp_sampling){
            .temperature = o->temperature,
            .top_p = o->top_p,
            .top_k = o->top_k,
            .seed = o->seed,
            .min_p = o->min_p,
        };
        mp_rng_init(&r->rng, r->sampling.seed, o->stream);
    }
    if (o->own_end_tokens) {
        r->own_eos = mp_xcalloc((size_t)o->num_end_tokens, sizeof *r->own_eos);
        for (int i = 0; i < o->num_end_tokens; i++) {
            r->own_eos[i] = o->end_tokens[i];
        }
        r->eos = r->own_eos;
        r->num_eos = o->num_end_tokens;
    }
    configure_attention(r, e, o);
    r->logprobs = (struct mp_slot_logprobs){
        .call = o->on_logprobs,
        .user = o->user,
        .slot = slot,
        .top = o->num_logprobs,
        .prompt = o->on_logprobs != NULL && o->prompt_logprobs,
        .vocab_size = e->shape->vocab_size,
    };
    if (o->num_stop == 0 && o->on_token == NULL) {
        return 0;
    }
    int code = mp_engine_open_tokenizer(e, err);
    return code == 0 ? mp_request_text_open(e->host->tokenizer, o, slot, &r->text, err) : code;
}
