/* Tasks that prefill and decode submit alike. */
#include "codelets/common/task/task.h"
#include "codelets/embed/embed.h"
#include "codelets/ffn/ffn.h"
#include "codelets/lm_head/lm_head.h"
#include "codelets/sample/sample.h"
#include "core/base/memory.h"
#include "tasks/layer.h"

#include <string.h>

int mp_submit_embed(const struct mp_graph *g, enum mp_where where, int priority,
                    const struct mp_buffer *ids, const struct mp_buffer *x, int64_t rows,
                    const struct mp_span_info *about, struct mp_error *err)
{
    struct embed_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct embed_task){.rows = rows, .hidden_size = g->shape->hidden_size};
    struct mp_task *t = mp_task_new(&embed_codelet, arg, 3, where, about);
    mp_task_reads(t, ids);
    mp_task_reads(t, &g->weights->embed);
    mp_task_writes(t, x);
    return mp_task_submit(t, priority, err);
}

int mp_submit_ffn(const struct mp_graph *g, enum mp_where where, int priority, int layer,
                  const struct mp_buffer *x, int64_t first_row, int64_t rows,
                  const struct mp_span_info *about, struct mp_error *err)
{
    struct ffn_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct ffn_task){.shape = g->shape, .first_row = first_row, .rows = rows};
    struct mp_task *t = mp_task_new(&ffn_codelet, arg, 2, where, about);
    mp_task_reads(t, &g->weights->layers[layer].ffn);
    mp_task_updates(t, x);
    return mp_task_submit(t, priority, err);
}

int mp_submit_lm_head(const struct mp_graph *g, int priority, const struct mp_buffer *x,
                      int64_t first_row, int64_t rows, const struct mp_buffer *logits,
                      const struct mp_span_info *about, struct mp_error *err)
{
    struct lm_head_task *arg = mp_xmalloc(sizeof *arg);
    *arg = (struct lm_head_task){.shape = g->shape, .first_row = first_row, .rows = rows};
    struct mp_task *t =
        mp_task_new(&lm_head_codelet, arg, 4, g->gpu ? MP_ON_GPU : MP_ON_CPU, about);
    mp_task_reads(t, x);
    mp_task_reads(t, &g->weights->final_norm);
    mp_task_reads(t, g->shape->tied_embeddings ? &g->weights->embed : &g->weights->lm_head);
    mp_task_writes(t, logits);
    return mp_task_submit(t, priority, err);
}

int mp_submit_sample(const struct mp_graph *g, const struct mp_buffer *logits,
                     const struct mp_buffer *ids, int priority, const struct sample_row *row,
                     int64_t rows, const struct mp_span_info *about, struct mp_error *err)
{
    size_t row_bytes = (size_t)rows * sizeof *row;
    struct sample_task *arg = mp_xmalloc(sizeof *arg + row_bytes);
    *arg = (struct sample_task){.rows = rows, .vocab_size = g->shape->vocab_size};
    memcpy(arg->row, row, row_bytes);
    struct mp_task *t = mp_task_new(&sample_codelet, arg, 2, MP_ON_CPU, about);
    mp_task_reads(t, logits);
    mp_task_writes(t, ids);
    return mp_task_submit(t, priority, err);
}
