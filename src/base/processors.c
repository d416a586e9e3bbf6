/*
 * processors - how many processors this process may really use.
 *
 * The number of processors of the machine is wrong twice: an affinity mask may allow fewer, and a
 * container's quota may grant less time than the mask suggests. Too many threads then wait for each
 * other, so the smaller number counts. Both cgroup versions are read; what cannot be read does not
 * limit.
 */
#include "base/base.h"

#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOST_PROCESSORS 16384
#define LONGEST_FILE    (1 << 20)
#define LONGEST_PATH    4096

/* First two blank-separated words of a small file, as numbers; false unless there are `n`. */
static bool read_numbers(double out[2], int n, const char *path)
{
    char *data = NULL, *rest = NULL;
    size_t size;
    int got = 0;

    if (os_read_file(&data, &size, path, LONGEST_FILE) != THAW_OK)
        return false;
    for (char *word = strtok_r(data, " \n", &rest); word && got < n;
         word = strtok_r(NULL, " \n", &rest))
        if (!parse_double(&out[got++], word))
            got = n + 1;
    thaw__free(data);
    return got == n;
}

/* Processors granted by one group, 0 for no limit. */
static double quota_of_v2(const char *group)
{
    char path[LONGEST_PATH + 32];
    double v[2];

    (void)snprintf(path, sizeof path, "%s/cpu.max", group);
    return read_numbers(v, 2, path) && v[0] > 0 && v[1] > 0 ? v[0] / v[1] : 0;
}

static double quota_of_v1(const char *group)
{
    char path[LONGEST_PATH + 32];
    double quota[2], period[2];

    (void)snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", group);
    if (!read_numbers(quota, 1, path))
        return 0;
    (void)snprintf(path, sizeof path, "%s/cpu.cfs_period_us", group);
    if (!read_numbers(period, 1, path))
        return 0;
    return quota[0] > 0 && period[0] > 0 ? quota[0] / period[0] : 0;
}

/* The smallest quota of a group and its ancestors below `root`: each limits those under it. */
static double smallest_quota(double quota_of(const char *), const char *root, const char *group)
{
    char path[LONGEST_PATH];
    const size_t root_length = strlen(root);
    double least = 0;

    if (snprintf(path, sizeof path, "%s%s", root, group) >= (int)sizeof path)
        return 0;
    for (;;) {
        const double q = quota_of(path);
        char *slash;

        if (q > 0 && (least <= 0 || q < least))
            least = q;
        slash = strrchr(path, '/');
        if (strlen(path) <= root_length || !slash)
            return least;
        *slash = '\0';
    }
}

/* Is "cpu" one of these comma-separated controllers? */
static bool has_cpu(const char *controllers)
{
    for (const char *at = controllers; (at = strstr(at, "cpu")) != NULL; at += 3)
        if ((at == controllers || at[-1] == ',') && (at[3] == '\0' || at[3] == ','))
            return true;
    return false;
}

/* One line of /proc/self/cgroup: "ID:controllers:/path", controllers empty in version 2. */
static double quota_of_line(char *line, const char *mount)
{
    char root[LONGEST_PATH];
    char *controllers = strchr(line, ':');
    char *group = controllers ? strchr(controllers + 1, ':') : NULL;

    if (!group)
        return 0;
    *group++ = '\0';
    controllers++;
    if (*controllers == '\0')
        return smallest_quota(quota_of_v2, mount, group);
    if (!has_cpu(controllers))
        return 0;
    if (snprintf(root, sizeof root, "%s/%s", mount, controllers) >= (int)sizeof root)
        return 0;
    return smallest_quota(quota_of_v1, root, group);
}

int os_quota(const char *proc_cgroup, const char *mount)
{
    char *copy = thaw__strdup(proc_cgroup), *rest = NULL;
    double least = 0;

    if (!copy)
        return 0;
    for (char *line = strtok_r(copy, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        const double q = quota_of_line(line, mount);

        if (q > 0 && (least <= 0 || q < least))
            least = q;
    }
    thaw__free(copy);
    return least > 0 ? (int)ceil(fmin(least, MOST_PROCESSORS)) : 0;
}

int os_processors(void)
{
    cpu_set_t mask[MOST_PROCESSORS / CPU_SETSIZE];
    char *groups = NULL;
    size_t size;
    long n = 0;
    int quota;

    if (sched_getaffinity(0, sizeof mask, mask) == 0)
        n = CPU_COUNT_S(sizeof mask, mask);
    if (n < 1)
        n = THAW_MAX(sysconf(_SC_NPROCESSORS_ONLN), 1);
    if (os_read_file(&groups, &size, "/proc/self/cgroup", LONGEST_FILE) != THAW_OK)
        return (int)n;
    quota = os_quota(groups, "/sys/fs/cgroup");
    thaw__free(groups);
    return quota > 0 && quota < n ? quota : (int)n;
}
