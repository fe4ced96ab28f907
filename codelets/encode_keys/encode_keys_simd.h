/* encode_keys for the instruction set this is compiled for. A lane is a channel of one key. Every
 * sum is added in the order of the reference. */
#include "codelets/common/attention/support.h"
#include "codelets/common/scratch.h"
#include "codelets/common/simd.h"
#include "codelets/encode_keys/encode_keys.h"
#include "core/base/shape.h"

#include <string.h>

enum { VECTORS = MP_MAX_HEAD_DIM / VF_LANES }; /* of a key, at most */

#if defined(__AVX512F__)

/* Lanes i and i ^ stride in each other's place. */
static inline vf swap_lanes(vf x, int stride)
{
    switch (stride) {
    case 1:
        return _mm512_permute_ps(x, 0xb1);
    case 2:
        return _mm512_permute_ps(x, 0x4e);
    case 4:
        return _mm512_shuffle_f32x4(x, x, 0xb1);
    default:
        return _mm512_shuffle_f32x4(x, x, 0x4e);
    }
}

static inline vf negate_where(vf x, const uint32_t *signs)
{
    return _mm512_xor_ps(x, _mm512_loadu_ps(signs));
}

static inline vf vf_floor(vf x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

/* 1 where x >= 0, else 0. */
static inline vf vf_not_negative(vf x)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, vf_zero(), _CMP_GE_OQ), vf_set1(1.0f));
}

/* Whole numbers in 0 .. 15, a byte each. */
static inline void store_levels(uint8_t *p, vf x)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(x)));
}

#else

static inline vf swap_lanes(vf x, int stride)
{
    switch (stride) {
    case 1:
        return _mm256_permute_ps(x, 0xb1);
    case 2:
        return _mm256_permute_ps(x, 0x4e);
    default:
        return _mm256_permute2f128_ps(x, x, 1);
    }
}

static inline vf negate_where(vf x, const uint32_t *signs)
{
    return _mm256_xor_ps(x, _mm256_loadu_ps((const float *)(const void *)signs));
}

static inline vf vf_floor(vf x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}

static inline vf vf_not_negative(vf x)
{
    return _mm256_and_ps(_mm256_cmp_ps(x, vf_zero(), _CMP_GE_OQ), vf_set1(1.0f));
}

static inline void store_levels(uint8_t *p, vf x)
{
    __m256i i = _mm256_cvttps_epi32(x);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(i), _mm256_extracti128_si256(i, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packus_epi16(words, words));
}

#endif

/* What all keys share. */
struct encoder {
    int head_dim;
    int vectors; /* of a key */
    int bits;
    bool hadamard;
    const float *rotation; /* signs, or columns of R: [head_dim][head_dim] */
    float scale;           /* 1 / sqrt(head_dim) */
    /* For each stride within a vector, the sign bit of the lanes whose partner is below them. */
    uint32_t signs[4][VF_LANES];
};

static struct encoder encoder_make(const struct encode_keys_args *a, float *columns)
{
    int d = a->codes->head_dim;
    struct encoder e = {.head_dim = d,
                        .vectors = d / VF_LANES,
                        .bits = a->codes->bits,
                        .hadamard = key_rotation_is_hadamard(d),
                        .rotation = a->rotation.data,
                        .scale = 1.0f / sqrtf((float)d)};
    for (int i = 0; i < 4; i++) {
        for (int lane = 0; lane < VF_LANES; lane++) {
            e.signs[i][lane] = lane >> i & 1 ? 0x80000000 : 0;
        }
    }
    if (!e.hadamard) {
        for (int j = 0; j < d; j++) {
            for (int c = 0; c < d; c++) {
                columns[c * d + j] = a->rotation.data[j * d + c];
            }
        }
        e.rotation = columns;
    }
    return e;
}

/* As key_rotate. */
static inline void hadamard(const struct encoder *e, const vf *x, vf *y)
{
    for (int v = 0; v < e->vectors; v++) {
        y[v] = vf_mul(vf_load(e->rotation + v * VF_LANES), x[v]);
        for (int i = 0; 1 << i < VF_LANES; i++) {
            y[v] = vf_add(swap_lanes(y[v], 1 << i), negate_where(y[v], e->signs[i]));
        }
    }
    for (int stride = 1; stride < e->vectors; stride *= 2) {
        for (int v = 0; v < e->vectors; v++) {
            if ((v & stride) == 0) {
                vf a = y[v];
                vf b = y[v + stride];
                y[v] = vf_add(a, b);
                y[v + stride] = vf_sub(a, b);
            }
        }
    }
    for (int v = 0; v < e->vectors; v++) {
        y[v] = vf_mul(y[v], vf_set1(e->scale));
    }
}

