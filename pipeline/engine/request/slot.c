#include "pipeline/engine/request/slot.h"

#include "core/base/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int64_t mp_slot_offloaded(const struct mp_slot *r)
{
    return r->info.prompt_tokens - r->static_prompt + r->grown;
}

int64_t mp_slot_growth(const struct mp_slot *r, const struct mp_engine *e)
{
    return r->shared > 0 ? 0 : mp_kv_growth(e, r->info.prompt_tokens, r->max_new_tokens);
}

void mp_slot_close(struct mp_slot *r, const struct mp_engine *e)
{
    mp_prefix_retire(e, r->segment);
    for (int p = 0; r->selections != NULL && p < mp_num_parts(e); p++) {
        mp_selections_destroy(mp_part(e, p), r->selections[p]);
    }
    free(r->selections);
    mp_free(r->ids);
    free(r->own_eos);
    mp_request_text_close(r->text);
    free(r->expected_nnz);
    free(r->sampled_sum);
    free(r->sampled_mean);
    mp_observation_destroy(&r->observation);
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
    int64_t length = r->info.prompt_tokens + ++r->info.generated_tokens;
    if (length <= r->given) {
        return;
    }
    r->ids[length - 1] = id;
    if (is_eos(r, id)) {
        r->info.finish = MP_FINISH_EOS;
    } else if (r->info.generated_tokens >= r->max_new_tokens ||
               length >= mp_model_max_positions(e->model)) {
        r->info.finish = MP_FINISH_LENGTH;
    }
    mp_request_text_append(r->text, &r->info);
}

double mp_expected_selected(const struct mp_engine *e, int64_t offloaded)
{
    const struct mp_method *method = e->attention.method;
    double share = method->expected_share != NULL && offloaded > 0
                       ? method->expected_share(&e->attention, offloaded)
                       : 0.0;
    return share * (double)offloaded * e->shape->num_attention_heads;
}

/* Before the first step the method says how many tokens each head will select. */
static void expect(const struct mp_engine *e, struct mp_slot *r)
{
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        r->sampled_mean[l] = NAN;
        r->expected_nnz[l] = mp_expected_selected(e, mp_slot_offloaded(r));
    }
}

/* What of the prompt is kept where. */
static void share_prefix(struct mp_slot *r, const struct mp_engine *e, int64_t count,
                         const struct mp_prefix *prefix)
{
    r->static_prompt = mp_static_tokens(&e->graph, count);
    if (prefix->shared) {
        r->shared = prefix->tokens;
        r->static_prompt = e->graph.sink + count - prefix->tokens;
        r->segment->lender = prefix->segment;
        mp_segment_ref(prefix->segment);
    }
}

int mp_slot_open(struct mp_slot *r, const struct mp_engine *e, const int32_t *ids, int64_t count,
                 int64_t max_new_tokens, uint64_t stream, const struct mp_prefix *prefix,
                 struct mp_error *err)
{
    size_t layers = (size_t)e->shape->num_hidden_layers;
    /* Generation ends with the model's positions; the last token is never fed in. */
    int64_t left = mp_model_max_positions(e->model) + 1 - count;
    int64_t room = count + (max_new_tokens < left ? max_new_tokens : left);
    r->used = true;
    r->max_new_tokens = max_new_tokens;
    r->segment = mp_segment_create(e);
    share_prefix(r, e, count, prefix);
    r->ids = mp_alloc((size_t)room, sizeof *r->ids, "token ids", err);
    if (r->ids == NULL) {
        return MP_ERR_MEMORY;
    }
    memcpy(r->ids, ids, (size_t)count * sizeof *ids);
    r->given = count;
    r->expected_nnz = mp_xcalloc(layers, sizeof *r->expected_nnz);
    r->sampled_sum = mp_xcalloc(layers, sizeof *r->sampled_sum);
    r->sampled_mean = mp_xcalloc(layers, sizeof *r->sampled_mean);
    mp_observation_create(&r->observation, e);
    r->info = (struct mp_request){
        .ids = r->ids,
        .prompt_tokens = count,
        .sampled = r->sampled_mean,
        .num_layers = (int)layers,
        .sampled_mean = NAN,
        .error = r->observation.error,
        .error_mean = NAN,
        .cached_tokens = prefix->tokens,
    };
    r->eos = e->eos;
    r->num_eos = e->num_eos;
    r->sampling = e->config->sampling;
    r->epsilon = (double)e->config->epsilon;
    r->stream = stream;
    mp_rng_init(&r->rng, r->sampling.seed, stream);
    mp_engine_rope(e, count, &r->rope);

