/* A session's insides. */
#ifndef MP_PIPELINE_SESSION_H
#define MP_PIPELINE_SESSION_H

#include "pipeline/engine/request/slot.h"
#include "pipeline/engine/session/micro_batches.h"
#include "pipeline/engine/session/pace.h"

/* A step of all requests that decode, in micro-batches. */
struct mp_session_step {
    int count;                 /* micro-batches */
    int slot_of[MP_MAX_BATCH]; /* whose row it is */
    int num_rows;
    int units;           /* of a prompt, submitted beside it */
    int read_slot;       /* whose prompt that is */
    int units_code;      /* how that went */
    struct mp_error err; /* if it went wrong */
    double since;        /* mp_clock_seconds */
};

/* The prompt of a request, while it is read. */
struct mp_reading {
    struct mp_prefill_run *run; /* NULL: none is */
    int slot;
    double since; /* mp_clock_seconds */
    struct mp_pace pace;
};

struct mp_session {
    struct mp_engine *engine;
    struct mp_slot *slots; /* [batch] */
    int batch;
    struct mp_micro_batches micro_batches;
    struct mp_step_buffers *buffers; /* [micro_batches.most][parts]; m has room for as many rows as
                                        it gets when m + 1 micro-batches are in use */
    struct mp_decode_step *steps;    /* [batch][parts] the last step's micro-batches, .. */
    struct mp_decode_row *rows;      /* [parts][batch] .. and their rows, one after the other */
    struct mp_task_group *group;     /* of the steps' tasks */
    struct mp_session_step step;     /* the last one submitted */
    bool stepping;                   /* it was begun and has not ended */
    struct mp_reading prefill;       /* the prompt that is read now */
    struct mp_reading interrupted;   /* one that has let it in, and goes on after it */
    bool lets_in; /* another one waits to be let in: this step stops at the end of a layer */
    bool reading; /* the prefill is in use: it may not be closed */
    double attention_bytes; /* that attention has moved in all steps, estimated */
};

/* ---- session.c ---- */

/* Whether a slot is free. */
bool mp_session_has_slot(const struct mp_session *s);

/* A micro-batch's, of every part of the engine. */
struct mp_step_buffers *mp_session_buffers(const struct mp_session *s, int micro_batch);
struct mp_decode_step *mp_session_steps(const struct mp_session *s, int micro_batch);
struct mp_decode_parts mp_session_parts(const struct mp_session *s, int micro_batch);

/* A free slot. MP_ERR_USAGE: there is none, or nothing can be added now. */
int mp_session_find_slot(const struct mp_session *s, int *slot, struct mp_error *err);

/* ---- read.c ---- */

/* Reads a prompt, before all others. */
void mp_session_start_reading(struct mp_session *s, const struct mp_reading *reading);

/* The prompt of a slot will not be read any further, if it is being read: one that has let it in
 * goes on. */
void mp_session_stop_reading(struct mp_session *s, int slot);

/* Prompts that are being read. */
int mp_session_count_reading(const struct mp_session *s);

/* Whether the prompt that is being read lets in one of `count` tokens, of which so many are known.
 */
bool mp_session_lets_in(const struct mp_session *s, int64_t count, const struct mp_prefix *known);

/* After its last unit: its first token. Like a step in its errors. */
int mp_session_finish_reading(struct mp_session *s, struct mp_error *err);

/* Whether an error is one request's and leaves the others as they are: it had no memory. Where
 * there are several ranks, none of them could go on without the others. */
bool mp_session_fails_alone(const struct mp_session *s, int code);

/* What reading on in the prompt of a slot has come to: without memory for its KV a request fails
 * alone, and the result is 0. */
int mp_session_read_failed(struct mp_session *s, int slot, int code, struct mp_error *err);

/* ---- step.c ---- */

/* Makes room for the next step of every request that decodes, and fills the rows of its
 * micro-batches. Without memory a request fails alone. MP_ERR_RUNTIME. */
int mp_session_prepare_step(struct mp_session *s, struct mp_error *err);

/* Takes over what a step has generated, in so many seconds. Its tasks have run. */
void mp_session_collect(struct mp_session *s, double seconds);

/* Requests that wait for their next token. */
int mp_session_count_decoding(const struct mp_session *s);

#endif
