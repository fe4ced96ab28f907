/* Times one decode step's CPU attention for one layer of the Llama-3.1-8B shape: table_lookup,
 * sampled_attention, and static_attention over the whole context (a dense layer), beside the
 * bandwidth of this machine; and once the building of the tables. Beside it sampled_attention over
 * rows that the query heads of a KV head share, of bf16 and of int8.
 *
 *     bench_decode_attention [context] [K] [L] [threads] [isa]
 *
 * Keys and queries are random, which at (K, L) = (10, 150) selects about 1.5 % of the tokens. Each
 * repetition has its own queries, so that caches do not help more than in real decoding. */
#include "codelets/hashing/hashing.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "core/base/clock.h"
#include "core/base/memory.h"
#include "core/base/rng.h"
#include "core/machine/cpu.h"

#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { HEADS = 32, KV_HEADS = 8, HEAD_DIM = 128, REPEATS = 31 };
enum { SHARED_ROWS = 512 }; /* that a KV head's query heads attend to */

#ifdef __x86_64__
#define VARIANTS(op)                                                                               \
    {                                                                                              \
        op##_ref, op##_avx2, op##_avx512                                                           \
    }
#else
#define VARIANTS(op)                                                                               \
    {                                                                                              \
        op##_ref                                                                                   \
    }
#endif
static hashing_kernel *const hashing_variants[MP_ISA_COUNT] = VARIANTS(hashing);
static table_lookup_kernel *const lookup_variants[MP_ISA_COUNT] = VARIANTS(table_lookup);
static sampled_attention_kernel *const sampled_variants[MP_ISA_COUNT] = VARIANTS(sampled_attention);
static static_attention_kernel *const static_variants[MP_ISA_COUNT] = VARIANTS(static_attention);

/* One layer of one request, and what a step reads and writes. */
struct bench {
    struct offloaded_kv kv;
    struct offloaded_kv int8;            /* as many rows of MP_I8 */
    const struct offloaded_kv *attended; /* one of the two */
    struct lsh_tables tables;
    struct lsh_weight *weight;
    float *w;        /* [HEAD_DIM][K * L], one projection for all heads */
    float *q;        /* [REPEATS][HEADS][HEAD_DIM] */
    uint16_t *codes; /* [REPEATS][HEADS][L] */
    uint32_t *ids;   /* [HEADS][count]; of the first KV_HEADS if shared */
    int32_t nnz[HEADS];
    float *log_weights; /* [KV_HEADS][count], of shared rows */
    int lists;          /* HEADS, or KV_HEADS if shared */
    float *o;           /* [HEADS][HEAD_DIM] */
    float lse[HEADS];
};

static void *allocate(size_t count, size_t size)
{
    struct mp_error err;
    void *p = mp_alloc(count, size, "benchmark", &err);
    if (p == NULL) {
        mp_panic("%s", err.message);
    }
    return p;
}

/* Uniform numbers in [-1, 1) are as good as normal ones for directions in 128 dimensions. */
static void fill_kv(struct offloaded_kv *kv)
{
#pragma omp parallel for collapse(2)
    for (int h = 0; h < KV_HEADS; h++) {
        for (int64_t i = 0; i < kv->count; i++) {
            struct mp_rng rng;
            mp_rng_init(&rng, 1, (uint64_t)(h * kv->count + i));
            int64_t token = h * kv->capacity + i;
            for (int c = 0; c < HEAD_DIM; c++) {
                float x = (float)(2.0 * mp_rng_uniform(&rng) - 1.0);
                mp_store(kv->k, MP_BF16, (size_t)(token * HEAD_DIM + c), x);
                mp_store(kv->v, MP_BF16, (size_t)(token * HEAD_DIM + c), -x);
            }
        }
    }
}

static void fill_int8(struct offloaded_kv *kv)
{
#pragma omp parallel for
    for (int64_t i = 0; i < KV_HEADS * kv->capacity; i++) {
        struct mp_rng rng;
        mp_rng_init(&rng, 5, (uint64_t)i);
        kv->scales[i] = (struct kv_scale){1.0f / 127.0f, 1.0f / 127.0f};
        for (int c = 0; c < HEAD_DIM; c++) {
            int8_t x = (int8_t)(254.0 * mp_rng_uniform(&rng) - 127.0);
            ((int8_t *)kv->k)[i * HEAD_DIM + c] = x;
            ((int8_t *)kv->v)[i * HEAD_DIM + c] = (int8_t)-x;
        }
    }
}

