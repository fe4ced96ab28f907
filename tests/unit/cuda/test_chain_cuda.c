/* The kernels of decode steps overlap in their stream. Here steps run back to back, and all they
 * leave must equal, bit for bit, what they leave with a wait after each op. A kernel that reads or
 * writes too early finds what another layer or step has left in the same buffer. */
#include "codelets/embed/embed.h"
#include "codelets/ffn/ffn.h"
#include "codelets/hashing/hashing.h"
#include "codelets/lm_head/lm_head.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "codelets/sampled_attention/sampled_attention.h"
#include "codelets/static_attention/static_attention.h"
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "tests/unit/codelets/dense_test.h"
#include "tests/unit/cuda/cuda_test.h"

enum {
    LAYERS = 3, /* the first one dense, with a cache that takes several pieces */
    STEPS = 10,
    RUNS = 20,
    MAX_ROWS = 10,
    DENSE_TOKENS = 1500, /* in a cache before the first step */
    STATIC_TOKENS = 68,
    OFFLOADED = 3000, /* tokens of a sparse layer, shared by all rows */
    K = 6,
    L = 40,              /* some 13 % of the offloaded tokens are selected */
    BUSY_ROWS = 1 << 15, /* of an op that takes some 50 microseconds */
    BUSY_OPS = 20,
    MAX_BLOCKS = 64,
};

static const struct mp_shape shape = {
    .hidden_size = 1024,
    .num_attention_heads = 8,
    .num_key_value_heads = 2,
    .head_dim = 128,
    .intermediate_size = 2816,
    .vocab_size = 2000,
    .rms_norm_eps = 1e-5f,
};

/* Pointers lead to device memory. */
struct layer {
    struct projection_weights projection;
    struct output_weights output;
    struct ffn_weights ffn;
    float *w;                 /* of the hashing, one for all heads */
    struct lsh_tables tables; /* none in the dense layer */
    struct offloaded_kv kv;
};

struct chain {
    int64_t rows;
    struct layer layers[LAYERS];
    uint16_t *embedding;          /* of the LM head, too */
    float *norm;                  /* of the LM head */
    int32_t *ids;                 /* [STEPS][rows] */
    float *x;                     /* [rows][hidden_size] */
    float *q;                     /* [rows][num_heads][head_dim] */
    uint16_t *codes;              /* [rows][num_heads][L] */
    uint32_t *selected[MAX_ROWS]; /* [num_heads][OFFLOADED] */
    int32_t *nnz;                 /* [rows][num_heads] */
    float *o[2];                  /* static, sampled: as q */
    float *lse[2];                /* as nnz */
    int32_t *busy_ids;            /* [BUSY_ROWS] zeros */
    float *busy_x;                /* [BUSY_ROWS][hidden_size] */
    char *initial;                /* what `result` holds before the first step */
    char *result;             /* logits [STEPS][rows][vocab_size], then each layer's k and v, each
                                 [rows][num_kv_heads][capacity][head_dim] */
    float inv_freq[64];       /* host memory */
    struct lsh_weight weight; /* host memory */
    void *blocks[MAX_BLOCKS]; /* all of the device memory */
    int num_blocks;
};

/* A copy in device memory of a block from malloc, which it frees; NULL: room without contents. */
static void *take(struct chain *c, void *host, size_t bytes)
{
    assert_true(c->num_blocks < MAX_BLOCKS);
    void *device = device_copy(host, bytes);
    free(host);
    c->blocks[c->num_blocks++] = device;
    return device;
}

/* ---- what the steps leave ---- */

static int64_t first_tokens(int l)
{
    return l == 0 ? DENSE_TOKENS : STATIC_TOKENS;
}

/* Of the keys, or the values, of a row's cache. */
static size_t cache_elements(int l)
{
    size_t capacity = (size_t)first_tokens(l) + STEPS;
    return capacity * (size_t)(shape.num_key_value_heads * shape.head_dim);
}

static size_t step_logits(const struct chain *c)
{
    return (size_t)(c->rows * shape.vocab_size);
}

