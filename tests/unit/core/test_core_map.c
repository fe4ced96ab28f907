/* Who runs where, on imagined machines. */
#include "core/machine/core_map.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct mp_topology *imagine(const char *description)
{
    struct mp_topology *t = NULL;
    struct mp_error err = {0};
    assert_int_equal(mp_topology_load_synthetic(description, &t, &err), MP_OK);
    return t;
}

static struct mp_core_map plan(const struct mp_topology *t, const struct mp_core_request *request)
{
    struct mp_core_map map;
    struct mp_error err;
    if (mp_core_map_plan(t, request, &map, &err) != MP_OK) {
        fail_msg("%s", err.message);
    }
    return map;
}

/* ---- teams ---- */

/* Plans teams without a GPU and compares them written out: "0 1 | 4 5" is two teams of two cores.
 */
static void assert_teams(const char *machine, int workers, int threads, const char *expected)
{
    struct mp_topology *t = imagine(machine);
    struct mp_core_request request = {.workers = workers, .threads = threads};
    struct mp_core_map map = plan(t, &request);
    assert_int_equal(mp_gpu_core(&map, 0), -1);
    assert_int_equal(mp_submit_core(&map), -1);

    char found[256] = "";
    for (int w = 0; w < map.num_teams; w++) {
        strcat(found, w == 0 ? "" : "| ");
        for (int i = 0; i < map.teams[w].num_threads; i++) {
            size_t used = strlen(found);
            snprintf(found + used, sizeof found - used, "%d ", map.teams[w].cores[i]);
        }
    }
    found[strlen(found) - 1] = '\0';
    assert_string_equal(found, expected);
    mp_core_map_free(&map);
    mp_topology_free(t);
}

static void test_one_node(void **state)
{
    (void)state;
    assert_teams("numa:1 core:2 pu:2", 0, 0, "0 1");
    assert_teams("numa:1 core:2 pu:2", 2, 0, "0 | 1");
    assert_teams("numa:1 core:4 pu:1", 1, 3, "0 1 2");
    assert_teams("numa:1 core:5 pu:1", 2, 0, "0 1 2 | 3 4");
    assert_teams("numa:1 core:7 pu:1", 3, 0, "0 1 2 | 3 4 | 5 6");
    assert_teams("numa:1 core:1 pu:2", 0, 0, "0");
}

static void test_two_nodes(void **state)
{
    (void)state;
    const char *machine = "numa:2 core:4 pu:2";
    assert_teams(machine, 0, 0, "0 1 2 3 | 4 5 6 7");
    assert_teams(machine, 0, 4, "0 1 | 4 5"); /* both memories are used */
    assert_teams(machine, 0, 5, "0 1 2 | 4 5");
    assert_teams(machine, 0, 1, "0"); /* fewer threads than nodes */
    assert_teams(machine, 1, 3, "0 1 2");
    assert_teams(machine, 1, 0, "0 1 2 3 4 5 6 7");
    assert_teams(machine, 2, 2, "0 | 4");
    assert_teams(machine, 4, 0, "0 1 | 2 3 | 4 5 | 6 7");
    assert_teams(machine, 4, 4, "0 | 1 | 4 | 5");
    assert_teams(machine, 3, 6, "0 1 | 2 3 | 4 5");
    assert_teams(machine, 3, 0, "0 1 2 | 3 4 5 | 6 7"); /* even sizes cost a team its node */
    assert_teams(machine, 8, 8, "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7");
}

/* For every request that can be met: as many threads as asked for, each core once, ascending,
 * sizes that differ by one at most. */
