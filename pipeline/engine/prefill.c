/* The exact prefill of one prompt: chunks, staging, submission unit by unit, logits. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>
#include <string.h>

enum {
    TASKS_PER_UNIT = 4,
    TASKS_TO_KEEP = 3, /* a layer: offload, hashing, table build */
};

struct mp_reader {
    const struct mp_engine *engine;
    struct mp_prefill_job job;
    struct mp_prefill p;
    struct kv_cache staging[2];
    int layer; /* of the next unit */
    int chunk;
    bool shown; /* progress is reported, in prompt tokens: each counts once all layers have read it
                 */
};

static void report(const struct mp_reader *r, int64_t done)
{
    if (r->shown) {
        mp_engine_progress(r->engine, "reading the prompt", "tok", done, r->p.tokens);
    }
}

/* ---- life ---- */

void mp_reader_close(struct mp_reader *r)
{
    struct mp_prefill *p = &r->p;
    /* Buffers wait for their tasks when they are released. */
    for (int c = 0; c < p->num_chunks; c++) {
        struct mp_prefill_chunk *chunk = &p->chunks[c];
        mp_buffer_release(&chunk->ids);
        mp_buffer_release(&chunk->x);
        mp_buffer_release(&chunk->staging_buffer[0]);
        mp_buffer_release(&chunk->staging_buffer[1]);
    }
    free(p->chunks);
    for (int i = 0; i < 2; i++) {
        mp_buffer_release(&p->q[i]);
        mp_buffer_release(&p->o[i]);
        mp_kv_cache_destroy(&r->staging[i], r->engine);
    }
    mp_buffer_release(&p->codes);
    report(r, -1);
    free(r);
}

static int create_chunk(const struct mp_engine *e, struct mp_prefill_chunk *chunk,
                        const struct kv_cache staging[2], const int32_t *ids, struct mp_error *err)
{
    for (int i = 0; i < 2; i++) {
        chunk->staging[i] = staging[i];
        mp_buffer_wrap(&chunk->staging_buffer[i], MP_PLACE_HOST, &chunk->staging[i],
                       sizeof staging[i]);
    }
    size_t rows = (size_t)chunk->rows;
    int code =
        mp_buffer_alloc(&chunk->ids, MP_PLACE_PINNED, rows * sizeof(int32_t), "prompt ids", err);
    if (code == 0) {
        memcpy(chunk->ids.data, ids + chunk->first, rows * sizeof(int32_t));
        code = mp_buffer_alloc(&chunk->x, e->dense_place,
                               rows * (size_t)e->shape->hidden_size * sizeof(float),
                               "prefill residual stream", err);
    }
    return code;
}

/* Offloaded tokens of a sparse layer. */
static int64_t offloaded_tokens(const struct mp_engine *e, const struct mp_prefill_job *job)
{
    bool any = job->kv != NULL && e->num_sparse_layers > 0;
    return any ? job->count - mp_fixed_tokens(&e->graph, job->count) : 0;
}

/* Staging and activations. */
static int create(struct mp_reader *r, struct mp_error *err)
{
    const struct mp_engine *e = r->engine;
    const struct mp_prefill_job *job = &r->job;
    const struct mp_shape *s = e->shape;
    struct mp_prefill *p = &r->p;
    struct kv_cache *staging = r->staging;
    int64_t chunk_size = e->config->chunk_size;
    int64_t max_rows = job->count < chunk_size ? job->count : chunk_size;
    int num_chunks = (int)((job->count + chunk_size - 1) / chunk_size);
    *p = (struct mp_prefill){
        .request = job->request,
        .tokens = job->count,
        .kv = job->kv,
        .rope = job->rope,
        .last_row_only = job->sink == NULL,
        .chunks = mp_xcalloc((size_t)num_chunks, sizeof *p->chunks),
    };

    int code = 0;
    for (int i = 0; i < 2 && code == 0; i++) {
        size_t bytes = (size_t)max_rows * (size_t)mp_shape_q_width(s) * sizeof(float);
        code = mp_kv_cache_create(&staging[i], e, job->count, false, err);
        if (code == 0) {
            code = mp_buffer_alloc(&p->q[i], e->dense_place, bytes, "prefill queries", err);
        }
        if (code == 0) {
            code = mp_buffer_alloc(&p->o[i], e->dense_place, bytes, "prefill attention", err);
        }
    }
    for (int c = 0; c < num_chunks && code == 0; c++) {
        struct mp_prefill_chunk *chunk = &p->chunks[c];
        chunk->first = c * chunk_size;
        chunk->rows =
            job->count - chunk->first < chunk_size ? job->count - chunk->first : chunk_size;
        p->num_chunks = c + 1;
        code = create_chunk(e, chunk, staging, job->ids, err);
    }
    if (code == 0) {
        size_t codes =
            (size_t)offloaded_tokens(e, job) * (size_t)s->num_key_value_heads * (size_t)e->lsh.L;
        code = mp_buffer_alloc(&p->codes, mp_shared_place(e), codes * sizeof(uint16_t), "key codes",
                               err);
    }
    return code;
}

