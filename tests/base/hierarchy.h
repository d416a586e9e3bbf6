/*
 * hierarchy.h - made-up control groups: files of the system in a folder of the test.
 */
#ifndef TEST_HIERARCHY_H
#define TEST_HIERARCHY_H

#include <sys/stat.h>

#include "base/base.h"
#include "check.h"

/* Write root/path, with the folders on the way. */
static inline void put(const char *root, const char *path, const char *content)
{
    char whole[4096], *slash;

    snprintf(whole, sizeof whole, "%s/%s", root, path);
    for (slash = strchr(whole + strlen(root) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0755);
        *slash = '/';
    }
    check_write_file(whole, content, strlen(content));
}

#endif
