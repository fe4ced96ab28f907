/* The run's configuration: magicpig_config.json, then command-line overrides. One table in
 * config.c describes every key: its JSON path, its flag, type, range, default and help line. */
#ifndef MP_CORE_CONFIG_H
#define MP_CORE_CONFIG_H

#include "core/base/error.h"
#include "core/base/sampling.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

struct cJSON;

enum mp_lsh_projection {
    MP_LSH_PER_HEAD, /* one W per KV head and group of lsh_layer_group layers */
    MP_LSH_SHARED,   /* one W for everything */
};

/* Who attends to what is selected of keys and values in CPU memory. */
enum mp_gather {
    MP_GATHER_AUTO, /* the GPU where one request is decoded at a time by a method whose query heads
                       share their rows; else CPU workers */
    MP_GATHER_CPU,
    MP_GATHER_GPU,
};

/* What several GPUs have of a model. */
enum mp_parallel {
    MP_PARALLEL_LAYERS, /* each has some layers */
    MP_PARALLEL_TENSOR, /* each has a part of every layer */
};

enum mp_kv_dtype {
    MP_KV_BF16, /* as the model computes them; f32 on the reference path */
    MP_KV_INT8, /* with a scale a token and KV head */
};

enum mp_binding {
    MP_BIND_CORES, /* threads to the cores that the program chose for them */
    MP_BIND_NONE,
};

enum { MP_MAX_BATCH = 256 };

/* The verbs of the command line. Sets of them are unsigned. */
enum mp_verb {
    MP_VERB_GENERATE = 1 << 0,
    MP_VERB_LOGITS = 1 << 1,
    MP_VERB_TOKENIZE = 1 << 2,
    MP_VERB_DETOKENIZE = 1 << 3,
    MP_VERB_PLAN = 1 << 4,
    MP_VERB_BENCH_DECODE = 1 << 5,
    MP_VERB_BENCH_PREFILL = 1 << 6,
    MP_VERB_BENCH_OPS = 1 << 7,
    MP_VERB_TUNE = 1 << 8,
    MP_VERB_MAKE_DATA = 1 << 9,
    MP_VERB_EVAL = 1 << 10,
    MP_VERB_EVAL_ATTENTION = 1 << 11,
    MP_VERB_SERVE = 1 << 12,
    MP_VERB_BENCH = MP_VERB_BENCH_DECODE | MP_VERB_BENCH_PREFILL | MP_VERB_BENCH_OPS,
    MP_VERB_ALL = (1 << 13) - 1,
};

struct mp_config {
    /* The original's keys. */
    char *model_path;   /* model_path / --model; NULL until given */
    int64_t chunk_size; /* tokens per prefill chunk, 1..1048576, default 8192 */
    int *cache_layers;  /* dense layers: keep and attend their whole KV; default [0] */
    int num_cache_layers;
    int lsh_K;                 /* bits per code, 0..16; 0: full attention; default 10 */
    int lsh_L;                 /* tables, 1..1024, default 150 */
    bool mem_efficient;        /* 1: flash prefill; 0: plain reference prefill; default 1 */
    int64_t device_budget;     /* sink + window tokens of the static cache, default 68 */
    int64_t window_size;       /* local window, <= device_budget, default 64 */
    int64_t generation_budget; /* generated tokens the static cache has room for: it grows beyond,
                                  or, where the method samples from generated tokens too, half as
                                  many leave it, the oldest behind the sink; default 256 */
    int64_t gen_len;           /* most tokens to generate per request, default 128 */
    int32_t *eos;              /* end tokens; num_eos = -1: the model's own */
    int num_eos;
    /* attention */
    char *attention_method; /* attention.method; NULL: not given, then lsh_K says which */
    enum mp_lsh_projection lsh_projection; /* attention.lsh_projection: "per_head" | "shared" */
    int lsh_layer_group;    /* attention.lsh_layer_group: layers per group, default 16 */
    uint64_t lsh_seed;      /* attention.seed, default 0 */
    float attention_budget; /* attention.budget: offloaded tokens that a head attends to; up to 1: a
                               share of them; above: a number of tokens; default 0.02 */
    int page_size;          /* attention.page_size: tokens, 1..65536, default 16 */
    int64_t samples;        /* attention.samples: offloaded tokens that a KV head samples, default
                               512 */
    float epsilon;          /* attention.epsilon: relative error of the attention's output that the
                               number of samples is to give, 0..1; 0: as many as `samples` */
    int code_bits;          /* attention.code_bits: of a channel in the code of a key, 1, 2 or 4;
                               default 2 */
    bool attention_center;  /* attention.center: the keys of a sparse layer are stored less their
                               mean over the offloaded ones; default 1 */
    enum mp_kv_dtype kv_dtype; /* attention.kv_dtype: of the keys and values that are offloaded:
                                  "bf16" | "int8" */
    /* sampling: temperature, top_p, top_k, seed */
    struct mp_sampling sampling;
    /* runtime */
    char *scheduler; /* runtime.scheduler / --sched, a StarPU policy name; default "prio" */
    int cpu_workers; /* runtime.cpu_workers, 0: one per NUMA node */
    int threads;     /* runtime.threads over all workers, 0: every core, but for those that a
                        GPU needs (core/machine/core_map.h) */
    enum mp_binding binding; /* runtime.binding: "cores" | "none" */
    int batch;           /* runtime.batch: requests decoded together, 1..MP_MAX_BATCH, default 1 */
    int micro_batches;   /* runtime.micro_batches: groups a decode step is split into; 0: as many as
                            turn out best, default 0 */
    float prefill_share; /* runtime.prefill_share: most of the time that reading a prompt may take
                            while others decode, in (0, 1], default 0.5 */
    char *isa;           /* runtime.isa: auto | ref | avx2 | avx512 */
    char *devices;       /* runtime.devices: auto | cpu | gpu | mock, for tests: CPU workers
                            stand for GPUs */
    int gpus;            /* runtime.gpus: the model is split between so many, 1..MP_MAX_GPUS,
                            default 1 */
    enum mp_parallel parallel; /* runtime.parallel: "layers" | "tensor" */
    char *activations; /* runtime.activations: auto | bf16 | bf16x2: in how many bf16 parts those of
                          a prompt are multiplied with weights; auto: bf16 */
    int64_t gpu_memory; /* runtime.gpu_memory, bytes; 0: what is free */
    int gpu_kv_layers;  /* runtime.gpu_kv_layers: sparse layers whose offloaded KV and tables are in
                           GPU memory; -1: as many as fit */
    int64_t prefix_cache; /* runtime.prefix_cache, bytes: of the KV of prompts whose requests are
                             gone, kept for prompts that begin alike; -1: as much as one request
                             takes, if the machine has it; 0: nothing is shared, not even by
                             requests that run beside each other */
    char *kv_dir; /* runtime.kv_dir: folder where such KV is kept for later runs; NULL: none */
    int64_t kv_dir_size;   /* runtime.kv_dir_size, bytes that its files may take; 0: any */
    enum mp_gather gather; /* runtime.gather: "auto" | "cpu" | "gpu" */
    int64_t memory_limit;  /* runtime.memory_limit, bytes ("8GiB" or a number); 0: what is free */
    char
        *calibration; /* runtime.calibration: where the measured rates of the ops are kept, for
                         policies with models: "auto" (core/trace/calibration.h), "off" or a file */
    /* trace */
    char *trace_path;  /* trace.file / --trace: Chrome trace events; NULL: off */
    char *report_path; /* trace.report / --report: HTML page; NULL: off */
    char *fxt_dir;     /* trace.fxt / --fxt: folder of StarPU's own trace; NULL: off */
    int fxt_steps;     /* trace.fxt_steps: decode steps in it, after the first two; default 8 */
    /* not a key */
    char *folder; /* of the file that was loaded last; NULL: none was */
};

