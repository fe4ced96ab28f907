/* Random keys and their codes, for the tests of encode_keys on the CPU and on the GPU. */
#ifndef MP_TESTS_CODES_H
#define MP_TESTS_CODES_H

#include "codelets/encode_keys/encode_keys.h"
#include "core/base/shape.h"
#include "tests/unit/codelets/kernel_test.h"

struct codes_case {
    int64_t count; /* offloaded tokens */
    int num_kv_heads, head_dim, bits;
};

static const struct codes_case CODES_CASES[] = {
    {100, 2, 64, 2}, {1000, 1, 128, 2}, {33, 2, 80, 4},  {65, 1, 96, 1}, {31, 3, 80, 1},
    {64, 1, 32, 4},  {1, 1, 256, 2},    {70, 1, 256, 4}, {40, 2, 16, 1}, {0, 2, 64, 2},
};
enum { NUM_CODES_CASES = sizeof CODES_CASES / sizeof CODES_CASES[0] };

/* Keys of a layer, their rotation, and codes that are not filled in yet. */
struct codes_fixture {
    struct offloaded_kv kv;
    struct key_rotation rotation;
    struct key_codes codes;
};

static inline size_t codes_word_bytes(const struct key_codes *c)
{
    return codes_bytes(c->num_kv_heads, c->capacity, c->head_dim, c->bits) -
           codes_bytes(c->num_kv_heads, c->capacity, 0, c->bits);
}

static inline size_t codes_factor_bytes(const struct key_codes *c)
{
    return codes_bytes(c->num_kv_heads, c->capacity, 0, c->bits);
}

/* Codes of the same shape; their bytes are all 0xa5. */
static inline struct key_codes codes_make(const struct key_codes *shape)
{
    struct key_codes codes = *shape;
    codes.words = mp_xmalloc(codes_word_bytes(shape));
    codes.factors = mp_xmalloc(codes_factor_bytes(shape));
    memset(codes.words, 0xa5, codes_word_bytes(shape));
    memset(codes.factors, 0xa5, codes_factor_bytes(shape));
    return codes;
}

/* Where encoding in two goes is interrupted: inside a block, mostly. */
static inline int64_t codes_first_part(int64_t count)
{
    return count - count / 3;
}

/* The keys from token `first` on as an array of their own, each head's behind the others'. */
static inline struct offloaded_kv keys_from(const struct offloaded_kv *kv, int64_t first)
{
    size_t row = (size_t)kv->head_dim * mp_dtype_size(kv->dtype);
    struct offloaded_kv rest = *kv;
    rest.count = rest.capacity = kv->count - first;
    rest.k = mp_xmalloc(kv_bytes(kv->num_kv_heads, kv->head_dim, kv->dtype, rest.capacity + 1));
    for (int h = 0; h < kv->num_kv_heads; h++) {
        memcpy((char *)rest.k + (size_t)(h * rest.capacity) * row,
               (const char *)kv->k + (size_t)(h * kv->capacity + first) * row,
               (size_t)rest.count * row);
    }
    return rest;
}

static inline void codes_release(struct key_codes *codes)
{
    free(codes->words);
    free(codes->factors);
}

/* Keys of very different lengths; each seventh is 0. Those beyond the last are as any others. */
static inline struct codes_fixture codes_fixture_make(const struct codes_case *t)
{
    int64_t capacity = t->count + 40;
    size_t keys = (size_t)(t->num_kv_heads * capacity);
    size_t d = (size_t)t->head_dim;
    float *data = mp_xmalloc(key_rotation_size(t->head_dim) * sizeof *data);
    key_rotation_draw(t->head_dim, 5, data);
    struct codes_fixture f = {
        .kv = {.k = random_tensor(MP_BF16, keys * d, 1.0f, 51),
               .count = t->count,
               .capacity = capacity,
               .num_kv_heads = t->num_kv_heads,
               .head_dim = t->head_dim,
               .dtype = MP_BF16},
        .rotation = {.data = data, .head_dim = t->head_dim},
    };
    for (size_t i = 0; i < keys; i++) {
        float scale = i % 7 == 6 ? 0.0f : ldexpf(1.0f, (int)(i % 11) - 5);
        for (size_t c = 0; c < d; c++) {
            mp_store(f.kv.k, MP_BF16, i * d + c, scale * mp_load(f.kv.k, MP_BF16, i * d + c));
        }
    }
    f.codes = codes_make(&(struct key_codes){.count = t->count,
                                             .capacity = t->count + 75, /* not that of the keys */
                                             .num_kv_heads = t->num_kv_heads,
                                             .head_dim = t->head_dim,
                                             .bits = t->bits});
    return f;
}

static inline void codes_fixture_release(struct codes_fixture *f)
{
    free(f->kv.k);
    free((float *)f->rotation.data);
    codes_release(&f->codes);
}

/* The same bits wherever there is a token, or one that fills the last block; what lies beyond is as
 * it was. */
static inline void codes_assert_equal(const struct key_codes *x, const struct key_codes *expected)
{
    assert_memory_equal(x->words, expected->words, codes_word_bytes(x));
    assert_memory_equal(x->factors, expected->factors, codes_factor_bytes(x));
}

/* The level of a channel of a token, from its code. */
static inline int codes_level_of(const struct key_codes *codes, int h, int64_t i, int channel)
{
    int per_word = 32 / codes->bits;
    int64_t block = h * codes_blocks(codes->capacity) + i / CODES_BLOCK;
    int64_t word = block * codes_words(codes->head_dim, codes->bits) + channel / per_word;
    int in_word = channel % per_word;
    uint32_t bits = codes->words[word * CODES_BLOCK + i % CODES_BLOCK];
    return (int)(bits >> (in_word % 4 * 8 + in_word / 4 * codes->bits)) & ((1 << codes->bits) - 1);
}

static inline float codes_factor_of(const struct key_codes *codes, int h, int64_t i)
{
    return codes->factors[h * codes_blocks(codes->capacity) * CODES_BLOCK + i];
}

#endif
