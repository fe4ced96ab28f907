/* A set of requests decoded together. */
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "pipeline/engine/session/micro_batches.h"
#include "pipeline/engine/session/pace.h"
#include "pipeline/engine/session/slot.h"
#include "tasks/fxt.h"

#include <math.h>
#include <stdlib.h>

/* A step of all requests that decode, in micro-batches. */
struct step {
    int count; /* micro-batches */
    struct mp_decode_step parts[MP_MAX_BATCH];
    struct mp_decode_row rows[MP_MAX_BATCH];
    int slot_of[MP_MAX_BATCH]; /* whose row it is */
    int num_rows;
    int units;           /* of a prompt, submitted beside it */
    int units_code;      /* how that went */
    struct mp_error err; /* if it went wrong */
    double since;        /* mp_clock_seconds */
};

struct mp_session {
    struct mp_engine *engine;
    struct mp_slot *slots; /* [batch] */
    int batch;
    struct mp_micro_batches micro_batches;
    struct mp_step_buffers *buffers; /* [micro_batches.most]; m has room for as many rows as it gets
                                        when m + 1 micro-batches are in use */
    struct mp_task_group *group;     /* of the steps' tasks */
    struct step step;                /* the last one submitted */
    struct mp_prefill_run *prefill;  /* of the prompt being read; NULL: none */
    int prefill_slot;
    bool reading;         /* the prefill is in use: it may not be closed */
    double prefill_since; /* mp_clock_seconds */
    struct mp_pace pace;
};

/* ---- life of a session ---- */

int mp_session_open(struct mp_engine *e, struct mp_session **out, struct mp_error *err)
{
    if (e->runtime == NULL) {
        return mp_fail(err, MP_ERR_USAGE, "a session needs an engine that is started");
    }
    struct mp_session *s = mp_xcalloc(1, sizeof *s);
    s->engine = e;
    s->batch = e->config->batch;
    s->pace.share = e->config->prefill_share;
    s->group = mp_task_group_create();
    mp_micro_batches_init(&s->micro_batches, e->config, mp_takes_turns(&e->graph.placements));
    s->slots = mp_xcalloc((size_t)s->batch, sizeof *s->slots);
    s->buffers = mp_xcalloc((size_t)s->micro_batches.most, sizeof *s->buffers);
    struct mp_allocator a = {.err = err};
    for (int m = 0; m < s->micro_batches.most; m++) {
        mp_step_buffers_create(e, &a, mp_micro_batch_rows(s->batch, m), &s->buffers[m]);
    }
    if (a.code != 0) {
        mp_session_close(s);
        return a.code;
    }
    *out = s;
    return 0;
}

void mp_session_close(struct mp_session *s)
{
    if (s == NULL) {
        return;
    }
    for (int i = 0; i < s->batch; i++) {
        mp_session_remove(s, i);
    }
    for (int m = 0; m < s->micro_batches.most; m++) {
        mp_step_buffers_destroy(s->engine, &s->buffers[m]);
    }
    mp_task_group_destroy(s->group);
    free(s->buffers);
    free(s->slots);
    free(s);
}

int mp_session_micro_batches(const struct mp_session *s)
{
    return s->micro_batches.best;
}

double mp_session_tried(const struct mp_session *s, int micro_batches)
{
    return micro_batches <= MP_MOST_MICRO_BATCHES ? s->micro_batches.tried[micro_batches] : 0.0;
}

const struct mp_request *mp_session_request(const struct mp_session *s, int slot)
{
    return &s->slots[slot].info;
}

/* The prompt will not be read any further. */
static void close_prefill(struct mp_session *s)
{
    struct mp_prefill_run *r = s->prefill;
    s->prefill = NULL; /* first: the last progress call may cancel the request */
    mp_prefill_close(r);
}

void mp_session_remove(struct mp_session *s, int slot)
{
    /* A step that was begun and not ended uses the slot. */
    mp_task_group_wait(s->group, 0);
    if (s->prefill_slot == slot) {
        close_prefill(s);
    }
    mp_slot_close(&s->slots[slot], s->engine);
}

void mp_session_cancel(struct mp_session *s, int slot)
{
    struct mp_slot *r = &s->slots[slot];
    if (!r->used || r->info.finish != MP_FINISH_NONE) {
        return;
    }
    r->info.finish = MP_FINISH_CANCELLED;
    if (s->prefill_slot == slot && !s->reading) {
        close_prefill(s);
    }
}

/* ---- a new request ---- */

bool mp_session_can_add(const struct mp_session *s)
{
    int used = 0;
    for (int i = 0; i < s->batch; i++) {
        used += s->slots[i].used;
    }
    return used < s->batch && s->prefill == NULL;
}

