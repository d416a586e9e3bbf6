/*
 * memory.c - memory this process may still take, which is what the system has free, or less where
 * its control groups allow less; and the most it has had.
 */
#include "base/base.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#define LONGEST_FILE 65536
#define LONGEST_PATH 4096

/* The number in a small file; UINT64_MAX where there is none ("max"). */
static uint64_t read_number(const char *folder, const char *name)
{
    char path[LONGEST_PATH];
    char *content = NULL;
    uint64_t value = UINT64_MAX;
    size_t size;

    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path ||
        os_read_file(&content, &size, path, LONGEST_FILE) != THAW_OK)
        return UINT64_MAX;
    if (sscanf(content, "%" SCNu64, &value) != 1)
        value = UINT64_MAX;
    thaw__free(content);
    return value;
}

/* Limit less use of one group; of version 2, or of version 1 where it has other names. */
static uint64_t left_in_group(const char *folder)
{
    static const char *const name[][2] = {{"memory.max", "memory.current"},
                                          {"memory.limit_in_bytes", "memory.usage_in_bytes"}};

    for (size_t i = 0; i < THAW_COUNT(name); i++) {
        const uint64_t limit = read_number(folder, name[i][0]);
        const uint64_t used = read_number(folder, name[i][1]);

        if (limit != UINT64_MAX && used != UINT64_MAX)
            return limit > used ? limit - used : 0;
    }
    return UINT64_MAX;
}

/* The least of a group and those it lies in, down from `mount`. */
static uint64_t left_on_path(const char *mount, const char *group)
{
    char path[LONGEST_PATH];
    uint64_t least = UINT64_MAX;

    if (snprintf(path, sizeof path, "%s%s", mount, group) >= (int)sizeof path)
        return UINT64_MAX;
    for (;;) {
        char *slash = strrchr(path, '/');

        least = THAW_MIN(least, left_in_group(path));
        if (strlen(path) <= strlen(mount) || !slash)
            return least;
        *slash = '\0';
    }
}

/* One line of /proc/self/cgroup: "ID:controllers:/path", controllers empty in version 2. */
static uint64_t left_by_line(char *line, const char *mount)
{
    char root[LONGEST_PATH];
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;

    if (!group)
        return UINT64_MAX;
    *group++ = '\0';
    if (controllers[1] == '\0')
        return left_on_path(mount, group);
    if (strcmp(controllers + 1, "memory") != 0 ||
        snprintf(root, sizeof root, "%s/memory", mount) >= (int)sizeof root)
        return UINT64_MAX;
    return left_on_path(root, group);
}

uint64_t os_memory_left(const char *meminfo, const char *proc_cgroup, const char *mount)
{
    const char *line = strstr(meminfo, "MemAvailable:");
    char *copy = thaw__strdup(proc_cgroup), *rest = NULL;
    uint64_t least = 0;

    if (line && sscanf(line, "MemAvailable: %" SCNu64, &least) == 1)
        least = least > UINT64_MAX / 1024 ? UINT64_MAX : least * 1024;
    for (char *at = copy ? strtok_r(copy, "\n", &rest) : NULL; at;
         at = strtok_r(NULL, "\n", &rest)) {
        const uint64_t left = left_by_line(at, mount);

        least = THAW_MIN(least, left);
    }
    thaw__free(copy);
    return least;
}

uint64_t os_memory_available(void)
{
    char *meminfo = NULL, *groups = NULL;
    uint64_t left = 0;
    size_t size;

    if (os_read_file(&meminfo, &size, "/proc/meminfo", LONGEST_FILE) == THAW_OK) {
        const bool grouped =
            os_read_file(&groups, &size, "/proc/self/cgroup", LONGEST_FILE) == THAW_OK;

        left = os_memory_left(meminfo, grouped ? groups : "", "/sys/fs/cgroup");
    }
    thaw__free(groups);
    thaw__free(meminfo);
    return left;
}

/* Not from rusage where that can be helped: what it says begins with the size of the program that
 * started this one. */
uint64_t os_memory_peak(void)
{
    struct rusage usage;
    const char *line = NULL;
    char *status = NULL;
    uint64_t kib = 0;
    size_t size;

    if (os_read_file(&status, &size, "/proc/self/status", LONGEST_FILE) == THAW_OK)
        line = strstr(status, "VmHWM:");
    if (line && sscanf(line, "VmHWM: %" SCNu64, &kib) != 1)
        kib = 0;
    thaw__free(status);
    if (kib > 0)
        return kib * 1024;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}
