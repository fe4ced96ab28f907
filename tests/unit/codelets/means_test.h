/* hashing, tables, lookup and sampled attention together, for their tests on the CPU and on the
 * GPU: over many random hyperplanes the sums of the sampled attention have means in which each
 * token is selected with its probability u and weighs 1 / (u + 1e-4). */
#ifndef MP_TESTS_MEANS_H
#define MP_TESTS_MEANS_H

#include "codelets/common/attention/lsh.h"
#include "codelets/hashing/hashing.h"
#include "codelets/table_build/table_build.h"
#include "codelets/table_lookup/table_lookup.h"
#include "tests/unit/codelets/keys_test.h"

/* Two query heads of one KV head. */
enum { MEANS_TOKENS = 300, MEANS_DIM = 32, MEANS_HEADS = 2, MEANS_K = 5, MEANS_L = 12 };

static const struct keys_case MEANS_CASE = {MEANS_TOKENS, 1, MEANS_HEADS, MEANS_DIM, MEANS_TOKENS};

/* ---- a step with one draw of hyperplanes ---- */

struct means_ops {
    hashing_kernel *hashing;
    table_build_kernel *table_build;
    table_lookup_kernel *table_lookup;
    sampled_attention_kernel *sampled_attention;
};

/* What the ops read and write, in memory of theirs. */
struct means_arrays {
    struct offloaded_kv kv;
    float *q;                 /* [heads][dim] */
    float *w;                 /* [dim][K * L]: the hyperplanes */
    uint16_t *key_codes;      /* [L][tokens] */
    uint16_t *codes;          /* [heads][L] */
    struct lsh_tables tables; /* ids [L][tokens], offsets [L][2^K + 1] */
    uint32_t *ids;            /* [heads][tokens] */
    int32_t *nnz;             /* [heads] */
    float *o;                 /* [heads][dim] */
    float *lse;               /* [heads] */
};

enum {
    MEANS_W_BYTES = MEANS_DIM * MEANS_K * MEANS_L * sizeof(float),
    MEANS_KEY_CODES_BYTES = MEANS_L * MEANS_TOKENS * sizeof(uint16_t),
    MEANS_CODES_BYTES = MEANS_HEADS * MEANS_L * sizeof(uint16_t),
    MEANS_OFFSETS_BYTES = MEANS_L * ((1 << MEANS_K) + 1) * sizeof(uint32_t),
    MEANS_IDS_BYTES = MEANS_HEADS * MEANS_TOKENS * sizeof(uint32_t),
    MEANS_NNZ_BYTES = MEANS_HEADS * sizeof(int32_t),
    MEANS_O_BYTES = MEANS_HEADS * MEANS_DIM * sizeof(float),
    MEANS_LSE_BYTES = MEANS_HEADS * sizeof(float),
};

/* Hashes keys and queries. */
static inline void means_hash(const struct means_ops *ops, const struct means_arrays *m)
{
    struct hashing_args a = {.x = m->kv.k,
                             .dtype = MP_BF16,
                             .x_vec_stride = MEANS_DIM,
                             .count = MEANS_TOKENS,
                             .num_heads = 1,
                             .head_dim = MEANS_DIM,
                             .K = MEANS_K,
                             .L = MEANS_L,
                             .w = m->w,
                             .heads_per_projection = 1,
                             .codes = m->key_codes,
                             .code_vec_stride = 1,
                             .code_table_stride = MEANS_TOKENS};
    ops->hashing(&a);
    a.x = m->q;
    a.dtype = MP_F32;
    a.count = MEANS_HEADS;
    a.codes = m->codes;
    a.code_vec_stride = MEANS_L;
    a.code_table_stride = 1;
    ops->hashing(&a);
}