static void test_every_split(void **state)
{
    (void)state;
    static const char *const machines[] = {"numa:3 core:3 pu:1", "numa:1 core:6 pu:2",
                                           "pack:2 numa:2 core:2 pu:2"};
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++) {
        struct mp_topology *t = imagine(machines[m]);
        int cores = mp_topology_cores(t);
        for (int threads = 1; threads <= cores; threads++) {
            for (int workers = 1; workers <= threads; workers++) {
                struct mp_core_request request = {.workers = workers, .threads = threads};
                struct mp_core_map map = plan(t, &request);
                assert_int_equal(map.num_teams, workers);
                int last = -1, total = 0;
                for (int w = 0; w < workers; w++) {
                    const struct mp_team *team = &map.teams[w];
                    assert_in_range(team->num_threads, threads / workers,
                                    (threads + workers - 1) / workers);
                    for (int i = 0; i < team->num_threads; i++) {
                        assert_true(team->cores[i] > last && team->cores[i] < cores);
                        last = team->cores[i];
                    }
                    total += team->num_threads;
                }
                assert_int_equal(total, threads);
                mp_core_map_free(&map);
            }
        }
        mp_topology_free(t);
    }
}

static void test_node_numbers(void **state)
{
    (void)state;
    struct mp_topology *t = imagine("pack:2 numa:2 core:2 pu:2");
    struct mp_core_map map = plan(t, &(struct mp_core_request){0});
    assert_int_equal(map.num_teams, 4);
    for (int w = 0; w < map.num_teams; w++) {
        assert_int_equal(mp_topology_node_of(t, map.teams[w].cores[0]), w);
    }
    mp_core_map_free(&map);
    mp_topology_free(t);
}

/* ---- cores set aside ---- */