/* Where in the result the caches of layer l begin; for l = LAYERS, its size. In bytes. */
static size_t caches_at(const struct chain *c, int l)
{
    size_t at = STEPS * step_logits(c) * sizeof(float);
    for (int i = 0; i < l; i++) {
        at += 2 * (size_t)c->rows * cache_elements(i) * sizeof(uint16_t);
    }
    return at;
}

static struct kv_cache row_cache(const struct chain *c, int l, int64_t r)
{
    uint16_t *k = (uint16_t *)(c->result + caches_at(c, l));
    return (struct kv_cache){
        .k = k + (size_t)r * cache_elements(l),
        .v = k + (size_t)(c->rows + r) * cache_elements(l),
        .capacity = first_tokens(l) + STEPS,
        .num_kv_heads = shape.num_key_value_heads,
        .head_dim = shape.head_dim,
        .dtype = MP_BF16,
    };
}

static void make_result(struct chain *c)
{
    const size_t bytes = caches_at(c, LAYERS);
    c->initial = take(c, random_tensor(MP_BF16, bytes / sizeof(uint16_t), 1.0f, 3), bytes);
    c->result = take(c, NULL, bytes);
}

/* ---- what they read ---- */

static void make_weights(struct chain *c, struct layer *layer, uint64_t seed)
{
    const size_t hidden = (size_t)shape.hidden_size;
    const size_t width = (size_t)shape.intermediate_size;
    const size_t bytes[] = {projection_weights_at(&shape, NULL, NULL),
                            output_weights_at(&shape, NULL, NULL),
                            ffn_weights_at(&shape, NULL, NULL)};
    void *host[3];
    for (int i = 0; i < 3; i++) {
        host[i] = mp_xcalloc(bytes[i], 1);
    }
    projection_weights_at(&shape, host[0], &layer->projection);
    output_weights_at(&shape, host[1], &layer->output);
    ffn_weights_at(&shape, host[2], &layer->ffn);
    fill_f32(layer->projection.norm, hidden, 1.0f, 0.2f, seed);
    fill_bf16(layer->projection.qkv, (size_t)mp_shape_qkv_rows(&shape) * hidden, 0.03f, seed + 1);
    fill_bf16(layer->output.o, (size_t)mp_shape_q_width(&shape) * hidden, 0.03f, seed + 2);
    fill_f32(layer->ffn.norm, hidden, 1.0f, 0.2f, seed + 3);
    fill_bf16(layer->ffn.gate_up, 2 * width * hidden, 0.03f, seed + 4);
    fill_bf16(layer->ffn.down, width * hidden, 0.03f, seed + 5);
    projection_weights_at(&shape, take(c, host[0], bytes[0]), &layer->projection);
    output_weights_at(&shape, take(c, host[1], bytes[1]), &layer->output);
    ffn_weights_at(&shape, take(c, host[2], bytes[2]), &layer->ffn);
}

/* Tables of random codes: what is selected depends on the query's codes all the same. */
static void make_offloaded(struct chain *c, struct layer *layer, uint64_t seed)
{
    const int kv_heads = shape.num_key_value_heads;
    const size_t cells = (size_t)(kv_heads * L * OFFLOADED);
    const size_t offsets = (size_t)(kv_heads * L * ((1 << K) + 1));
    const size_t n = (size_t)(kv_heads * OFFLOADED * shape.head_dim);
    struct mp_rng rng;
    mp_rng_init(&rng, seed, 1);
    uint16_t *codes = mp_xmalloc(cells * sizeof *codes);
    for (size_t i = 0; i < cells; i++) {
        codes[i] = (uint16_t)(mp_rng_next(&rng) % (1u << K));
    }
    layer->tables = (struct lsh_tables){.ids = mp_xmalloc(cells * sizeof(uint16_t)),
                                        .offsets = mp_xmalloc(offsets * sizeof(uint32_t)),
                                        .count = OFFLOADED,
                                        .capacity = OFFLOADED,
                                        .num_kv_heads = kv_heads,
                                        .K = K,
                                        .L = L};
    table_build_ref(&(struct table_build_args){.codes = codes, .tables = &layer->tables});
    free(codes);
    layer->tables.ids = take(c, layer->tables.ids, cells * sizeof(uint16_t));
    layer->tables.offsets = take(c, layer->tables.offsets, offsets * sizeof(uint32_t));
    layer->kv = (struct offloaded_kv){
        .k = take(c, random_tensor(MP_BF16, n, 1.0f, seed + 1), n * sizeof(uint16_t)),
        .v = take(c, random_tensor(MP_BF16, n, 1.0f, seed + 2), n * sizeof(uint16_t)),
        .count = OFFLOADED,
        .capacity = OFFLOADED,
        .num_kv_heads = kv_heads,
        .head_dim = shape.head_dim,
        .dtype = MP_BF16,
    };
    const size_t w = (size_t)(shape.head_dim * K * L);
    layer->w = take(c, random_floats(w, 1.0f, seed + 3), w * sizeof(float));
}

