/* Limits of control groups, from trees of the kernel's files as they are on machines and within
 * containers. */
#include "core/machine/control_group.h"

#include "core/base/file.h"
#include "core/base/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GIB (INT64_C(1) << 30)
#define V2_MOUNT "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"

static char *root; /* of the tree that is looked at */
static int trees;

static int new_tree(void **state)
{
    (void)state;
    root = mp_xasprintf("%s/control-groups-%ld-%d", MP_SCRATCH_DIR, (long)getpid(), trees++);
    return 0;
}

static int remove_tree(void **state)
{
    (void)state;
    char *command = mp_xasprintf("rm -rf '%s'", root);
    int rc = system(command);
    free(command);
    free(root);
    return rc;
}

static void put(const char *path, const char *text)
{
    struct mp_error err;
    char *full = mp_xasprintf("%s/%s", root, path);
    char *folder = mp_file_folder(full);
    assert_int_equal(mp_file_make_folders(folder, &err), 0);
    FILE *file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
    free(folder);
    free(full);
}

static void test_none(void **state)
{
    (void)state;
    assert_int_equal(mp_control_group_cpus(root), 0);
    assert_true(mp_control_group_memory(root) == INT64_MAX);
    put("proc/self/cgroup", "0::/\n");
    put("proc/self/mountinfo", V2_MOUNT);
    put("sys/fs/cgroup/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/memory.max", "max\n");
    put("sys/fs/cgroup/memory.current", "4096\n");
    assert_int_equal(mp_control_group_cpus(root), 0);
    assert_true(mp_control_group_memory(root) == INT64_MAX);
}

/* A container with its own view: its group is the root. */
static void test_version_2(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/\n");
    put("proc/self/mountinfo", V2_MOUNT);
    put("sys/fs/cgroup/cpu.max", "150000 100000\n");
    put("sys/fs/cgroup/memory.max", "4294967296\n");
    put("sys/fs/cgroup/memory.current", "3221225472\n");
    put("sys/fs/cgroup/memory.stat",
        "anon 5\nfile 7\nactive_file 536870912\ninactive_file 1610612736\nslab 3\n");
    assert_int_equal(mp_control_group_cpus(root), 2);
    assert_true(mp_control_group_memory(root) == 3 * GIB);
}

/* A service within slices: each level may have a limit. */
static void test_nested(void **state)
{
    (void)state;
    put("proc/self/cgroup", "0::/user.slice/user-1000.slice/run.scope\n");
    put("proc/self/mountinfo", "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n" V2_MOUNT);
    put("sys/fs/cgroup/user.slice/cpu.max", "400000 100000\n");
    put("sys/fs/cgroup/user.slice/user-1000.slice/cpu.max", "max 100000\n");
    put("sys/fs/cgroup/user.slice/user-1000.slice/run.scope/cpu.max", "700000 100000\n");
    put("sys/fs/cgroup/user.slice/memory.max", "max\n");
    put("sys/fs/cgroup/user.slice/memory.current", "99\n");
    put("sys/fs/cgroup/user.slice/user-1000.slice/memory.max", "2147483648\n");
    put("sys/fs/cgroup/user.slice/user-1000.slice/memory.current", "1073741824\n");
    put("sys/fs/cgroup/user.slice/user-1000.slice/run.scope/memory.max", "4294967296\n");
    put("sys/fs/cgroup/user.slice/user-1000.slice/run.scope/memory.current", "4096\n");
    assert_int_equal(mp_control_group_cpus(root), 4);
    assert_true(mp_control_group_memory(root) == GIB);
    /* What is used up leaves nothing. */
    put("sys/fs/cgroup/user.slice/memory.max", "98\n");
    assert_true(mp_control_group_memory(root) == 0);
}

/* Version 1 within a container that sees its own part of the hierarchy, beside an empty version 2.
 */