static void test_cores_for_a_gpu(void **state)
{
    (void)state;
    static const struct {
        const char *machine;
        int workers, threads, gpu_node;
        const char *map;
    } cases[] = {
        {"numa:1 core:1 pu:2", 0, 0, 0, "cpu worker 0: core 0"},
        {"numa:1 core:2 pu:2", 0, 0, 0, "cpu worker 0: cores 0-1"},
        {"numa:1 core:3 pu:1", 0, 0, 0,
         "cpu worker 0: cores 0-1; GPU driver and submitting thread: core 2"},
        {"numa:1 core:4 pu:2", 0, 0, -1,
         "cpu worker 0: cores 0-2; GPU driver and submitting thread: core 3"},
        {"numa:1 core:7 pu:1", 0, 0, 0,
         "cpu worker 0: cores 0-5; GPU driver and submitting thread: core 6"},
        {"numa:1 core:8 pu:1", 0, 0, 0,
         "cpu worker 0: cores 0-5; GPU driver: core 6; submitting thread: core 7"},
        {"numa:1 core:16 pu:1", 0, 0, -1,
         "cpu worker 0: cores 0-13; GPU driver: core 14; submitting thread: core 15"},
        {"numa:1 core:64 pu:2", 2, 0, 0,
         "cpu worker 0: cores 0-30; cpu worker 1: cores 31-61; GPU driver: core 62; "
         "submitting thread: core 63"},

        /* Threads given: what they leave. */
        {"numa:1 core:2 pu:1", 0, 1, 0,
         "cpu worker 0: core 0; GPU driver and submitting thread: core 1"},
        {"numa:1 core:4 pu:1", 0, 2, 0,
         "cpu worker 0: cores 0-1; GPU driver: core 2; submitting thread: core 3"},
        {"numa:1 core:16 pu:1", 0, 16, 0, "cpu worker 0: cores 0-15"},
        {"numa:1 core:16 pu:1", 0, 15, 0,
         "cpu worker 0: cores 0-14; GPU driver and submitting thread: core 15"},
        {"numa:1 core:16 pu:1", 0, 4, 0,
         "cpu worker 0: cores 0-3; GPU driver: core 14; submitting thread: core 15"},

        /* Workers given: a core each before any is set aside. */
        {"numa:1 core:8 pu:1", 7, 0, 0,
         "cpu worker 0: core 0; cpu worker 1: core 1; cpu worker 2: core 2; cpu worker 3: core 3; "
         "cpu worker 4: core 4; cpu worker 5: core 5; cpu worker 6: core 6; "
         "GPU driver and submitting thread: core 7"},

        /* The GPU's node gives them; teams keep to their nodes. */
        {"numa:2 core:8 pu:2", 0, 0, 0,
         "cpu worker 0: cores 0-5; cpu worker 1: cores 8-15; GPU driver: core 6; "
         "submitting thread: core 7"},
        {"numa:2 core:8 pu:2", 0, 0, 1,
         "cpu worker 0: cores 0-7; cpu worker 1: cores 8-13; GPU driver: core 14; "
         "submitting thread: core 15"},
        {"numa:2 core:8 pu:2", 0, 0, -1,
         "cpu worker 0: cores 0-7; cpu worker 1: cores 8-13; GPU driver: core 14; "
         "submitting thread: core 15"},
        {"numa:2 core:8 pu:2", 0, 8, 0,
         "cpu worker 0: cores 0-3; cpu worker 1: cores 8-11; GPU driver: core 6; "
         "submitting thread: core 7"},
        {"numa:2 core:8 pu:2", 1, 0, 0,
         "cpu worker 0: cores 0-5,8-15; GPU driver: core 6; submitting thread: core 7"},
        {"numa:4 core:4 pu:1", 2, 0, 1,
         "cpu worker 0: cores 0-5; cpu worker 1: cores 8-15; GPU driver: core 6; "
         "submitting thread: core 7"},

        /* A node without cores left has no team; one with too few of them gives none. */
        {"numa:4 core:1 pu:1", 0, 0, 1,
         "cpu worker 0: core 0; cpu worker 1: core 2; cpu worker 2: core 3; "
         "GPU driver and submitting thread: core 1"},
        {"numa:8 core:1 pu:1", 1, 0, 2,
         "cpu worker 0: cores 0-5; GPU driver: core 6; submitting thread: core 7"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_topology *t = imagine(cases[i].machine);
        struct mp_core_request request = {.workers = cases[i].workers,
                                          .threads = cases[i].threads,
                                          .gpus = 1,
                                          .gpu_node = cases[i].gpu_node};
        struct mp_core_map map = plan(t, &request);
        char *found = mp_core_map_describe(&map, true);
        assert_string_equal(found, cases[i].map);
        free(found);
        mp_core_map_free(&map);
        mp_topology_free(t);
    }
}

/* A core for each thread that drives one, and one for who submits; fewer are shared. */
static void test_cores_for_several_gpus(void **state)
{
    (void)state;
    static const struct {
        int gpus, threads;
        const char *map;
        int drivers[4];
    } cases[] = {
        {2,
         0,
         "cpu worker 0: cores 0-12; GPU drivers: cores 13-14; submitting thread: core 15",
         {13, 14}},
        {4,
         0,
         "cpu worker 0: cores 0-11; GPU drivers and submitting thread: cores 12-15",
         {12, 13, 14, 15}},
        {4,
         14,
         "cpu worker 0: cores 0-13; GPU drivers and submitting thread: cores 14-15",
         {14, 15, 14, 15}},
        {2, 15, "cpu worker 0: cores 0-14; GPU drivers and submitting thread: core 15", {15, 15}},
        {2, 16, "cpu worker 0: cores 0-15", {-1, -1}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_topology *t = imagine("numa:1 core:16 pu:1");
        struct mp_core_request request = {
            .threads = cases[i].threads, .gpus = cases[i].gpus, .gpu_node = -1};
        struct mp_core_map map = plan(t, &request);
        char *found = mp_core_map_describe(&map, true);
        assert_string_equal(found, cases[i].map);
        for (int g = 0; g < cases[i].gpus; g++) {
            assert_int_equal(mp_gpu_core(&map, g), cases[i].drivers[g]);
        }
        assert_int_equal(mp_submit_core(&map), cases[i].threads == 16 ? -1 : 15);
        free(found);
        mp_core_map_free(&map);
        mp_topology_free(t);
    }
}

/* Counts in named[] the cores of a map's description. */
static void count_cores(const char *text, int *named, int cores)
{
    while ((text = strstr(text, ": core")) != NULL) {
        text += strlen(": core");
        text += *text == 's';
        do {
            char *end;
            long first = strtol(text + 1, &end, 10);
            long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
            assert_true(end > text + 1 && first >= 0 && first <= last && last < cores);
            for (long core = first; core <= last; core++) {
                named[core]++;
            }
            text = end;
        } while (*text == ',');
    }
}

/* Every request that can be met with a GPU: the line names the teams' cores and those set aside,
 * each once. */
static void test_no_core_twice(void **state)
{
    (void)state;
    static const char *const machines[] = {"numa:1 core:9 pu:2", "numa:2 core:5 pu:1",
                                           "pack:2 numa:2 core:2 pu:2"};
    for (size_t m = 0; m < sizeof machines / sizeof machines[0]; m++) {
        struct mp_topology *t = imagine(machines[m]);
        int cores = mp_topology_cores(t);
        for (int threads = 0; threads <= cores; threads++) {
            for (int workers = 0; workers <= (threads > 0 ? threads : cores); workers++) {
                struct mp_core_request request = {
                    .workers = workers, .threads = threads, .gpus = 1};
                struct mp_core_map map = plan(t, &request);
                char *text = mp_core_map_describe(&map, true);
                int named[16] = {0}, total = 0, in_teams = 0;
                count_cores(text, named, cores);
                for (int core = 0; core < cores; core++) {
                    assert_in_range(named[core], 0, 1);
                    total += named[core];
                }
                for (int w = 0; w < map.num_teams; w++) {
                    assert_true(map.teams[w].num_threads > 0);
                    in_teams += map.teams[w].num_threads;
                }
                int left = cores - in_teams;
                assert_int_equal(total, in_teams + (left < 2 ? left : 2));
                assert_true(threads == 0 || in_teams == threads);
                free(text);
                mp_core_map_free(&map);
            }
        }
        mp_topology_free(t);
    }
}

static void test_unbound(void **state)
{
    (void)state;
    struct mp_topology *t = imagine("numa:2 core:8 pu:1");
    struct mp_core_map map = plan(t, &(struct mp_core_request){.threads = 3});
    char *text = mp_core_map_describe(&map, false);
    assert_string_equal(text, "cpu worker 0: 2 threads; cpu worker 1: 1 thread; "
                              "no thread is bound");
    free(text);
    mp_core_map_free(&map);
    mp_topology_free(t);
}

/* ---- refusals ---- */

static void assert_refused(const struct mp_topology *t, int workers, int threads,
                           const char *message)
{
    struct mp_core_map map = {0};
    struct mp_core_request request = {.workers = workers, .threads = threads};
    struct mp_error err = {0};
    assert_int_equal(mp_core_map_plan(t, &request, &map, &err), MP_ERR_USAGE);
    assert_string_equal(err.message, message);
    assert_null(map.teams);
}

static void test_refusals(void **state)
{
    (void)state;
    struct mp_topology *t = imagine("numa:2 core:2 pu:2");
    assert_refused(t, 0, 5, "5 threads: this process may use 4 cores");
    assert_refused(t, 3, 2, "3 CPU workers: more than the 2 threads to share out");
    assert_refused(t, 5, 0, "5 CPU workers: more than the 4 threads to share out");
    assert_refused(t, -1, 0, "-1 CPU workers with 0 threads: expected 0 or more");
    assert_refused(t, 0, -2, "0 CPU workers with -2 threads: expected 0 or more");
    mp_topology_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_node),        cmocka_unit_test(test_two_nodes),
        cmocka_unit_test(test_every_split),     cmocka_unit_test(test_node_numbers),
        cmocka_unit_test(test_cores_for_a_gpu), cmocka_unit_test(test_cores_for_several_gpus),
        cmocka_unit_test(test_no_core_twice),   cmocka_unit_test(test_unbound),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
