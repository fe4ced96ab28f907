/* Team planning on imagined machines, binding on the real one. */
#include "core/topology.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static struct mp_topology *imagine(const char *description)
{
    struct mp_topology *t = NULL;
    struct mp_error err = {0};
    assert_int_equal(mp_topology_load_synthetic(description, &t, &err), MP_OK);
    return t;
}

static void test_counts(void **state)
{
    (void)state;
    static const struct {
        const char *machine;
        int nodes, cores;
        const char *line;
    } cases[] = {
        {"numa:1 core:1 pu:1", 1, 1, "1 NUMA node, 1 core"},
        {"numa:1 core:2 pu:2", 1, 2, "1 NUMA node, 2 cores"},
        {"numa:2 core:4 pu:2", 2, 8, "2 NUMA nodes, 8 cores"},
        {"pack:2 numa:2 l3:1 core:12 pu:1", 4, 48, "4 NUMA nodes, 48 cores"},
        {"pu:3", 1, 3, "1 NUMA node, 3 cores"}, /* cores unknown: processing units stand in */
        {"pack:2 [numa] [numa] core:4 pu:2", 2, 8,
         "2 NUMA nodes, 8 cores"}, /* two kinds of memory */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mp_topology *t = imagine(cases[i].machine);
        char line[64];
        mp_topology_describe(t, line, sizeof line);
        assert_string_equal(line, cases[i].line);
        assert_int_equal(mp_topology_numa_nodes(t), cases[i].nodes);
        assert_int_equal(mp_topology_cores(t), cases[i].cores);
        mp_topology_free(t);
    }
}

/* Plans teams and compares them written out: "0 1 | 4 5" is two teams of two cores. */
static void assert_plan(const char *machine, int workers, int threads, const char *expected)
{
    struct mp_topology *t = imagine(machine);
    struct mp_team *teams = NULL;
    int num_teams = 0;
    struct mp_error err = {0};
    assert_int_equal(mp_teams_plan(t, workers, threads, &teams, &num_teams, &err), MP_OK);

    char found[256] = "";
    for (int w = 0; w < num_teams; w++) {
        strcat(found, w == 0 ? "" : "| ");
        for (int i = 0; i < teams[w].num_threads; i++) {
            size_t used = strlen(found);
            snprintf(found + used, sizeof found - used, "%d ", teams[w].cores[i]);
        }
    }
    found[strlen(found) - 1] = '\0';
    assert_string_equal(found, expected);
    mp_teams_free(teams, num_teams);
    mp_topology_free(t);
}

static void test_one_node(void **state)
{
    (void)state;
    assert_plan("numa:1 core:2 pu:2", 0, 0, "0 1");
    assert_plan("numa:1 core:2 pu:2", 2, 0, "0 | 1");
    assert_plan("numa:1 core:4 pu:1", 1, 3, "0 1 2");
    assert_plan("numa:1 core:5 pu:1", 2, 0, "0 1 2 | 3 4");
    assert_plan("numa:1 core:7 pu:1", 3, 0, "0 1 2 | 3 4 | 5 6");
    assert_plan("numa:1 core:1 pu:2", 0, 0, "0");
}

static void test_two_nodes(void **state)
{
    (void)state;
    const char *machine = "numa:2 core:4 pu:2";
    assert_plan(machine, 0, 0, "0 1 2 3 | 4 5 6 7");
    assert_plan(machine, 0, 4, "0 1 | 4 5"); /* both memories are used */
    assert_plan(machine, 0, 5, "0 1 2 | 4 5");
    assert_plan(machine, 0, 1, "0"); /* fewer threads than nodes */
    assert_plan(machine, 1, 3, "0 1 2");
    assert_plan(machine, 1, 0, "0 1 2 3 4 5 6 7");
    assert_plan(machine, 2, 2, "0 | 4");
    assert_plan(machine, 4, 0, "0 1 | 2 3 | 4 5 | 6 7");
    assert_plan(machine, 4, 4, "0 | 1 | 4 | 5");
    assert_plan(machine, 3, 6, "0 1 | 2 3 | 4 5");
    assert_plan(machine, 3, 0, "0 1 2 | 3 4 5 | 6 7"); /* even sizes cost a team its node */
    assert_plan(machine, 8, 8, "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7");
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
                struct mp_team *teams = NULL;
                int num_teams = 0;
                assert_int_equal(mp_teams_plan(t, workers, threads, &teams, &num_teams, NULL), 0);
                assert_int_equal(num_teams, workers);
                int last = -1, total = 0;
                for (int w = 0; w < workers; w++) {
                    assert_in_range(teams[w].num_threads, threads / workers,
                                    (threads + workers - 1) / workers);
                    for (int i = 0; i < teams[w].num_threads; i++) {
                        assert_true(teams[w].cores[i] > last && teams[w].cores[i] < cores);
                        last = teams[w].cores[i];
                    }
                    total += teams[w].num_threads;
                }
                assert_int_equal(total, threads);
                mp_teams_free(teams, num_teams);
            }
        }
        mp_topology_free(t);
    }
}

