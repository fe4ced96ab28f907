/* Random weights and synthetic KV: what is drawn is complete, is the same every time, and is met by
 * lookups as often as is asked for. */
#include "core/base/dtype.h"
#include "core/base/memory.h"
#include "engine_fixture.h"
#include "pipeline/engine/internal.h"

#include <math.h>

#define SHAPE "llama-3.2-1b"
enum {
    LAYERS = 3, /* layer 0 is dense; what layer 1 samples, layer 2 gets its queries from */
    TOKENS = 2000,
    FIXED = 68, /* sink and window */
    STEPS = 4,
    PROMPT = 3, /* tokens of the logits that are compared */
};

static struct mp_config config;
static struct mp_engine *engine;

static int open_shape(void **state)
{
    (void)state;
    struct mp_error err;
    mp_config_init(&config);
    set_flags(&config, NULL);
    struct mp_engine_options options = engine_options(&config, NULL);
    ASSERT_OK(mp_engine_open_shape(&options, SHAPE, LAYERS, &engine, &err));
    ASSERT_OK(mp_engine_start(engine, TOKENS, STEPS + 1, &err));
    return 0;
}

static int close_shape(void **state)
{
    (void)state;
    mp_engine_close(engine);
    mp_config_free(&config);
    return 0;
}

/* ---- what is drawn ---- */

static void check_numbers(const void *data, enum mp_dtype dtype, int64_t count)
{
    double sum = 0.0;
    for (int64_t i = 0; i < count; i++) {
        float x = dtype == MP_BF16 ? mp_bf16_to_f32(((const uint16_t *)data)[i])
                                   : ((const float *)data)[i];
        assert_true(fabsf(x) <= 2.0F); /* no NaN is; keys are less their mean */
        sum += (double)x * x;
    }
    /* Uniform in [-1, 1), all of it. */
    assert_float_equal(sum / (double)count, 1.0 / 3.0, 0.03);
}

static void check_sparse(const struct mp_layer_kv *kv, int64_t offloaded)
{
    assert_int_equal(kv->offloaded, offloaded);
    const struct mp_shards *shards = mp_shards_of(&engine->graph.placements, 1);
    for (int i = 0; i < shards->count; i++) {
        const struct offloaded_kv *part = &kv->shards[i].offloaded;
        const struct lsh_tables *tables = kv->shards[i].index;
        int heads = part->num_kv_heads;
        assert_int_equal(part->count, offloaded);
        assert_int_equal(tables->count, offloaded);
        if (offloaded == 0) {
            continue;
        }
        check_numbers(part->k, part->dtype, heads * offloaded * part->head_dim);
        check_numbers(part->v, part->dtype, heads * offloaded * part->head_dim);
        for (int h = 0; h < heads; h++) {
            for (int l = 0; l < tables->L; l++) {
                assert_int_equal(lsh_offsets(tables, h, 0, l)[1 << tables->K], offloaded);
            }
        }
    }
}

/* As after reading a prompt of that length, whatever is left to offload. */
static void test_fill(void **state)
{
    (void)state;
    static const int64_t lengths[] = {FIXED - 1, FIXED, FIXED + 20, TOKENS};
    struct mp_error err;
    if (mp_dense(engine).kind == MP_GPU) {
        skip(); /* the memory is the GPU's */
    }
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct mp_layer_kv *kv = mp_xcalloc(LAYERS, sizeof *kv);
        ASSERT_OK(mp_synthetic_fill(engine, kv, lengths[i], 0, 0.0, false, &err));
        for (int l = 0; l < LAYERS; l++) {
            const struct kv_cache *fixed = &kv[l].static_cache;
            assert_int_equal(engine->graph.placements.layers[l].sparse, l > 0);
            assert_true(fixed->capacity >=
                        (l > 0 ? mp_static_tokens(&engine->graph, lengths[i]) : lengths[i]));
            int64_t kept = l > 0 ? mp_static_tokens(&engine->graph, lengths[i]) : lengths[i];
            for (int h = 0; h < fixed->num_kv_heads; h++) {
                struct kv_cache head = kv_cache_heads(fixed, h, 1);
                check_numbers(head.k, head.dtype, kept * head.head_dim);
                check_numbers(head.v, head.dtype, kept * head.head_dim);
            }
            if (l > 0) {
                check_sparse(&kv[l], lengths[i] > FIXED ? lengths[i] - FIXED : 0);
            }
        }
        mp_kv_destroy(engine, kv);
    }
}

/* ---- what lookups meet ---- */

