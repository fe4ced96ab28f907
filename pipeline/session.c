/* A set of requests decoded together. */
#include "core/clock.h"
#include "core/memory.h"
#include "core/rng.h"
#include "pipeline/internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* One request's state. */
struct slot {
    bool used;
    struct mp_request info;
    int32_t *ids; /* prompt, then generated tokens */
    int64_t max_new_tokens;
    struct mp_layer_kv *kv; /* [num_hidden_layers] */
    int64_t fixed_prompt;   /* prompt tokens in the static caches of sparse layers */
    struct mp_rope rope;
    struct mp_rng rng;
    uint32_t *selection[2]; /* [num_attention_heads][offloaded tokens] room for a lookup on the CPU
                               and on the GPU; NULL where no layer's tables are */
    double *expected_nnz;   /* [num_hidden_layers] tokens the last step selected, all heads */
    double *sampled_sum;    /* [num_hidden_layers] sum over steps of the share sampled */
    double *sampled_mean;   /* [num_hidden_layers] the same as a mean; info.sampled */
    int64_t steps;          /* decode steps done */
};

struct mp_session {
    struct mp_engine *engine;
    struct slot *slots; /* [batch] */
    int batch;
    int micro_batches;
    int rows_per_micro_batch;
    struct mp_step_buffers *buffers; /* [micro_batches] */
};

/* ---- life of a session ---- */

