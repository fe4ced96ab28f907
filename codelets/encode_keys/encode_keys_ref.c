#include "codelets/encode_keys/encode_keys.h"
#include "core/base/shape.h"

float encode_sum(const float *x, int n)
{
    int power = 1;
    while (power < n) {
        power *= 2;
    }
    float sums[power];
    for (int j = 0; j < power; j++) {
        sums[j] = j < n ? x[j] : 0.0f;
    }
    for (int h = power / 2; h > 0; h /= 2) {
        for (int j = 0; j < h; j++) {
            sums[j] += sums[j + h];
        }
    }
    return sums[0];
}

/* The words of one token's code, CODES_BLOCK apart, from its levels. */
static void pack(const int *levels, int head_dim, int bits, uint32_t *words)
{
    int per_word = 32 / bits;
    for (int m = 0; m < codes_words(head_dim, bits); m++) {
        uint32_t word = 0;
        for (int i = 0; i < per_word && m * per_word + i < head_dim; i++) {
            int shift = i % 4 * 8 + i / 4 * bits;
            word |= (uint32_t)levels[m * per_word + i] << shift;
        }
        words[m * CODES_BLOCK] = word;
    }
}

/* Writes the words of a key; returns its factor. */
static float encode(const struct key_rotation *rotation, const float *key, int bits,
                    uint32_t *words)
{
    int d = rotation->head_dim;
    float y[MP_MAX_HEAD_DIM];
    float products[MP_MAX_HEAD_DIM];
    int levels[MP_MAX_HEAD_DIM];
    key_rotate(rotation, key, y);
    for (int c = 0; c < d; c++) {
        products[c] = key[c] * key[c];
    }
    float norm_squared = encode_sum(products, d);
    float step = codes_key_step(norm_squared, d, bits);
    for (int c = 0; c < d; c++) {
        levels[c] = codes_level(y[c], step, bits);
        products[c] = y[c] * codes_center(levels[c], bits);
    }
    pack(levels, d, bits, words);
    return codes_factor(norm_squared, encode_sum(products, d));
}

/* Block b of KV head h. */
static void encode_block(const struct encode_keys_args *a, int h, int64_t b)
{
    const struct offloaded_kv *kv = a->kv;
    const struct key_codes *codes = a->codes;
    int num_words = codes_words(codes->head_dim, codes->bits);
    int64_t block = h * codes_blocks(codes->capacity) + b;
    uint32_t *words = codes->words + block * num_words * CODES_BLOCK;
    float *factors = codes->factors + block * CODES_BLOCK;
    for (int t = 0; t < CODES_BLOCK; t++) {
        int64_t i = b * CODES_BLOCK + t;
        if (i < a->first) {
            continue;
        }
        factors[t] = 0.0f;
        if (i >= codes->count) {
            for (int m = 0; m < num_words; m++) {
                words[m * CODES_BLOCK + t] = 0;
            }
            continue;
        }
        float key[MP_MAX_HEAD_DIM];
        size_t at = (size_t)((h * kv->capacity + i - a->first) * kv_pitch(kv));
        for (int c = 0; c < kv->head_dim; c++) {
            key[c] = mp_load(kv->k, kv->dtype, at + (size_t)c);
        }
        factors[t] = encode(&a->rotation, key, codes->bits, words + t);
    }
}

void encode_keys_ref(const struct encode_keys_args *a)
{
    int64_t blocks = codes_blocks(a->codes->count);
#pragma omp parallel for collapse(2)
    for (int h = 0; h < a->codes->num_kv_heads; h++) {
        for (int64_t b = a->first / CODES_BLOCK; b < blocks; b++) {
            encode_block(a, h, b);
        }
    }
}