/* A free slot. */
static int find_slot(struct mp_session *s, int *slot, struct mp_error *err)
{
    if (!mp_session_can_add(s)) {
        return mp_fail(err, MP_ERR_USAGE, "all %d slots are in use, or a prompt is being read",
                       s->batch);
    }
    *slot = 0;
    while (s->slots[*slot].used) {
        (*slot)++;
    }
    return 0;
}

int mp_session_add(struct mp_session *s, const struct mp_request_options *options, int *slot,
                   struct mp_error *err)
{
    struct mp_request_options o;
    int code = mp_options_copy(&o, sizeof o, options, options->size, "mp_request_options", err);
    if (code == 0) {
        code = mp_engine_check_prompt(s->engine, o.ids, o.count, o.max_new_tokens, err);
    }
    if (code == 0) {
        code = mp_request_options_check(&o, err);
    }
    if (code == 0) {
        code = find_slot(s, slot, err);
    }
    if (code != 0) {
        return code;
    }
    struct mp_slot *r = &s->slots[*slot];
    s->prefill_slot = *slot;
    s->prefill_since = mp_clock_seconds();
    mp_pace_begin(&s->pace);
    code = mp_slot_open(r, s->engine, o.ids, o.count, o.max_new_tokens, o.stream, err);
    if (code == 0) {
        code = mp_slot_configure(r, s->engine, &o, *slot, err);
    }
    if (code == 0) {
        struct mp_prefill_options prefill = {
            .request = *slot,
            .ids = r->ids,
            .count = o.count,
            .kv = r->kv,
            .rope = &r->rope,
            .last_logits = &s->buffers[0].logits,
        };
        code = mp_prefill_open(s->engine, &prefill, &s->prefill, err);
    }
    if (code != 0) {
        mp_session_remove(s, *slot);
    }
    return code;
}

/* Samples the first token of the prompt that has been read. Between steps: it borrows the buffers
 * of the first micro-batch. */
static int sample_first(struct mp_session *s, struct mp_error *err)
{
    struct mp_slot *r = &s->slots[s->prefill_slot];
    struct mp_step_buffers *b = &s->buffers[0];
    struct mp_submit sub = mp_submit_begin(s->group, err);
    struct sample_row row = {&r->sampling, &r->rng};
    sub.priority = MP_PREFILL_PRIORITY;
    sub.about.request = s->prefill_slot;
    sample_insert(&sub, s->engine->shape, &b->logits, &row, &b->ids, 1);
    mp_task_group_wait(s->group, 0);
    mp_prefill_wait(s->prefill);
    int code = sub.code;
    if (code == 0) {
        code = mp_buffer_acquire(&b->ids, false, err);
    }
    if (code == 0) {
        mp_slot_append(r, s->engine, *(const int32_t *)b->ids.data);
        mp_buffer_return(&b->ids);
        r->info.prefill_seconds = mp_clock_seconds() - s->prefill_since;
    }
    return code;
}

static int finish_prefill(struct mp_session *s, struct mp_error *err)
{
    s->reading = true;
    int code = mp_prefill_finish(s->prefill, err);
    if (code == 0 && s->slots[s->prefill_slot].info.finish == MP_FINISH_NONE) {
        code = sample_first(s, err);
    }
    s->reading = false;
    close_prefill(s);
    return code;
}

/* Without memory for its KV a request fails alone. */
static int fail_prefill(struct mp_session *s, int code, struct mp_error *err)
{
    if (code != MP_ERR_MEMORY) {
        return code;
    }
    if (s->prefill == NULL) {
        return 0; /* cancelled meanwhile */
    }
    struct mp_request *info = &s->slots[s->prefill_slot].info;
    if (info->finish == MP_FINISH_NONE) { /* not cancelled in the same call */
        info->finish = MP_FINISH_FAILED;
        info->failure = *err;
    }
    close_prefill(s);
    return 0;
}

int mp_session_read(struct mp_session *s, struct mp_error *err)
{
    if (s->prefill == NULL) {
        return 0;
    }
    const struct mp_request *info = &s->slots[s->prefill_slot].info;
    /* The program's callbacks are called meanwhile, and may cancel the request. */
    s->reading = true;
    int code = 0;
    while (code == 0 && info->finish == MP_FINISH_NONE && mp_prefill_units_left(s->prefill) > 0) {
        code = mp_prefill_submit_next(s->prefill, err);
    }
    s->reading = false;
    if (code == 0 && info->finish == MP_FINISH_CANCELLED) {
        close_prefill(s);
        return 0;
    }
    if (code == 0) {
        code = finish_prefill(s, err);
    }
    return fail_prefill(s, code, err);
}

