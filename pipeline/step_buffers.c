/* The activations of one micro-batch. */
#include "core/memory.h"
#include "pipeline/internal.h"

#include <stdlib.h>

int mp_step_buffers_create(const struct mp_engine *e, int rows, struct mp_step_buffers *out,
                           struct mp_error *err)
{
    const struct mp_shape *s = e->shape;
    size_t n = (size_t)rows;
    size_t heads = n * (size_t)s->num_attention_heads;
    size_t width = n * (size_t)mp_shape_q_width(s);

    enum mp_place dense = e->dense_place;
    enum mp_place shared = mp_shared_place(e);

    *out = (struct mp_step_buffers){0};
    for (int i = 0; i < 2; i++) {
        struct lsh_selection *selection = &out->selection[i];
        selection->ids = mp_xcalloc(n, sizeof *selection->ids);
        selection->stride = mp_xcalloc(n, sizeof *selection->stride);
        mp_buffer_wrap(&out->selection_buffer[i], MP_PLACE_HOST, selection, sizeof *selection);
    }
    out->nnz = mp_xcalloc((size_t)s->num_hidden_layers, sizeof *out->nnz);

    const struct {
        struct mp_buffer *buffer;
        enum mp_place place;
        size_t bytes;
        const char *what;
    } list[] = {
        {&out->ids, MP_PLACE_PINNED, n * sizeof(int32_t), "token ids"},
        {&out->x, dense, n * (size_t)s->hidden_size * sizeof(float), "residual stream"},
        {&out->q, dense, width * sizeof(float), "queries"},
        {&out->q_host, shared, shared == dense ? 0 : width * sizeof(float), "queries"},
        {&out->codes, shared, heads * (size_t)e->lsh.L * sizeof(uint16_t), "query codes"},
        {&out->o_static, dense, width * sizeof(float), "static attention"},
        {&out->lse_static, dense, heads * sizeof(float), "static attention"},
        {&out->o_sampled, shared, width * sizeof(float), "sampled attention"},
        {&out->lse_sampled, shared, heads * sizeof(float), "sampled attention"},
        {&out->logits, MP_PLACE_PINNED, n * (size_t)s->vocab_size * sizeof(float), "logits"},
    };
    int code = 0;
    for (size_t i = 0; i < sizeof list / sizeof list[0] && code == 0; i++) {
        code = mp_buffer_alloc(list[i].buffer, list[i].place, list[i].bytes, list[i].what, err);
    }
    for (int l = 0; l < s->num_hidden_layers && code == 0; l++) {
        code = mp_buffer_alloc(&out->nnz[l], MP_PLACE_PINNED, heads * sizeof(int32_t),
                               "selection sizes", err);
    }
    if (code != 0) {
        mp_step_buffers_destroy(e, out);
    }
    return code;
}

void mp_step_buffers_destroy(const struct mp_engine *e, struct mp_step_buffers *b)
{
    struct mp_buffer *const all[] = {&b->ids,
                                     &b->x,
                                     &b->q,
                                     &b->q_host,
                                     &b->codes,
                                     &b->o_static,
                                     &b->lse_static,
                                     &b->o_sampled,
                                     &b->lse_sampled,
                                     &b->logits,
                                     &b->selection_buffer[0],
                                     &b->selection_buffer[1]};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mp_buffer_release(all[i]);
    }
    for (int l = 0; b->nnz != NULL && l < e->shape->num_hidden_layers; l++) {
        mp_buffer_release(&b->nnz[l]);
    }
    free(b->nnz);
    for (int i = 0; i < 2; i++) {
        free(b->selection[i].ids);
        free(b->selection[i].stride);
    }
    *b = (struct mp_step_buffers){0};
}
