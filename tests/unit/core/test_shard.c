/* Shards: who gets which heads, and where their memory is. */
#include "core/machine/shard.h"

#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Plans on an imagined machine and compares the shards written out as "first KV head + KV heads @
 * worker : node of its team". */
static void assert_shards(const char *machine, int workers, int num_kv_heads, const char *expected)
{
    struct mp_topology *t = NULL;
    struct mp_core_map map;
    struct mp_shards shards;
    assert_int_equal(mp_topology_load_synthetic(machine, &t, NULL), MP_OK);
    struct mp_core_request request = {.workers = workers};
    assert_int_equal(mp_core_map_plan(t, &request, &map, NULL), MP_OK);
    mp_shards_of_teams(&map, t, mp_kv_heads_of_rank(num_kv_heads, 0, 1), &shards);
    char found[256] = "";
    for (int i = 0; i < shards.count; i++) {
        const struct mp_shard *s = &shards.list[i];
        size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s%d+%d@%d:%d", i == 0 ? "" : " ",
                 s->first_kv_head, s->num_kv_heads, s->device.index,
                 mp_topology_node_of(t, s->team->cores[0]));
    }
    assert_string_equal(found, expected);
    mp_shards_free(&shards);
    mp_core_map_free(&map);
    mp_topology_free(t);
}

static void test_plan(void **state)
{
    (void)state;
    /* One worker is whichever there is. */
    assert_shards("numa:1 core:4 pu:2", 0, 8, "0+8@-1:0");
    assert_shards("numa:2 core:4 pu:2", 1, 8, "0+8@-1:0");
    assert_shards("numa:1 core:4 pu:2", 2, 8, "0+4@0:0 4+4@1:0");
    assert_shards("numa:2 core:4 pu:2", 0, 8, "0+4@0:0 4+4@1:1");
    assert_shards("numa:2 core:4 pu:2", 4, 8, "0+2@0:0 2+2@1:0 4+2@2:1 6+2@3:1");
    /* Heads that cannot be dealt out evenly. */
    assert_shards("numa:3 core:1 pu:1", 0, 8, "0+2@0:0 2+3@1:1 5+3@2:2");
    assert_shards("numa:2 core:4 pu:2", 0, 3, "0+1@0:0 1+2@1:1");
    /* More workers than heads: both memories serve. */
    assert_shards("numa:2 core:4 pu:2", 4, 2, "0+1@0:0 1+1@2:1");
    assert_shards("numa:2 core:4 pu:2", 0, 1, "0+1@0:0");
}

/* A GPU has all heads, and no team whose memory they could lie next to. */
static void test_one_device(void **state)
{
    (void)state;
    struct mp_shards shards;
    mp_shards_of_device((struct mp_device){MP_GPU, 1}, mp_kv_heads_of_rank(8, 0, 1), &shards);
    assert_int_equal(shards.count, 1);
    assert_int_equal(shards.list[0].first_kv_head, 0);
    assert_int_equal(shards.list[0].num_kv_heads, 8);
    assert_true(mp_same_device(shards.list[0].device, (struct mp_device){MP_GPU, 1}));
    assert_false(mp_same_device(shards.list[0].device, (struct mp_device){MP_GPU, 0}));
    assert_null(shards.list[0].team);
    char block[1];
    mp_shard_bind(&shards.list[0], block, MP_LARGE_BLOCK); /* touches nothing */
    mp_shards_free(&shards);
}

/* What a step hands to the shards travels by value: there is a most of them. */
static void test_most(void **state)
{
    (void)state;
    struct mp_team teams[2 * MP_MAX_SHARDS] = {0};
    struct mp_core_map map = {.teams = teams, .num_teams = 2 * MP_MAX_SHARDS};
    struct mp_shards shards;
    mp_shards_of_teams(&map, NULL, mp_kv_heads_of_rank(2 * MP_MAX_SHARDS, 0, 1), &shards);
    assert_int_equal(shards.count, MP_MAX_SHARDS);
    int heads = 0;
    for (int i = 0; i < shards.count; i++) {
        assert_int_equal(shards.list[i].first_kv_head, heads);
        assert_int_equal(shards.list[i].device.index, 2 * i);
        heads += shards.list[i].num_kv_heads;
    }
    assert_int_equal(heads, 2 * MP_MAX_SHARDS);
    mp_shards_free(&shards);
}

/* Ranks get the heads in order, as evenly as can be; what another one has follows this rank's own.
 */
static void test_ranks(void **state)
{
    (void)state;
    static const int first[] = {0, 2, 5};
    for (int r = 0; r < 3; r++) {
        struct mp_kv_heads heads = mp_kv_heads_of_rank(8, r, 3);
        assert_int_equal(heads.rank, r);
        assert_int_equal(heads.first, first[r]);
        assert_int_equal(heads.count, (r < 2 ? first[r + 1] : 8) - first[r]);
    }
    struct mp_team teams[2] = {0};
    struct mp_core_map map = {.teams = teams, .num_teams = 2};
    struct mp_shards s;
    mp_shards_of_teams(&map, NULL, mp_kv_heads_of_rank(8, 1, 3), &s);
    mp_shards_add_rank(&s, mp_kv_heads_of_rank(8, 0, 3), 1);
    mp_shards_add_rank(&s, mp_kv_heads_of_rank(8, 2, 3), 3);
    static const struct {
        int rank, first, heads;
    } expected[] = {{1, 2, 1}, {1, 3, 2}, {0, 0, 2}, {2, 5, 1}, {2, 6, 1}, {2, 7, 1}};
    assert_int_equal(s.count, 2);
    assert_int_equal(s.total, 6);
    for (int i = 0; i < s.total; i++) {
        assert_int_equal(s.list[i].rank, expected[i].rank);
        assert_int_equal(s.list[i].first_kv_head, expected[i].first);
        assert_int_equal(s.list[i].num_kv_heads, expected[i].heads);
        assert_ptr_equal(s.list[i].team, i < 2 ? &teams[i] : NULL);
    }
    mp_shards_free(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_one_device),
        cmocka_unit_test(test_most),
        cmocka_unit_test(test_ranks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