int mp_session_open(struct mp_engine *e, struct mp_session **out, struct mp_error *err)
{
    struct mp_session *s = mp_xcalloc(1, sizeof *s);
    s->engine = e;
    s->batch = e->config->batch;
    s->micro_batches = e->config->micro_batches < s->batch ? e->config->micro_batches : s->batch;
    s->rows_per_micro_batch = (s->batch + s->micro_batches - 1) / s->micro_batches;
    s->slots = mp_xcalloc((size_t)s->batch, sizeof *s->slots);
    s->buffers = mp_xcalloc((size_t)s->micro_batches, sizeof *s->buffers);
    for (int m = 0; m < s->micro_batches; m++) {
        int code = mp_step_buffers_create(e, s->rows_per_micro_batch, &s->buffers[m], err);
        if (code != 0) {
            s->micro_batches = m;
            mp_session_close(s);
            return code;
        }
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
    for (int m = 0; m < s->micro_batches; m++) {
        mp_step_buffers_destroy(s->engine, &s->buffers[m]);
    }
    free(s->buffers);
    free(s->slots);
    free(s);
}

const struct mp_request *mp_session_request(const struct mp_session *s, int slot)
{
    return &s->slots[slot].info;
}

static int64_t offloaded_tokens(const struct slot *r)
{
    return r->info.prompt_tokens - r->fixed_prompt;
}

static const enum mp_place SELECTION_PLACES[2] = {MP_PLACE_HOST, MP_PLACE_GPU};

static size_t selection_bytes(const struct mp_engine *e, const struct slot *r)
{
    return (size_t)offloaded_tokens(r) * (size_t)e->shape->num_attention_heads * sizeof(uint32_t);
}

void mp_session_remove(struct mp_session *s, int slot)
{
    struct slot *r = &s->slots[slot];
    mp_kv_destroy(s->engine, r->kv);
    for (int i = 0; i < 2; i++) {
        mp_memory_free(SELECTION_PLACES[i], r->selection[i], selection_bytes(s->engine, r));
    }
    mp_free(r->ids);
    free(r->expected_nnz);
    free(r->sampled_sum);
    free(r->sampled_mean);
    *r = (struct slot){0};
}

/* ---- one request's progress ---- */

static bool is_eos(const struct mp_engine *e, int32_t id)
{
    for (int i = 0; i < e->num_eos; i++) {
        if (e->eos[i] == id) {
            return true;
        }
    }
    return false;
}

static void append_token(const struct mp_engine *e, struct slot *r, int32_t id)
{
    r->ids[r->info.prompt_tokens + r->info.generated_tokens] = id;
    r->info.generated_tokens++;
    int64_t length = r->info.prompt_tokens + r->info.generated_tokens;
    if (is_eos(e, id)) {
        r->info.finish = MP_FINISH_EOS;
    } else if (r->info.generated_tokens >= r->max_new_tokens ||
               length >= mp_model_max_positions(e->model)) {
        r->info.finish = MP_FINISH_LENGTH;
    }
}

/* Room for lookups wherever the tables of a layer are. */
static int create_selections(const struct mp_engine *e, struct slot *r, struct mp_error *err)
{
    for (int l = 0; l < e->shape->num_hidden_layers && offloaded_tokens(r) > 0; l++) {
        int i = e->sampled_place[l] == MP_PLACE_GPU;
        if (e->sparse[l] && r->selection[i] == NULL) {
            r->selection[i] =
                mp_memory_alloc(SELECTION_PLACES[i], selection_bytes(e, r), "selected tokens", err);
            if (r->selection[i] == NULL) {
                return MP_ERR_MEMORY;
            }
        }
    }
    return 0;
}

static int open_slot(const struct mp_engine *e, struct slot *r, const int32_t *ids, int64_t count,
                     int64_t max_new_tokens, uint64_t stream, struct mp_error *err)
{
    size_t layers = (size_t)e->shape->num_hidden_layers;
    /* Generation ends with the model's positions; the last token is never fed in. */
    int64_t room = count + max_new_tokens;
    room =
        room < mp_model_max_positions(e->model) + 1 ? room : mp_model_max_positions(e->model) + 1;
    r->used = true;
    r->max_new_tokens = max_new_tokens;
    r->fixed_prompt = mp_fixed_tokens(&e->graph, count);
    r->ids = mp_alloc((size_t)room, sizeof *r->ids, "token ids", err);
    if (r->ids == NULL) {
        return MP_ERR_MEMORY;
    }
    memcpy(r->ids, ids, (size_t)count * sizeof *ids);
    r->expected_nnz = mp_xcalloc(layers, sizeof *r->expected_nnz);
    r->sampled_sum = mp_xcalloc(layers, sizeof *r->sampled_sum);
    r->sampled_mean = mp_xcalloc(layers, sizeof *r->sampled_mean);
    r->info = (struct mp_request){
        .ids = r->ids,
        .prompt_tokens = count,
        .sampled = r->sampled_mean,
        .num_layers = (int)layers,
        .sampled_mean = NAN,
    };
    mp_rng_init(&r->rng, e->config->sampling.seed, stream);
    mp_engine_rope(e, count, &r->rope);

    int64_t offloaded = offloaded_tokens(r);
    for (size_t l = 0; l < layers; l++) {
        r->sampled_mean[l] = NAN;
        /* Before the first step: the paper's usual two percent. */
        r->expected_nnz[l] = 0.02 * (double)offloaded * e->shape->num_attention_heads;
    }
    int code = create_selections(e, r, err);
    return code != 0 ? code : mp_kv_create(e, count, &r->kv, err);
}

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

static int prefill_slot(struct mp_session *s, int slot, struct mp_error *err)
{
    struct slot *r = &s->slots[slot];
    struct mp_step_buffers *b = &s->buffers[slot % s->micro_batches];
    const struct mp_graph *g = &s->engine->graph;
    struct mp_prefill_job job = {
        .request = slot,
        .ids = r->ids,
        .count = r->info.prompt_tokens,
        .kv = r->kv,
        .rope = &r->rope,
        .last_logits = &b->logits,
    };
    int code = mp_prefill_run(s->engine, &job, err);
    if (code != 0) {
        return code;
    }
    struct mp_rng *rng = &r->rng;
    struct mp_span_info about = {.layer = -1, .request = slot, .chunk = -1};
    code = mp_submit_sample(g, &b->logits, &b->ids, &s->engine->config->sampling, &rng, 1, &about,
                            err);
    if (code == 0) {
        code = mp_buffer_acquire(&b->ids, false, err);
    }
    if (code == 0) {
        append_token(s->engine, r, *(const int32_t *)b->ids.data);
        mp_buffer_return(&b->ids);
    }
    return code;
}

int mp_session_add(struct mp_session *s, const int32_t *ids, int64_t count, int64_t max_new_tokens,
                   uint64_t stream, int *slot, struct mp_error *err)
{
    int code = mp_engine_check_prompt(s->engine, ids, count, max_new_tokens, err);
    if (code != 0) {
        return code;
    }
    int i = 0;
    while (i < s->batch && s->slots[i].used) {
        i++;
    }
    if (i == s->batch) {
        mp_panic("mp_session_add: all %d slots are in use", s->batch);
    }

    double start = mp_clock_seconds();
    code = open_slot(s->engine, &s->slots[i], ids, count, max_new_tokens, stream, err);
    if (code == 0) {
        code = prefill_slot(s, i, err);
    }
    if (code != 0) {
        mp_session_remove(s, i);
        return code;
    }
    s->slots[i].info.prefill_seconds = mp_clock_seconds() - start;
    *slot = i;
    return 0;
}

/* ---- a decode step ---- */

/* Room in every cache for the token about to be fed in. */
static int reserve(const struct mp_engine *e, struct slot *r, int64_t position, int64_t fixed_index,
                   struct mp_error *err)
{
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        int64_t used = r->kv[l].sparse ? fixed_index : position;
        int code = mp_kv_cache_reserve(&r->kv[l].fixed, e, used, used + 1, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

/* Fills the rows of micro-batch m from its unfinished requests; slot_of[row] tells whose they are.
 */
static int gather_rows(struct mp_session *s, int m, struct mp_decode_row *rows, int *slot_of,
                       int *num_rows, struct mp_error *err)
{
    struct mp_step_buffers *b = &s->buffers[m];
    int code = mp_buffer_acquire(&b->ids, true, err);
    if (code != 0) {
        return code;
    }
    int n = 0;
    for (int i = m; i < s->batch && code == 0; i += s->micro_batches) {
        struct slot *r = &s->slots[i];
        if (!r->used || r->info.finish != MP_FINISH_NONE) {
            continue;
        }
        /* The last generated token is fed in; it follows all the others in the caches. */
        int64_t fed = r->info.generated_tokens - 1;
        int64_t position = r->info.prompt_tokens + fed;
        int64_t fixed_index = r->fixed_prompt + fed;
        code = reserve(s->engine, r, position, fixed_index, err);
        if (mp_model_rope_varies(s->engine->model)) {
            mp_engine_rope(s->engine, position + 1, &r->rope);
        }
        ((int32_t *)b->ids.data)[n] = r->ids[position];
        for (int p = 0; p < 2; p++) {
            b->selection[p].ids[n] = r->selection[p];
            b->selection[p].stride[n] = offloaded_tokens(r);
        }
        rows[n] = (struct mp_decode_row){
            .kv = r->kv,
            .rope = &r->rope,
            .position = position,
            .fixed_index = fixed_index,
            .rng = &r->rng,
            .expected_nnz = r->expected_nnz,
        };
        slot_of[n++] = i;
    }
    mp_buffer_return(&b->ids);
    *num_rows = n;
    return code;
}

/* Submits one token step of every micro-batch, interleaved by layer, so that one may be attended
 * on the CPU while another runs its dense part. */
static int submit_step(const struct mp_session *s, const struct mp_decode_step *steps,
                       struct mp_error *err)
{
    const struct mp_graph *g = &s->engine->graph;
    int code = 0;
    for (int m = 0; m < s->micro_batches && code == 0; m++) {
        if (steps[m].num_rows > 0) {
            code = mp_submit_decode_embed(g, &steps[m], err);
        }
    }
    for (int l = 0; l < s->engine->shape->num_hidden_layers && code == 0; l++) {
        for (int m = 0; m < s->micro_batches && code == 0; m++) {
            if (steps[m].num_rows > 0) {
                code = mp_submit_decode_layer(g, &steps[m], l, err);
            }
        }
    }
    for (int m = 0; m < s->micro_batches && code == 0; m++) {
        if (steps[m].num_rows > 0) {
            code = mp_submit_decode_sample(g, &steps[m], err);
        }
    }
    return code;
}

/* Adds what a step selected to a request's statistics. The step's tasks have run. */
static void count_selection(const struct mp_session *s, struct slot *r,
                            const struct mp_step_buffers *b, int row)
{
    int heads = s->engine->shape->num_attention_heads;
    double candidates = (double)(offloaded_tokens(r) * heads);
    double total = 0.0;
    int sparse_layers = 0;
    r->steps++;
    if (candidates == 0.0) {
        return;
    }
    for (int l = 0; l < s->engine->shape->num_hidden_layers; l++) {
        if (!s->engine->sparse[l]) {
            continue;
        }
        const int32_t *counts = (const int32_t *)b->nnz[l].data + (int64_t)row * heads;
        double nnz = 0.0;
        for (int h = 0; h < heads; h++) {
            nnz += counts[h];
        }
        r->expected_nnz[l] = nnz;
        r->sampled_sum[l] += nnz / candidates;
        r->sampled_mean[l] = r->sampled_sum[l] / (double)r->steps;
        total += r->sampled_mean[l];
        sparse_layers++;
    }
    r->info.sampled_mean = sparse_layers > 0 ? total / sparse_layers : NAN;
}

int mp_session_step(struct mp_session *s, int *active, struct mp_error *err)
{
    double start = mp_clock_seconds();
    struct mp_decode_row rows[s->micro_batches][s->rows_per_micro_batch];
    int slot_of[s->micro_batches][s->rows_per_micro_batch];
    struct mp_decode_step steps[s->micro_batches];
    for (int m = 0; m < s->micro_batches; m++) {
        steps[m] = (struct mp_decode_step){
            .micro_batch = m,
            .rows = rows[m],
            .buffers = &s->buffers[m],
            .sampling = &s->engine->config->sampling,
        };
        int code = gather_rows(s, m, rows[m], slot_of[m], &steps[m].num_rows, err);
        if (code != 0) {
            return code;
        }
    }

    int code = submit_step(s, steps, err);
    /* Tasks of a step that was submitted in part still use the session: wait in any case. */
    int wait_code = mp_runtime_wait(code == 0 ? err : NULL);
    if (code != 0 || wait_code != 0) {
        return code != 0 ? code : wait_code;
    }

    double seconds = mp_clock_seconds() - start;
    *active = 0;
    for (int m = 0; m < s->micro_batches; m++) {
        for (int n = 0; n < steps[m].num_rows; n++) {
            struct slot *r = &s->slots[slot_of[m][n]];
            r->info.decode_seconds += seconds;
            count_selection(s, r, &s->buffers[m], n);
            append_token(s->engine, r, ((const int32_t *)s->buffers[m].ids.data)[n]);
            *active += r->info.finish == MP_FINISH_NONE;
        }
    }
    return 0;
}
