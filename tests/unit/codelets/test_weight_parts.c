/* Parts of a layer's weights: applied one by one to their heads and columns they add up to the
 * whole. */
#include "codelets/ffn/ffn.h"
#include "codelets/output/output.h"
#include "codelets/projection/projection.h"
#include "tests/unit/codelets/kernel_test.h"

enum { PARTS = 2, ROWS = 3, HIDDEN = 24, HEADS = 4, KV_HEADS = 2, HEAD_DIM = 6, WIDTH = 10 };

static const struct mp_shape WHOLE = {
    .hidden_size = HIDDEN,
    .num_attention_heads = HEADS,
    .num_key_value_heads = KV_HEADS,
    .head_dim = HEAD_DIM,
    .intermediate_size = WIDTH,
    .rms_norm_eps = 1e-5f,
    .qk_norm_eps = 1e-5f,
    .qkv_bias = true,
    .output_bias = true,
    .mlp_bias = true,
    .qk_norm = true,
};

static struct mp_shape part_shape(void)
{
    struct mp_shape s = WHOLE;
    s.num_attention_heads /= PARTS;
    s.num_key_value_heads /= PARTS;
    s.intermediate_size /= PARTS;
    s.rms_norm_eps /= PARTS * PARTS;
    return s;
}

/* A block of bf16 values and floats: any bits that are numbers of a usual size. */
static void *random_block(size_t bytes, uint64_t seed)
{
    return random_floats(bytes / sizeof(float), 1.0f, seed);
}

/* What is bf16 in it. */
static void fill_matrix(const uint16_t *matrix, size_t count, uint64_t seed)
{
    uint16_t *values = random_tensor(MP_BF16, count, 0.5f, seed);
    memcpy((void *)matrix, values, count * sizeof *values);
    free(values);
}

/* x, and the share of it that each part has. */
static float *share_of(const float *x)
{
    float *share = mp_xcalloc(ROWS * HIDDEN, sizeof *share);
    for (int i = 0; i < ROWS * HIDDEN; i++) {
        share[i] = x[i] / PARTS;
    }
    return share;
}

static void assert_sum(const float *sum, const float *expected)
{
    for (int i = 0; i < ROWS * HIDDEN; i++) {
        assert_float_equal(sum[i], expected[i], 1e-4);
    }
}

static void add_to(float *sum, const float *x)
{
    for (int i = 0; i < ROWS * HIDDEN; i++) {
        sum[i] += x[i];
    }
}

static void test_ffn(void **state)
{
    (void)state;
    const struct mp_shape part = part_shape();
    size_t bytes = ffn_weights_at(&WHOLE, NULL, NULL);
    void *whole = random_block(bytes, 1);
    float *x = random_floats(ROWS * HIDDEN, 1.0f, 2);
    float *sum = mp_xcalloc(ROWS * HIDDEN, sizeof *sum);
    struct ffn_weights w = {0};
    ffn_weights_at(&WHOLE, whole, &w);
    fill_matrix(w.gate_up, 2 * WIDTH * HIDDEN, 3);
    fill_matrix(w.down, WIDTH * HIDDEN, 4);
    for (int p = 0; p < PARTS; p++) {
        struct ffn_weights own = {0};
        void *block = mp_xcalloc(1, ffn_weights_at(&part, NULL, NULL));
        float *y = share_of(x);
        ffn_weights_part(&WHOLE, whole, &part, p, block);
        ffn_weights_at(&part, block, &own);
        ffn_ref(&(struct ffn_args){&part, own, y, ROWS});
        add_to(sum, y);
        free(block);
        free(y);
    }
    ffn_ref(&(struct ffn_args){&WHOLE, w, x, ROWS});
    assert_sum(sum, x);
    free(whole);
    free(x);
    free(sum);
}

static void test_output(void **state)
{
    (void)state;
    const struct mp_shape part = part_shape();
    const size_t width = HEADS * HEAD_DIM;
    const size_t own_width = width / PARTS;
    void *whole = random_block(output_weights_at(&WHOLE, NULL, NULL), 1);
    struct output_weights w = {0};
    output_weights_at(&WHOLE, whole, &w);
    fill_matrix(w.o, HIDDEN * width, 2);
    for (int p = 0; p < PARTS; p++) {
        struct output_weights own = {0};
        void *block = mp_xcalloc(1, output_weights_at(&part, NULL, NULL));
        output_weights_part(&WHOLE, whole, &part, p, block);
        output_weights_at(&part, block, &own);
        for (size_t r = 0; r < HIDDEN; r++) {
            assert_memory_equal(own.o + r * own_width, w.o + r * width + (size_t)p * own_width,
                                own_width * sizeof *w.o);
            assert_true(own.bias[r] == (p == 0 ? w.bias[r] : 0.0f));
        }
        free(block);
    }
    free(whole);
}

/* Rows of a part's heads: queries, keys, values, one after the other. */
static void test_projection(void **state)
{
    (void)state;
    const struct mp_shape part = part_shape();
    void *whole = random_block(projection_weights_at(&WHOLE, NULL, NULL), 1);
    struct projection_weights w = {0};
    projection_weights_at(&WHOLE, whole, &w);
    fill_matrix(w.qkv, (HEADS + 2 * KV_HEADS) * HEAD_DIM * HIDDEN, 2);
    for (int p = 0; p < PARTS; p++) {
        static const int heads[PARTS][4] = {{0, 1, 4, 6}, {2, 3, 5, 7}};
        struct projection_weights own = {0};
        void *block = mp_xcalloc(1, projection_weights_at(&part, NULL, NULL));
        projection_weights_part(&WHOLE, whole, &part, p, block);
        projection_weights_at(&part, block, &own);
        for (int h = 0; h < 4; h++) {
            size_t to = (size_t)h * HEAD_DIM;
            size_t from = (size_t)heads[p][h] * HEAD_DIM;
            assert_memory_equal(own.qkv + to * HIDDEN, w.qkv + from * HIDDEN,
                                HEAD_DIM * HIDDEN * sizeof *w.qkv);
            assert_memory_equal(own.bias + to, w.bias + from, HEAD_DIM * sizeof *w.bias);
        }
        assert_memory_equal(own.norm, w.norm, HIDDEN * sizeof *w.norm);
        assert_memory_equal(own.q_norm, w.q_norm, HEAD_DIM * sizeof *w.q_norm);
        assert_memory_equal(own.k_norm, w.k_norm, HEAD_DIM * sizeof *w.k_norm);
        free(block);
    }
    free(whole);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ffn),
        cmocka_unit_test(test_output),
        cmocka_unit_test(test_projection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
