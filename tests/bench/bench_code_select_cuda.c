/* Times encode_keys and code_select on a GPU for one layer of the Llama-3.1-8B shape, beside the
 * time that the GPU takes to read what they read.
 *
 *     bench_code_select_cuda [bits] [samples] [longest context]
 *
 * Codes are random; so are queries, whose logits deviate by about 2. Selections go to pinned host
 * memory. Each call has codes of its own, so that caches do not help more than in real decoding;
 * calls are queued behind other work, so that the GPU never waits for the host. */
#ifndef MAGICPIG_CUDA
#include <stdio.h>

int main(void)
{
    printf("built without CUDA\n");
    return 0;
}
#else
#include "codelets/code_select/code_select_cuda.h"
#include "codelets/common/cuda/cuda.h"
#include "codelets/encode_keys/encode_keys.h"
#include "codelets/memory_read/memory_read.h"
#include "core/base/memory.h"
#include "core/base/rng.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, MAX_ROWS = 16, MAX_LAYERS = 32, REPEATS = 15 };
enum { POOL_BYTES = 1 << 26 }; /* of random words */

#define CHECK(call)                                                                                \
    do {                                                                                           \
        cudaError_t status_ = (call);                                                              \
        if (status_ != cudaSuccess) {                                                              \
            fprintf(stderr, "%s: %s\n", #call, cudaGetErrorString(status_));                       \
            exit(2);                                                                               \
        }                                                                                          \
    } while (0)

struct bench {
    struct key_codes codes[MAX_LAYERS][MAX_ROWS];
    struct key_rotation rotation;
    float *q; /* [MAX_ROWS][HEADS][HEAD_DIM] */
    void *scratch[MAX_ROWS];
    uint32_t *ids[MAX_ROWS];
    float *log_weights[MAX_ROWS];
    int64_t samples[MAX_ROWS], room[MAX_ROWS];
    uint64_t seed[MAX_ROWS];
    int32_t *nnz;
    void *busy; /* [POOL_BYTES], read to keep the GPU busy */
    uint64_t *sum;
    size_t bytes; /* of a row's codes */
    int rows, layers;
    cudaStream_t watch;
    cudaEvent_t begin, end;
};

static void *on_device(size_t bytes)
{
    void *p;
    CHECK(cudaMalloc(&p, bytes));
    return p;
}

static void *pinned(size_t bytes)
{
    void *p;
    CHECK(cudaMallocHost(&p, bytes));
    return p;
}

/* Device memory with the pool over and over. */
static void *filled(const void *pool, size_t bytes)
{
    char *p = on_device(bytes);
    for (size_t at = 0; at < bytes; at += POOL_BYTES) {
        size_t left = bytes - at;
        CHECK(cudaMemcpy(p + at, pool, left < POOL_BYTES ? left : POOL_BYTES,
                         cudaMemcpyHostToDevice));
    }
    return p;
}

/* Factors for which the logits deviate by about 2 at queries of N(0, 1). */
static void fill_pools(uint32_t *words, float *factors, int bits)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 3, 0);
    float factor = bits == 1 ? 4.0f : (bits == 2 ? 1.8f : 0.43f);
    for (size_t i = 0; i < POOL_BYTES / 4; i++) {
        uint64_t x = mp_rng_next(&rng);
        words[i] = (uint32_t)x;
        factors[i] = factor * (0.75f + 0.5f * (float)(x >> 40) * 0x1p-24f);
    }
}

static void make_codes(struct bench *b, int64_t context, int bits, const uint32_t *words,
                       const float *factors)
{
    size_t factor_bytes = codes_bytes(KV_HEADS, context, 0, bits);
    b->bytes = codes_bytes(KV_HEADS, context, HEAD_DIM, bits);
    int64_t layers = ((int64_t)1 << 30) / ((int64_t)b->bytes * b->rows);
    b->layers = (int)(layers < 2 ? 2 : layers > MAX_LAYERS ? MAX_LAYERS : layers);
    for (int l = 0; l < b->layers; l++) {
        for (int r = 0; r < b->rows; r++) {
            b->codes[l][r] = (struct key_codes){.words = filled(words, b->bytes - factor_bytes),
                                                .factors = filled(factors, factor_bytes),
                                                .count = context,
                                                .capacity = context,
                                                .num_kv_heads = KV_HEADS,
                                                .head_dim = HEAD_DIM,
                                                .bits = bits};
        }
    }
}

static void make_rows(struct bench *b, int64_t context, int64_t samples)
{
    size_t selection = (size_t)(KV_HEADS * (samples + 1)) * sizeof(uint32_t);
    for (int r = 0; r < b->rows; r++) {
        b->scratch[r] = on_device(code_select_scratch(HEADS, KV_HEADS, context, samples));
        b->ids[r] = pinned(selection);
        b->log_weights[r] = pinned(selection);
        b->samples[r] = samples;
        b->room[r] = samples + 1;
        b->seed[r] = (uint64_t)r;
    }
}

