/* A decode step gives the same logits, bit by bit, however lookup and sampled attention are cut
 * into shards, and whoever works on them. */
#include "core/base/memory.h"
#include "engine_fixture.h"
#include "pipeline/engine/request/slot.h"

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

/* Every worker has one thread: dense work sums in the same order whoever does it. */
static int start_engine(void **state)
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
    return 0;
}

static int stop_engine(void **state)
{
    (void)state;
    mp_engine_close(engine);
    mp_config_free(&config);
    return 0;
}

/* Cuts layers into so many shards and deals them out to the workers there are. */
static void cut(int count)
{
    struct mp_shards *shards = &engine->graph.placements.cuts[0];
    struct mp_team *teams = mp_xcalloc((size_t)count, sizeof *teams);
    struct mp_core_map map = {.teams = teams, .num_teams = count};
    mp_shards_free(shards);
    mp_shards_of_teams(&map, NULL, mp_kv_heads_of_rank(engine->shape->num_key_value_heads, 0, 1),
                       shards);
    assert_int_equal(shards->count, count);
    for (int i = 0; i < count; i++) {
        shards->list[i].dense = mp_dense(engine);
        shards->list[i].device.index = i % workers;
        shards->list[i].team = NULL;
    }
    free(teams);
}

static void open_requests(struct mp_slot slots[ROWS])
{
    struct mp_error err;
    for (int r = 0; r < ROWS; r++) {
        int32_t ids[2000] = {0};
        slots[r] = (struct mp_slot){0};
        ASSERT_OK(
            mp_slot_open(&slots[r], engine, ids, LENGTHS[r], 2, 0, &(struct mp_prefix){0}, &err));
        ASSERT_OK(
            mp_synthetic_fill(engine, slots[r].segment->layers, LENGTHS[r], 0, 0.0, false, &err));
        mp_slot_append(&slots[r], engine, 1000 * r);
    }
}

static int64_t count_selected(const struct mp_step_buffers *b)
{
    const struct mp_shards *shards = &engine->graph.placements.cuts[0];
    int64_t sum = 0;
    for (int l = 1; l < LAYERS; l++) {
        for (int i = 0; i < shards->count; i++) {
            const int32_t *nnz = b->shards[0][i].nnz[l].data;
            int heads = shards->list[i].num_kv_heads * mp_shape_group(engine->shape);
            for (int j = 0; j < ROWS * heads; j++) {
                sum += nnz[j];
            }
        }
    }
    return sum;
}

/* The same step each time: it feeds in the same tokens. Returns the logits [ROWS][vocab_size] and
 * what the step selected. */
static float *decode(int shards, int64_t *selected)
{
    struct mp_error err;
    struct mp_allocator a = {.err = &err};
    struct mp_slot slots[ROWS];
    struct mp_step_buffers buffers;
    struct mp_decode_row rows[ROWS];
    cut(shards);
    open_requests(slots);
    mp_step_buffers_create(engine, &a, ROWS, &buffers);
    ASSERT_OK(a.code);
    ASSERT_OK(mp_buffer_acquire(&buffers.ids, true, &err));
    for (int r = 0; r < ROWS; r++) {
        ASSERT_OK(mp_slot_reserve(&slots[r], engine, &err));
        mp_slot_feed(&slots[r], engine, &buffers, r, &(struct mp_decode_row *){rows});
    }
    mp_buffer_return(&buffers.ids);
    struct mp_decode_step step = {.num_rows = ROWS, .rows = rows, .buffers = &buffers};
    const struct mp_decode_parts parts = {1, {&engine->graph}, {&step}};
    struct mp_task_group *group = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(group, &err);
    mp_submit_decode_embed(&sub, &parts);
    for (int l = 0; l < LAYERS; l++) {
        mp_submit_decode_layer(&sub, &parts, l);
    }
    mp_submit_decode_sample(&sub, &parts);
    ASSERT_OK(sub.code);
    mp_task_group_destroy(group);
    *selected = count_selected(&buffers);
    float *logits = mp_xmalloc(buffers.logits.bytes);
    memcpy(logits, buffers.logits.data, buffers.logits.bytes);
    mp_step_buffers_destroy(engine, &buffers);
    for (int r = 0; r < ROWS; r++) {
        mp_slot_close(&slots[r], engine);
    }
    return logits;
}

/* What the engine has planned: as many as workers. */
static void test_shard_a_worker(void **state)
{
    (void)state;
    const struct mp_placements *p = &engine->graph.placements;
    assert_null(mp_shards_of(p, 0)); /* dense */
    const struct mp_shards *shards = mp_shards_of(p, 1);
    assert_ptr_equal(shards, mp_shards_of(p, 2));
    assert_int_equal(shards->count, workers);
    assert_int_equal(shards->list[0].device.index, workers > 1 ? 0 : -1);
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
        float *logits = decode(counts[i], &selected);
        if (i == 0) {
            expected = logits;
            expected_selected = selected;
            assert_true(selected > 0);
            continue;
        }
        assert_int_equal(selected, expected_selected);
        if (memcmp(logits, expected, bytes) != 0) {
            fail_msg("%d shards: other logits than one", counts[i]);
        }
        free(logits);
    }
    free(expected);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shard_a_worker),
        cmocka_unit_test(test_same_logits),
    };
    return cmocka_run_group_tests(tests, start_engine, stop_engine);
}
