/* Both products on AMX tiles of bf16 with float32 sums. Keys and values are used as they are
 * stored. A query is the sum of two bf16 numbers, so that scores are exact to float32; weights are
 * rounded to bf16, an error of about 1e-3 of the output. */
#include "codelets/common/simd.h"

enum {
    STRIP_ROWS = 32, /* two tiles of rows by two tiles of columns are summed at a time */
    PANEL = 16,      /* columns of a tile of sums */
    KEY_TILE = 256,
    KEY_STEP = 32, /* bf16 numbers in a row of a tile */
    QUERY_PARTS = 2,
    WEIGHT_LOG2 = 0,
};

#include "codelets/prefill_attention/prefill_attention_flash.h"

/* What LDTILECFG reads: every tile has 16 rows of 64 bytes. */
struct tile_config {
    uint8_t palette;
    uint8_t start_row;
    uint8_t reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

enum { TILE_ROWS = 16, TILE_ROW_BYTES = 64 };

static const struct tile_config tile_config = {
    .palette = 1,
    .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
    .rows = {16, 16, 16, 16, 16, 16, 16, 16},
};

/* out[32][32] = a[32][depth] times two panels of b. a has rows of a_stride numbers in `parts` parts
 * that lie depth apart and all meet the same b; the panels lie b_stride numbers apart; rows of out
 * are out_stride floats apart. Tiles 0 to 3 hold the sums, 4 and 5 rows of a, 6 and 7 panels. */
static inline void tile_product(const uint16_t *a, int a_stride, int parts, const uint16_t *b,
                                int b_stride, int depth, float *out, int out_stride)
{
    size_t a_bytes = (size_t)a_stride * sizeof *a;
    size_t out_bytes = (size_t)out_stride * sizeof *out;
    /* The compiler does not know that the tile instructions read memory. */
    __asm__ volatile("" ::: "memory");
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int c = 0; c < depth; c += KEY_STEP) {
        _tile_loadd(6, b + c * PANEL, TILE_ROW_BYTES);
        _tile_loadd(7, b + b_stride + c * PANEL, TILE_ROW_BYTES);
        for (int part = 0; part < parts; part++) {
            const uint16_t *rows = a + part * depth + c;
            _tile_loadd(4, rows, a_bytes);
            _tile_loadd(5, rows + TILE_ROWS * a_stride, a_bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
    }
    _tile_stored(0, out, out_bytes);
    _tile_stored(1, out + PANEL, out_bytes);
    _tile_stored(2, out + TILE_ROWS * out_stride, out_bytes);
    _tile_stored(3, out + TILE_ROWS * out_stride + PANEL, out_bytes);
}

/* A strip's queries are stored as [STRIP_ROWS][QUERY_PARTS][width]. */
static float pack_query(const float *row, int width, uint16_t *strip, int i)
{
    uint16_t *high = strip + i * QUERY_PARTS * width;
    uint16_t *low = high + width;
    for (int c = 0; c < width; c += VF_LANES) {
        vf x = vf_load(row + c);
        vf_store_bf16(high + c, x);
        vf_store_bf16(low + c, vf_sub(x, vf_load_bf16(high + c)));
    }
    return 1.0f;
}

static void pack_tile(struct flash *f, int64_t key0, int n)
{
    size_t row_bytes = (size_t)f->a->head_dim * sizeof(uint16_t);
    const uint16_t *k = (const uint16_t *)f->a->cache->k + cache_offset(f, key0);
    const uint16_t *v = (const uint16_t *)f->a->cache->v + cache_offset(f, key0);
    for (int j = 0; j < KEY_TILE; j += 2) {
        uint16_t rows[2][2][MP_MAX_HEAD_DIM] = {0}; /* keys, values; even, odd */
        for (int odd = 0; odd < 2 && j + odd < n; odd++) {
            int64_t at = (int64_t)(j + odd) * f->a->head_dim;
            memcpy(rows[0][odd], k + at, row_bytes);
            memcpy(rows[1][odd], v + at, row_bytes);
        }
        store_key(f, j, rows[0][0]);
        store_key(f, j + 1, rows[0][1]);
        for (int c = 0; c < f->width; c++) {
            uint16_t *pair = f->tile.v + (c / PANEL * KEY_TILE + j) * PANEL + c % PANEL * 2;
            pair[0] = rows[1][0][c];
            pair[1] = rows[1][1][c];
        }
    }
}

static void strip_scores(struct flash *f, int strip, int n)
{
    _tile_loadconfig(&tile_config);
    for (int j = 0; j < n; j += 2 * PANEL) {
        tile_product(strip_queries(f, strip), QUERY_PARTS * f->width, QUERY_PARTS,
                     f->tile.k + j * f->width, PANEL * f->width, f->width, f->score + j, KEY_TILE);
    }
    _tile_release();
}

static void store_weights(uint16_t *out, vf w0, vf w1)
{
    vf_store_bf16(out, w0);
    vf_store_bf16(out + VF_LANES, w1);
}

static void strip_values(struct flash *f, int strip, int n)
{
    enum { COLUMNS = 2 * PANEL };
    float product[STRIP_ROWS][COLUMNS];
    float *o = f->o + (int64_t)strip * STRIP_ROWS * f->width;
    _tile_loadconfig(&tile_config);
    for (int c = 0; c < f->width; c += COLUMNS) {
        tile_product(f->weight, KEY_TILE, 1, f->tile.v + c * KEY_TILE, PANEL * KEY_TILE, n,
                     product[0], COLUMNS);
        for (int i = 0; i < STRIP_ROWS; i++) {
            vf keep = vf_set1(f->keep[i]);
            vf gain = vf_set1(f->gain[i]);
            for (int h = 0; h < COLUMNS; h += VF_LANES) {
                float *sum = o + i * f->width + c + h;
                vf_store(sum, vf_fma(gain, vf_load(product[i] + h), vf_mul(keep, vf_load(sum))));
            }
        }
    }
    _tile_release();
}

void prefill_attention_amx(const struct prefill_attention_args *a)
{
    mp_kernel_demand("prefill_attention", a->cache->dtype, a->head_dim, 1);
    flash_attention(a);
}
