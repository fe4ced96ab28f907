/* A run that never was, for tests of the report: its spans in the recorder, and its figures. */
#ifndef MP_TEST_REPORT_SAMPLE_H
#define MP_TEST_REPORT_SAMPLE_H

#include "pipeline/report/report.h"

#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/rng.h"

#include <cjson/cJSON.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

enum { LAYERS = 32, DENSE_LAYERS = 2, MICRO_BATCHES = 2, STEPS = 40, MAX_SPANS = 1 << 16 };

static uint64_t sample_begin_ns[STEPS];
static double sample_seconds[STEPS];
static double sample_fractions[LAYERS];
static double sample_errors[LAYERS];

/* ---- a sample run ---- */

/* 19 + 0.002 k^2 milliseconds, k = 0 .. 39 in another order: the longest are the rarest. */
static void set_sample_seconds(void)
{
    for (int s = 0; s < STEPS; s++) {
        int k = 7 * s % STEPS;
        sample_seconds[s] = 1e-3 * (19.0 + 0.002 * k * k);
    }
}

/* The spans of one thread to be, and when it has finished the last. */
struct tape {
    const char *name;
    enum mp_track_kind kind;
    struct mp_span *spans; /* [MAX_SPANS] */
    int64_t count;
    uint64_t free_ns;
};

/* Adds a span that begins when the thread is free and its input is there; returns its end. */
static uint64_t play(struct tape *t, struct mp_span_info info, uint64_t ready_ns, double us)
{
    uint64_t begin = ready_ns > t->free_ns ? ready_ns : t->free_ns;
    t->free_ns = begin + (uint64_t)(1000.0 * us);
    assert_true(t->count < MAX_SPANS);
    t->spans[t->count++] = (struct mp_span){info, begin, t->free_ns};
    return t->free_ns;
}

/* One layer of all micro-batches: the GPU does what is dense, the CPU attends; without a GPU the
 * CPU's tape stands for both. ready_ns: [micro_batches] when each has its input. */
static void play_layer(struct tape *gpu, struct tape *cpu, int32_t layer, int micro_batches,
                       uint64_t *ready_ns, struct mp_rng *rng)
{
    for (int32_t m = 0; m < micro_batches; m++) {
        struct mp_span_info about = {.op = "projection",
                                     .layer = layer,
                                     .request = -1,
                                     .chunk = -1,
                                     .micro_batch = m,
                                     .flops = 100e6f,
                                     .bytes = 50e6f};
        uint64_t ready = play(gpu, about, ready_ns[m], 19.0);
        if (layer >= DENSE_LAYERS) {
            about.flops = about.bytes = 0.0f;
            about.op = "hashing";
            ready = play(gpu, about, ready, 5.0);
            about.op = "static_attention";
            play(gpu, about, ready, 8.0);
            about.op = "table_lookup";
            about.bytes = 2e6f;
            ready = play(cpu, about, ready, 60.0 + 15.0 * mp_rng_uniform(rng));
            about.op = "sampled_attention";
            about.bytes = 8e6f;
            about.flops = 8e6f;
            ready_ns[m] = play(cpu, about, ready + 4000, 90.0 + 30.0 * mp_rng_uniform(rng));
        } else {
            about.op = "static_attention";
            about.bytes = 400e6f;
            ready_ns[m] = play(gpu, about, ready, 170.0);
        }
    }
    for (int32_t m = 0; m < micro_batches; m++) {
        struct mp_span_info about = {.op = "output",
                                     .layer = layer,
                                     .request = -1,
                                     .chunk = -1,
                                     .micro_batch = m,
                                     .flops = 67e6f,
                                     .bytes = 33e6f};
        ready_ns[m] = play(gpu, about, ready_ns[m] + 6000, 14.0);
        about.op = "ffn";
        about.flops = 700e6f;
        about.bytes = 352e6f;
        ready_ns[m] = play(gpu, about, ready_ns[m], 132.0);
    }
}

/* STEPS steps that take sample_seconds; sets sample_begin_ns. */
static void play_steps(struct tape *gpu, struct tape *cpu, struct tape *host)
{
    int micro_batches = gpu != cpu ? MICRO_BATCHES : 1;
    struct mp_rng rng;
    mp_rng_init(&rng, 7, 0);
    uint64_t ready[MICRO_BATCHES];
    for (int s = 0; s < STEPS; s++) {
        struct mp_span_info about = {
            .op = "submit", .layer = -1, .request = -1, .chunk = -1, .micro_batch = -1};
        uint64_t begin = sample_begin_ns[s] = gpu->free_ns;
        uint64_t submitted = play(host, about, begin, 300.0);
        for (int m = 0; m < micro_batches; m++) {
            ready[m] = begin + 30000;
        }
        for (int32_t l = 0; l < LAYERS; l++) {
            play_layer(gpu, cpu, l, micro_batches, ready, &rng);
        }
        for (int32_t m = 0; m < micro_batches; m++) {
            about.op = "lm_head";
            about.micro_batch = m;
            ready[m] = play(gpu, about, ready[m], 310.0);
            about.op = "sample";
            about.request = m;
            ready[m] = play(cpu, about, ready[m], 25.0);
        }
        assert_true(gpu->free_ns <= begin + 19000000);
        gpu->free_ns = cpu->free_ns = begin + (uint64_t)(1e9 * sample_seconds[s]);
        about = (struct mp_span_info){"wait", -1, -1, -1, -1, 0.0f, 0.0f, 0};
        play(host, about, submitted, (double)(gpu->free_ns - submitted) / 1000.0);
    }
}

static void *record_tape(void *argument)
{
    const struct tape *t = argument;
    mp_trace_name_thread(t->name, t->kind);
    for (int64_t i = 0; i < t->count; i++) {
        mp_trace_span(&t->spans[i].info, t->spans[i].begin_ns, t->spans[i].end_ns);
    }
    return NULL;
}