static void build_tables(struct bench *b)
{
    struct lsh_tables *t = &b->tables;
    size_t codes_size = (size_t)(KV_HEADS * t->L) * (size_t)t->count;
    uint16_t *codes = allocate(codes_size, sizeof *codes);
    double start = mp_clock_seconds();
    MP_KERNEL(hashing_variants)
    (&(struct hashing_args){.x = b->kv.k,
                            .dtype = MP_BF16,
                            .x_head_stride = b->kv.capacity * HEAD_DIM,
                            .x_vec_stride = HEAD_DIM,
                            .count = t->count,
                            .num_heads = KV_HEADS,
                            .head_dim = HEAD_DIM,
                            .K = t->K,
                            .L = t->L,
                            .w = b->w,
                            .heads_per_projection = KV_HEADS,
                            .codes = codes,
                            .code_head_stride = t->L * t->count,
                            .code_vec_stride = 1,
                            .code_table_stride = t->count});
    double hashed = mp_clock_seconds();
    table_build_ref(&(struct table_build_args){.codes = codes, .tables = t});
    double built = mp_clock_seconds();
    double flop = 2.0 * (double)codes_size * t->K * HEAD_DIM;
    printf("hashing            %9.3f s   %7.1f GFLOP/s\n", hashed - start,
           flop / (hashed - start) * 1e-9);
    printf("table_build        %9.3f s   %7.1f M ids/s\n", built - hashed,
           (double)codes_size / (built - hashed) * 1e-6);
    mp_free(codes);
}

static void make_queries(struct bench *b)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 2, 0);
    for (int i = 0; i < REPEATS * HEADS * HEAD_DIM; i++) {
        b->q[i] = (float)mp_rng_normal(&rng);
    }
    MP_KERNEL(hashing_variants)
    (&(struct hashing_args){.x = b->q,
                            .dtype = MP_F32,
                            .x_head_stride = HEAD_DIM,
                            .x_vec_stride = HEADS * HEAD_DIM,
                            .count = REPEATS,
                            .num_heads = HEADS,
                            .head_dim = HEAD_DIM,
                            .K = b->tables.K,
                            .L = b->tables.L,
                            .w = b->w,
                            .heads_per_projection = HEADS,
                            .codes = b->codes,
                            .code_head_stride = b->tables.L,
                            .code_vec_stride = HEADS * b->tables.L,
                            .code_table_stride = 1});
}

static struct bench make_bench(int64_t context, int K, int L)
{
    size_t n = (size_t)context * KV_HEADS;
    size_t buckets = ((size_t)1 << K) + 1;
    struct bench b = {
        .kv = {.k = allocate(n * HEAD_DIM, sizeof(uint16_t)),
               .v = allocate(n * HEAD_DIM, sizeof(uint16_t)),
               .count = context,
               .capacity = context,
               .num_kv_heads = KV_HEADS,
               .head_dim = HEAD_DIM,
               .dtype = MP_BF16},
        .int8 = {.k = allocate(n * HEAD_DIM, sizeof(int8_t)),
                 .v = allocate(n * HEAD_DIM, sizeof(int8_t)),
                 .scales = allocate(n, sizeof(struct kv_scale)),
                 .count = context,
                 .capacity = context,
                 .num_kv_heads = KV_HEADS,
                 .head_dim = HEAD_DIM,
                 .dtype = MP_I8},
        .tables = {.ids = allocate(n * (size_t)L, sizeof(uint16_t)),
                   .offsets = allocate((size_t)(KV_HEADS * L * lsh_num_blocks(context)) * buckets,
                                       sizeof(uint32_t)),
                   .count = context,
                   .capacity = context,
                   .num_kv_heads = KV_HEADS,
                   .K = K,
                   .L = L},
        .weight = allocate(1, sizeof(struct lsh_weight)),
        .w = allocate((size_t)(HEAD_DIM * K * L), sizeof(float)),
        .q = allocate(REPEATS * HEADS * HEAD_DIM, sizeof(float)),
        .codes = allocate((size_t)(REPEATS * HEADS * L), sizeof(uint16_t)),
        .ids = allocate((size_t)context * HEADS, sizeof(uint32_t)),
        .log_weights = allocate((size_t)context * KV_HEADS, sizeof(float)),
        .o = allocate(HEADS * HEAD_DIM, sizeof(float)),
    };
    lsh_weight_init(b.weight, K, L);
    lsh_projection_draw(b.w, HEAD_DIM, K, L, 3, 0);
    fill_kv(&b.kv);
    fill_int8(&b.int8);
    build_tables(&b);
    make_queries(&b);
    return b;
}

static void release(struct bench *b)
{
    void *all[] = {
        b->kv.k,   b->kv.v, b->int8.k, b->int8.v, b->int8.scales, b->tables.ids,  b->tables.offsets,
        b->weight, b->w,    b->q,      b->codes,  b->ids,         b->log_weights, b->o};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        mp_free(all[i]);
    }
}