static void release_rows(struct bench *b)
{
    for (int r = 0; r < b->rows; r++) {
        for (int l = 0; l < b->layers; l++) {
            CHECK(cudaFree(b->codes[l][r].words));
            CHECK(cudaFree(b->codes[l][r].factors));
        }
        CHECK(cudaFree(b->scratch[r]));
        CHECK(cudaFreeHost(b->ids[r]));
        CHECK(cudaFreeHost(b->log_weights[r]));
    }
}

/* ---- what is timed ---- */

typedef void bench_call(struct bench *b, int layer);

static void run_select(struct bench *b, int layer, code_select_kernel *kernel)
{
    const struct key_codes *codes[MAX_ROWS];
    for (int r = 0; r < b->rows; r++) {
        codes[r] = &b->codes[layer][r];
    }
    cuda_op_begin("code_select");
    kernel(&(struct code_select_args){.q = b->q,
                                      .q_stride = HEADS * HEAD_DIM,
                                      .codes = codes,
                                      .rotation = b->rotation,
                                      .samples = b->samples,
                                      .seed = b->seed,
                                      .ids = b->ids,
                                      .log_weights = b->log_weights,
                                      .ids_stride = b->room,
                                      .scratch = b->scratch,
                                      .nnz = b->nnz,
                                      .rows = b->rows,
                                      .num_heads = HEADS,
                                      .num_kv_heads = KV_HEADS,
                                      .head_dim = HEAD_DIM});
    cuda_op_end();
}

static void run_steps(struct bench *b, int layer)
{
    run_select(b, layer, code_select_steps_cuda);
}

static void run_fused(struct bench *b, int layer)
{
    run_select(b, layer, code_select_fused_cuda);
}

/* Reads the words of all rows' codes, with the kernel that measures bandwidths. */
static void run_read(struct bench *b, int layer)
{
    const struct key_codes *c = &b->codes[layer][0];
    size_t bytes = b->bytes - codes_bytes(KV_HEADS, c->capacity, 0, c->bits);
    cuda_op_begin("memory_read");
    for (int r = 0; r < b->rows; r++) {
        memory_read_cuda(&(struct memory_read_args){
            .data = b->codes[layer][r].words, .bytes = (int64_t)bytes / 64 * 64, .sum = b->sum});
    }
    cuda_op_end();
}

/* Milliseconds of work, to be ahead of the GPU. */
static void keep_busy(struct bench *b)
{
    for (int i = 0; i < 100; i++) {
        cuda_op_begin("memory_read");
        memory_read_cuda(
            &(struct memory_read_args){.data = b->busy, .bytes = POOL_BYTES, .sum = b->sum});
        cuda_op_end();
    }
}

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a;
    float y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Median microseconds of a call, all layers one after the other. */
static double measure(struct bench *b, bench_call *call)
{
    float ms[REPEATS];
    call(b, 0);
    for (int i = 0; i < REPEATS; i++) {
        cuda_synchronize();
        CHECK(cudaStreamSynchronize(b->watch));
        keep_busy(b);
        cuda_op_signal(b->watch);
        CHECK(cudaEventRecord(b->begin, b->watch));
        for (int l = 0; l < b->layers; l++) {
            call(b, l);
        }
        cuda_op_signal(b->watch);
        CHECK(cudaEventRecord(b->end, b->watch));
        CHECK(cudaEventSynchronize(b->end));
        CHECK(cudaEventElapsedTime(&ms[i], b->begin, b->end));
    }
    qsort(ms, REPEATS, sizeof ms[0], compare_floats);
    return 1e3 * (double)ms[REPEATS / 2] / b->layers;
}

/* ---- reports ---- */

static void report(const struct bench *b, const char *name, double us)
{
    double read = (double)b->bytes * b->rows / us * 1e-6;
    printf("  %-16s %8.1f us  %8.1f us a row  %5.2f TB/s\n", name, us, us / b->rows, read);
    fflush(stdout);
}

/* Whether both ways select the same, of the last layer. */
static void compare(struct bench *b)
{
    size_t n = (size_t)(KV_HEADS * b->room[0]);
    uint32_t *ids = mp_xmalloc(n * sizeof *ids);
    int same = 1;
    for (int r = 0; r < b->rows; r++) {
        memset(b->ids[r], 0, n * sizeof *ids);
        run_steps(b, b->layers - 1);
        cuda_synchronize();
        memcpy(ids, b->ids[r], n * sizeof *ids);
        memset(b->ids[r], 0, n * sizeof *ids);
        run_fused(b, b->layers - 1);
        cuda_synchronize();
        same &= memcmp(ids, b->ids[r], n * sizeof *ids) == 0;
    }
    printf("  both select %s; %d tokens of the first KV head\n",
           same ? "the same" : "DIFFERENT TOKENS", b->nnz[0]);
    free(ids);
}