int mp_reader_open(const struct mp_engine *e, const struct mp_prefill_job *job,
                   struct mp_reader **out, struct mp_error *err)
{
    struct mp_reader *r = mp_xcalloc(1, sizeof *r);
    r->engine = e;
    r->job = *job;
    int code = create(r, err);
    if (code == 0) {
        code = mp_submit_prefill_embed(&e->graph, &r->p, err);
    }
    if (code != 0) {
        mp_reader_close(r);
        return code;
    }
    *out = r;
    return 0;
}

/* ---- units of work ---- */

int mp_reader_units_left(const struct mp_reader *r)
{
    int layers = r->engine->shape->num_hidden_layers;
    return (layers - r->layer) * r->p.num_chunks - r->chunk;
}

/* The KV is allocated layer by layer, while the devices work on what was submitted before: its
 * memory is touched, and locked for the GPU, in the time of tasks. */
static int keep_layer(struct mp_reader *r, struct mp_error *err)
{
    const struct mp_engine *e = r->engine;
    int code = mp_kv_create_layer(e, r->job.kv, r->layer, r->job.count, err);
    return code == 0 ? mp_submit_prefill_keep(&e->graph, &r->p, r->layer, err) : code;
}

int mp_reader_submit(struct mp_reader *r, struct mp_error *err)
{
    const struct mp_engine *e = r->engine;
    int code = mp_submit_prefill_chunk(&e->graph, &r->p, r->layer, r->chunk, err);
    r->chunk++;
    if (r->chunk == r->p.num_chunks) {
        if (code == 0 && r->job.kv != NULL) {
            code = keep_layer(r, err);
        }
        r->chunk = 0;
        r->layer++;
    }
    return code;
}

/* Reports what has run when at most `pending` tasks of this prompt have not. */
static void show_progress(struct mp_reader *r, int pending)
{
    int total = r->engine->shape->num_hidden_layers * r->p.num_chunks;
    int submitted = total - mp_reader_units_left(r);
    double units = submitted - (double)pending / TASKS_PER_UNIT;
    report(r, units > 0 ? (int64_t)(units / total * (double)r->p.tokens) : 0);
}

/* Submits all units that are left, never more than two layers ahead of what has run, so that a
 * signal is heard soon and StarPU's queues stay short. */
int mp_reader_submit_all(struct mp_reader *r, struct mp_error *err)
{
    const struct mp_engine *e = r->engine;
    int ahead = 2 * (TASKS_PER_UNIT * r->p.num_chunks + TASKS_TO_KEEP);
    int code = 0;
    r->shown = true;
    report(r, 0);
    while (code == 0 && mp_reader_units_left(r) > 0) {
        int pending;
        code = mp_engine_stopped(e)
                   ? mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while reading the prompt")
                   : mp_reader_submit(r, err);
        while (code == 0 && (pending = mp_runtime_pending()) > ahead) {
            code = mp_runtime_wait_until(pending - 1, err);
            show_progress(r, pending);
        }
    }
    return code;
}

/* ---- logits ---- */

static int sink_logits(struct mp_reader *r, struct mp_error *err)
{
    const struct mp_engine *e = r->engine;
    const struct mp_prefill *p = &r->p;
    struct mp_buffer logits = {0};
    size_t bytes = (size_t)e->shape->vocab_size * sizeof(float);
    int code = mp_buffer_alloc(&logits, MP_PLACE_PINNED, MP_LOGITS_ROWS * bytes, "logits", err);
    for (int c = 0; c < p->num_chunks && code == 0; c++) {
        for (int64_t row = 0; row < p->chunks[c].rows && code == 0; row += MP_LOGITS_ROWS) {
            if (mp_engine_stopped(e)) {
                code = mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while computing logits");
                break;
            }
            int64_t left = p->chunks[c].rows - row;
            int64_t rows = left < MP_LOGITS_ROWS ? left : MP_LOGITS_ROWS;
            code = mp_submit_prefill_logits(&e->graph, p, c, row, rows, &logits, err);
            if (code == 0) {
                code = mp_buffer_acquire(&logits, false, err);
            }
            if (code == 0) {
                code = r->job.sink(r->job.sink_arg, logits.data, rows, err);
                mp_buffer_return(&logits);
            }
        }
    }
    mp_buffer_release(&logits);
    return code;
}

int mp_reader_finish(struct mp_reader *r, struct mp_error *err)
{
    const struct mp_prefill *p = &r->p;
    int last = p->num_chunks - 1;
    int code = 0;
    while (code == 0 && mp_runtime_pending() > 0) {
        int pending = mp_runtime_pending();
        code = pending > 0 ? mp_runtime_wait_until(pending - 1, err) : 0;
        show_progress(r, pending);
    }
    if (code == 0 && r->job.sink != NULL) {
        code = sink_logits(r, err);
    }
    if (code == 0 && r->job.last_logits != NULL) {
        code = mp_submit_prefill_logits(&r->engine->graph, p, last, p->chunks[last].rows - 1, 1,
                                        r->job.last_logits, err);
    }
    return code;
}

int mp_prefill_run(const struct mp_engine *e, const struct mp_prefill_job *job,
                   struct mp_error *err)
{
    struct mp_reader *r;
    int code = mp_reader_open(e, job, &r, err);
    if (code != 0) {
        return code;
    }
    code = mp_reader_submit_all(r, err);
    if (code == 0) {
        code = mp_reader_finish(r, err);
    }
    mp_reader_close(r);
    return code;
}