static void make_step_buffers(struct chain *c)
{
    const size_t rows = (size_t)c->rows;
    const size_t heads = rows * (size_t)shape.num_attention_heads;
    const size_t width = heads * (size_t)shape.head_dim * sizeof(float);
    int32_t *ids = mp_xcalloc(STEPS * rows, sizeof *ids);
    for (size_t i = 0; i < STEPS * rows; i++) {
        ids[i] = (int32_t)(i * 977 % (size_t)shape.vocab_size);
    }
    c->ids = take(c, ids, STEPS * rows * sizeof *ids);
    c->x = take(c, NULL, rows * (size_t)shape.hidden_size * sizeof(float));
    c->q = take(c, NULL, width);
    c->codes = take(c, NULL, heads * L * sizeof(uint16_t));
    c->nnz = take(c, NULL, heads * sizeof(int32_t));
    for (size_t r = 0; r < rows; r++) {
        c->selected[r] = take(c, NULL, heads / rows * OFFLOADED * sizeof(uint32_t));
    }
    c->busy_ids = take(c, mp_xcalloc(BUSY_ROWS, sizeof(int32_t)), BUSY_ROWS * sizeof(int32_t));
    c->busy_x = take(c, NULL, BUSY_ROWS * (size_t)shape.hidden_size * sizeof(float));
    for (int part = 0; part < 2; part++) {
        c->o[part] = take(c, NULL, width);
        c->lse[part] = take(c, NULL, heads * sizeof(float));
    }
}

static struct chain *make_chain(int64_t rows)
{
    const size_t hidden = (size_t)shape.hidden_size;
    const size_t vocab = (size_t)shape.vocab_size;
    struct chain *c = mp_xcalloc(1, sizeof *c);
    c->rows = rows;
    for (int l = 0; l < LAYERS; l++) {
        uint64_t seed = 100 * (uint64_t)(l + 1);
        make_weights(c, &c->layers[l], seed);
        if (l > 0) {
            make_offloaded(c, &c->layers[l], seed + 20);
        }
    }
    c->embedding =
        take(c, random_tensor(MP_BF16, vocab * hidden, 1.0f, 1), vocab * hidden * sizeof(uint16_t));
    c->norm = take(c, random_floats(hidden, 1.0f, 2), hidden * sizeof(float));
    make_step_buffers(c);
    make_result(c);
    for (int i = 0; i < shape.head_dim / 2; i++) {
        c->inv_freq[i] = powf(10000.0f, -2.0f * (float)i / (float)shape.head_dim);
    }
    lsh_weight_init(&c->weight, K, L);
    return c;
}

static void free_chain(struct chain *c)
{
    for (int i = 0; i < c->num_blocks; i++) {
        ASSERT_CUDA(cudaFree(c->blocks[i]));
    }
    free(c);
}

/* ---- ops ---- */

