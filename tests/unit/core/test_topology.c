/* Imagined machines, GPUs in them, binding of threads and memory on the real one. */
#include "core/machine/topology.h"

#include "core/base/memory.h"

#include <hwloc.h>
#include <omp.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
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

static void test_bad_notation(void **state)
{
    (void)state;
    struct mp_topology *t = NULL;
    struct mp_error err = {0};
    assert_int_equal(mp_topology_load_synthetic("core:many", &t, &err), MP_ERR_USAGE);
    assert_non_null(strstr(err.message, "core:many"));
}

/* What hwloc would write of CPUs 0 and 1 on a node each, with devices on either. */
static void write_machine(const char *path, const char *const devices[2])
{
    static const char sets[] = "cpuset=\"%#x\" complete_cpuset=\"%#x\" "
                               "nodeset=\"%#x\" complete_nodeset=\"%#x\"";
    char own[128];
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    snprintf(own, sizeof own, sets, 3, 3, 3, 3);
    fprintf(f, "<topology version=\"2.0\"><object type=\"Machine\" os_index=\"0\" %s>\n", own);
    for (int i = 0; i < 2; i++) {
        static const char *const types[] = {"Package", "NUMANode", "Core", "PU"};
        snprintf(own, sizeof own, sets, 1 << i, 1 << i, 1 << i, 1 << i);
        for (int type = 0; type < 4; type++) {
            fprintf(f, "<object type=\"%s\" os_index=\"%d\" %s%s>\n", types[type], i, own,
                    type % 2 == 1 ? "/" : "");
        }
        fprintf(f, "</object>%s</object>\n", devices[i]);
    }
    fprintf(f, "</object></topology>\n");
    assert_int_equal(fclose(f), 0);
}

static void test_gpu_node(void **state)
{
    (void)state;
#define DEVICE(bus, type) "<object type=\"PCIDev\" pci_busid=\"" bus "\" pci_type=\"" type " a1\"/>"
#define GPU0 DEVICE("0000:17:00.0", "0302 [10de:2330] [10de:16c1]")
#define GPU1 DEVICE("0000:ca:00.0", "0302 [10de:2330] [10de:16c1]")
#define VGA DEVICE("0000:02:00.0", "0300 [1a03:2000] [1a03:2000]")
#define BRIDGE DEVICE("0000:03:00.0", "0680 [10de:22a3] [10de:1796]")
    static const struct {
        const char *const devices[2]; /* of each node */
        int node;
    } cases[] = {
        {{"", ""}, -1},
        {{GPU0, ""}, 0},
        {{"", GPU0 GPU1}, 1},
        /* Neither another maker's display nor another kind of device. */
        {{VGA BRIDGE, GPU1}, 1},
        /* Which of them is used is not known here. */
        {{GPU0, GPU1}, -1},
    };
    cpu_set_t mask;
    assert_int_equal(sched_getaffinity(0, sizeof mask, &mask), 0);
    if (!CPU_ISSET(0, &mask) || !CPU_ISSET(1, &mask)) {
        skip(); /* the machine is cut down to what this process may use */
    }
    char *path = mp_xasprintf("%s/two_nodes.%d.xml", MP_SCRATCH_DIR, (int)getpid());
    const char *components = getenv("HWLOC_COMPONENTS");
    char *saved = components != NULL ? mp_xstrdup(components) : NULL;
    unsetenv("HWLOC_COMPONENTS"); /* would go before the file */
    setenv("HWLOC_XMLFILE", path, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        write_machine(path, cases[i].devices);
        struct mp_topology *t = NULL;
        struct mp_error err = {0};
        if (mp_topology_load(&t, &err) != MP_OK) {
            fail_msg("%s", err.message);
        }
        assert_int_equal(mp_topology_numa_nodes(t), 2);
        assert_int_equal(mp_topology_gpu_node(t), cases[i].node);
        mp_topology_free(t);
    }
    unsetenv("HWLOC_XMLFILE");
    if (saved != NULL) {
        setenv("HWLOC_COMPONENTS", saved, 1);
    }
    free(saved);
    unlink(path);
    free(path);
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
    bool unbound; /* start the team without binding it */
    struct mp_error err;
    int code;
    int default_threads;
    cpu_set_t before;    /* of the thread that starts the team */
    cpu_set_t masks[64]; /* of thread i, in a parallel region opened after binding */
};