/* The recorder's spans are then those of the tape, beside what was recorded before. */
static void record(struct tape *t)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, record_tape, t), 0);
    pthread_join(thread, NULL);
    free(t->spans);
}

static void record_sample(bool with_gpu)
{
    set_sample_seconds();
    assert_int_equal(mp_trace_start(MAX_SPANS, NULL), MP_OK);
    uint64_t now = mp_clock_ns();
    struct tape gpu = {.name = "gpu 0", .kind = MP_TRACK_GPU, .free_ns = now};
    struct tape cpu = {.name = "cpu worker 0", .kind = MP_TRACK_CPU, .free_ns = now};
    struct tape host = {.name = "main", .kind = MP_TRACK_HOST, .free_ns = now};
    struct tape *all[] = {&host, &cpu, &gpu};
    for (int i = 0; i < 3; i++) {
        all[i]->spans = mp_xmalloc(MAX_SPANS * sizeof *all[i]->spans);
    }
    play_steps(with_gpu ? &gpu : &cpu, &cpu, &host);
    for (int i = 0; i < 3; i++) {
        record(all[i]);
    }
}

/* ---- a sample report ---- */

static struct mp_profile_op sample_ops[] = {
    {"projection", MP_TRACK_GPU, 2560, 0.0486, 2560 * 100e6, 2560 * 50e6},
    {"hashing", MP_TRACK_GPU, 2400, 0.0120, 0.0, 0.0},
    {"static_attention", MP_TRACK_GPU, 2560, 0.0464, 160 * 400e6, 160 * 400e6},
    {"ffn", MP_TRACK_GPU, 2560, 0.3200, 2560 * 700e6, 2560 * 352e6},
    {"output", MP_TRACK_GPU, 2560, 0.0358, 2560 * 67e6, 2560 * 33e6},
    {"lm_head", MP_TRACK_GPU, 80, 0.0248, 80 * 2e9, 80 * 0.95e9},
    {"table_lookup", MP_TRACK_CPU, 2400, 0.1620, 0.0, 2400 * 2e6},
    {"sampled_attention", MP_TRACK_CPU, 2400, 0.2400, 2400 * 8e6, 2400 * 8e6},
    {"sample", MP_TRACK_CPU, 80, 0.0020, 0.0, 0.0},
    {"submit", MP_TRACK_HOST, 40, 0.0120, 0.0, 0.0},
};
enum { SAMPLE_OPS = sizeof sample_ops / sizeof sample_ops[0], GPU_OPS = 6 };

/* The last one was held up. */
static struct mp_overlap gpu_intervals[] = {
    {0.018, {[MP_TRACK_CPU] = 0.010, [MP_TRACK_GPU] = 0.016}, .both = 0.0088, .idle = 0.0008},
    {0.020, {[MP_TRACK_CPU] = 0.010, [MP_TRACK_GPU] = 0.016}, .both = 0.0068, .idle = 0.0008},
    {0.090, {[MP_TRACK_CPU] = 0.010, [MP_TRACK_GPU] = 0.016}, .both = 0.0068, .idle = 0.0708},
};
static struct mp_profile with_gpu = {
    .ops = sample_ops,
    .num_ops = SAMPLE_OPS,
    .seconds = 0.8,
    .intervals = gpu_intervals,
    .num_intervals = 3,
};
static struct mp_overlap cpu_interval = {0.020, {[MP_TRACK_CPU] = 0.0192}, .idle = 0.0008};
static struct mp_profile without_gpu = {
    .ops = sample_ops + GPU_OPS,
    .num_ops = SAMPLE_OPS - GPU_OPS,
    .seconds = 0.8,
    .intervals = &cpu_interval,
    .num_intervals = 1,
};
static struct mp_profile nothing;

static struct mp_report sample_report(const struct mp_profile *profile)
{
    static cJSON *settings;
    if (settings == NULL) {
        settings = cJSON_CreateObject();
        cJSON_AddNumberToObject(settings, "lsh_K", 10);
    }
    for (int l = 0; l < LAYERS; l++) {
        sample_fractions[l] = l < DENSE_LAYERS ? NAN : 0.01 + 0.01 * fabs(sin(l));
        sample_errors[l] = 4.0 * sample_fractions[l];
    }
    return (struct mp_report){
        .model = "sample, 32 layers, 32/8 heads of 128, 8.0 B parameters",
        .runtime = "StarPU 1.3.10, prio, 1 CPU worker with 15 threads",
        .kernels = "avx512 with AMX; \xc3\xa9t\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\x8b",
        .command = "magicpig-pipe bench --note \"</script><!-- <script>no()</script> \\ '&amp;\t\"",
        .context = 98000,
        .batch = 4,
        .micro_batches = MICRO_BATCHES,
        .attention = "magicpig, (K, L) = (10, 150)",
        .attention_settings = settings,
        .profile = profile,
        .step_begin_ns = sample_begin_ns,
        .step_seconds = sample_seconds,
        .num_steps = STEPS,
        .sampled = sample_fractions,
        .error = sample_errors,
        .num_layers = LAYERS,
        .bandwidth = {[MP_TRACK_CPU] = 108e9, [MP_TRACK_GPU] = 3170e9},
    };
}

/* A run that ended before its first decode step; its full attention sampled nothing. */
static struct mp_report empty_report(void)
{
    struct mp_report r = sample_report(&nothing);
    r.attention = "full";
    r.num_steps = 0;
    for (int l = 0; l < LAYERS; l++) {
        sample_fractions[l] = sample_errors[l] = NAN;
    }
    return r;
}

#endif