static void bench_selects(struct bench *b, int64_t context, int rows, int64_t samples, int bits,
                          const uint32_t *words, const float *factors)
{
    b->rows = rows;
    make_codes(b, context, bits, words, factors);
    make_rows(b, context, samples);
    printf("%lld tokens, %d rows, %d layers of %.1f MB a row\n", (long long)context, rows,
           b->layers, (double)b->bytes * 1e-6);
    compare(b);
    report(b, "read of words", measure(b, run_read));
    report(b, "steps", measure(b, run_steps));
    report(b, "fused", measure(b, run_fused));
    release_rows(b);
}

static struct offloaded_kv encode_kv;
static void run_encode(struct bench *b, int layer)
{
    (void)layer;
    cuda_op_begin("encode_keys");
    encode_keys_cuda(&(struct encode_keys_args){&encode_kv, b->rotation, &b->codes[0][0], 0});
    cuda_op_end();
}

static void bench_encode(struct bench *b, int64_t context, int bits, const uint32_t *words,
                         const float *factors)
{
    b->rows = 1;
    make_codes(b, context, bits, words, factors);
    make_rows(b, context, 1);
    size_t keys = kv_bytes(KV_HEADS, HEAD_DIM, MP_BF16, context);
    uint16_t *pool = mp_xmalloc(POOL_BYTES);
    for (size_t i = 0; i < POOL_BYTES / sizeof *pool; i++) { /* of any sign, between 1/2 and 2 */
        uint32_t x = words[i % (POOL_BYTES / 4)] >> (i / (POOL_BYTES / 4) * 16);
        pool[i] = (uint16_t)((x & 0x80ff) | 0x3f00);
    }
    encode_kv = (struct offloaded_kv){.k = filled(pool, keys),
                                      .count = context,
                                      .capacity = context,
                                      .num_kv_heads = KV_HEADS,
                                      .head_dim = HEAD_DIM,
                                      .dtype = MP_BF16};
    double us = measure(b, run_encode);
    printf("encode_keys, %lld tokens  %10.1f us  %5.2f TB/s\n", (long long)context, us,
           (double)(keys + b->bytes) / us * 1e-6);
    CHECK(cudaFree(encode_kv.k));
    free(pool);
    release_rows(b);
}

static void setup(struct bench *b)
{
    struct mp_error err;
    if (cuda_context_create(0, (size_t)64 << 20, &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        exit(2);
    }
    CHECK(cudaStreamCreateWithFlags(&b->watch, cudaStreamNonBlocking));
    CHECK(cudaEventCreate(&b->begin));
    CHECK(cudaEventCreate(&b->end));
    size_t n = MAX_ROWS * HEADS * HEAD_DIM;
    float *q = mp_xmalloc(n * sizeof *q);
    float signs[HEAD_DIM];
    struct mp_rng rng;
    mp_rng_init(&rng, 2, 0);
    for (size_t i = 0; i < n; i++) {
        q[i] = (float)mp_rng_normal(&rng);
    }
    key_rotation_draw(HEAD_DIM, 1, signs);
    b->q = on_device(n * sizeof *q);
    float *rotation = on_device(sizeof signs);
    CHECK(cudaMemcpy(b->q, q, n * sizeof *q, cudaMemcpyHostToDevice));
    CHECK(cudaMemcpy(rotation, signs, sizeof signs, cudaMemcpyHostToDevice));
    b->rotation = (struct key_rotation){.data = rotation, .head_dim = HEAD_DIM};
    b->nnz = pinned(MAX_ROWS * KV_HEADS * sizeof *b->nnz);
    b->busy = on_device(POOL_BYTES);
    b->sum = on_device(sizeof *b->sum);
    free(q);
}

int main(int argc, char **argv)
{
    static struct bench b;
    int bits = argc > 1 ? atoi(argv[1]) : 2;
    int64_t samples = argc > 2 ? atoll(argv[2]) : 512;
    int64_t longest = argc > 3 ? atoll(argv[3]) : 1048576;
    if (cuda_device_count() == 0 || (bits != 1 && bits != 2 && bits != 4) || samples < 1) {
        fprintf(stderr, "expected a GPU, 1, 2 or 4 bits, a number of samples\n");
        return 2;
    }
    setup(&b);
    uint32_t *words = mp_xmalloc(POOL_BYTES);
    float *factors = mp_xmalloc(POOL_BYTES);
    fill_pools(words, factors, bits);
    const int64_t contexts[] = {32768, 98304, 1048576};
    const int rows[] = {1, 4, 16};
    for (int c = 0; c < 3 && contexts[c] <= longest; c++) {
        bench_encode(&b, contexts[c], bits, words, factors);
        for (int r = 0; r < 3; r++) {
            bench_selects(&b, contexts[c], rows[r], samples, bits, words, factors);
        }
    }
    return 0;
}
#endif
