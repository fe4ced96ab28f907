/* Times code_select for one layer of the Llama-3.1-8B shape, beside the time that this machine
 * takes to read the codes.
 *
 *     bench_code_select [context] [bits] [samples] [threads] [isa]
 *
 * Codes are random; so are queries, whose logits deviate by about 2. Each repetition has codes and
 * queries of its own, so that caches do not help more than in real decoding. */
#include "codelets/code_select/code_select.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/machine/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, LAYERS = 8, REPEATS = 31 };

static code_select_kernel *const variants[MP_ISA_COUNT] = {
    [MP_ISA_REF] = code_select_ref,
#ifdef __x86_64__
    [MP_ISA_AVX2] = code_select_avx2,
    [MP_ISA_AVX512] = code_select_avx512,
#endif
};

struct bench {
    struct key_codes codes[LAYERS];
    float *signs;
    float *q; /* [REPEATS][HEADS][HEAD_DIM] */
    int64_t samples;
    int64_t room;
    uint32_t *ids;
    float *log_weights;
    void *scratch;
    int32_t nnz[KV_HEADS];
    uint64_t sink; /* of what was read */
};

static void *allocate(size_t count, size_t size)
{
    struct mp_error err;
    void *p = mp_alloc(count, size, "benchmark", &err);
    if (p == NULL) {
        fprintf(stderr, "%s\n", err.message);
        exit(2);
    }
    return p;
}

/* Factors for which the logits deviate by 2 at queries of N(0, 1): <R q, c> deviates by 1.1 a
 * channel for 2 bits. */
static void fill_codes(struct key_codes *codes, uint64_t seed)
{
    int64_t tokens = codes_blocks(codes->capacity) * CODES_BLOCK;
    int64_t words = tokens * codes_words(HEAD_DIM, codes->bits);
    float factor = codes->bits == 1 ? 4.0f : (codes->bits == 2 ? 1.8f : 0.43f);
#pragma omp parallel for
    for (int h = 0; h < KV_HEADS; h++) {
        struct mp_rng rng;
        mp_rng_init(&rng, seed, (uint64_t)h);
        for (int64_t i = 0; i < words; i++) {
            codes->words[h * words + i] = (uint32_t)mp_rng_next(&rng);
        }
        for (int64_t i = 0; i < tokens; i++) {
            codes->factors[h * tokens + i] =
                i < codes->count ? factor * (0.75f + 0.5f * (float)mp_rng_uniform(&rng)) : 0.0f;
        }
    }
}

static size_t word_bytes(const struct key_codes *c)
{
    return codes_bytes(KV_HEADS, c->capacity, HEAD_DIM, c->bits) -
           codes_bytes(KV_HEADS, c->capacity, 0, c->bits);
}

static struct bench make_bench(int64_t context, int bits, int64_t samples)
{
    struct bench b = {
        .signs = allocate(key_rotation_size(HEAD_DIM), sizeof(float)),
        .q = allocate(REPEATS * HEADS * HEAD_DIM, sizeof(float)),
        .samples = samples,
        .room = samples + 1,
        .ids = allocate((size_t)(KV_HEADS * (samples + 1)), sizeof(uint32_t)),
        .log_weights = allocate((size_t)(KV_HEADS * (samples + 1)), sizeof(float)),
        .scratch = allocate(code_select_scratch(HEADS, KV_HEADS, context, samples), 1),
    };
    struct mp_rng rng;
    mp_rng_init(&rng, 2, 0);
    key_rotation_draw(HEAD_DIM, 1, b.signs);
    for (int i = 0; i < REPEATS * HEADS * HEAD_DIM; i++) {
        b.q[i] = (float)mp_rng_normal(&rng);
    }
    for (int i = 0; i < LAYERS; i++) {
        b.codes[i] = (struct key_codes){.count = context,
                                        .capacity = context,
                                        .num_kv_heads = KV_HEADS,
                                        .head_dim = HEAD_DIM,
                                        .bits = bits};
        b.codes[i].words = allocate(word_bytes(&b.codes[i]), 1);
        b.codes[i].factors = allocate(codes_bytes(KV_HEADS, context, 0, bits), 1);
        fill_codes(&b.codes[i], (uint64_t)i);
    }
    return b;
}

static void release(struct bench *b)
{
    for (int i = 0; i < LAYERS; i++) {
        mp_free(b->codes[i].words);
        mp_free(b->codes[i].factors);
    }
    void *all[] = {b->signs, b->q, b->ids, b->log_weights, b->scratch};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mp_free(all[i]);
    }
}