static void test_node_numbers(void **state)
{
    (void)state;
    struct mp_topology *t = imagine("pack:2 numa:2 core:2 pu:2");
    struct mp_team *teams = NULL;
    int num_teams = 0;
    assert_int_equal(mp_teams_plan(t, 0, 0, &teams, &num_teams, NULL), MP_OK);
    assert_int_equal(num_teams, 4);
    for (int w = 0; w < num_teams; w++) {
        assert_int_equal(teams[w].numa_node, w);
    }
    mp_teams_free(teams, num_teams);
    mp_topology_free(t);
}

static void assert_refused(const struct mp_topology *t, int workers, int threads,
                           const char *message)
{
    struct mp_team *teams = NULL;
    int num_teams = 0;
    struct mp_error err = {0};
    assert_int_equal(mp_teams_plan(t, workers, threads, &teams, &num_teams, &err), MP_ERR_USAGE);
    assert_string_equal(err.message, message);
    assert_null(teams);
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

    struct mp_error err = {0};
    assert_int_equal(mp_topology_load_synthetic("core:many", &t, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "core:many"));
}

static void test_real_machine(void **state)
{
    (void)state;
    struct mp_topology *t = NULL;
    struct mp_error err = {0};
    assert_int_equal(mp_topology_load(&t, &err), MP_OK);
    assert_in_range(mp_topology_cores(t), 1, sysconf(_SC_NPROCESSORS_ONLN));
    assert_in_range(mp_topology_numa_nodes(t), 1, mp_topology_cores(t));
    mp_topology_free(t);
}

struct binding {
    const struct mp_topology *topology;
    const struct mp_team *team;
    struct mp_error err;
    int code;
    int default_threads;
    cpu_set_t masks[64]; /* of thread i, in a parallel region opened after binding */
};

/* As in a StarPU worker: the thread has been bound to one core before, and OpenMP threads would
 * all inherit that. */
static void *bind_team(void *argument)
{
    struct binding *b = argument;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(sched_getcpu(), &one);
    sched_setaffinity(0, sizeof one, &one);

    b->code = mp_team_bind_current(b->topology, b->team, &b->err);
    b->default_threads = omp_get_max_threads();
#pragma omp parallel
    sched_getaffinity(0, sizeof b->masks[0], &b->masks[omp_get_thread_num()]);
    return NULL;
}

static void bind_in_own_thread(struct binding *b)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, bind_team, b), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
}

static void test_bind(void **state)
{
    (void)state;
    struct mp_topology *t = NULL;
    assert_int_equal(mp_topology_load(&t, NULL), MP_OK);
    int threads = mp_topology_cores(t) < 64 ? mp_topology_cores(t) : 64;
    struct mp_team *teams = NULL;
    int num_teams = 0;
    assert_int_equal(mp_teams_plan(t, 1, threads, &teams, &num_teams, NULL), MP_OK);

    struct binding b = {.topology = t, .team = &teams[0]};
    bind_in_own_thread(&b);
    assert_string_equal(b.err.message, "");
    assert_int_equal(b.code, MP_OK);
    assert_int_equal(b.default_threads, threads);
    for (int i = 0; i < threads; i++) {
        for (int j = 0; j < i; j++) {
            cpu_set_t both;
            CPU_AND(&both, &b.masks[i], &b.masks[j]);
            assert_int_equal(CPU_COUNT(&both), 0);
        }
    }
    mp_teams_free(teams, num_teams);
    mp_topology_free(t);
}

/* What a silent failure to bind would look like: the check after binding must catch it. */
static void test_bind_failures(void **state)
{
    (void)state;
    struct mp_topology *t = imagine("pu:1024");
    int far_core[] = {1023};
    struct binding b = {.topology = t, .team = &(struct mp_team){1, far_core, 0}};
    bind_in_own_thread(&b);
    assert_int_equal(b.code, MP_ERR_RUNTIME);
    assert_string_equal(b.err.message, "thread 0 of 1 could not be bound to core 1023");
    mp_topology_free(t);

    assert_int_equal(mp_topology_load(&t, NULL), MP_OK);
    int same_core[] = {0, 0};
    b = (struct binding){.topology = t, .team = &(struct mp_team){2, same_core, 0}};
    bind_in_own_thread(&b);
    assert_int_equal(b.code, MP_ERR_RUNTIME);
    assert_string_equal(b.err.message, "threads 0 and 1 share core 0");
    mp_topology_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),        cmocka_unit_test(test_one_node),
        cmocka_unit_test(test_two_nodes),     cmocka_unit_test(test_every_split),
        cmocka_unit_test(test_node_numbers),  cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_real_machine),  cmocka_unit_test(test_bind),
        cmocka_unit_test(test_bind_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
