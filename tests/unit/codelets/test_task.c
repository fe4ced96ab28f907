/* Submission with StarPU: the sticky error, what it says, and waiting for the tasks of a group. */
#include "codelets/common/task/codelet.h"
#include "codelets/embed/embed.h"
#include "codelets/memory_read/memory_read.h"
#include "codelets/random/random.h"
#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { WORDS = 1024 };

void *__real_mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err);
void *__wrap_mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err);

/* StarPU 1.3 does not free all of a task that it refuses. */
__attribute__((visibility("default"))) const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
    return "leak:libstarpu";
}

/* In place of the program's allocator: there is no memory for what is "too much". */
void *__wrap_mp_alloc(size_t count, size_t size, const char *what, struct mp_error *err)
{
    if (strcmp(what, "too much") == 0) {
        mp_fail(err, MP_ERR_MEMORY, "%s: there is not so much memory", what);
        return NULL;
    }
    return __real_mp_alloc(count, size, what, err);
}

static int start(void **state)
{
    (void)state;
    setenv("STARPU_SILENT", "1", 1);
    struct starpu_conf conf;
    starpu_conf_init(&conf);
    conf.precedence_over_environment_variables = 1;
    conf.ncpus = 1;
    conf.ncuda = 0;
    conf.nopencl = 0;
    return starpu_init(&conf);
}

static int stop(void **state)
{
    (void)state;
    starpu_shutdown();
    mp_task_release();
    return 0;
}

static struct mp_buffer block, sum;

static void create_buffers(void)
{
    struct mp_error err;
    struct mp_allocator a = {.err = &err};
    mp_buffer_create(&a, &block, MP_HOST, WORDS * sizeof(float), "block");
    mp_buffer_create(&a, &sum, MP_HOST, sizeof(uint64_t), "sum");
    assert_int_equal(a.code, 0);
}

static void release_buffers(void)
{
    mp_buffer_release(&block);
    mp_buffer_release(&sum);
}

static const struct random_part ONES = {
    .dtype = MP_F32, .count = WORDS, .numbers = {.center = 1.0f}};

static void test_group_waits_for_its_own(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_task_group *group = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(group, &err);
    create_buffers();
    for (int i = 0; i < 100; i++) {
        random_insert(&sub, &block, &ONES);
    }
    memory_read_insert(&sub, &block, &sum);
    mp_task_group_wait(group, 3);
    assert_true(mp_task_group_pending(group) <= 3);
    mp_task_group_wait(group, 0);
    assert_int_equal(mp_task_group_pending(group), 0);
    assert_int_equal(sub.code, 0);
    /* Two ones of float32 a word. */
    assert_int_equal(*(uint64_t *)sum.data, WORDS / 2 * UINT64_C(0x3f8000003f800000));
    mp_task_group_destroy(group);
    release_buffers();
}

/* Tasks of a cancelled group end without having done anything; others do what they are to do. */
static void test_cancelled_group(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_task_group *group = mp_task_group_create();
    struct mp_task_group *other = mp_task_group_create();
    create_buffers();
    struct mp_submit sub = mp_submit_begin(group, &err);
    random_insert(&sub, &block, &ONES);
    mp_task_group_wait(group, 0);
    mp_task_group_cancel(group);
    struct random_part twos = ONES;
    twos.numbers.center = 2.0f;
    for (int i = 0; i < 3; i++) {
        random_insert(&sub, &block, &twos);
    }
    assert_int_equal(sub.code, 0);
    mp_task_group_wait(group, 0);
    assert_true(((const float *)block.data)[0] == 1.0f);
    sub = mp_submit_begin(other, &err);
    random_insert(&sub, &block, &twos);
    mp_task_group_destroy(other);
    assert_true(((const float *)block.data)[0] == 2.0f);
    mp_task_group_destroy(group);
    release_buffers();
}