static void run_lookup(struct bench *b, int repeat)
{
    b->lists = HEADS;
    b->attended = &b->kv;
    MP_KERNEL(lookup_variants)
    (&(struct table_lookup_args){.codes = b->codes + (int64_t)repeat * HEADS * b->tables.L,
                                 .tables = (const struct lsh_tables *[]){&b->tables},
                                 .ids = (uint32_t *[]){b->ids},
                                 .ids_stride = &b->kv.count,
                                 .nnz = b->nnz,
                                 .rows = 1,
                                 .num_heads = HEADS,
                                 .L = b->tables.L});
}

/* One token of each of SHARED_ROWS equal parts of the context. */
static void select_shared(struct bench *b, int repeat)
{
    struct mp_rng rng;
    mp_rng_init(&rng, 4, (uint64_t)repeat);
    int64_t n = b->kv.count;
    int64_t rows = n < SHARED_ROWS ? n : SHARED_ROWS;
    b->lists = KV_HEADS;
    b->attended = &b->kv;
    for (int h = 0; h < KV_HEADS; h++) {
        b->nnz[h] = (int32_t)rows;
        for (int64_t i = 0; i < rows; i++) {
            double part = (double)i + mp_rng_uniform(&rng);
            b->ids[h * n + i] = (uint32_t)(part * (double)n / (double)rows);
            b->log_weights[h * n + i] = (float)mp_rng_uniform(&rng);
        }
    }
}

static void select_shared_int8(struct bench *b, int repeat)
{
    select_shared(b, repeat);
    b->attended = &b->int8;
}

static void run_shared(struct bench *b, int repeat)
{
    MP_KERNEL(sampled_variants)
    (&(struct sampled_attention_args){.q = b->q + (int64_t)repeat * HEADS * HEAD_DIM,
                                      .kv = &b->attended,
                                      .ids = (const uint32_t *[]){b->ids},
                                      .ids_stride = &b->kv.count,
                                      .nnz = b->nnz,
                                      .log_weights = (const float *[]){b->log_weights},
                                      .o = b->o,
                                      .lse = b->lse,
                                      .rows = 1,
                                      .num_heads = HEADS,
                                      .head_dim = HEAD_DIM,
                                      .scale = 1.0f / sqrtf(HEAD_DIM),
                                      .shared = true});
}

static void run_sampled(struct bench *b, int repeat)
{
    MP_KERNEL(sampled_variants)
    (&(struct sampled_attention_args){.q = b->q + (int64_t)repeat * HEADS * HEAD_DIM,
                                      .kv = (const struct offloaded_kv *[]){&b->kv},
                                      .ids = (const uint32_t *[]){b->ids},
                                      .ids_stride = &b->kv.count,
                                      .nnz = b->nnz,
                                      .weight = b->weight,
                                      .o = b->o,
                                      .lse = b->lse,
                                      .rows = 1,
                                      .num_heads = HEADS,
                                      .head_dim = HEAD_DIM,
                                      .scale = 1.0f / sqrtf(HEAD_DIM)});
}

static void run_static(struct bench *b, int repeat)
{
    const struct kv_cache cache = {.k = b->kv.k,
                                   .v = b->kv.v,
                                   .capacity = b->kv.capacity,
                                   .num_kv_heads = KV_HEADS,
                                   .head_dim = HEAD_DIM,
                                   .dtype = MP_BF16};
    MP_KERNEL(static_variants)
    (&(struct static_attention_args){.q = b->q + (int64_t)repeat * HEADS * HEAD_DIM,
                                     .cache = (const struct kv_cache *[]){&cache},
                                     .length = &b->kv.count,
                                     .o = b->o,
                                     .lse = b->lse,
                                     .rows = 1,
                                     .num_heads = HEADS,
                                     .head_dim = HEAD_DIM,
                                     .scale = 1.0f / sqrtf(HEAD_DIM)});
}

static size_t row_bytes(const struct bench *b)
{
    return HEAD_DIM * mp_dtype_size(b->attended->dtype);
}

/* Reads the selected rows of K and V and does nothing with them: one word of each cache line. */
static void run_gather(struct bench *b, int repeat)
{
    const struct offloaded_kv *kv = b->attended;
    size_t bytes = row_bytes(b);
    int64_t total = 0;
#pragma omp parallel for collapse(2) schedule(dynamic) reduction(+ : total)
    for (int h = 0; h < b->lists; h++) {
        for (int part = 0; part < 4; part++) {
            int64_t base = h / (b->lists / KV_HEADS) * kv->capacity;
            for (int32_t j = b->nnz[h] * part / 4; j < b->nnz[h] * (part + 1) / 4; j++) {
                int64_t row = base + b->ids[h * kv->count + j];
                for (size_t c = 0; c < bytes; c += 64) {
                    total += *((const char *)kv->k + (size_t)row * bytes + c);
                    total += *((const char *)kv->v + (size_t)row * bytes + c);
                }
                if (kv->dtype == MP_I8) {
                    total += kv->scales[row].k + kv->scales[row].v > 0.0f;
                }
            }
        }
    }
    b->o[0] = (float)(total + repeat);
}