static void run_projection(const struct chain *c, int l, int step)
{
    struct kv_cache caches[MAX_ROWS];
    struct projection_target targets[MAX_ROWS];
    for (int64_t r = 0; r < c->rows; r++) {
        caches[r] = row_cache(c, l, r);
        targets[r] = (struct projection_target){.cache = &caches[r],
                                                .index = first_tokens(l) + step,
                                                .position = 5000 + 100 * r + step,
                                                .inv_freq = c->inv_freq,
                                                .rope_scale = 1.0f};
    }
    projection_cuda(&(struct projection_args){.shape = &shape,
                                              .weights = c->layers[l].projection,
                                              .x = c->x,
                                              .q = c->q,
                                              .targets = targets,
                                              .num_targets = c->rows,
                                              .rows_per_target = 1});
}

static void run_hashing(const struct chain *c, int l)
{
    const int heads = shape.num_attention_heads;
    hashing_cuda(&(struct hashing_args){.x = c->q,
                                        .dtype = MP_F32,
                                        .x_head_stride = shape.head_dim,
                                        .x_vec_stride = (int64_t)heads * shape.head_dim,
                                        .count = c->rows,
                                        .num_heads = heads,
                                        .head_dim = shape.head_dim,
                                        .K = K,
                                        .L = L,
                                        .w = c->layers[l].w,
                                        .heads_per_projection = heads,
                                        .codes = c->codes,
                                        .code_head_stride = L,
                                        .code_vec_stride = (int64_t)heads * L,
                                        .code_table_stride = 1});
}

/* The lookup if `lookup`, otherwise the attention to what it has selected. */
static void run_sampled(const struct chain *c, int l, bool lookup)
{
    const struct lsh_tables *tables[MAX_ROWS];
    const struct offloaded_kv *kv[MAX_ROWS];
    const uint32_t *ids[MAX_ROWS];
    int64_t stride[MAX_ROWS];
    for (int64_t r = 0; r < c->rows; r++) {
        tables[r] = &c->layers[l].tables;
        kv[r] = &c->layers[l].kv;
        ids[r] = c->selected[r];
        stride[r] = OFFLOADED;
    }
    if (lookup) {
        table_lookup_cuda(&(struct table_lookup_args){.codes = c->codes,
                                                      .tables = tables,
                                                      .ids = c->selected,
                                                      .ids_stride = stride,
                                                      .nnz = c->nnz,
                                                      .rows = c->rows,
                                                      .num_heads = shape.num_attention_heads,
                                                      .L = L});
    } else {
        sampled_attention_cuda(
            &(struct sampled_attention_args){.q = c->q,
                                             .kv = kv,
                                             .ids = ids,
                                             .ids_stride = stride,
                                             .nnz = c->nnz,
                                             .weight = &c->weight,
                                             .o = c->o[1],
                                             .lse = c->lse[1],
                                             .rows = c->rows,
                                             .num_heads = shape.num_attention_heads,
                                             .head_dim = shape.head_dim,
                                             .scale = 1.0f / sqrtf((float)shape.head_dim)});
    }
}

static void run_static(const struct chain *c, int l, int step)
{
    struct kv_cache caches[MAX_ROWS];
    const struct kv_cache *cache[MAX_ROWS];
    int64_t length[MAX_ROWS];
    for (int64_t r = 0; r < c->rows; r++) {
        caches[r] = row_cache(c, l, r);
        cache[r] = &caches[r];
        length[r] = first_tokens(l) + step + 1;
    }
    static_attention_cuda(
        &(struct static_attention_args){.q = c->q,
                                        .cache = cache,
                                        .length = length,
                                        .o = c->o[0],
                                        .lse = c->lse[0],
                                        .rows = c->rows,
                                        .num_heads = shape.num_attention_heads,
                                        .head_dim = shape.head_dim,
                                        .scale = 1.0f / sqrtf((float)shape.head_dim)});
}

static void run_output(const struct chain *c, int l)
{
    const int heads = shape.num_attention_heads;
    const struct attention_part parts[2] = {{.o = c->o[0], .lse = c->lse[0], .num_heads = heads},
                                            {.o = c->o[1], .lse = c->lse[1], .num_heads = heads}};
    output_cuda(&(struct output_args){.shape = &shape,
                                      .weights = c->layers[l].output,
                                      .parts = parts,
                                      .num_parts = l > 0 ? 2 : 1,
                                      .x = c->x,
                                      .rows = c->rows});
}

