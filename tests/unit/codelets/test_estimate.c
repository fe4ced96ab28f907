/* StarPU's policies decide by our estimates of a task's time, and those by measured rates. */
#include "codelets/common/task/codelet.h"
#include "core/trace/calibration.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORKERS = 2, QUICK_TASKS = 4 };

/* At nominal rates two workers of one thread do 8e9 bytes/s each. */
static const struct mp_setup SETUP = {.cpu_workers = WORKERS, .threads = WORKERS, .kernels = "ref"};

static atomic_bool released;

static void start_starpu(const char *policy)
{
    setenv("STARPU_WORKERS_NOBIND", "1", 1);
    setenv("STARPU_SILENT", "1", 1);
    struct starpu_conf conf;
    starpu_conf_init(&conf);
    conf.precedence_over_environment_variables = 1;
    conf.sched_policy_name = policy;
    conf.ncpus = WORKERS;
    conf.ncuda = 0;
    conf.nopencl = 0;
    assert_int_equal(starpu_init(&conf), 0);
    atomic_store(&released, false);
}

/* ---- ops of this test: each says on which worker it ran ---- */

struct where_task {
    double bytes;
    int *worker;
};

static struct mp_work quick_work(const void *task_argument)
{
    return (struct mp_work){.bytes = ((const struct where_task *)task_argument)->bytes};
}

static struct mp_work slow_work(const void *task_argument)
{
    return quick_work(task_argument);
}

static void quick_cpu(void *buffers[], void *argument)
{
    (void)buffers;
    *((struct where_task *)argument)->worker = starpu_worker_get_id();
}

/* Until all tasks have been handed out. */
static void slow_cpu(void *buffers[], void *argument)
{
    quick_cpu(buffers, argument);
    while (!atomic_load(&released)) {
        usleep(1000);
    }
}

#define TEST_CODELET(op)                                                                           \
    {                                                                                              \
        .cpu_funcs = {op##_cpu}, .where = STARPU_CPU, .name = #op,                                 \
        .model = &(struct mp_op_model)MP_OP_MODEL(op).starpu                                       \
    }

static struct starpu_codelet quick_codelet = TEST_CODELET(quick);
static struct starpu_codelet slow_codelet = TEST_CODELET(slow);

static void submit(struct starpu_codelet *codelet, struct where_task *argument)
{
    struct starpu_task *task = starpu_task_create();
    task->cl = codelet;
    task->cl_arg = argument;
    assert_int_equal(starpu_task_submit(task), 0);
}

/* Quick tasks that dmda puts on the worker of a slow one submitted before them. Each has as much
 * work as that one. */
static int behind_the_slow_one(const struct mp_calibration *c)
{
    mp_cost_use(c);
    start_starpu("dmda");
    int slow_worker;
    int workers[QUICK_TASKS];
    struct where_task slow = {.bytes = 8e9, .worker = &slow_worker};
    struct where_task quick[QUICK_TASKS];
    submit(&slow_codelet, &slow);
    for (int i = 0; i < QUICK_TASKS; i++) {
        quick[i] = (struct where_task){.bytes = 8e9, .worker = &workers[i]};
        submit(&quick_codelet, &quick[i]);
    }
    atomic_store(&released, true);
    assert_int_equal(starpu_task_wait_for_all(), 0);
    starpu_shutdown();
    int behind = 0;
    for (int i = 0; i < QUICK_TASKS; i++) {
        behind += workers[i] == slow_worker;
    }
    return behind;
}

static void test_dmda_decides_by_the_rates(void **state)
{
    (void)state;
    struct mp_calibration c;
    mp_calibration_init(&c, &SETUP);
    assert_true(behind_the_slow_one(&c) > 0); /* all alike: shared out */
    mp_calibration_op(&c, "slow", MP_TRACK_CPU)->rates.bytes = 8e7;
    assert_int_equal(behind_the_slow_one(&c), 0);
    mp_calibration_free(&c);
}

/* What asks for no estimate needs no rates. */
static void test_who_asks(void **state)
{
    (void)state;
    static const struct {
        const char *policy;
        bool asks;
    } policies[] = {{"prio", false}, {"eager", false}, {"lws", false}, {"dmda", true}};
    struct mp_calibration c;
    mp_calibration_init(&c, &SETUP);
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        int worker;
        struct where_task task = {.bytes = 8e6, .worker = &worker};
        mp_cost_use(&c);
        assert_false(mp_cost_asked());
        start_starpu(policies[i].policy);
        submit(&quick_codelet, &task);
        assert_int_equal(starpu_task_wait_for_all(), 0);
        starpu_shutdown();
        assert_int_equal(mp_cost_asked(), policies[i].asks);
    }
    mp_calibration_free(&c);
}

/* ---- a task alone ---- */

static double expected_us(struct starpu_codelet *codelet, void *argument)
{
    struct starpu_task *task = starpu_task_create();
    task->cl = codelet;
    task->cl_arg = argument;
    task->nbuffers = 0;
    struct starpu_perfmodel_arch *arch = starpu_worker_get_perf_archtype(0, STARPU_NMAX_SCHED_CTXS);
    double us = starpu_task_expected_length(task, arch, 0);
    task->destroy = 0;
    starpu_task_destroy(task);
    return us;
}

static void assert_near(double found, double expected)
{
    if (!(fabs(found - expected) <= 1e-6 * fabs(expected))) {
        fail_msg("found %.12g, expected %.12g", found, expected);
    }
}

/* What an op says of its task's work, at nominal rates and at measured ones. */
static void test_estimates_follow_the_work(void **state)
{
    (void)state;
    struct mp_calibration c;
    struct where_task few = {.bytes = 1e6};
    struct where_task many = {.bytes = 27e6};
    mp_calibration_init(&c, &SETUP);
    mp_cost_use(&c);
    start_starpu("dmda");
    double more = many.bytes - few.bytes;
    assert_near(expected_us(&quick_codelet, &many) - expected_us(&quick_codelet, &few),
                1e6 * more / 8e9);
    mp_calibration_op(&c, "quick", MP_TRACK_CPU)->rates.bytes = 2e9;
    assert_near(expected_us(&quick_codelet, &many) - expected_us(&quick_codelet, &few),
                1e6 * more / 2e9);
    starpu_shutdown();
    mp_calibration_free(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dmda_decides_by_the_rates),
        cmocka_unit_test(test_who_asks),
        cmocka_unit_test(test_estimates_follow_the_work),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