/* Reads all of K and V. */
static void run_stream(struct bench *b, int repeat)
{
    uint64_t total = 0;
    int64_t n = b->kv.count * KV_HEADS * HEAD_DIM / 4;
    const uint64_t *k = b->kv.k;
    const uint64_t *v = b->kv.v;
#pragma omp parallel for simd reduction(+ : total)
    for (int64_t i = 0; i < n; i++) {
        total += k[i] ^ v[i];
    }
    b->o[0] = (float)total + (float)repeat;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

struct timing {
    double seconds; /* median */
    double bytes;   /* mean bytes of the selected rows of K and V */
};

typedef void (*step)(struct bench *, int repeat);

/* Times `run` with the queries of each repetition, for which `select` selects beforehand. */
static struct timing measure(struct bench *b, step select, step run)
{
    double seconds[REPEATS];
    double rows = 0.0;
    for (int i = 0; i < REPEATS; i++) {
        if (run != select) {
            select(b, i);
        }
        double start = mp_clock_seconds();
        run(b, i);
        seconds[i] = mp_clock_seconds() - start;
        for (int h = 0; h < b->lists; h++) {
            rows += b->nnz[h];
        }
    }
    qsort(seconds, REPEATS, sizeof seconds[0], compare_doubles);
    size_t bytes = 2 * row_bytes(b) + kv_scale_bytes(1, b->attended->dtype, 1);
    return (struct timing){.seconds = seconds[REPEATS / 2],
                           .bytes = rows / REPEATS * (double)bytes};
}

static void print_line(const char *name, double seconds, double bytes, double bound)
{
    printf("%-18s %9.3f ms  %7.1f GB/s", name, seconds * 1e3, bytes / seconds * 1e-9);
    if (bound > 0.0) {
        printf("  %5.2f of the bound", bound / seconds);
    }
    printf("\n");
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
    int K = (int)argument(argc, argv, 2, 10, 16);
    int L = (int)argument(argc, argv, 3, 150, 4096);
    omp_set_num_threads((int)argument(argc, argv, 4, omp_get_max_threads(), 1024));
    struct mp_error err;
    if (argc > 5 && mp_isa_select(argv[5], &err) != 0) {
        fprintf(stderr, "%s\n", err.message);
        return 2;
    }
    printf("context %lld, (K, L) = (%d, %d), %d threads, %s\n", (long long)context, K, L,
           omp_get_max_threads(), mp_isa_name(mp_isa_current()));
    struct bench b = make_bench(context, K, L);
    double all = (double)context * KV_HEADS * HEAD_DIM * 2 * sizeof(uint16_t);
    struct timing stream = measure(&b, run_lookup, run_stream);
    struct timing gather = measure(&b, run_lookup, run_gather);
    struct timing lookup = measure(&b, run_lookup, run_lookup);
    struct timing sampled = measure(&b, run_lookup, run_sampled);
    struct timing dense = measure(&b, run_lookup, run_static);
    struct timing shared_gather = measure(&b, select_shared, run_gather);
    struct timing shared = measure(&b, select_shared, run_shared);
    struct timing int8_gather = measure(&b, select_shared_int8, run_gather);
    struct timing int8 = measure(&b, select_shared_int8, run_shared);
    double share = sampled.bytes / (2 * HEAD_DIM * sizeof(uint16_t)) / (double)(context * HEADS);
    printf("selected           %9.3f %%\n", share * 100.0);
    print_line("stream (bound)", stream.seconds, all, 0.0);
    print_line("gather (bound)", gather.seconds, gather.bytes, 0.0);
    printf("%-18s %9.3f ms\n", "table_lookup", lookup.seconds * 1e3);
    print_line("sampled_attention", sampled.seconds, sampled.bytes, gather.seconds);
    print_line("gather of shared", shared_gather.seconds, shared_gather.bytes, 0.0);
    print_line("shared rows", shared.seconds, shared.bytes, shared_gather.seconds);
    print_line("gather of int8", int8_gather.seconds, int8_gather.bytes, 0.0);
    print_line("shared int8 rows", int8.seconds, int8.bytes, int8_gather.seconds);
    print_line("static_attention", dense.seconds, all, stream.seconds);
    printf("%-18s %9.3f ms\n", "lookup + sampled", (lookup.seconds + sampled.seconds) * 1e3);
    release(&b);
    return 0;
}