/* ---- steps ---- */

/* Runs the statement that follows as an op, and waits for it if `wait`. */
#define OP(wait, name, call)                                                                       \
    do {                                                                                           \
        cuda_op_begin(name);                                                                       \
        call;                                                                                      \
        cuda_op_end();                                                                             \
        if (wait) {                                                                                \
            cuda_synchronize();                                                                    \
        }                                                                                          \
    } while (0)

static void run_layer(const struct chain *c, int l, int step, bool wait)
{
    OP(wait, "projection", run_projection(c, l, step));
    if (l > 0) {
        OP(wait, "hashing", run_hashing(c, l));
        OP(wait, "table_lookup", run_sampled(c, l, true));
        OP(wait, "sampled_attention", run_sampled(c, l, false));
    }
    OP(wait, "static_attention", run_static(c, l, step));
    OP(wait, "output", run_output(c, l));
    OP(wait, "ffn", ffn_cuda(&(struct ffn_args){&shape, c->layers[l].ffn, c->x, c->rows}));
}

static void run_steps(const struct chain *c, bool wait)
{
    for (int step = 0; step < STEPS; step++) {
        const int32_t *ids = c->ids + step * c->rows;
        float *logits = (float *)c->result + (size_t)step * step_logits(c);
        OP(wait, "embed",
           embed_cuda(&(struct embed_args){ids, c->embedding, c->x, c->rows, shape.hidden_size}));
        for (int l = 0; l < LAYERS; l++) {
            run_layer(c, l, step, wait);
        }
        OP(wait, "lm_head",
           lm_head_cuda(
               &(struct lm_head_args){&shape, c->norm, c->embedding, c->x, logits, c->rows}));
    }
}

/* Gives the GPU work for the time that the host takes to enqueue the steps: kernels overlap only if
 * the next one is there in time. */
static void keep_busy(const struct chain *c)
{
    for (int i = 0; i < BUSY_OPS; i++) {
        OP(false, "embed",
           embed_cuda(&(struct embed_args){c->busy_ids, c->embedding, c->busy_x, BUSY_ROWS,
                                           shape.hidden_size}));
    }
}

/* Runs all steps from the start; what they leave, in host memory. */
static void *run(const struct chain *c, bool wait)
{
    const size_t bytes = caches_at(c, LAYERS);
    ASSERT_CUDA(cudaMemcpy(c->result, c->initial, bytes, cudaMemcpyDeviceToDevice));
    ASSERT_CUDA(cudaDeviceSynchronize());
    keep_busy(c);
    run_steps(c, wait);
    return host_copy(c->result, bytes);
}

/* All logits are numbers, and no two steps in a row have the same. */
static void assert_meaningful(const struct chain *c, const float *logits)
{
    const size_t n = step_logits(c);
    for (size_t i = 0; i < STEPS * n; i++) {
        assert_true(isfinite(logits[i]));
    }
    for (size_t i = 1; i < STEPS; i++) {
        assert_memory_not_equal(logits + i * n, logits + (i - 1) * n, n * sizeof *logits);
    }
}

static void compare_runs(int64_t rows)
{
    struct chain *c = make_chain(rows);
    void *expected = run(c, true);
    assert_meaningful(c, expected);
    for (int i = 0; i < RUNS; i++) {
        void *found = run(c, false);
        assert_memory_equal(found, expected, caches_at(c, LAYERS));
        free(found);
    }
    free(expected);
    free_chain(c);
}

static void test_one_row(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    compare_runs(1);
}

/* More than 8 rows: the other shape of the products. */
static void test_many_rows(void **state)
{
    (void)state;
    SKIP_WITHOUT_GPU();
    compare_runs(MAX_ROWS);
}

static int teardown(void **state)
{
    release_kernels(state);
    return cuda_test_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_row),
        cmocka_unit_test(test_many_rows),
    };
    return cmocka_run_group_tests(tests, cuda_test_setup, teardown);
}
