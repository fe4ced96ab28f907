/* How far a request's attention is from exact attention, by what its steps have sampled; and how
 * many tokens it samples next. */
#include "core/base/memory.h"
#include "pipeline/engine/request/slot.h"

#include <math.h>
#include <stdlib.h>

/* Observing a step costs about what sampled attention does: one in so many is. While samples follow
 * the error, so are as many first ones. */
enum { INTERVAL = 16 };

void mp_observation_create(struct mp_observation *o, const struct mp_engine *e)
{
    size_t layers = (size_t)e->shape->num_hidden_layers;
    int64_t samples = e->config->samples;
    o->squares = mp_xcalloc(layers, sizeof *o->squares);
    o->error = mp_xcalloc(layers, sizeof *o->error);
    o->variance = mp_xcalloc(layers, sizeof *o->variance);
    o->samples = mp_xcalloc(layers, sizeof *o->samples);
    if (e->config->epsilon > 0.0f && samples > MP_MOST_SAMPLES) {
        samples = MP_MOST_SAMPLES;
    }
    for (size_t l = 0; l < layers; l++) {
        o->error[l] = NAN;
        o->samples[l] = samples;
    }
}

void mp_observation_destroy(struct mp_observation *o)
{
    free(o->squares);
    free(o->error);
    free(o->variance);
    free(o->samples);
    *o = (struct mp_observation){0};
}

bool mp_slot_observes(const struct mp_slot *r, const struct mp_engine *e)
{
    if (!e->attention.method->estimates_error || mp_slot_offloaded(r) == 0) {
        return false;
    }
    bool follows = r->epsilon > 0.0 && r->observation.steps < INTERVAL;
    return r->observation.steps == 0 || follows || r->steps + 1 - r->observation.last >= INTERVAL;
}

/* Mean square over the heads of a layer of row n. */
static double mean_square(const struct mp_engine *e, const struct mp_step_buffers *b, int n,
                          int layer)
{
    const struct mp_placements *p = &e->graph.placements;
    const struct mp_shards *shards = mp_shards_of(p, layer);
    double sum = 0.0;
    for (int i = 0; i < shards->total; i++) {
        const struct mp_step_shard *part = &b->shards[p->layers[layer].cut][i];
        int heads = shards->list[i].num_kv_heads * mp_shape_group(e->shape);
        const float *error = (const float *)part->error[layer].data + (int64_t)n * heads;
        for (int h = 0; h < heads; h++) {
            sum += (double)error[h] * (double)error[h];
        }
    }
    return sum / e->shape->num_attention_heads;
}

/* The square goes with 1 / samples - 1 / tokens; the last steps count more. Of all tokens nothing
 * is learned: half of them will tell. */
static void follow(struct mp_observation *o, int layer, int64_t tokens, double square,
                   double epsilon)
{
    double rest = 1.0 / (double)o->samples[layer] - 1.0 / (double)tokens;
    if (rest <= 0.0) {
        o->samples[layer] = tokens / 2 > MP_LEAST_SAMPLES ? tokens / 2 : MP_LEAST_SAMPLES;
    } else {
        double *kept = &o->variance[layer];
        *kept = *kept == 0.0 ? square / rest : 0.75 * *kept + 0.25 * square / rest;
        double samples = rint(1.0 / (epsilon * epsilon / *kept + 1.0 / (double)tokens));
        o->samples[layer] = (int64_t)fmin(fmax(samples, MP_LEAST_SAMPLES), MP_MOST_SAMPLES);
    }
}

double mp_slot_observe(struct mp_slot *r, const struct mp_engine *e,
                       const struct mp_step_buffers *b, int n)
{
    struct mp_observation *o = &r->observation;
    double step = 0.0;
    double total = 0.0;
    int layers = 0;
    o->steps++;
    o->last = r->steps;
    for (int l = 0; l < e->shape->num_hidden_layers; l++) {
        if (!e->graph.placements.layers[l].sparse) {
            continue;
        }
        double square = 0.0;
        for (int p = 0; p < mp_num_parts(e); p++) {
            square += mean_square(mp_part(e, p), &b[p], n, l);
        }
        square /= mp_num_parts(e);
        o->squares[l] += square;
        o->error[l] = sqrt(o->squares[l] / (double)o->steps);
        if (r->epsilon > 0.0) {
            follow(o, l, mp_slot_offloaded(r), square, r->epsilon);
        }
        step += sqrt(square);
        total += o->error[l];
        layers++;
    }
    r->info.error_mean = layers > 0 ? total / layers : NAN;
    return layers > 0 ? step / layers : NAN;
}