/* As key_rotate: a lane is a row of R. */
static inline void multiply(const struct encoder *e, const float *key, vf *y)
{
    for (int v = 0; v < e->vectors; v++) {
        y[v] = vf_zero();
    }
    for (int c = 0; c < e->head_dim; c++) {
        vf x = vf_set1(key[c]);
        for (int v = 0; v < e->vectors; v++) {
            y[v] = vf_fma(vf_load(e->rotation + c * e->head_dim + v * VF_LANES), x, y[v]);
        }
    }
}

/* encode_sum of whole vectors, which are overwritten. */
static inline float sum(vf *x, int vectors)
{
    int power = 1;
    while (power < vectors) {
        power *= 2;
    }
    for (int h = power / 2; h > 0; h /= 2) {
        for (int v = 0; v < h && v + h < vectors; v++) {
            x[v] = vf_add(x[v], x[v + h]);
        }
        vectors = vectors < h ? vectors : h;
    }
    return vf_reduce_add(x[0]);
}

/* Levels of a key, a byte each; returns its factor. */
static inline float encode(const struct encoder *e, const uint16_t *key, uint8_t *levels)
{
    vf x[VECTORS], y[VECTORS], products[VECTORS];
    float wide[MP_MAX_HEAD_DIM];
    for (int v = 0; v < e->vectors; v++) {
        x[v] = vf_load_bf16(key + v * VF_LANES);
        products[v] = vf_mul(x[v], x[v]);
    }
    if (e->hadamard) {
        hadamard(e, x, y);
    } else {
        for (int v = 0; v < e->vectors; v++) {
            vf_store(wide + v * VF_LANES, x[v]);
        }
        multiply(e, wide, y);
    }
    float norm_squared = sum(products, e->vectors);
    float step = codes_key_step(norm_squared, e->head_dim, e->bits);
    float half = (float)(1 << (e->bits - 1));
    for (int v = 0; v < e->vectors; v++) {
        vf level;
        if (e->bits == 1) {
            level = vf_not_negative(y[v]);
        } else {
            vf at = step > 0.0f ? vf_floor(vf_div(y[v], vf_set1(step))) : vf_zero();
            at = vf_min(vf_max(at, vf_set1(-half)), vf_set1(half - 1.0f));
            level = vf_add(at, vf_set1(half));
        }
        store_levels(levels + v * VF_LANES, level);
        products[v] = vf_mul(y[v], vf_sub(level, vf_set1(half - 0.5f)));
    }
    return codes_factor(norm_squared, sum(products, e->vectors));
}

/* The words of a token's code, CODES_BLOCK apart. levels: 0 beyond head_dim. */
static inline void pack(const uint8_t *levels, int num_words, int bits, uint32_t *words)
{
    int slots = 8 / bits;
    for (int m = 0; m < num_words; m++) {
        uint32_t word = 0;
        for (int s = 0; s < slots; s++) {
            uint32_t four;
            memcpy(&four, levels + 4 * (m * slots + s), sizeof four);
            word |= four << s * bits;
        }
        words[m * CODES_BLOCK] = word;
    }
}

/* Block b of KV head h. */
static void encode_block(const struct encode_keys_args *a, const struct encoder *e, int h,
                         int64_t b)
{
    const struct key_codes *codes = a->codes;
    int num_words = codes_words(e->head_dim, e->bits);
    int64_t block = h * codes_blocks(codes->capacity) + b;
    uint32_t *words = codes->words + block * num_words * CODES_BLOCK;
    float *factors = codes->factors + block * CODES_BLOCK;
    int64_t pitch = kv_pitch(a->kv);
    const uint16_t *keys = (const uint16_t *)a->kv->k + h * a->kv->capacity * pitch;
    int64_t skipped = a->first - b * CODES_BLOCK;
    int64_t rest = codes->count - b * CODES_BLOCK;
    uint8_t levels[MP_MAX_HEAD_DIM + 32] = {0};
    for (int t = skipped > 0 ? (int)skipped : 0; t < CODES_BLOCK; t++) {
        if (t == rest) {
            memset(levels, 0, sizeof levels);
        }
        factors[t] = t < rest ? encode(e, keys + (t - skipped) * pitch, levels) : 0.0f;
        pack(levels, num_words, e->bits, words + t);
    }
}

void VF_NAME(encode_keys)(const struct encode_keys_args *a)
{
    mp_kernel_demand("encode_keys", a->kv->dtype, a->kv->head_dim, VF_LANES);
    mp_scratch_reset();
    float *columns = mp_scratch(key_rotation_size(a->codes->head_dim), sizeof *columns);
    const struct encoder e = encoder_make(a, columns);
    int64_t blocks = codes_blocks(a->codes->count);
#pragma omp parallel for collapse(2)
    for (int h = 0; h < a->codes->num_kv_heads; h++) {
        for (int64_t b = a->first / CODES_BLOCK; b < blocks; b++) {
            encode_block(a, &e, h, b);
        }
    }
}