/* As in a StarPU worker: the thread has been bound to one core before, and OpenMP threads would
 * all inherit that. */
static void *bind_team(void *argument)
{
    struct binding *b = argument;
    CPU_ZERO(&b->before);
    CPU_SET(sched_getcpu(), &b->before);
    sched_setaffinity(0, sizeof b->before, &b->before);

    b->code = mp_team_start(b->topology, b->team, !b->unbound, &b->err);
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
    int cores[64];
    for (int i = 0; i < threads; i++) {
        cores[i] = i;
    }
    struct binding b = {.topology = t, .team = &(struct mp_team){threads, cores}};
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
    mp_topology_free(t);
}

/* The team has its size; nobody is moved, and nothing is checked. */
static void test_team_without_binding(void **state)
{
    (void)state;
    struct mp_topology *t = NULL;
    assert_int_equal(mp_topology_load(&t, NULL), MP_OK);
    int same_core[] = {0, 0, 0};
    struct binding b = {.topology = t, .team = &(struct mp_team){3, same_core}, .unbound = true};
    bind_in_own_thread(&b);
    assert_int_equal(b.code, MP_OK);
    assert_int_equal(b.default_threads, 3);
#ifdef __clang__
    const bool own = false; /* its OpenMP gives a team threads that another one has bound */
#else
    const bool own = omp_get_proc_bind() == omp_proc_bind_false;
#endif
    for (int i = 0; i < 3 && own; i++) {
        assert_true(CPU_EQUAL(&b.masks[i], &b.before));
    }
    mp_topology_free(t);
}

/* Every core in turn, and back. */
static void test_bind_thread(void **state)
{
    (void)state;
    struct mp_topology *t = NULL;
    cpu_set_t before, now, both;
    cpu_set_t seen; /* of the cores so far */
    CPU_ZERO(&seen);
    assert_int_equal(mp_topology_load(&t, NULL), MP_OK);
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    for (int core = 0; core < mp_topology_cores(t); core++) {
        struct mp_affinity *affinity = NULL;
        assert_int_equal(mp_thread_bind(t, core, &affinity, NULL), MP_OK);
        assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
        CPU_AND(&both, &seen, &now);
        assert_int_equal(CPU_COUNT(&both), 0); /* no two cores have a CPU in common */
        CPU_OR(&seen, &seen, &now);
        mp_thread_restore(t, affinity);
        assert_int_equal(sched_getaffinity(0, sizeof now, &now), 0);
        assert_true(CPU_EQUAL(&now, &before));
    }
    CPU_AND(&both, &seen, &before); /* OpenMP may have bound this thread to some of them */
    assert_true(CPU_EQUAL(&both, &before));
    mp_topology_free(t);
}

/* What a silent failure to bind would look like: the check after binding must catch it. */
static void test_bind_failures(void **state)
{
    (void)state;
    struct mp_topology *t = imagine("pu:1024");
    int far_core[] = {1023};
    struct binding b = {.topology = t, .team = &(struct mp_team){1, far_core}};
    bind_in_own_thread(&b);
    assert_int_equal(b.code, MP_ERR_RUNTIME);
    assert_string_equal(b.err.message, "thread 0 of 1 could not be bound to core 1023");
    struct mp_error err = {0};
    assert_int_equal(mp_thread_bind(t, 1023, NULL, &err), MP_ERR_RUNTIME);
    assert_string_equal(err.message, "a thread could not be bound to core 1023");
    mp_topology_free(t);

    assert_int_equal(mp_topology_load(&t, NULL), MP_OK);
    int same_core[] = {0, 0};
    b = (struct binding){.topology = t, .team = &(struct mp_team){2, same_core}};
    bind_in_own_thread(&b);
    assert_int_equal(b.code, MP_ERR_RUNTIME);
    assert_string_equal(b.err.message, "threads 0 and 1 share core 0");
    mp_topology_free(t);
}