void mp_config_init(struct mp_config *c);
void mp_config_free(struct mp_config *c);

/* Reads a JSON file over the defaults. Unknown keys are errors that name the key and the nearest
 * known one; wrong types and ranges name the key, what was found and what was expected. */
MP_API int mp_config_load(struct mp_config *c, const char *path, struct mp_error *err);

/* One on the heap, with its defaults. */
MP_API struct mp_config *mp_config_create(void);
MP_API void mp_config_destroy(struct mp_config *c);

/* *to becomes a copy of *from. mp_config_free. */
void mp_config_copy(struct mp_config *to, const struct mp_config *from);

/* Copies the keys that say which tokens a step attends to, over those of *to: the attention
 * section, lsh_K and lsh_L, cache_layers, device_budget and window_size. */
void mp_config_copy_attention(struct mp_config *to, const struct mp_config *from);

/* Whether a flag's key is one of these. */
bool mp_config_is_attention(const char *flag);

/* Sets one key by its path in a file, e.g. "runtime.batch"; value as typed on the command line.
 * MP_ERR_USAGE for a bad value, or an unknown key: the message names the nearest known one. */
MP_API int mp_config_set(struct mp_config *c, const char *path, const char *value,
                         struct mp_error *err);

/* Applies one command-line override. flag without dashes, e.g. "lsh-k"; value as typed.
 * Returns MP_ERR_USAGE for a bad value. */
int mp_config_set_flag(struct mp_config *c, const char *flag, const char *value,
                       struct mp_error *err);
/* Whether a flag is a key of the configuration that acts for any of these verbs. */
bool mp_config_has_flag(const char *flag, unsigned verbs);
/* The path of a flag's key, e.g. "lsh_K"; NULL: no key has it. */
const char *mp_config_flag_path(const char *flag);
/* The known flag nearest to a misspelt one, or NULL. */
const char *mp_config_nearest_flag(const char *flag);
/* Levenshtein distance in bytes; names of more than 64 bytes are far (SIZE_MAX) from everything. */
size_t mp_edit_distance(const char *a, const char *b);
/* A known name is a likely correction of a misspelt one if it is less than this far from it. */
size_t mp_farthest_meant(const char *name);

/* Every key by its path, {"lsh_K": 10, "runtime.threads": 0, ...}, as a file would give it; null
 * for what is not given, whole numbers as raw text. The caller's: cJSON_Delete. */
struct cJSON *mp_config_json(const struct mp_config *c);

/* Checks that span several keys (window_size <= device_budget, ...). Call after all overrides. */
int mp_config_check(const struct mp_config *c, struct mp_error *err);

/* Prints the help lines, with defaults, of the flags that act for any of these verbs. */
void mp_config_print_flags(FILE *out, unsigned verbs);

/* Finds the model directory: model_path relative to the config file's folder (config_dir, may be
 * NULL), then to the working directory; an HF name ("org/name") also in the local Hugging Face
 * cache ($HF_HUB_CACHE, $HF_HOME/hub, ~/.cache/huggingface/hub: models--org--name/snapshots/
 * <refs/main>). A directory counts if it holds a config.json. The error lists every place tried.
 * *out is malloc'ed. */
int mp_config_resolve_model(const char *model_path, const char *config_dir, char **out,
                            struct mp_error *err);

#endif
