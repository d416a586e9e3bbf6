/*
 * test_memory.c - memory that may still be taken: what the system says, and limits of both cgroup
 * versions, read from made-up hierarchies.
 */
#include "base/hierarchy.h"

static const char meminfo[] = "MemTotal: 8000 kB\nMemFree: 100 kB\nMemAvailable:    4000 kB\n";

static void test_version_2(void **state)
{
    char *root = check_folder();

    (void)state;
    CHECK_INT(os_memory_left(meminfo, "0::/a/b\n", root), 4000 * 1024);
    put(root, "a/b/memory.max", "max\n");
    put(root, "a/b/memory.current", "1000\n");
    CHECK_INT(os_memory_left(meminfo, "0::/a/b\n", root), 4000 * 1024);
    put(root, "a/b/memory.max", "3000\n");
    CHECK_INT(os_memory_left(meminfo, "0::/a/b\n", root), 2000);
    put(root, "a/memory.max", "3000\n");
    put(root, "a/memory.current", "2500\n");
    CHECK_INT(os_memory_left(meminfo, "0::/a/b\n", root), 500);
    put(root, "a/memory.current", "3500\n");
    CHECK_INT(os_memory_left(meminfo, "0::/a/b\n", root), 0);
    CHECK_INT(os_memory_left(meminfo, "0::/elsewhere\n", root), 4000 * 1024);
    check_folder_remove(root);
}

static void test_version_1(void **state)
{
    static const char groups[] = "5:memory:/m\n4:cpu,cpuacct:/x/y\n0::/\n";
    char *root = check_folder();

    (void)state;
    put(root, "memory/m/memory.limit_in_bytes", "9000\n");
    put(root, "memory/m/memory.usage_in_bytes", "2000\n");
    CHECK_INT(os_memory_left(meminfo, groups, root), 7000);
    check_folder_remove(root);
}

/* What cannot be understood does not limit; what the system does not tell is nothing. */
static void test_nonsense(void **state)
{
    static const char *const texts[] = {"", "\n", "::", "0:", "0::", "x:memory", "1:cpuset:/"};
    static const char *const limits[] = {"", "x y", "max", "-"};
    char *root = check_folder();

    (void)state;
    for (size_t i = 0; i < THAW_COUNT(texts); i++)
        CHECK_INT(os_memory_left(meminfo, texts[i], root), 4000 * 1024);
    put(root, "g/memory.current", "1\n");
    for (size_t i = 0; i < THAW_COUNT(limits); i++) {
        put(root, "g/memory.max", limits[i]);
        CHECK_INT(os_memory_left(meminfo, "0::/g", root), 4000 * 1024);
    }
    CHECK_INT(os_memory_left("", "0::/g", root), 0);
    CHECK_INT(os_memory_left("MemAvailable: much", "", root), 0);
    check_folder_remove(root);
}

static void test_here(void **state)
{
    (void)state;
    CHECK(os_memory_available() > 0);
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
