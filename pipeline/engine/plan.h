/* The memory plan: what a run will hold, before anything is loaded. */
#ifndef MP_PIPELINE_PLAN_H
#define MP_PIPELINE_PLAN_H

#include "core/base/error.h"
#include "core/config/config.h"
#include "core/machine/device.h"
#include "core/trace/profile.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct cJSON;
struct mp_engine;

enum mp_plan_row {
    MP_PLAN_WEIGHTS,      /* bf16 matrices, f32 vectors */
    MP_PLAN_SHARED,       /* of the method: what all layers share, e.g. hash functions */
    MP_PLAN_STATIC_KV,    /* sink, window and generated tokens of sparse layers */
    MP_PLAN_DENSE_KV,     /* dense layers */
    MP_PLAN_GROWING,      /* the largest of these caches once more, while it grows */
    MP_PLAN_OFFLOADED_KV, /* offloaded keys and values */
    MP_PLAN_INDEX,        /* of the method: what it makes of the keys, e.g. hash tables */
    MP_PLAN_SELECTION,    /* room for selected ids */
    MP_PLAN_PROMPTS,      /* of a variant: the KV that its base keeps */
    MP_PLAN_PREFIXES,     /* KV of past prompts, kept for those that begin alike */
    MP_PLAN_PREFILL,      /* residual stream, q, o, staging, index scratch of one request, with
                             residual stream and scratch of a short one that it lets in; of a
                             variant, which reads no prompts, the scratch alone */
    MP_PLAN_STEP,         /* decode activations and logits; or a block of the prompt's logits */
    MP_PLAN_WORKSPACE,    /* of the GPU's kernels */
    MP_PLAN_PROCESS,      /* code, libraries, tokenizer, kernel scratch: measured, see plan.c */
    MP_PLAN_ROWS,
};

/* Where it is held. */
enum mp_plan_device {
    MP_PLAN_CPU,
    MP_PLAN_GPU, /* the first one; others follow it */
    MP_PLAN_DEVICES = MP_PLAN_GPU + MP_MAX_GPUS,
};

/* Which layers a device of dense work has: device s those from first[s] to first[s + 1] - 1. */
struct mp_stages {
    int first[MP_MAX_GPUS + 1]; /* [devices + 1] */
};

struct mp_plan {
    int64_t tokens; /* context planned for, per request */
    int batch;      /* requests */
    int gpus;       /* GPUs in it */
    int devices;    /* between which layers are split: they, or what stands for them; or 1 */
    struct mp_stages stages;
    int parts;         /* of every layer, one on each of so many; 1: all of it is on one */
    bool variant;      /* of an engine that has another one's prompts */
    int sparse_layers; /* layers whose static cache has sink, window and generated tokens alone */
    int kept_layers;   /* of them, those whose offloaded tokens are kept to select from */
    int ranks;        /* that the KV heads are dealt out to; of one with the most is what follows */
    int64_t sent;     /* bytes that it sends in a step, to all others together */
    int64_t received; /* bytes that come to it, from all of them */
    int gpu_kv_layers;       /* of these, with their offloaded KV and index in GPU memory */
    const char *shared_name; /* of MP_PLAN_SHARED; NULL: the method has nothing of the kind */
    const char *index_name;  /* of MP_PLAN_INDEX; likewise */
    int64_t bytes[MP_PLAN_DEVICES][MP_PLAN_ROWS]; /* bytes held; all requests together where it
                                                     applies; INT64_MAX: that or more, which fits
                                                     nowhere */
    int64_t total[MP_PLAN_DEVICES];               /* their sums: the peaks */
    int64_t gpu_limit;                            /* bytes it may use on each GPU */
};

/* Plan of as many requests as the configuration decodes together, each of up to `tokens`, which the
 * model's positions bound, and `new_tokens` generated after them (0: only the logits of one prompt
 * are wanted). Layers are split between the devices by their memory. With runtime.gpu_kv_layers -1
 * it keeps the KV and index of as many layers on the GPUs as fit. Every term is what the function
 * that will allocate it asks for, as if one CPU worker had all heads: several take a copy of a
 * step's queries more. */
void mp_plan_make(const struct mp_engine *e, int64_t tokens, int64_t new_tokens,
                  struct mp_plan *out);

/* INT64_MAX is more than can be counted. */
static inline bool mp_plan_fits(int64_t bytes, int64_t limit)
{
    return bytes < INT64_MAX && bytes <= limit;
}

/* Bytes that it holds on the GPU that holds most. */
int64_t mp_plan_gpu_total(const struct mp_plan *plan);

/* The work of a decode step of all requests, by ops; no times. To be freed with mp_profile_free. */
struct mp_step_work {
    struct mp_profile all;
    struct mp_profile selecting; /* of these, what a method selects by */
};

/* What the tasks of such a step come to, right after the prompts, by what the codelets estimate
 * when they are submitted; in one micro-batch, and of a step that observes no error. share: of the
 * offloaded tokens that every head selects; NAN: as the method expects. */
void mp_plan_count_step(const struct mp_engine *e, const struct mp_plan *plan, double share,
                        struct mp_step_work *out);

/* Bytes the plan may use: config->memory_limit, else what the system has left, or the limit of a
 * container. */
int64_t mp_plan_limit(const struct mp_config *config);

/* MP_ERR_MEMORY with the numbers if it does not fit. */
int mp_plan_check(const struct mp_plan *plan, const struct mp_config *config, struct mp_error *err);

/* Bytes for people, such as "512 bytes", "1.50 MiB" or "14.96 GiB"; returns out. */
enum { MP_SIZE_TEXT = 32 };
const char *mp_size_text(int64_t bytes, char out[MP_SIZE_TEXT]);

/* The plan as a table; and for programs: bytes by row and device. The caller's: cJSON_Delete. */
void mp_plan_print(const struct mp_plan *plan, const struct mp_config *config, FILE *out);
struct cJSON *mp_plan_json(const struct mp_plan *plan, const struct mp_config *config);

#endif
