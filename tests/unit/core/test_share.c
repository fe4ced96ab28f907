/* Shares: who gets which heads, and where their memory is. */
#include "core/machine/share.h"

#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Plans on an imagined machine and compares the shares written out as "first KV head + KV heads @
 * worker : node of its team". */
static void assert_shares(const char *machine, int workers, int num_kv_heads, const char *expected)
{
    struct mp_topology *t = NULL;
    struct mp_core_map map;
    struct mp_shares shares;
    assert_int_equal(mp_topology_load_synthetic(machine, &t, NULL), MP_OK);
    struct mp_core_request request = {.workers = workers};
    assert_int_equal(mp_core_map_plan(t, &request, &map, NULL), MP_OK);
    mp_shares_plan(&map, t, num_kv_heads, &shares);
    char found[256] = "";
    for (int i = 0; i < shares.count; i++) {
        const struct mp_share *s = &shares.list[i];
        size_t used = strlen(found);
        snprintf(found + used, sizeof found - used, "%s%d+%d@%d:%d", i == 0 ? "" : " ",
                 s->first_kv_head, s->num_kv_heads, s->worker,
                 mp_topology_node_of(t, s->team->cores[0]));
    }
    assert_string_equal(found, expected);
    mp_shares_free(&shares);
    mp_core_map_free(&map);
    mp_topology_free(t);
}

static void test_plan(void **state)
{
    (void)state;
    /* One worker is whichever there is. */
    assert_shares("numa:1 core:4 pu:2", 0, 8, "0+8@-1:0");
    assert_shares("numa:2 core:4 pu:2", 1, 8, "0+8@-1:0");
    assert_shares("numa:1 core:4 pu:2", 2, 8, "0+4@0:0 4+4@1:0");
    assert_shares("numa:2 core:4 pu:2", 0, 8, "0+4@0:0 4+4@1:1");
    assert_shares("numa:2 core:4 pu:2", 4, 8, "0+2@0:0 2+2@1:0 4+2@2:1 6+2@3:1");
    /* Heads that cannot be dealt out evenly. */
    assert_shares("numa:3 core:1 pu:1", 0, 8, "0+2@0:0 2+3@1:1 5+3@2:2");
    assert_shares("numa:2 core:4 pu:2", 0, 3, "0+1@0:0 1+2@1:1");
    /* More workers than heads: both memories serve. */
    assert_shares("numa:2 core:4 pu:2", 4, 2, "0+1@0:0 1+1@2:1");
    assert_shares("numa:2 core:4 pu:2", 0, 1, "0+1@0:0");
}

static void test_nobody_in_particular(void **state)
{
    (void)state;
    struct mp_shares shares;
    mp_shares_plan(NULL, NULL, 8, &shares);
    assert_int_equal(shares.count, 1);
    assert_int_equal(shares.list[0].first_kv_head, 0);
    assert_int_equal(shares.list[0].num_kv_heads, 8);
    assert_int_equal(shares.list[0].worker, -1);
    assert_null(shares.list[0].team);
    char block[1];
    mp_shares_bind(&shares, block, MP_LARGE_BLOCK); /* touches nothing */
    mp_shares_free(&shares);
}

/* Parts follow each other, on huge pages of their own, none further from its heads than a page. */
static void test_begin(void **state)
{
    (void)state;
    struct mp_team teams[4] = {0};
    for (int workers = 1; workers <= 4; workers++) {
        struct mp_core_map map = {.teams = teams, .num_teams = workers};
        struct mp_shares shares;
        mp_shares_plan(&map, NULL, 5, &shares);
        static const size_t head_bytes[] = {MP_LARGE_BLOCK / 5 + 1, MP_HUGE_PAGE, 40000000};
        for (size_t b = 0; b < sizeof head_bytes / sizeof head_bytes[0]; b++) {
            size_t bytes = 5 * head_bytes[b];
            assert_int_equal(mp_shares_begin(&shares, 0, bytes), 0);
            assert_int_equal(mp_shares_begin(&shares, workers, bytes), bytes);
            for (int i = 1; i < workers; i++) {
                size_t begin = mp_shares_begin(&shares, i, bytes);
                size_t heads = head_bytes[b] * (size_t)shares.list[i].first_kv_head;
                assert_int_equal(begin % MP_HUGE_PAGE, 0);
                assert_true(begin <= heads && heads - begin < MP_HUGE_PAGE);
            }
        }
        mp_shares_free(&shares);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_nobody_in_particular),
        cmocka_unit_test(test_begin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
