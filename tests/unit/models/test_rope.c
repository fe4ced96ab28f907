/* RoPE variants against constants computed separately, in double precision, from the definitions in
 * terms of wavelengths (llama3) and of turns per dimension (YaRN). */
#include "models/rope.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { MAX_PAIRS = 128 };

struct expectation {
    int pair;
    double inv_freq;
};

static void check(const struct mp_rope *r, int64_t seq_len, double scale,
                  const struct expectation *expected, size_t count)
{
    float inv_freq[MAX_PAIRS];
    float found_scale;
    mp_rope_frequencies(r, seq_len, inv_freq, &found_scale);
    assert_float_equal(found_scale, (float)scale, 1e-7F);
    for (size_t i = 0; i < count; i++) {
        double found = inv_freq[expected[i].pair];
        if (fabs(found - expected[i].inv_freq) > 2e-7 * expected[i].inv_freq) {
            fail_msg("pair %d: expected %.9e, found %.9e", expected[i].pair, expected[i].inv_freq,
                     found);
        }
    }
}

#define CHECK(rope, seq_len, scale, ...)                                                           \
    do {                                                                                           \
        const struct expectation expected[] = {__VA_ARGS__};                                       \
        check(rope, seq_len, scale, expected, sizeof expected / sizeof expected[0]);               \
    } while (0)

static void test_default(void **state)
{
    (void)state;
    struct mp_rope r = {.type = MP_ROPE_DEFAULT, .head_dim = 8, .theta = 10000.0, .factor = 1.0};
    CHECK(&r, 1, 1.0, {0, 1.0}, {1, 0.1}, {2, 0.01}, {3, 0.001});
}

static void test_linear(void **state)
{
    (void)state;
    struct mp_rope r = {.type = MP_ROPE_LINEAR, .head_dim = 8, .theta = 10000.0, .factor = 4.0};
    CHECK(&r, 1, 1.0, {0, 0.25}, {1, 0.025}, {2, 0.0025}, {3, 0.00025});
}

static void test_dynamic(void **state)
{
    (void)state;
    struct mp_rope r = {.type = MP_ROPE_DYNAMIC,
                        .head_dim = 128,
                        .theta = 10000.0,
                        .factor = 2.0,
                        .max_positions = 4096};
    /* Up to max_positions nothing changes. */
    for (int64_t n = 1; n <= 4096; n += 4095) {
        CHECK(&r, n, 1.0, {0, 1.0}, {1, 8.659643234e-01}, {32, 0.01}, {63, 1.154781985e-04});
    }
    CHECK(&r, 8192, 1.0, {0, 1.0}, {1, 8.509942913e-01}, {32, 5.723381508e-03},
          {63, 3.849273282e-05});
    CHECK(&r, 10000, 1.0, {0, 1.0}, {1, 8.475171000e-01}, {32, 5.020546863e-03},
          {63, 2.974086399e-05});
}

static void test_llama3(void **state)
{
    (void)state;
    /* tests/data/golden/llama3-rope */
    struct mp_rope r = {.type = MP_ROPE_LLAMA3,
                        .head_dim = 64,
                        .theta = 500000.0,
                        .factor = 8.0,
                        .original_max_positions = 64,
                        .low_freq_factor = 1.0,
                        .high_freq_factor = 4.0};
    CHECK(&r, 1, 1.0, {0, 1.0}, {2, 4.403666027e-01}, {3, 2.050009481e-01}, {4, 7.940300918e-02},
          {5, 2.775138787e-02}, {6, 1.067463754e-02}, {31, 3.767322690e-07});
    /* Llama 3.1 8B */
    r.head_dim = 128;
    r.original_max_positions = 8192;
    CHECK(&r, 1, 1.0, {0, 1.0}, {28, 3.211445995e-03}, {29, 2.166570764e-03}, {30, 1.371893568e-03},
          {32, 5.248461610e-04}, {34, 1.785078128e-04}, {35, 9.556212354e-05},
          {63, 3.068925989e-07});
}

static void test_yarn(void **state)
{
    (void)state;
    struct mp_rope r = {.type = MP_ROPE_YARN,
                        .head_dim = 128,
                        .theta = 1e6,
                        .factor = 4.0,
                        .original_max_positions = 32768,
                        .beta_fast = 32.0,
                        .beta_slow = 1.0,
                        .attention_factor = mp_rope_yarn_mscale(4.0, 1.0),
                        .truncate = true};
    CHECK(&r, 1, 1.138629436, {0, 1.0}, {22, 8.659643234e-03}, {23, 6.978305849e-03},
          {24, 5.375321491e-03}, {30, 1.064360981e-03}, {31, 8.029597275e-04},
          {39, 6.490394321e-05}, {40, 4.445698525e-05}, {63, 3.102344402e-07});
    r.truncate = false;
    CHECK(&r, 1, 1.138629436, {23, 6.978305849e-03}, {24, 5.517270475e-03}, {30, 1.079237742e-03},
          {39, 6.187806812e-05}, {40, 4.445698525e-05});
    r = (struct mp_rope){.type = MP_ROPE_YARN,
                         .head_dim = 32,
                         .theta = 10000.0,
                         .factor = 16.0,
                         .original_max_positions = 2048,
                         .beta_fast = 8.0,
                         .beta_slow = 2.0,
                         .attention_factor = 1.5,
                         .truncate = true};
    CHECK(&r, 1, 1.5, {6, 3.162277660e-02}, {7, 1.222567094e-02}, {8, 3.750000000e-03},
          {9, 3.514633282e-04}, {15, 1.111424631e-05});
}

/* Both ends of the blend in one dimension, or below the first: no division by zero. */
static void test_yarn_degenerate(void **state)
{
    (void)state;
    struct mp_rope r = {.type = MP_ROPE_YARN,
                        .head_dim = 32,
                        .theta = 10000.0,
                        .factor = 8.0,
                        .original_max_positions = 6,
                        .beta_fast = 32.0,
                        .beta_slow = 1.0,
                        .attention_factor = 1.0,
                        .truncate = true};
    CHECK(&r, 1, 1.0, {0, 1.0}, {1, 5.623413252e-01 / 8.0}, {15, 1.778279410e-04 / 8.0});
}

static void test_yarn_mscale(void **state)
{
    (void)state;
    assert_float_equal(mp_rope_yarn_mscale(1.0, 1.0), 1.0, 0.0);
    assert_float_equal(mp_rope_yarn_mscale(4.0, 1.0), 1.138629436, 1e-6);
    assert_float_equal(mp_rope_yarn_mscale(40.0, 0.707) / mp_rope_yarn_mscale(40.0, 1.0),
                       0.921042355, 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),     cmocka_unit_test(test_linear),
        cmocka_unit_test(test_dynamic),     cmocka_unit_test(test_llama3),
        cmocka_unit_test(test_yarn),        cmocka_unit_test(test_yarn_degenerate),
        cmocka_unit_test(test_yarn_mscale),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