/* Decodes after TOKENS synthetic ones, fed a few tokens, into tokens and sampled [LAYERS]. */
static void decode(double share, int32_t tokens[STEPS], double sampled[LAYERS])
{
    struct mp_error err;
    struct mp_session *session;
    int slot;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    ASSERT_OK(mp_session_add_synthetic(session, TOKENS, STEPS + 1, share, false, &slot, &err));
    const struct mp_request *r = mp_session_request(session, slot);
    for (int i = 0; i < STEPS; i++) {
        int active;
        mp_session_feed(session, slot, 1000 * (i + 1));
        ASSERT_OK(mp_session_step(session, &active, &err));
        tokens[i] = r->ids[r->prompt_tokens + r->generated_tokens - 1];
    }
    assert_int_equal(r->generated_tokens, STEPS + 1);
    memcpy(sampled, r->sampled, LAYERS * sizeof *sampled);
    mp_session_close(session);
}

static void test_shares(void **state)
{
    (void)state;
    static const double shares[] = {0.012, 0.03, 0.1};
    for (size_t i = 0; i < sizeof shares / sizeof shares[0]; i++) {
        int32_t tokens[STEPS];
        double sampled[LAYERS];
        decode(shares[i], tokens, sampled);
        assert_true(isnan(sampled[0]));
        for (int l = 1; l < LAYERS; l++) {
            if (!(fabs(sampled[l] - shares[i]) < 0.1 * shares[i])) {
                fail_msg("layer %d: sampled %.4f, asked for %.4f", l, sampled[l], shares[i]);
            }
        }
    }
}

/* Refused with the shares that can be had; the session goes on. */
static void test_share_out_of_range(void **state)
{
    (void)state;
    static const double shares[] = {0.001, 0.9};
    struct mp_error err;
    struct mp_session *session;
    int slot;
    ASSERT_OK(mp_session_open(engine, &session, &err));
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            mp_session_add_synthetic(session, TOKENS, STEPS, shares[i], false, &slot, &err),
            MP_ERR_USAGE);
        double least, most;
        const char *range = strstr(err.message, "(10, 150) give ");
        assert_non_null(range);
        assert_int_equal(sscanf(range, "(10, 150) give %lf to %lf", &least, &most), 2);
        assert_true(0.005 < least && least < 0.012 && 0.1 < most && most < 0.5);
        assert_true(mp_session_can_add(session));
    }
    ASSERT_OK(mp_session_add_synthetic(session, TOKENS, STEPS, 0.0, false, &slot, &err));
    mp_session_close(session);
}

/* ---- the same every time ---- */

static int keep_logits(void *arg, const float *logits, int64_t rows, struct mp_error *err)
{
    (void)err;
    float **to = arg;
    memcpy(*to, logits, (size_t)(rows * mp_engine_vocab_size(engine)) * sizeof *logits);
    *to += rows * mp_engine_vocab_size(engine);
    return 0;
}

/* Logits [PROMPT][vocab_size] of a short prompt, which depend on every kind of weight. */
static float *read_logits(void)
{
    static const int32_t ids[PROMPT] = {1, 10, 100};
    struct mp_error err;
    float *logits = mp_xcalloc((size_t)(PROMPT * mp_engine_vocab_size(engine)), sizeof *logits);
    float *end = logits;
    ASSERT_OK(mp_engine_logits(engine, ids, PROMPT, keep_logits, &end, &err));
    assert_int_equal(end - logits, PROMPT * mp_engine_vocab_size(engine));
    return logits;
}

static void check_logits(const float *logits)
{
    int64_t count = PROMPT * (int64_t)mp_engine_vocab_size(engine);
    double square = 0.0;
    for (int64_t i = 0; i < count; i++) {
        assert_true(isfinite(logits[i]));
        square += (double)logits[i] * logits[i];
    }
    /* Weights that keep the size of what they multiply. */
    assert_float_equal(square / (double)count, 1.0, 0.1);
}

static void test_same_every_time(void **state)
{
    int32_t a[STEPS], b[STEPS];
    double sampled_a[LAYERS], sampled_b[LAYERS];
    float *first = read_logits();
    check_logits(first);
    decode(0.0, a, sampled_a);
    close_shape(state);
    open_shape(state);
    float *second = read_logits();
    decode(0.0, b, sampled_b);
    assert_memory_equal(first, second,
                        (size_t)(PROMPT * mp_engine_vocab_size(engine)) * sizeof *first);
    assert_memory_equal(a, b, sizeof a);
    assert_memory_equal(sampled_a + 1, sampled_b + 1, (LAYERS - 1) * sizeof *sampled_a);
    assert_int_not_equal(a[0], a[1]);
    free(first);
    free(second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fill),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_share_out_of_range),
        cmocka_unit_test(test_same_every_time),
    };
    return cmocka_run_group_tests(tests, open_shape, close_shape);
}