/* weight: for MEANS_K and MEANS_L. Leaves nnz, o and lse. */
static inline void means_step(const struct means_ops *ops, struct means_arrays *m,
                              const struct lsh_weight *weight)
{
    const int64_t room = MEANS_TOKENS;
    means_hash(ops, m);
    ops->table_build(&(struct table_build_args){.codes = m->key_codes, .tables = &m->tables});
    ops->table_lookup(
        &(struct table_lookup_args){.codes = m->codes,
                                    .tables = (const struct lsh_tables *const[]){&m->tables},
                                    .ids = &m->ids,
                                    .ids_stride = &room,
                                    .nnz = m->nnz,
                                    .rows = 1,
                                    .num_heads = MEANS_HEADS,
                                    .L = MEANS_L});
    ops->sampled_attention(&(struct sampled_attention_args){
        .q = m->q,
        .kv = (const struct offloaded_kv *const[]){&m->kv},
        .ids = (const uint32_t *const[]){m->ids},
        .ids_stride = &room,
        .nnz = m->nnz,
        .weight = weight,
        .o = m->o,
        .lse = m->lse,
        .rows = 1,
        .num_heads = MEANS_HEADS,
        .head_dim = MEANS_DIM,
        .scale = 1.0f / sqrtf((float)MEANS_DIM),
    });
}

static inline struct lsh_tables means_tables(uint16_t *ids, uint32_t *offsets)
{
    return (struct lsh_tables){.ids = ids,
                               .offsets = offsets,
                               .count = MEANS_TOKENS,
                               .capacity = MEANS_TOKENS,
                               .num_kv_heads = 1,
                               .K = MEANS_K,
                               .L = MEANS_L};
}

/* ---- over many draws ---- */

/* What a step leaves, in memory of the host. */
struct means_sample {
    int32_t nnz[MEANS_HEADS];
    float o[MEANS_HEADS * MEANS_DIM];
    float lse[MEANS_HEADS];
};

/* A step with the hyperplanes w. */
typedef void means_sampler(void *state, const float *w, struct means_sample *out);

/* What the means must be for a head. */
struct means_expected {
    struct attention_sums exact;    /* attention to all tokens */
    struct attention_sums weighted; /* the same but for the 1e-4 */
    double nnz;                     /* sum of u */
};

static inline struct means_expected means_expect(const struct keys_fixture *f, int h)
{
    struct means_expected e = {.exact = exact_sums(&MEANS_CASE, f, h)};
    const float *q = f->q + (size_t)h * MEANS_DIM;
    for (size_t i = 0; i < MEANS_TOKENS; i++) {
        double dot = 0.0;
        double q_squared = 0.0;
        double k_squared = 0.0;
        for (size_t c = 0; c < MEANS_DIM; c++) {
            double k = (double)mp_load(f->kv.k, MP_BF16, i * MEANS_DIM + c);
            dot += (double)q[c] * k;
            q_squared += (double)q[c] * (double)q[c];
            k_squared += k * k;
        }
        double u = lsh_collision_probability(dot / sqrt(q_squared * k_squared), MEANS_K, MEANS_L);
        double p = exp(dot / sqrt((double)MEANS_DIM)) * u / (u + 1e-4);
        e.nnz += u;
        e.weighted.denominator += p;
        for (size_t c = 0; c < MEAN_CHANNELS; c++) {
            e.weighted.numerator[c] += p * (double)mp_load(f->kv.v, MP_BF16, i * MEANS_DIM + c);
        }
    }
    return e;
}

/* The means over MEAN_SEEDS draws. They are known well enough that weights by 1.1 u or 0.91 u show:
 * denominators are then more than four standard errors off. */
static inline void assert_sampled_means(const struct keys_fixture *f, means_sampler *sample,
                                        void *state)
{
    static struct attention_sums sums[MEANS_HEADS][MEAN_SEEDS];
    static double nnz[MEANS_HEADS][MEAN_SEEDS];
    for (int i = 0; i < MEAN_SEEDS; i++) {
        float *w = lsh_projections_draw(MEANS_DIM, MEANS_K, MEANS_L, 2000 + (uint64_t)i, 0, 1);
        struct means_sample found;
        sample(state, w, &found);
        for (int h = 0; h < MEANS_HEADS; h++) {
            assert_true(found.nnz[h] > 0 && found.nnz[h] < MEANS_TOKENS);
            sums[h][i] = sums_of(found.o + (size_t)h * MEANS_DIM, found.lse[h]);
            nnz[h][i] = found.nnz[h];
        }
        free(w);
    }
    for (int h = 0; h < MEANS_HEADS; h++) {
        struct means_expected e = means_expect(f, h);
        assert_true(e.weighted.denominator > 0.99 * e.exact.denominator);
        assert_mean(nnz[h], e.nnz, 0.0, "selected tokens");
        assert_means(sums[h], &e.weighted);
    }
}

#endif