int mp_session_add_synthetic(struct mp_session *s, int64_t tokens, int64_t max_new_tokens,
                             double sampled, bool nearest, int *slot, struct mp_error *err)
{
    int code = find_slot(s, slot, err);
    if (code != 0) {
        return code;
    }
    int32_t *ids = mp_xcalloc((size_t)tokens, sizeof *ids);
    struct mp_slot *r = &s->slots[*slot];
    code = mp_slot_open(r, s->engine, ids, tokens, max_new_tokens, 0, err);
    if (code == 0) {
        code = mp_synthetic_fill(s->engine, r->kv, tokens, sampled, nearest, err);
    }
    if (code == 0) {
        mp_slot_append(r, s->engine, 0);
    } else {
        mp_session_remove(s, *slot);
    }
    free(ids);
    return code;
}

void mp_session_feed(struct mp_session *s, int slot, int32_t id)
{
    struct mp_slot *r = &s->slots[slot];
    r->ids[r->info.prompt_tokens + r->info.generated_tokens - 1] = id;
}

/* ---- a decode step ---- */

static bool decodes(const struct mp_slot *r)
{
    return r->used && r->info.generated_tokens > 0 && r->info.finish == MP_FINISH_NONE;
}

/* Tokens that the CPU selects and attends to in a step of the request. */
static double cost(const struct mp_session *s, int slot)
{
    const struct mp_slot *r = &s->slots[slot];
    const struct mp_placements *p = &s->engine->graph.placements;
    double sum = 0.0;
    for (int l = 0; l < s->engine->shape->num_hidden_layers; l++) {
        const struct mp_shards *shards = mp_shards_of(p, l);
        bool on_cpu = shards != NULL && shards->list[0].device.kind == MP_CPU;
        sum += on_cpu ? r->expected_nnz[l] : 0.0;
    }
    return sum;
}

/* Slots that decode, the costliest first. */
static int list_decoding(const struct mp_session *s, int *slots)
{
    double costs[MP_MAX_BATCH];
    int n = 0;
    for (int i = 0; i < s->batch; i++) {
        if (!decodes(&s->slots[i])) {
            continue;
        }
        double own = cost(s, i);
        int at = n++;
        for (; at > 0 && costs[at - 1] < own; at--) {
            costs[at] = costs[at - 1];
            slots[at] = slots[at - 1];
        }
        costs[at] = own;
        slots[at] = i;
    }
    return n;
}

/* Deals the slots out, costliest first and to and fro, so that the micro-batches have as many rows
 * and about as much for the CPU to do: place i of n goes to row *row of micro-batch *m. */
static void deal(int i, int count, int *m, int *row)
{
    *row = i / count;
    *m = *row % 2 == 0 ? i % count : count - 1 - i % count;
}

