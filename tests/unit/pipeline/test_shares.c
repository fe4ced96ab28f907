/* A decode step gives the same logits, bit by bit, however lookup and sampled attention are cut
 * into shares, and whoever works on them. */
#include "core/base/memory.h"
#include "engine_fixture.h"
#include "pipeline/engine/slot.h"

#include <unistd.h>

#define SHAPE "llama-3.2-1b"
enum {
    LAYERS = 3, /* layer 0 is dense; what layer 1 samples, layer 2 gets its queries from */
    ROWS = 3,
};

/* The first one fits the static cache: nothing of it is offloaded. */
static const int64_t LENGTHS[ROWS] = {40, 700, 2000};

static struct mp_config config;
static struct mp_engine *engine;
static int workers;
static struct mp_slot slots[ROWS];

/* Every worker has one thread: dense work sums in the same order whoever does it. */
static int open_requests(void **state)
{
    (void)state;
    struct mp_error err;
    workers = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? 2 : 1;
    const char *count = workers > 1 ? "2" : "1";
    mp_config_init(&config);
    set_flags(&config, (const char *const[]){"devices", "cpu", "cpu-workers", count, "threads",
                                             count, "batch", "3", NULL});
    struct mp_engine_options options = engine_options(&config, NULL);
    ASSERT_OK(mp_engine_open_shape(&options, SHAPE, LAYERS, &engine, &err));
    ASSERT_OK(mp_engine_start(engine, LENGTHS[ROWS - 1], 2, &err));
    for (int r = 0; r < ROWS; r++) {
        int32_t ids[2000] = {0};
        ASSERT_OK(mp_slot_open(&slots[r], engine, ids, LENGTHS[r], 2, 0, &err));
        ASSERT_OK(mp_synthetic_fill(engine, slots[r].kv, LENGTHS[r], 0.0, false, &err));
        mp_slot_append(&slots[r], engine, 1000 * r);
    }
    return 0;
}

static int close_requests(void **state)
{
    (void)state;
    for (int r = 0; r < ROWS; r++) {
        mp_slot_close(&slots[r], engine);
    }
    mp_engine_close(engine);
    mp_config_free(&config);
    return 0;
}

/* Cuts layers into so many shares and deals them out to the workers there are. */
static void set_shares(int count)
{
    struct mp_shares *shares = &engine->graph.shares[0];
    struct mp_team *teams = mp_xcalloc((size_t)count, sizeof *teams);
    struct mp_core_map map = {.teams = teams, .num_teams = count};
    mp_shares_free(shares);
    mp_shares_plan(&map, NULL, engine->shape->num_key_value_heads, shares);
    assert_int_equal(shares->count, count);
    for (int i = 0; i < count; i++) {
        shares->list[i].worker = i % workers;
        shares->list[i].team = NULL;
    }
    free(teams);
}

/* The same step each time: it feeds in the same tokens. Returns the logits [ROWS][vocab_size] and
 * adds up what lookups selected. */
static float *decode(int64_t *selected)
{
    struct mp_error err;
    struct mp_step_buffers buffers;
    struct mp_decode_row rows[ROWS];
    ASSERT_OK(mp_step_buffers_create(engine, ROWS, &buffers, &err));
    ASSERT_OK(mp_buffer_acquire(&buffers.ids, true, &err));
    for (int r = 0; r < ROWS; r++) {
        ASSERT_OK(mp_slot_feed(&slots[r], engine, &buffers, r, &rows[r], &err));
    }
    mp_buffer_return(&buffers.ids);
    struct mp_decode_step step = {.num_rows = ROWS, .rows = rows, .buffers = &buffers};
    ASSERT_OK(mp_submit_decode_embed(&engine->graph, &step, &err));
    for (int l = 0; l < LAYERS; l++) {
        ASSERT_OK(mp_submit_decode_layer(&engine->graph, &step, l, &err));
    }
    ASSERT_OK(mp_submit_decode_sample(&engine->graph, &step, &err));
    ASSERT_OK(mp_runtime_wait(&err));
    int heads = engine->shape->num_attention_heads;
    *selected = 0;
    for (int i = 0; i < (LAYERS - 1) * ROWS * heads; i++) {
        *selected +=
            ((const int32_t *)buffers.nnz[1 + i / (ROWS * heads)].data)[i % (ROWS * heads)];
    }
    float *logits = mp_xmalloc(buffers.logits.bytes);
    memcpy(logits, buffers.logits.data, buffers.logits.bytes);
    mp_step_buffers_destroy(engine, &buffers);
    return logits;
}

/* What the engine has planned: as many as workers. */
static void test_share_a_worker(void **state)
{
    (void)state;
    const struct mp_shares *shares = engine->graph.shares;
    assert_int_equal(shares[0].count, workers);
    assert_int_equal(shares[0].list[0].worker, workers > 1 ? 0 : -1);
    assert_int_equal(shares[1].count, 1);
}

static void test_same_logits(void **state)
{
    (void)state;
    static const int counts[] = {1, 2, 3, 8};
    size_t bytes = ROWS * (size_t)engine->shape->vocab_size * sizeof(float);
    float *expected = NULL;
    int64_t expected_selected = 0;
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        int64_t selected;
        set_shares(counts[i]);
        float *logits = decode(&selected);
        if (i == 0) {
            expected = logits;
            expected_selected = selected;
            assert_true(selected > 0);
            continue;
        }
        assert_int_equal(selected, expected_selected);
        if (memcmp(logits, expected, bytes) != 0) {
            fail_msg("%d shares: other logits than one", counts[i]);
        }
        free(logits);
    }
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_share_a_worker),
        cmocka_unit_test(test_same_logits),
    };
    return cmocka_run_group_tests(tests, open_requests, close_requests);
}