static void run_select(struct bench *b, int repeat)
{
    uint64_t seed = (uint64_t)repeat;
    MP_KERNEL(variants)
    (&(struct code_select_args){.q = b->q + (int64_t)repeat * HEADS * HEAD_DIM,
                                .q_stride = HEADS * HEAD_DIM,
                                .codes = (const struct key_codes *[]){&b->codes[repeat % LAYERS]},
                                .rotation = {.data = b->signs, .head_dim = HEAD_DIM},
                                .samples = &b->samples,
                                .seed = &seed,
                                .ids = (uint32_t *[]){b->ids},
                                .log_weights = (float *[]){b->log_weights},
                                .ids_stride = &b->room,
                                .scratch = (void *[]){b->scratch},
                                .nnz = b->nnz,
                                .rows = 1,
                                .num_heads = HEADS,
                                .num_kv_heads = KV_HEADS,
                                .head_dim = HEAD_DIM});
}

/* Reads words and factors. */
static void run_stream(struct bench *b, int repeat)
{
    const struct key_codes *c = &b->codes[repeat % LAYERS];
    const uint64_t *words = (const void *)c->words;
    const uint64_t *factors = (const void *)c->factors;
    int64_t num_words = (int64_t)(word_bytes(c) / sizeof *words);
    int64_t num_factors = (int64_t)(codes_bytes(KV_HEADS, c->capacity, 0, c->bits) / sizeof *words);
    uint64_t total = 0;
#pragma omp parallel reduction(+ : total)
    {
#pragma omp for simd nowait
        for (int64_t i = 0; i < num_words; i++) {
            total += words[i];
        }
#pragma omp for simd nowait
        for (int64_t i = 0; i < num_factors; i++) {
            total += factors[i];
        }
    }
    b->sink += total;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct timing {
    double median; /* seconds */
    double least;  /* the same, which other programs of the machine disturb less */
};

static struct timing measure(struct bench *b, void (*run)(struct bench *, int repeat))
{
    double seconds[REPEATS];
    run(b, REPEATS - 1);
    for (int i = 0; i < REPEATS; i++) {
        double start = mp_clock_seconds();
        run(b, i);
        seconds[i] = mp_clock_seconds() - start;
    }
    qsort(seconds, REPEATS, sizeof seconds[0], compare_doubles);
    return (struct timing){.median = seconds[REPEATS / 2], .least = seconds[0]};
}

static void print_line(const char *name, const struct timing *t, double bytes)
{
    printf("%-18s %9.3f ms, least %9.3f ms  %7.1f GB/s", name, t->median * 1e3, t->least * 1e3,
           bytes / t->least * 1e-9);
}

static int64_t argument(int argc, char **argv, int i, int64_t otherwise, int64_t max)
{
    if (i >= argc) {
        return otherwise;
    }
    char *end;
    long long value = strtoll(argv[i], &end, 10);
    if (*end != '\0' || value < 1 || value > max) {
        fprintf(stderr, "argument %d: \"%s\" is not in 1 .. %lld\n", i, argv[i], (long long)max);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv)
{
    int64_t context = argument(argc, argv, 1, 98304, 1 << 24);
    int bits = (int)argument(argc, argv, 2, 2, 4);
    int64_t samples = argument(argc, argv, 3, 512, 1 << 20);
    omp_set_num_threads((int)argument(argc, argv, 4, omp_get_max_threads(), 1024));
    struct mp_error err;
    if (argc > 5 && mp_isa_select(argv[5], &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    if (bits == 3) {
        fprintf(stderr, "3 bits: expected 1, 2 or 4\n");
        return 2;
    }
    printf("context %lld, %d bits, %lld samples, %d threads, %s\n", (long long)context, bits,
           (long long)samples, omp_get_max_threads(), mp_isa_name(mp_isa_current()));
    struct bench b = make_bench(context, bits, samples);
    double bytes = (double)codes_bytes(KV_HEADS, context, HEAD_DIM, bits);
    struct timing stream = measure(&b, run_stream);
    struct timing select = measure(&b, run_select);
    print_line("stream (bound)", &stream, bytes);
    printf("  %.1f MB\n", bytes * 1e-6);
    print_line("code_select", &select, bytes);
    printf("  %5.2f of the bound\n", stream.least / select.least);
    release(&b);
    return b.sink == 1; /* never: what was read is used */
}