/* Makes room for the next token of every request that decodes. Without memory one fails alone. */
static int reserve(struct mp_session *s, struct mp_error *err)
{
    for (int i = 0; i < s->batch; i++) {
        struct mp_slot *r = &s->slots[i];
        int code = decodes(r) ? mp_slot_reserve(r, s->engine, err) : 0;
        if (code == MP_ERR_MEMORY) {
            r->info.finish = MP_FINISH_FAILED;
            r->info.failure = *err;
        } else if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* Fills the rows of every micro-batch. */
static int gather(struct mp_session *s, struct step *step, struct mp_error *err)
{
    int order[MP_MAX_BATCH];
    step->num_rows = list_decoding(s, order);
    step->count =
        step->num_rows == 0 ? 0 : mp_micro_batches_count(&s->micro_batches, step->num_rows);
    int first = 0;
    int code = 0;
    for (int m = 0; m < step->count && code == 0; m++) {
        step->parts[m] = (struct mp_decode_step){
            .micro_batch = m,
            .rows = step->rows + first,
            .buffers = &s->buffers[m],
        };
        code = mp_buffer_acquire(&s->buffers[m].ids, true, err);
        if (code != 0) {
            break;
        }
        for (int i = 0; i < step->num_rows; i++) {
            int to, row;
            deal(i, step->count, &to, &row);
            if (to == m) {
                step->slot_of[first + row] = order[i];
                mp_slot_feed(&s->slots[order[i]], s->engine, &s->buffers[m], row,
                             &step->rows[first + row]);
                step->parts[m].num_rows++;
            }
        }
        mp_buffer_return(&s->buffers[m].ids);
        first += step->parts[m].num_rows;
    }
    return code;
}

/* Submits one token step of every micro-batch, interleaved by layer, so that one may be attended
 * on the CPU while another runs its dense part. */
static int submit_step(const struct mp_session *s, const struct step *step, struct mp_error *err)
{
    const struct mp_graph *g = &s->engine->graph;
    struct mp_submit sub = mp_submit_begin(s->group, err);
    for (int m = 0; m < step->count; m++) {
        mp_submit_decode_embed(&sub, g, &step->parts[m]);
    }
    for (int l = 0; l < g->shape->num_hidden_layers; l++) {
        for (int m = 0; m < step->count; m++) {
            mp_submit_decode_layer(&sub, g, &step->parts[m], l);
        }
    }
    for (int m = 0; m < step->count; m++) {
        mp_submit_decode_sample(&sub, g, &step->parts[m]);
    }
    return sub.code;
}

/* Takes over what a step has generated. Its tasks have run. */
static void collect(struct mp_session *s, const struct step *step, double seconds)
{
    int at = 0;
    double sampled = 0.0;
    int sampling = 0;
    for (int m = 0; m < step->count; m++) {
        const struct mp_step_buffers *b = &s->buffers[m];
        for (int n = 0; n < step->parts[m].num_rows; n++, at++) {
            struct mp_slot *r = &s->slots[step->slot_of[at]];
            if (!r->used) {
                continue; /* removed since the step was begun */
            }
            r->info.decode_seconds += seconds;
            double part = mp_slot_count(r, s->engine, b, n);
            if (!isnan(part)) {
                sampled += part;
                sampling++;
            }
            mp_slot_append(r, s->engine, ((const int32_t *)b->ids.data)[n]);
        }
    }
    if (sampling > 0) {
        mp_trace_counter("sampled %", 100.0 * sampled / sampling);
    }
}

int mp_session_begin_step(struct mp_session *s, struct mp_error *err)
{
    struct step *step = &s->step;
    mp_fxt_step();
    *step = (struct step){.since = mp_clock_seconds()};
    if (s->prefill != NULL) {
        step->units = mp_pace_units(&s->pace, mp_prefill_units_left(s->prefill));
    }
    int code = reserve(s, err);
    if (code == 0) {
        code = gather(s, step, err);
    }
    if (code == 0) {
        code = submit_step(s, step, err);
    }
    for (int i = 0; i < step->units && code == 0 && step->units_code == 0; i++) {
        step->units_code = mp_prefill_submit(s->prefill, &step->err);
    }
    if (code != 0) {
        /* Tasks of a step that was submitted in part still use the session. */
        mp_task_group_wait(s->group, 0);
    }
    return code;
}

/* Waits for it and takes over what it has generated. */
static int end_step(struct mp_session *s, struct mp_error *err)
{
    struct step *step = &s->step;
    mp_task_group_wait(s->group, 0);
    if (step->units > 0 && s->prefill != NULL) {
        mp_prefill_wait(s->prefill);
    }
    double seconds = mp_clock_seconds() - step->since;
    collect(s, step, seconds);
    mp_pace_took(&s->pace, step->units, seconds);
    if (step->units == 0 && step->num_rows > 0) {
        mp_micro_batches_took(&s->micro_batches, seconds);
    }
    if (step->units_code != 0 && err != NULL) {
        *err = step->err;
    }
    return fail_prefill(s, step->units_code, err);
}

static int count_decoding(const struct mp_session *s)
{
    int n = 0;
    for (int i = 0; i < s->batch; i++) {
        n += decodes(&s->slots[i]);
    }
    return n;
}

/* With a share of 1 a prompt is read to its end before anybody goes on. */
int mp_session_decoding(const struct mp_session *s)
{
    return s->prefill != NULL && s->pace.share == 1.0 ? 0 : count_decoding(s);
}

int mp_session_units_left(const struct mp_session *s)
{
    return s->prefill != NULL ? mp_prefill_units_left(s->prefill) : 0;
}

int mp_session_end_step(struct mp_session *s, int *active, struct mp_error *err)
{
    int code = end_step(s, err);
    if (code == 0 && s->prefill != NULL && mp_prefill_units_left(s->prefill) == 0) {
        code = finish_prefill(s, err);
    }
    *active = count_decoding(s) + (s->prefill != NULL);
    return code;
}

int mp_session_step(struct mp_session *s, int *active, struct mp_error *err)
{
    int code = 0;
    *active = 0;
    if (mp_session_decoding(s) > 0) {
        code = mp_session_begin_step(s, err);
        return code == 0 ? mp_session_end_step(s, active, err) : code;
    }
    if (s->prefill != NULL) {
        code = mp_session_read(s, err);
        *active = count_decoding(s) + (s->prefill != NULL);
    }
    return code;
}
