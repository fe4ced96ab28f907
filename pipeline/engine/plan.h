/* The memory plan: what a run will hold, before anything is loaded. */
#ifndef MP_PIPELINE_PLAN_H
#define MP_PIPELINE_PLAN_H

#include "core/base/dtype.h"
#include "core/base/error.h"
#include "core/base/shape.h"
#include "core/config/config.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum mp_plan_row {
    MP_PLAN_WEIGHTS,        /* bf16 matrices, f32 vectors */
    MP_PLAN_HASH_FUNCTIONS, /* LSH projections */
    MP_PLAN_STATIC_KV,      /* sink, window and generated tokens of sparse layers */
    MP_PLAN_DENSE_KV,       /* dense layers */
    MP_PLAN_OFFLOADED_KV,   /* offloaded keys and values */
    MP_PLAN_TABLES,         /* hash tables */
    MP_PLAN_SELECTION,      /* room for looked-up ids */
    MP_PLAN_PREFILL,        /* residual stream, q, o, staging, key codes of one request */
    MP_PLAN_STEP,           /* decode activations and logits; or a block of the prompt's logits */
    MP_PLAN_WORKSPACE,      /* of the GPU's kernels */
    MP_PLAN_PROCESS,        /* code, libraries, tokenizer, kernel scratch: measured, see plan.c */
    MP_PLAN_ROWS,
};

/* Where it is held. */
enum mp_plan_device {
    MP_PLAN_CPU,
    MP_PLAN_GPU,
    MP_PLAN_DEVICES,
};

/* The run to plan for. */
struct mp_plan_run {
    const struct mp_config *config;
    const struct mp_shape *shape;
    int sparse_layers;   /* layers that sample */
    enum mp_dtype dtype; /* of the caches */
    int64_t tokens;      /* longest prompt */
    int64_t new_tokens;  /* most generated after it; 0: only the logits of one prompt are wanted */
    bool gpu;            /* dense work runs on a GPU */
    int64_t gpu_limit;   /* bytes the plan may use there */
};

struct mp_plan {
    int64_t tokens;    /* context planned for, per request */
    int batch;         /* requests */
    bool gpu;          /* there is a GPU in it */
    int sparse_layers; /* layers that sample */
    int gpu_kv_layers; /* of them, with their offloaded KV and tables in GPU memory */
    int64_t bytes[MP_PLAN_DEVICES][MP_PLAN_ROWS]; /* bytes held; all requests together where it
                                                     applies */
    int64_t total[MP_PLAN_DEVICES];               /* their sums: the peaks */
    int64_t gpu_limit;                            /* bytes it may use on the GPU */
};

/* Plan of `config->batch` requests of run->tokens, which a model's positions bound. With
 * config->gpu_kv_layers = -1 it keeps the KV and tables of as many layers on the GPU as fit. */
void mp_plan_make(const struct mp_plan_run *run, struct mp_plan *out);

/* Bytes the plan may use: config->memory_limit, else what the system has left, or the limit of a
 * container. */
int64_t mp_plan_limit(const struct mp_config *config);

/* MP_ERR_MEMORY with the numbers if it does not fit. */
int mp_plan_check(const struct mp_plan *plan, const struct mp_config *config, struct mp_error *err);

/* Bytes in GiB. */
static inline double mp_gib(int64_t bytes)
{
    return (double)bytes / (double)(INT64_C(1) << 30);
}

/* The plan as a table. */
void mp_plan_print(const struct mp_plan *plan, const struct mp_config *config, FILE *out);

#endif