/* A group does not wait for tasks of another. */
static void test_groups_are_apart(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_task_group *mine = mp_task_group_create();
    struct mp_task_group *yours = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(yours, &err);
    create_buffers();
    assert_int_equal(mp_buffer_acquire(&sum, true, &err), 0); /* your task has to wait for that */
    memory_read_insert(&sub, &block, &sum);
    mp_task_group_wait(mine, 0);
    assert_int_equal(mp_task_group_pending(yours), 1);
    mp_buffer_return(&sum);
    mp_task_group_destroy(yours);
    mp_task_group_destroy(mine);
    release_buffers();
}

/* The first failure is told whole, and what is inserted after it is not submitted. */
static void test_error_sticks(void **state)
{
    (void)state;
    static const struct mp_shape shape = {.hidden_size = 16};
    struct mp_error err = {0};
    struct mp_task_group *group = mp_task_group_create();
    struct mp_submit sub = mp_submit_begin(group, &err);
    create_buffers();
    sub.device = (struct mp_device){MP_GPU, -1}; /* there is none */
    sub.about.layer = 7;
    sub.about.micro_batch = 2;
    embed_insert(&sub, &shape, &sum, &block, &block, 1);
    assert_int_equal(sub.code, MP_ERR_RUNTIME);
    static const char *const said[] = {"embed of layer 7 of micro-batch 2", "3 buffers of",
                                       "StarPU refused the task: No such device"};
    for (size_t i = 0; i < sizeof said / sizeof said[0]; i++) {
        if (strstr(err.message, said[i]) == NULL) {
            fail_msg("\"%s\" lacks \"%s\"", err.message, said[i]);
        }
    }
    struct mp_error before = err;
    memset(block.data, 0, block.bytes);
    random_insert(&sub, &block, &ONES);
    assert_int_equal(mp_task_group_pending(group), 0);
    assert_true(*(float *)block.data == 0.0f);
    assert_string_equal(err.message, before.message);
    mp_task_group_destroy(group);
    release_buffers();
}

/* A plan counts, and allocates nothing. */
static void test_counting(void **state)
{
    (void)state;
    int64_t counted[MP_MEMORIES] = {0};
    struct mp_allocator a = {.counted = counted};
    struct mp_buffer b = {0};
    mp_buffer_create(&a, &b, MP_HOST, 100, "some");
    mp_buffer_create(&a, &b, MP_PINNED, 20, "some");
    assert_null(mp_allocate_zeroed(&a, (struct mp_place){.memory = MP_MEMORY_GPU}, 3, "some"));
    assert_null(mp_allocate(&a, (struct mp_place){MP_MEMORY_GPU, 2, NULL}, 5, "some"));
    assert_null(b.data);
    assert_null(b.handle);
    assert_int_equal(counted[MP_MEMORY_HOST], 100);
    assert_int_equal(counted[MP_MEMORY_PINNED], 20);
    assert_int_equal(counted[MP_MEMORY_GPU], 3);
    assert_int_equal(counted[MP_MEMORY_GPU + 2], 5);
    assert_int_equal(a.code, 0);
}

/* After a failure nothing more is allocated, and the first reason stays. */
static void test_allocation_sticks(void **state)
{
    (void)state;
    struct mp_error err;
    struct mp_allocator a = {.err = &err};
    struct mp_buffer b = {0};
    assert_null(mp_allocate(&a, MP_HOST, 1000, "too much"));
    assert_int_equal(a.code, MP_ERR_MEMORY);
    assert_non_null(strstr(err.message, "too much"));
    mp_buffer_create(&a, &b, MP_HOST, 100, "a little");
    assert_null(b.data);
    assert_non_null(strstr(err.message, "too much"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_waits_for_its_own),
        cmocka_unit_test(test_cancelled_group),
        cmocka_unit_test(test_groups_are_apart),
        cmocka_unit_test(test_error_sticks),
        cmocka_unit_test(test_counting),
        cmocka_unit_test(test_allocation_sticks),
    };
    return cmocka_run_group_tests(tests, start, stop);
}