    expect(e, r);
    struct mp_allocator a = mp_request_allocator(e, err);
    r->selections = mp_xcalloc((size_t)mp_num_parts(e), sizeof *r->selections);
    for (int p = 0; p < mp_num_parts(e); p++) {
        r->selections[p] =
            mp_selections_create(mp_part(e, p), &a, mp_slot_offloaded(r) + mp_slot_growth(r, e));
    }
    return a.code;
}

/* Where the last generated token goes, which is fed in next: it follows all the others. */
static int64_t next_position(const struct mp_slot *r)
{
    return r->info.prompt_tokens + r->info.generated_tokens - 1;
}

int64_t mp_slot_static_index(const struct mp_slot *r)
{
    return r->static_prompt + r->info.generated_tokens - 1 - r->grown;
}

static int reserve_part(struct mp_slot *r, const struct mp_engine *part, struct mp_error *err)
{
    struct mp_layer_kv *kv = mp_part_layers(part, r->segment->layers);
    for (int l = 0; l < part->shape->num_hidden_layers; l++) {
        int64_t used = part->graph.placements.layers[l].sparse ? mp_slot_static_index(r)
                                                               : next_position(r) - r->shared;
        int code = mp_kv_cache_reserve(part, l, &kv[l].static_cache, used, used + 1, err);
        if (code != 0) {
            return code;
        }
    }
    return 0;
}

int mp_slot_reserve(struct mp_slot *r, const struct mp_engine *e, struct mp_error *err)
{
    int code = 0;
    for (int p = 0; p < mp_num_parts(e) && code == 0; p++) {
        code = reserve_part(r, mp_part(e, p), err);
    }
    return code;
}

struct sample_row mp_slot_sample(struct mp_slot *r, const struct mp_engine *e)
{
    const struct mp_ids *tokenless = &e->host->tokenless;
    return (struct sample_row){&r->sampling, &r->rng, tokenless->data, (int64_t)tokenless->count};
}

void mp_slot_feed(struct mp_slot *r, const struct mp_engine *e, struct mp_step_buffers *b, int n,
                  struct mp_decode_row *const *rows)
{
    int64_t position = next_position(r);
    if (mp_model_rope_varies(e->model)) {
        mp_engine_rope(e, position + 1, &r->rope);
    }
    ((int32_t *)b->ids.data)[n] = r->ids[position];
    const struct mp_decode_row row = {
        .shared = r->shared,
        .rope = &r->rope,
        .position = position,
        .static_index = mp_slot_static_index(r),
        .stream = r->stream,
        .sample = mp_slot_sample(r, e),
        .expected_nnz = r->expected_nnz,
        .samples = r->observation.samples,
    };
    for (int p = 0; p < mp_num_parts(e); p++) {
        rows[p][n] = row;
        rows[p][n].kv = mp_part_layers(mp_part(e, p), r->segment->layers);
        rows[p][n].selections = r->selections[p];
    }
}

/* Tokens that a layer selected for row n, all heads. */
static double count_selected(const struct mp_engine *e, const struct mp_step_buffers *b, int n,
                             int layer)
{
    const struct mp_shards *shards = mp_shards_of(&e->graph.placements, layer);
    double nnz = 0.0;
    for (int i = 0; shards != NULL && i < shards->total; i++) {
        const struct mp_step_shard *part = &b->shards[e->graph.placements.layers[layer].cut][i];
        int served = e->attention.method->shared_rows ? mp_shape_group(e->shape) : 1;
        int selections = shards->list[i].num_kv_heads * mp_shape_group(e->shape) / served;
        const int32_t *counts = (const int32_t *)part->nnz[layer].data + (int64_t)n * selections;
        for (int h = 0; h < selections; h++) {
            nnz += (double)counts[h] * served;
        }
    }
    return nnz;
}

double mp_slot_count(struct mp_slot *r, const struct mp_engine *e, const struct mp_step_buffers *b,
                     int n)
{
    double candidates = (double)(mp_slot_offloaded(r) * e->shape->num_attention_heads);
    double step = 0.0;
    double total = 0.0;
    int sparse_layers = 0;
    r->steps++;
    if (candidates == 0.0) {
        return NAN;
    }
    r->sampled_steps++;
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        if (!e->graph.placements.layers[l].sparse) {
            continue;
        }
        r->expected_nnz[l] = 0.0;
        for (int p = 0; p < mp_num_parts(e); p++) {
            r->expected_nnz[l] += count_selected(mp_part(e, p), &b[p], n, l);
        }
        step += r->expected_nnz[l] / candidates;
        r->sampled_sum[l] += r->expected_nnz[l] / candidates;
        r->sampled_mean[l] = r->sampled_sum[l] / (double)r->sampled_steps;
        total += r->sampled_mean[l];
        sparse_layers++;
    }
    r->info.sampled_mean = sparse_layers > 0 ? total / sparse_layers : NAN;
    return sparse_layers > 0 ? step / sparse_layers : NAN;
}
