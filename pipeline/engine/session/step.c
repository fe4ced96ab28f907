/* A decode step, in its two halves. */
#include "core/base/clock.h"
#include "core/ranks/ranks.h"
#include "pipeline/engine/session/session.h"
#include "tasks/fxt.h"

#include <math.h>

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
    struct mp_submit sub = mp_submit_begin(s->group, err);
    for (int i = 0; i < s->batch; i++) {
        struct mp_slot *r = &s->slots[i];
        int code = 0;
        if (decodes(r)) {
            mp_slot_grow(r, s->engine, i, &sub);
            code = sub.code == 0 ? mp_slot_reserve(r, s->engine, err) : sub.code;
        }
        if (mp_session_fails_alone(s, code)) {
            r->info.finish = MP_FINISH_FAILED;
            r->info.failure = *err;
        } else if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* By how much a micro-batch's tasks go before others: two a place, so that what is urgent of a
 * later one does not go before what is not of an earlier one. */
static int lead(const struct mp_session *s, int micro_batch, int count)
{
    int places = s->engine->graph.placements.num_devices > 1 ? count - 1 - micro_batch : 0;
    return places * (MP_DECODE_PRIORITY - MP_STATIC_PRIORITY + 1);
}

/* Fills the rows of a micro-batch, which begin with number `first`, of the slots in order. */
static int gather_micro_batch(struct mp_session *s, struct mp_session_step *step, const int *order,
                              int m, int first, struct mp_error *err)
{
    const int parts = mp_num_parts(s->engine);
    struct mp_step_buffers *buffers = mp_session_buffers(s, m);
    struct mp_decode_step *steps = mp_session_steps(s, m);
    struct mp_decode_row *rows[MP_MAX_GPUS];
    struct mp_decode_step own = {.micro_batch = m, .lead = lead(s, m, step->count)};
    for (int p = 0; p < parts; p++) {
        rows[p] = s->rows + p * s->batch + first;
    }
    int code = mp_buffer_acquire(&buffers->ids, true, err);
    if (code != 0) {
        return code;
    }
    for (int i = 0; i < step->num_rows; i++) {
        int to, row;
        deal(i, step->count, &to, &row);
        if (to == m) {
            struct mp_slot *slot = &s->slots[order[i]];
            bool due = mp_slot_observes(slot, s->engine);
            step->slot_of[first + row] = order[i];
            mp_slot_feed(slot, s->engine, buffers, row, rows);
            rows[0][row].due = due;
            own.num_rows++;
            own.observe = own.observe || due;
        }
    }
    mp_buffer_return(&buffers->ids);
    for (int p = 0; p < parts; p++) {
        steps[p] = own;
        steps[p].rows = rows[p];
        steps[p].buffers = &buffers[p];
    }
    return 0;
}

/* Fills the rows of every micro-batch. */
static int gather(struct mp_session *s, struct mp_session_step *step, struct mp_error *err)
{
    int order[MP_MAX_BATCH];
    step->num_rows = list_decoding(s, order);
    step->count =
        step->num_rows == 0 ? 0 : mp_micro_batches_count(&s->micro_batches, step->num_rows);
    int first = 0;
    int code = 0;
    for (int m = 0; m < step->count && code == 0; m++) {
        code = gather_micro_batch(s, step, order, m, first, err);
        first += code == 0 ? mp_session_steps(s, m)->num_rows : 0;
    }
    return code;
}

/* Submits one token step of every micro-batch, interleaved by layer, so that one may be attended
 * on the CPU while another runs its dense part. */
static int submit_step(struct mp_session *s, const struct mp_session_step *step,
                       struct mp_error *err)
{
    struct mp_submit sub = mp_submit_begin(s->group, err);
    struct mp_decode_parts parts[MP_MAX_BATCH];
    for (int m = 0; m < step->count; m++) {
        parts[m] = mp_session_parts(s, m);
        mp_submit_decode_embed(&sub, &parts[m]);
    }
    for (int l = 0; l < s->engine->shape->num_hidden_layers; l++) {
        for (int m = 0; m < step->count; m++) {
            s->attention_bytes += mp_submit_decode_layer(&sub, &parts[m], l);
        }
    }
    for (int m = 0; m < step->count; m++) {
        mp_submit_decode_sample(&sub, &parts[m]);
    }
    return sub.code;
}

void mp_session_collect(struct mp_session *s, double seconds)
{
    const struct mp_session_step *step = &s->step;
    int at = 0;
    double sampled = 0.0;
    int sampling = 0;
    double error = 0.0;
    int observed = 0;
    for (int m = 0; m < step->count; m++) {
        const struct mp_step_buffers *b = mp_session_buffers(s, m);
        for (int n = 0; n < mp_session_steps(s, m)->num_rows; n++, at++) {
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
            double own = s->rows[at].due ? mp_slot_observe(r, s->engine, b, n) : NAN;
            if (!isnan(own)) {
                error += own;
                observed++;
            }
            int32_t id = ((const int32_t *)b->ids.data)[n];
            const float *logits = b->logits.data;
            mp_slot_tell_logprobs(r, logits + (int64_t)n * s->engine->shape->vocab_size, id);
            mp_slot_append(r, s->engine, id);
        }
    }
    if (sampling > 0) {
        mp_trace_counter("sampled %", 100.0 * sampled / sampling);
    }
    if (observed > 0) {
        mp_trace_counter("attention error %", 100.0 * error / observed);
    }
}

int mp_session_prepare_step(struct mp_session *s, struct mp_error *err)
{
    mp_fxt_step();
    s->step = (struct mp_session_step){.since = mp_clock_seconds()};
    int code = reserve(s, err);
    return code == 0 ? gather(s, &s->step, err) : code;
}

int mp_session_begin_step(struct mp_session *s, struct mp_error *err)
{
    struct mp_session_step *step = &s->step;
    int code = mp_session_prepare_step(s, err);
    if (s->prefill.run != NULL) {
        const struct mp_prefill_run *run = s->prefill.run;
        int left = s->lets_in ? mp_prefill_units_to_end(run) : mp_prefill_units_left(run);
        step->units = mp_pace_units(&s->prefill.pace, left);
        step->read_slot = s->prefill.slot;
    }
    s->lets_in = false;
    if (code == 0) {
        code = mp_ranks_tell(s->engine->graph.ranks, &step->units, sizeof step->units, err);
    }
    if (code == 0) {
        code = submit_step(s, step, err);
    }
    for (int i = 0; i < step->units && code == 0 && step->units_code == 0; i++) {
        step->units_code = mp_prefill_submit(s->prefill.run, &step->err);
    }
    s->stepping = code == 0;
    if (code != 0) {
        /* Tasks of a step that was submitted in part still use the session. */
        mp_task_group_wait(s->group, 0);
    }
    return code;
}

/* The tokens that rank 0 has sampled are everybody's, so that no rank's rounding leads it astray.
 */
static int agree(struct mp_session *s, struct mp_error *err)
{
    int code = 0;
    for (int m = 0; m < s->step.count && code == 0; m++) {
        size_t bytes = (size_t)mp_session_steps(s, m)->num_rows * sizeof(int32_t);
        code =
            mp_ranks_tell(s->engine->graph.ranks, mp_session_buffers(s, m)->ids.data, bytes, err);
    }
    return code;
}

/* Waits for it and takes over what it has generated. */
static int end_step(struct mp_session *s, struct mp_error *err)
{
    struct mp_session_step *step = &s->step;
    mp_task_group_wait(s->group, 0);
    s->stepping = false;
    if (step->units > 0 && s->prefill.run != NULL) {
        mp_prefill_wait(s->prefill.run);
    }
    int code = agree(s, err);
    if (code != 0) {
        return code;
    }
    double seconds = mp_clock_seconds() - step->since;
    mp_session_collect(s, seconds);
    mp_pace_took(&s->prefill.pace, step->units, seconds);
    if (step->units == 0 && step->num_rows > 0) {
        mp_micro_batches_took(&s->micro_batches, seconds);
    }
    if (step->units_code != 0 && err != NULL) {
        *err = step->err;
    }
    return mp_session_read_failed(s, step->read_slot, step->units_code, err);
}

int mp_session_count_decoding(const struct mp_session *s)
{
    int n = 0;
    for (int i = 0; i < s->batch; i++) {
        n += decodes(&s->slots[i]);
    }
    return n;
}

int mp_session_end_step(struct mp_session *s, int *active, struct mp_error *err)
{
    int code = end_step(s, err);
    if (code == 0 && s->prefill.run != NULL && mp_prefill_units_left(s->prefill.run) == 0) {
        code = mp_session_finish_reading(s, err);
    }
    *active = mp_session_count_decoding(s) + mp_session_count_reading(s);
    return code;
}
