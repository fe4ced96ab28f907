#include "pipeline/engine/slot.h"

#include "core/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t mp_slot_offloaded(const struct mp_slot *r)
{
    return r->info.prompt_tokens - r->fixed_prompt;
}

static const enum mp_place SELECTION_PLACES[2] = {MP_PLACE_HOST, MP_PLACE_GPU};

static size_t selection_bytes(const struct mp_engine *e, const struct mp_slot *r)
{
    return (size_t)mp_slot_offloaded(r) * (size_t)e->shape->num_attention_heads * sizeof(uint32_t);
}

void mp_slot_close(struct mp_slot *r, const struct mp_engine *e)
{
    mp_kv_destroy(e, r->kv);
    for (int i = 0; i < 2; i++) {
        mp_memory_free(SELECTION_PLACES[i], r->selection[i], selection_bytes(e, r));
    }
    mp_free(r->ids);
    free(r->own_eos);
    mp_request_text_close(r->text);
    free(r->expected_nnz);
    free(r->sampled_sum);
    free(r->sampled_mean);
    *r = (struct mp_slot){0};
}

/* ---- one request's progress ---- */

static bool is_eos(const struct mp_slot *r, int32_t id)
{
    for (int i = 0; i < r->num_eos; i++) {
        if (r->eos[i] == id) {
            return true;
        }
    }
    return false;
}

void mp_slot_append(struct mp_slot *r, const struct mp_engine *e, int32_t id)
{
    if (r->info.finish != MP_FINISH_NONE) {
        return; /* another request's callback has cancelled it in this step */
    }
    r->ids[r->info.prompt_tokens + r->info.generated_tokens] = id;
    r->info.generated_tokens++;
    int64_t length = r->info.prompt_tokens + r->info.generated_tokens;
    if (is_eos(r, id)) {
        r->info.finish = MP_FINISH_EOS;
    } else if (r->info.generated_tokens >= r->max_new_tokens ||
               length >= mp_model_max_positions(e->model)) {
        r->info.finish = MP_FINISH_LENGTH;
    }
    mp_request_text_append(r->text, &r->info);
}

/* Room for lookups wherever the tables of a layer are. */
static int create_selections(const struct mp_engine *e, struct mp_slot *r, struct mp_error *err)
{
    for (int l = 0; l < e->shape->num_hidden_layers && mp_slot_offloaded(r) > 0; l++) {
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

int mp_slot_open(struct mp_slot *r, const struct mp_engine *e, const int32_t *ids, int64_t count,
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
    r->eos = e->eos;
    r->num_eos = e->num_eos;
    r->sampling = e->config->sampling;
    mp_rng_init(&r->rng, r->sampling.seed, stream);
    mp_engine_rope(e, count, &r->rope);

    int64_t offloaded = mp_slot_offloaded(r);
    for (size_t l = 0; l < layers; l++) {
        r->sampled_mean[l] = NAN;
        /* Before the first step: the paper's usual two percent. */
        r->expected_nnz[l] = 0.02 * (double)offloaded * e->shape->num_attention_heads;
    }
    r->kv = mp_xcalloc(layers, sizeof *r->kv);
    return create_selections(e, r, err);
}

/* Room in every cache for the token about to be fed in. */
static int reserve(const struct mp_engine *e, struct mp_slot *r, int64_t position,
                   int64_t fixed_index, struct mp_error *err)
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

int mp_slot_feed(struct mp_slot *r, const struct mp_engine *e, struct mp_step_buffers *b, int n,
                 struct mp_decode_row *row, struct mp_error *err)
{
    /* The last generated token is fed in; it follows all the others in the caches. */
    int64_t fed = r->info.generated_tokens - 1;
    int64_t position = r->info.prompt_tokens + fed;
    int64_t fixed_index = r->fixed_prompt + fed;
    int code = reserve(e, r, position, fixed_index, err);
    if (mp_model_rope_varies(e->model)) {
        mp_engine_rope(e, position + 1, &r->rope);
    }
    ((int32_t *)b->ids.data)[n] = r->ids[position];
    for (int p = 0; p < 2; p++) {
        b->selection[p].ids[n] = r->selection[p];
        b->selection[p].stride[n] = mp_slot_offloaded(r);
    }
    *row = (struct mp_decode_row){
        .kv = r->kv,
        .rope = &r->rope,
        .position = position,
        .fixed_index = fixed_index,
        .sampling = &r->sampling,
        .rng = &r->rng,
        .expected_nnz = r->expected_nnz,
    };
    return code;
}

double mp_slot_count(struct mp_slot *r, const struct mp_engine *e, const struct mp_step_buffers *b,
                     int n)
{
    int heads = e->shape->num_attention_heads;
    double candidates = (double)(mp_slot_offloaded(r) * heads);
    double step = 0.0;
    double total = 0.0;
    int sparse_layers = 0;
    r->steps++;
    if (candidates == 0.0) {
        return NAN;
    }
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        if (!e->sparse[l]) {
            continue;
        }
        const int32_t *counts = (const int32_t *)b->nnz[l].data + (int64_t)n * heads;
        double nnz = 0.0;
        for (int h = 0; h < heads; h++) {
            nnz += counts[h];
        }
        r->expected_nnz[l] = nnz;
        step += nnz / candidates;
        r->sampled_sum[l] += nnz / candidates;
        r->sampled_mean[l] = r->sampled_sum[l] / (double)r->steps;
        total += r->sampled_mean[l];
        sparse_layers++;
    }
    r->info.sampled_mean = sparse_layers > 0 ? total / sparse_layers : NAN;
    return sparse_layers > 0 ? step / sparse_layers : NAN;
}
