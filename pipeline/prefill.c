/* The exact prefill of one prompt: chunks, staging, submission, logits. */
#include "core/memory.h"
#include "core/progress.h"
#include "pipeline/internal.h"
#include "pipeline/interrupt.h"

#include <stdlib.h>
#include <string.h>

static void destroy(const struct mp_engine *e, struct mp_prefill *p, struct kv_cache staging[2])
{
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
        mp_kv_cache_destroy(&staging[i], e);
    }
    mp_buffer_release(&p->codes);
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

/* Largest number of offloaded tokens among the layers. */
static int64_t most_offloaded(const struct mp_engine *e, const struct mp_layer_kv *kv)
{
    int64_t most = 0;
    for (int l = 0; kv != NULL && l < e->shape->num_hidden_layers; l++) {
        most = kv[l].offloaded.capacity > most ? kv[l].offloaded.capacity : most;
    }
    return most;
}

static int create(const struct mp_engine *e, const struct mp_prefill_job *job, struct mp_prefill *p,
                  struct kv_cache staging[2], struct mp_error *err)
{
    const struct mp_shape *s = e->shape;
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
            (size_t)most_offloaded(e, job->kv) * (size_t)s->num_key_value_heads * (size_t)e->lsh.L;
        code = mp_buffer_alloc(&p->codes, mp_shared_place(e), codes * sizeof(uint16_t), "key codes",
                               err);
    }
    return code;
}

/* Tasks a layer submits, offload and tables included (the last layer may have fewer). */
static int tasks_per_layer(const struct mp_prefill *p)
{
    return 4 * p->num_chunks + 3;
}

/* Waits until at most `limit` tasks are left, moving the bar (in prompt tokens) as they finish. */
static int wait_until(const struct mp_engine *e, const struct mp_prefill *p, int limit,
                      int layers_submitted, struct mp_progress *bar, struct mp_error *err)
{
    int64_t total = (int64_t)e->shape->num_hidden_layers * tasks_per_layer(p);
    int pending;
    while ((pending = mp_runtime_pending()) > limit) {
        int code = mp_runtime_wait_until(pending - 1, err);
        if (code != 0) {
            return code;
        }
        int64_t done = (int64_t)layers_submitted * tasks_per_layer(p) - mp_runtime_pending();
        /* Negative while the embedding, which is not counted, is still pending. */
        mp_progress_set(bar, done > 0 ? p->tokens * done / total : 0);
    }
    return 0;
}

/* Submits all layers, never more than two ahead of what has run, so that a signal is heard soon
 * and StarPU's queues stay short. */
static int run_layers(const struct mp_engine *e, const struct mp_prefill *p, struct mp_error *err)
{
    int layers = e->shape->num_hidden_layers;
    struct mp_progress *bar = mp_progress_start("reading the prompt", "tok", p->tokens);
    int code = mp_submit_prefill_embed(&e->graph, p, err);
    for (int l = 0; l < layers && code == 0; l++) {
        if (mp_interrupted()) {
            code = mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while reading the prompt");
            break;
        }
        code = mp_submit_prefill_layer(&e->graph, p, l, err);
        if (code == 0) {
            code = wait_until(e, p, tasks_per_layer(p), l + 1, bar, err);
        }
    }
    if (code == 0) {
        code = wait_until(e, p, 0, layers, bar, err);
    }
    mp_progress_end(bar);
    return code;
}

/* Rows of logits computed and handed to a sink at a time. */
enum { LOGITS_ROWS = 256 };

static int sink_logits(const struct mp_engine *e, const struct mp_prefill *p,
                       const struct mp_prefill_job *job, struct mp_error *err)
{
    struct mp_buffer logits = {0};
    size_t row = (size_t)e->shape->vocab_size * sizeof(float);
    int code = mp_buffer_alloc(&logits, MP_PLACE_PINNED, LOGITS_ROWS * row, "logits", err);
    for (int c = 0; c < p->num_chunks && code == 0; c++) {
        for (int64_t r = 0; r < p->chunks[c].rows && code == 0; r += LOGITS_ROWS) {
            if (mp_interrupted()) {
                code = mp_fail(err, MP_ERR_INTERRUPTED, "interrupted while computing logits");
                break;
            }
            int64_t left = p->chunks[c].rows - r;
            int64_t rows = left < LOGITS_ROWS ? left : LOGITS_ROWS;
            code = mp_submit_prefill_logits(&e->graph, p, c, r, rows, &logits, err);
            if (code == 0) {
                code = mp_buffer_acquire(&logits, false, err);
            }
            if (code == 0) {
                code = job->sink(job->sink_arg, logits.data, rows, err);
                mp_buffer_return(&logits);
            }
        }
    }
    mp_buffer_release(&logits);
    return code;
}

int mp_prefill_run(const struct mp_engine *e, const struct mp_prefill_job *job,
                   struct mp_error *err)
{
    struct mp_prefill p = {0};
    struct kv_cache staging[2] = {{0}};
    int code = create(e, job, &p, staging, err);
    if (code == 0) {
        code = run_layers(e, &p, err);
    }
    if (code == 0 && job->sink != NULL) {
        code = sink_logits(e, &p, job, err);
    }
    if (code == 0 && job->last_logits != NULL) {
        int last = p.num_chunks - 1;
        code = mp_submit_prefill_logits(&e->graph, &p, last, p.chunks[last].rows - 1, 1,
                                        job->last_logits, err);
    }
    /* Buffers wait for their tasks when they are released. */
    destroy(e, &p, staging);
    return code;
}
