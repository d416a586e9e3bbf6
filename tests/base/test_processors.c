/*
 * How many processors may be used: quotas of both cgroup versions, read from made-up hierarchies.
 */
#include "base/hierarchy.h"

static void test_version_2(void **state)
{
    char *root = check_folder();

    (void)state;
    CHECK_INT(os_quota("0::/a/b\n", root), 0);
    put(root, "a/b/cpu.max", "max 100000\n");
    CHECK_INT(os_quota("0::/a/b\n", root), 0);
    put(root, "a/b/cpu.max", "150000 100000\n");
    CHECK_INT(os_quota("0::/a/b\n", root), 2);
    put(root, "a/cpu.max", "50000 100000\n");
    CHECK_INT(os_quota("0::/a/b\n", root), 1);
    CHECK_INT(os_quota("0::/elsewhere\n", root), 0);
    put(root, "cpu.max", "300000 100000\n");
    CHECK_INT(os_quota("0::/elsewhere\n", root), 3);
    CHECK_INT(os_quota("0::/\n", root), 3);
    check_folder_remove(root);
}

static void test_version_1(void **state)
{
    static const char groups[] = "5:memory:/m\n4:cpu,cpuacct:/x/y\n3:cpuset:/\n0::/\n";
    char *root = check_folder();

    (void)state;
    put(root, "cpu,cpuacct/x/y/cpu.cfs_quota_us", "-1\n");
    put(root, "cpu,cpuacct/x/y/cpu.cfs_period_us", "100000\n");
    CHECK_INT(os_quota(groups, root), 0);
    put(root, "cpu,cpuacct/x/y/cpu.cfs_quota_us", "400000\n");
    CHECK_INT(os_quota(groups, root), 4);
    put(root, "cpu,cpuacct/cpu.cfs_quota_us", "200000\n");
    put(root, "cpu,cpuacct/cpu.cfs_period_us", "100000\n");
    CHECK_INT(os_quota(groups, root), 2);
    check_folder_remove(root);
}

/* What cannot be understood does not limit. */
static void test_nonsense(void **state)
{
    static const char *const texts[] = {"", "\n", "::", "0:", "0::", "x:cpu", "1:cpuset,cpuacct:/"};
    static const char *const quotas[] = {"", "x y", "5", "-5 100", "0 100", "1e999 1", "100 0"};
    char *root = check_folder();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(texts); i++)
        CHECK_INT(os_quota(texts[i], root), 0);
    for (size_t i = 0; i < THAW_COUNT(quotas); i++) {
        const int n = (put(root, "g/cpu.max", quotas[i]), os_quota("0::/g", root));

        CHECK_MSG(n == 0, "quota '%s' gives %d", quotas[i], n);
    }
    check_folder_remove(root);
}

static void test_here(void **state)
{
    (void)state;
    CHECK(os_processors() >= 1);
    CHECK(os_processors() <= sysconf(_SC_NPROCESSORS_CONF));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version_2),
        cmocka_unit_test(test_version_1),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_here),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