static void test_version_1(void **state)
{
    (void)state;
    put("proc/self/cgroup", "4:memory:/docker/0123\n"
                            "3:cpuset:/docker/0123\n"
                            "2:cpuacct,cpu:/docker/0123\n"
                            "1:name=systemd:/docker/0123\n"
                            "0::/docker/0123\n");
    put("proc/self/mountinfo",
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n"
        "32 31 0:29 /docker/0123 /sys/fs/cgroup/cpuset ro - cgroup cgroup rw,cpuset\n"
        "33 31 0:30 /docker/0123 /sys/fs/cgroup/cpu,cpuacct ro master:9 - cgroup cgroup "
        "rw,cpuacct,cpu\n"
        "34 31 0:31 /docker/0123 /sys/fs/cgroup/memory ro master:10 - cgroup cgroup rw,memory\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "250001\n");
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "50000\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "2147483648\n");
    put("sys/fs/cgroup/memory/memory.usage_in_bytes", "1610612736\n");
    put("sys/fs/cgroup/memory/memory.stat",
        "cache 9\nactive_file 1\ninactive_file 1\ntotal_active_file 0\n"
        "total_inactive_file 536870912\n");
    assert_int_equal(mp_control_group_cpus(root), 6);
    assert_true(mp_control_group_memory(root) == GIB);
    put("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(mp_control_group_cpus(root), 0);
    assert_true(mp_control_group_memory(root) > INT64_C(1) << 62);
}

/* On the machine itself, where the group is below what is mounted. */
static void test_version_1_nested(void **state)
{
    (void)state;
    put("proc/self/cgroup", "5:memory:/jobs/7\n2:cpu:/jobs/7\n");
    put("proc/self/mountinfo", "33 31 0:30 / /cg/cpu rw - cgroup cgroup rw,cpu\n"
                               "34 31 0:31 / /cg/memory rw - cgroup cgroup rw,memory\n");
    put("cg/cpu/jobs/cpu.cfs_quota_us", "300000\n");
    put("cg/cpu/jobs/cpu.cfs_period_us", "100000\n");
    put("cg/cpu/jobs/7/cpu.cfs_quota_us", "-1\n");
    put("cg/cpu/jobs/7/cpu.cfs_period_us", "100000\n");
    put("cg/memory/jobs/memory.limit_in_bytes", "1073741824\n");
    put("cg/memory/jobs/memory.usage_in_bytes", "0\n");
    assert_int_equal(mp_control_group_cpus(root), 3);
    assert_true(mp_control_group_memory(root) == GIB);
}

/* A group elsewhere than what can be seen: the outermost level is all there is. */
static void test_outside(void **state)
{
    (void)state;
    static const char *const paths[] = {"0::/../other\n", "0::/kubepods/pod1x/c\n", "0::/x\n"};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        put("proc/self/cgroup", paths[i]);
        put("proc/self/mountinfo",
            "30 23 0:26 /kubepods/pod1 /sys/fs/cgroup ro - cgroup2 cgroup rw\n");
        put("sys/fs/cgroup/cpu.max", "100000 100000\n");
        assert_int_equal(mp_control_group_cpus(root), 1);
    }
    put("proc/self/cgroup", "0::/kubepods/pod1/c\n");
    put("sys/fs/cgroup/c/cpu.max", "50000 100000\n");
    put("sys/fs/cgroup/cpu.max", "max 100000\n");
    assert_int_equal(mp_control_group_cpus(root), 1);
}

static void test_garbage(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "\n", "0", "0:", "0::", ":::", "0::/\0", "a b c d"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        for (size_t j = 0; j < sizeof texts / sizeof texts[0]; j++) {
            put("proc/self/cgroup", texts[i]);
            put("proc/self/mountinfo", texts[j]);
            assert_int_equal(mp_control_group_cpus(root), 0);
        }
        put("proc/self/cgroup", "0::/\n2:cpu:/\n");
        put("proc/self/mountinfo",
            V2_MOUNT "1 2 3 / /cpu rw - cgroup cgroup\n1 2 3 / /c - cgroup\n");
        put("sys/fs/cgroup/cpu.max", texts[i]);
        put("sys/fs/cgroup/memory.max", texts[i]);
        assert_int_equal(mp_control_group_cpus(root), 0);
        assert_true(mp_control_group_memory(root) == INT64_MAX);
    }
    put("sys/fs/cgroup/cpu.max", "9223372036854775807 1\n");
    assert_int_equal(mp_control_group_cpus(root), 0);
    put("sys/fs/cgroup/cpu.max", "100000 0\n");
    assert_int_equal(mp_control_group_cpus(root), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_none, new_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_version_2, new_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_nested, new_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_version_1, new_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_version_1_nested, new_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_outside, new_tree, remove_tree),
        cmocka_unit_test_setup_teardown(test_garbage, new_tree, remove_tree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
