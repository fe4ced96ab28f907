/* hashing for the instruction set this is compiled for: a matrix product of which only the signs
 * leave the registers.
 *
 * The work is cut in units of VECTORS vectors that share a projection times TABLES tables. In a
 * unit, COLUMNS columns of W at a time are copied together (they stay in the first-level cache) and
 * multiplied with ROWS vectors at a time. */
#include "codelets/common/scratch.h"
#include "codelets/common/simd.h"
#include "codelets/hashing/hashing.h"

#include <string.h>

enum {
    ROWS = 6, /* ROWS x COLUMNS sums fill the registers */
    COLUMN_VECTORS = VF_LANES == 16 ? 4 : 2,
    COLUMNS = COLUMN_VECTORS * VF_LANES,
    VECTORS = 32 * ROWS,
    TABLES = 32,
    BIT_BYTES = TABLES * 16 / 8 + COLUMNS / 8, /* sign bits of a vector in a unit, K <= 16, and
                                                  room for the last block and a 32-bit load */
};

/* Working memory of a thread. */
struct workspace {
    float *x;      /* [VECTORS][head_dim] */
    float *w;      /* [head_dim][COLUMNS] */
    uint8_t *bits; /* [VECTORS][BIT_BYTES] bit j of a row: sign of column j of the unit */
};

struct unit {
    int projection;
    int64_t first; /* first vector, counted over the heads that share the projection */
    int vectors;
    int first_table;
    int tables;
};

/* Widens the unit's vectors; those missing to a multiple of ROWS are 0. */
static void copy_x(const struct hashing_args *a, const struct unit *u, float *x)
{
    int padded = (u->vectors + ROWS - 1) / ROWS * ROWS;
    for (int r = 0; r < padded; r++, x += a->head_dim) {
        int64_t vector = u->first + r;
        int64_t head = (int64_t)u->projection * a->heads_per_projection + vector / a->count;
        int64_t at = head * a->x_head_stride + vector % a->count * a->x_vec_stride;
        if (r >= u->vectors) {
            memset(x, 0, (size_t)a->head_dim * sizeof *x);
        } else if (a->dtype == MP_F32) {
            memcpy(x, (const float *)a->x + at, (size_t)a->head_dim * sizeof *x);
        } else {
            const uint16_t *from = (const uint16_t *)a->x + at;
            for (int c = 0; c < a->head_dim; c++) {
                x[c] = mp_bf16_to_f32(from[c]);
            }
        }
    }
}

/* Copies `columns` <= COLUMNS columns of W together, the missing ones as 0. */
static void copy_w(const float *w, int64_t stride, int head_dim, int columns, float *out)
{
    for (int c = 0; c < head_dim; c++, w += stride, out += COLUMNS) {
        if (columns == COLUMNS) {
            memcpy(out, w, COLUMNS * sizeof *out); /* a constant size: a few vector moves */
            continue;
        }
        for (int j = 0; j < COLUMNS; j++) {
            out[j] = j < columns ? w[j] : 0.0f;
        }
    }
}

/* The signs of ROWS vectors times COLUMNS columns. */
static void multiply(const float *x, const float *w, int head_dim, uint8_t *bits)
{
    vf sum[ROWS][COLUMN_VECTORS];
    for (int r = 0; r < ROWS; r++) {
        for (int v = 0; v < COLUMN_VECTORS; v++) {
            sum[r][v] = vf_zero();
        }
    }
    for (int c = 0; c < head_dim; c++) {
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) {
            vf xc = vf_set1(x[(int64_t)r * head_dim + c]);
#pragma GCC unroll 4
            for (int v = 0; v < COLUMN_VECTORS; v++) {
                sum[r][v] = vf_fma(xc, vf_load(w + c * COLUMNS + v * VF_LANES), sum[r][v]);
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++) {
        uint64_t signs = 0;
#pragma GCC unroll 4
        for (int v = 0; v < COLUMN_VECTORS; v++) {
            signs |= (uint64_t)vf_positive_mask(sum[r][v]) << (v * VF_LANES);
        }
        memcpy(bits + r * BIT_BYTES, &signs, COLUMNS / 8);
    }
}

/* Cuts each vector's bits into codes of K bits. */
static void write_codes(const struct hashing_args *a, const struct unit *u, const uint8_t *bits)
{
    int64_t at[VECTORS];
    for (int r = 0; r < u->vectors; r++) {
        int64_t vector = u->first + r;
        int64_t head = (int64_t)u->projection * a->heads_per_projection + vector / a->count;
        at[r] = head * a->code_head_stride + vector % a->count * a->code_vec_stride;
    }
    uint32_t mask = (1U << a->K) - 1U;
    for (int l = 0; l < u->tables; l++) {
        uint16_t *codes = a->codes + (u->first_table + l) * a->code_table_stride;
        const uint8_t *first = bits + l * a->K / 8;
        int shift = l * a->K % 8;
        for (int r = 0; r < u->vectors; r++) {
            uint32_t word;
            memcpy(&word, first + r * BIT_BYTES, sizeof word);
            codes[at[r]] = (uint16_t)(word >> shift & mask);
        }
    }
}

static void hash_unit(const struct hashing_args *a, const struct unit *u, struct workspace *ws)
{
    int64_t stride = (int64_t)a->K * a->L;
    const float *w = a->w + u->projection * a->head_dim * stride + u->first_table * a->K;
    int columns = u->tables * a->K;
    copy_x(a, u, ws->x);
    for (int j = 0; j < columns; j += COLUMNS) {
        int n = columns - j < COLUMNS ? columns - j : COLUMNS;
        copy_w(w + j, stride, a->head_dim, n, ws->w);
        for (int r = 0; r < u->vectors; r += ROWS) {
            multiply(ws->x + (int64_t)r * a->head_dim, ws->w, a->head_dim,
                     ws->bits + r * BIT_BYTES + j / 8);
        }
    }
    write_codes(a, u, ws->bits);
}

static struct workspace take_workspace(int head_dim)
{
    mp_scratch_reset();
    return (struct workspace){
        .x = mp_scratch((size_t)VECTORS * (size_t)head_dim, sizeof(float)),
        .w = mp_scratch((size_t)COLUMNS * (size_t)head_dim, sizeof(float)),
        .bits = mp_scratch(VECTORS, BIT_BYTES),
    };
}

void VF_NAME(hashing)(const struct hashing_args *a)
{
    int64_t vectors = a->heads_per_projection * a->count;
#pragma omp parallel
    {
        struct workspace ws = take_workspace(a->head_dim);
#pragma omp for collapse(3) schedule(dynamic)
        for (int p = 0; p < a->num_heads / a->heads_per_projection; p++) {
            for (int l = 0; l < a->L; l += TABLES) {
                for (int64_t i = 0; i < vectors; i += VECTORS) {
                    struct unit u = {
                        .projection = p,
                        .first = i,
                        .vectors = vectors - i < VECTORS ? (int)(vectors - i) : VECTORS,
                        .first_table = l,
                        .tables = a->L - l < TABLES ? a->L - l : TABLES,
                    };
                    hash_unit(a, &u, &ws);
                }
            }
        }
    }
}