/* A machine of two nodes, the first one this machine's and the second one not there, that hwloc
 * takes for this machine. */
static struct mp_topology *pretend_two_nodes(void)
{
    setenv("HWLOC_THISSYSTEM", "1", 1);
    struct mp_topology *t = imagine("numa:2(indexes=0,63) core:1 pu:1");
    unsetenv("HWLOC_THISSYSTEM");
    return t;
}

/* Whether the system lets this process say where its memory is: in a container it may not. */
static bool may_bind(hwloc_topology_t machine, void *page)
{
    return hwloc_set_area_membind(machine, page, 1, hwloc_get_root_obj(machine)->nodeset,
                                  HWLOC_MEMBIND_BIND, HWLOC_MEMBIND_BYNODESET) == 0;
}

/* The policy of a page, and in *nodes the number of the nodes that it may be on. */
static hwloc_membind_policy_t policy_of(hwloc_topology_t machine, void *page, int *nodes)
{
    hwloc_membind_policy_t policy;
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    assert_int_equal(
        hwloc_get_area_membind(machine, page, 1, set, &policy, HWLOC_MEMBIND_BYNODESET), 0);
    *nodes = hwloc_bitmap_weight(set);
    hwloc_bitmap_free(set);
    return policy;
}

static void test_bind_memory(void **state)
{
    (void)state;
    enum { BYTES = 1 << 20 };
    struct mp_error err = {0};
    struct mp_topology *t = pretend_two_nodes();
    hwloc_topology_t machine;
    hwloc_topology_init(&machine);
    hwloc_topology_load(machine);
    char *pages = aligned_alloc(4096, 2 * BYTES);

    assert_int_equal(mp_team_bind_memory(t, &(struct mp_team){1, (int[]){1}}, pages, BYTES, &err),
                     MP_ERR_RUNTIME);
    assert_non_null(strstr(err.message, "1048576 bytes could not be bound to NUMA node 63: "));
    if (may_bind(machine, pages + BYTES)) {
        int nodes;
        struct mp_team first = {1, (int[]){0}};
        struct mp_team both = {2, (int[]){0, 1}};
        assert_int_equal(mp_team_bind_memory(t, &first, pages, BYTES, &err), MP_OK);
        assert_int_equal(policy_of(machine, pages, &nodes), HWLOC_MEMBIND_BIND);
        assert_int_equal(nodes, 1);
        /* The system leaves out nodes that it does not have, unless it has none of them. */
        assert_int_equal(mp_team_bind_memory(t, &both, pages, BYTES, &err), MP_OK);
        assert_int_equal(policy_of(machine, pages, &nodes), HWLOC_MEMBIND_INTERLEAVE);
    }
    free(pages);
    hwloc_topology_destroy(machine);
    mp_topology_free(t);

    t = imagine("numa:1 core:2 pu:1"); /* one node: nothing to do, and nothing is touched */
    assert_int_equal(mp_team_bind_memory(t, &(struct mp_team){1, (int[]){1}}, NULL, BYTES, &err),
                     MP_OK);
    mp_topology_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),      cmocka_unit_test(test_bad_notation),
        cmocka_unit_test(test_gpu_node),    cmocka_unit_test(test_real_machine),
        cmocka_unit_test(test_bind),        cmocka_unit_test(test_team_without_binding),
        cmocka_unit_test(test_bind_thread), cmocka_unit_test(test_bind_failures),
        cmocka_unit_test(test_bind_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
