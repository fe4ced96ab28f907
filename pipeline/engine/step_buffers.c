/* The activations of one micro-batch. */
#include "core/base/memory.h"
#include "pipeline/engine/internal.h"

#include <stdlib.h>

/* ---- what shares write ---- */

/* One more handle of the same memory. */
static void wrap_again(struct mp_buffer *again, const struct mp_buffer *b)
{
    mp_buffer_wrap(again, b->place, b->data, b->bytes);
}

static void create_share(const struct mp_engine *e, struct mp_step_buffers *b,
                         struct lsh_selection *selection, struct mp_step_share *out)
{
    int layers = e->shape->num_hidden_layers;
    mp_buffer_wrap(&out->selection, MP_PLACE_HOST, selection, sizeof *selection);
    out->nnz = mp_xcalloc((size_t)layers, sizeof *out->nnz);
    for (int l = 0; l < layers; l++) {
        wrap_again(&out->nnz[l], &b->nnz[l]);
    }
    wrap_again(&out->o_sampled, &b->o_sampled);
    wrap_again(&out->lse_sampled, &b->lse_sampled);
}

static void create_shares(const struct mp_engine *e, struct mp_step_buffers *b)
{
    for (int p = 0; p < 2; p++) {
        int count = e->graph.shares[p].count;
        b->shares[p] = mp_xcalloc((size_t)count, sizeof *b->shares[p]);
        for (int i = 0; i < count; i++) {
            create_share(e, b, &b->selection[p], &b->shares[p][i]);
        }
    }
}

static void destroy_share(const struct mp_engine *e, struct mp_step_share *share)
{
    mp_buffer_release(&share->selection);
    for (int l = 0; share->nnz != NULL && l < e->shape->num_hidden_layers; l++) {
        mp_buffer_release(&share->nnz[l]);
    }
    free(share->nnz);
    mp_buffer_release(&share->o_sampled);
    mp_buffer_release(&share->lse_sampled);
}

static void destroy_shares(const struct mp_engine *e, struct mp_step_buffers *b)
{
    for (int p = 0; p < 2; p++) {
        for (int i = 0; b->shares[p] != NULL && i < e->graph.shares[p].count; i++) {
            destroy_share(e, &b->shares[p][i]);
        }
        free(b->shares[p]);
    }
}

/* ---- all of them ---- */

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
    if (code == 0) {
        create_shares(e, out);
    } else {
        mp_step_buffers_destroy(e, out);
    }
    return code;
}

void mp_step_buffers_destroy(const struct mp_engine *e, struct mp_step_buffers *b)
{
    struct mp_buffer *const all[] = {&b->ids,         &b->x,        &b->q,          &b->q_host,
                                     &b->codes,       &b->o_static, &b->lse_static, &b->o_sampled,
                                     &b->lse_sampled, &b->logits};
    destroy_shares(e, b);
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
